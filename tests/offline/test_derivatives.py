"""Preprocessed BOLD of a small tree of made-up images, against the series that are in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from offline.cohort import Limits, build_cohort, read_people
from offline.cohort.derivatives import STRATEGIES, DerivativesSource, Strategy, people_of_tree
from offline.cohort.scans import Censoring, Entry
from offline.errors import AtlasError, CohortError
from offline.fc import fc_edges
from tests.offline.cohorts import ATLAS, series
from tests.offline.trees import SHAPE, write_labels, write_run


def source(tmp_path: Path, **options: object) -> DerivativesSource:
    return DerivativesSource(
        tmp_path / "tree", tmp_path / "labels.nii.gz", ATLAS, space="MNI", **options
    )  # type: ignore[arg-type]


def entry(participant: str, session: str = "1") -> Entry:
    return Entry(participant, session, "", 0)


def cleaned(
    x: NDArray[np.float64], confounds: pd.DataFrame, used: NDArray[np.int64], strategy: Strategy
) -> NDArray[np.float64]:
    """Residuals on the confounds of the strategy, by least squares over the volumes used."""
    names = [c for c in confounds if c.startswith(("trans", "rot", "cosine"))]
    if strategy != "motion24":
        names += ["csf", "white_matter"]
    if strategy == "motion24-wmcsf-gs":
        names.append("global_signal")
    regressors = np.empty((len(used), len(names)))
    for k, name in enumerate(names):  # nilearn fills the first derivative with the mean
        column = confounds[name].to_numpy(float)
        regressors[:, k] = np.where(np.isnan(column[used]), np.nanmean(column), column[used])
    design = np.column_stack([np.ones(len(used)), regressors])
    betas = np.linalg.lstsq(design, x[used], rcond=None)[0]
    return np.asarray(x[used] - design @ betas)


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_edges_are_those_of_cleaned_means(strategy: Strategy, tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "labels.nii.gz")
    x = series(1, n_volumes=120)
    confounds = write_run(tmp_path / "tree", "01", x, labels, moved=(30, 31, 90), unsteady=2)
    scan = source(tmp_path, strategy=strategy, censoring=Censoring(fd_limit_mm=0.5)).read(
        entry("01")
    )
    assert scan.fault == ""
    used = np.setdiff1d(np.arange(120), [0, 1, 30, 31, 90])
    assert (scan.n_volumes, scan.n_used) == (120, 115)
    assert scan.minutes == pytest.approx(115 * 2.0 / 60)
    assert scan.mean_fd == pytest.approx((116 * 0.1 + 3 * 0.9) / 120, abs=1e-3)
    assert scan.z is not None
    expected = fc_edges(cleaned(x, confounds, used, strategy))
    np.testing.assert_allclose(scan.z, expected, atol=2e-5)


def test_an_image_in_milliseconds_is_left_out_and_one_that_does_not_say_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = write_labels(tmp_path / "labels.nii.gz")
    monkeypatch.setattr("tests.offline.trees.TR_S", 2000.0)
    write_run(tmp_path / "tree", "01", series(1), labels)
    scan = source(tmp_path).read(entry("01"))
    assert scan.fault.endswith("up to 20 s, found 2000 s; give seconds")
    assert scan.z is None
    monkeypatch.setattr("tests.offline.trees.TR_S", 0.0)
    write_run(tmp_path / "tree", "02", series(1), labels)
    scan = source(tmp_path).read(entry("02"))
    assert scan.fault == ""
    assert np.isnan(scan.minutes)


def test_an_roi_outside_the_brain_mask_is_missing(tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "labels.nii.gz")
    mask = np.ones(SHAPE, bool)
    mask[3] = False
    mask[5, 1:2] = False  # a third of it: still there
    write_run(tmp_path / "tree", "01", series(1, 80), labels, mask=mask)
    scan = source(tmp_path).read(entry("01"))
    assert scan.z is not None
    assert np.array_equal(np.isnan(scan.z), (ATLAS.edges() == 3).any(axis=1))


def test_sessions_runs_and_who_is_there(tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "labels.nii.gz")
    tree = tmp_path / "tree"
    for k, session in enumerate(("siteA", "siteB")):
        write_run(tree, "01", series(k, 80), labels, session=session)
    write_run(tree, "02", series(5, 80), labels)
    found = people_of_tree(tree)
    assert found["participant"].tolist() == ["01", "01", "02"]
    assert found["session"].tolist() == ["siteA", "siteB", "1"]
    read = source(tmp_path)
    z = [read.read(entry("01", session)).z for session in ("siteA", "siteB")]
    assert not np.allclose(z[0], z[1])
    assert read.read(entry("02")).fault == ""
    assert (
        "expected one preprocessed BOLD of task rest in MNI, found none"
        in read.read(entry("03")).fault
    )
    for run in ("_run-1", "_run-2"):
        write_run(tree, "04", series(5, 80), labels, run=run)
    assert "found sub-04_task-rest_run-1" in read.read(entry("04")).fault
    with pytest.raises(CohortError, match="expected folders sub-"):
        people_of_tree(tmp_path / "none")


def test_a_cohort_of_a_tree(tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "labels.nii.gz")
    for k in range(4):
        moved = tuple(range(60)) if k == 2 else ()
        write_run(tmp_path / "tree", f"{k:02d}", series(k, 80), labels, seed=k, moved=moved)
    people = read_people(people_of_tree(tmp_path / "tree").assign(site="A"))
    limits = Limits(max_mean_fd_mm=0.4, min_minutes=2.0)
    cohort = build_cohort(tmp_path / "cohort", people, source(tmp_path), limits)
    assert cohort.people["participant"].tolist() == ["00", "01", "03"]
    assert cohort.people["minutes"].iloc[0] == pytest.approx(80 * 2.0 / 60)
    assert cohort.excluded["reason"].str.startswith("mean FD").all()


def test_labels_of_another_atlas(tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "labels.nii.gz", 10)
    write_run(tmp_path / "tree", "01", series(1, 80, 10), labels)
    with pytest.raises(AtlasError, match=r"labels 1..8 of atlas eight, found 10"):
        source(tmp_path).read(entry("01"))
