"""The public release: files of its layout with made-up values, and what is wrong with others."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from offline.errors import AtlasError, TwinError
from offline.fc import fc_edges
from offline.twin.hrf import canonical_hrf
from offline.twin.maps import contrast_map
from offline.twin.release import SERIES, Release
from offline.twin.reproduce import reproduce, unseen_table
from offline.twin.tasks import MATCHING, STROOP, Bold, encode
from offline.twin.trials import read_trials
from tests.offline.twin.releases import N_REGIONS, TAIL, write_release, write_series
from tests.offline.twin.trialtables import one_run, people_table, stroop_kinds


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_release(tmp_path_factory.mktemp("release") / "ds005237")


def test_everything_is_found(folder):
    release = Release(folder)
    assert len(release.demographics()) == 16
    trials = release.trials()
    assert len(trials.people) == 16
    assert set(map(tuple, trials.table[["task", "run"]].drop_duplicates().to_numpy())) == {
        ("hammer", "AP"), ("stroop", "AP"), ("stroop", "PA"),
    }  # fmt: skip
    assert release.atlas().n_rois == N_REGIONS
    assert release.atlas().labels[0] == "Schaefer400_001"


def test_connectivity_is_the_mean_of_whole_runs(folder):
    release = Release(folder)
    found = release.connectivity(["NDARINVP003", "NDARINVP005"])
    assert found.people == ("NDARINVP003", "NDARINVP005")
    assert found.n_runs.tolist() == [2, 2]
    runs = [
        release.series(folder / SERIES / "NDAR_INVP003" / f"task-{run}_{TAIL}")
        for run in ("restAP_run-01", "restPA_run-02")
    ]
    assert [run.shape for run in runs] == [(250, N_REGIONS), (260, N_REGIONS)]
    expected = (250 * fc_edges(runs[0]) + 260 * fc_edges(runs[1])) / 510
    np.testing.assert_allclose(found.z[0], expected, atol=1e-6)
    assert len(found.left_out) == 0


def test_runs_that_were_broken_off_and_people_without_rest_are_listed(folder):
    found = Release(folder).connectivity(["NDARINVP003", "NOBODY"], min_volumes=255)
    assert found.n_runs.tolist() == [1]
    assert found.left_out.to_numpy().tolist() == [
        ["NDARINVP003", "AP1", "250 volumes"],
        ["NOBODY", "n/a", "no whole run at rest"],
    ]


def test_bold_goes_into_segments(folder):
    release = Release(folder)
    region = release.atlas().labels[4]
    bold = release.bold([region], ["NDARINVP003"], [("hammer", "AP")])
    assert list(bold) == [("NDARINVP003", "hammer", "AP")]
    trials = release.trials().only(["NDARINVP003"]).of("hammer")
    segments = encode(trials, (MATCHING,), bold=bold, regions=[region])
    assert np.isfinite(segments.bold).any()
    with pytest.raises(AtlasError, match="found no 'amygdala'"):
        release.bold(["amygdala"])


def test_labels_are_the_users(folder):
    labels = [f"region {k}" for k in range(N_REGIONS)]
    assert Release(folder, labels).atlas().labels == tuple(labels)
    with pytest.raises(AtlasError, match="expected 11 regions, found 12"):
        Release(folder, labels[:11]).connectivity()


def test_files_that_are_something_else_are_one_line(folder, tmp_path):
    release = Release(folder)
    pointer = tmp_path / "pointer.h5"
    pointer.write_text("/annex/objects/SHA256E-s1696384--0.h5")
    with pytest.raises(TwinError, match="datalad get"):
        release.series(pointer)
    junk = tmp_path / "junk.h5"
    junk.write_bytes(b"x" * 5000)
    with pytest.raises(TwinError, match="expected HDF5"):
        release.series(junk)
    two = tmp_path / "two.h5"
    with h5py.File(two, "w") as file:
        file["a"], file["b"] = np.zeros((30, 40)), np.zeros((30, 40))
    with pytest.raises(TwinError, match="expected one table") as info:
        release.series(two)
    assert "\n" not in str(info.value)


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(TwinError, match="name where the dataset was put"):
        Release(tmp_path)


def test_one_call_makes_every_table(folder):
    tables = reproduce(folder, n_folds=3, n_repeats=1)
    assert set(tables) == {"left_out", "seen", "held_out", "unseen", "maps"}
    assert len(tables["seen"]) == 3
    predictors = {"demographics", "kernel ridge", "CPM", "kernel ridge, shuffled", "CPM, shuffled"}
    assert set(tables["unseen"]["predictor"]) == predictors
    assert tables["maps"]["contrast"].tolist() == [
        "face > shape", "incongruent > congruent", "incongruent > congruent",
    ]  # fmt: skip
    assert np.isfinite(tables["held_out"]["rmse_ms"]).all()


def test_who_is_left_out_of_the_tables_is_told_why(tmp_path):
    folder = write_release(tmp_path / "ds005237")
    lost, short = sorted((folder / SERIES).iterdir())[:2]
    for path in lost.glob("task-rest*"):
        path.unlink()
    signals = np.random.default_rng(0).standard_normal((90, N_REGIONS))
    write_series(short / f"task-restAP_run-01_{TAIL}", signals)
    for path in sorted(folder.glob(f"{SERIES}/*/task-stroopPA*"))[1:]:
        path.unlink()
    broken = folder / SERIES / short.name / f"task-stroopAP_run-01_{TAIL}"
    write_series(broken, signals[:12])
    tables = reproduce(folder, n_folds=3, n_repeats=1)
    told = tables["left_out"]
    maps = told[told["reason"].isin(["no BOLD", "no map"])]
    assert maps.groupby(["task", "run", "reason"]).size().to_dict() == {
        ("stroop", "AP", "no map"): 1, ("stroop", "PA", "no BOLD"): 15,
    }  # fmt: skip
    # one map alone is told by no others
    assert tables["maps"]["n"].tolist() == [16, 15, 0]
    told = told.drop(index=maps.index)
    assert told[["participant", "left_out", "reason", "found"]].to_numpy().tolist() == [
        [short.name.replace("_", ""), "run", "rest broken off", "90 volumes"],
        [lost.name.replace("_", ""), "person", "no connectome", "no scan"],
    ]
    assert set(tables["unseen"]["n"]) == {15}
    assert set(tables["seen"]["n"]) == {16}


def test_planted_connectivity_is_told_beyond_the_shuffled():
    """Simulated: an outcome that 12 edges make up; shuffled between people it tells nothing."""
    rng = np.random.default_rng(2)
    n = 160
    z = 0.2 * rng.standard_normal((n, 66))
    later = 0.8 + 0.1 * z[:, :12].sum(axis=1) / z[:, :12].sum(axis=1).std()
    demographics = people_table(n, 4)[1]
    found = unseen_table(
        z, pd.Series(later, demographics.index), demographics, n_repeats=1, n_folds=5
    ).set_index("predictor")
    assert found.loc["kernel ridge", "r_low"] > 0.5
    assert found.loc["kernel ridge, shuffled", "r_high"] < 0.4


def test_a_contrast_is_recovered():
    """Simulated: one region follows faces twice as much as shapes, the other both alike."""
    rng = np.random.default_rng(3)
    kinds = (["shape"] * 6 + ["face"] * 6) * 6
    made = one_run("A1", np.full(72, 0.7), kinds, task="hammer", gap_s=3.0)
    trials = read_trials(made)
    fine_s = 0.1
    on = np.zeros((2, 2600))
    for onset, kind in zip(trials.table["onset_s"], kinds, strict=True):
        first = round(onset / fine_s)
        on[int(kind == "face"), first : first + 19] = 1.0
    response = canonical_hrf(np.arange(0, 32, fine_s)) * fine_s
    moved = np.array([np.convolve(row, response)[:2600] for row in on])[:, ::8]
    series = np.stack([moved[0] + 2 * moved[1], moved[0] + moved[1]], axis=1)
    series += 0.05 * rng.standard_normal(series.shape) + 100.0
    difference, t = contrast_map(
        Bold(series.astype(np.float32), 0.8), trials.table, MATCHING, "face", "shape"
    )
    assert difference == pytest.approx([1.0, 0.0], abs=0.05)
    assert t[0] > 20
    assert abs(t[1]) < 4
    with pytest.raises(TwinError, match="found none of scene"):
        contrast_map(Bold(series, 0.8), trials.table, MATCHING, "scene", "shape")
    with pytest.raises(TwinError, match="leave the run out"):
        contrast_map(Bold(series[:12], 0.8), trials.table, MATCHING, "face", "shape")


def test_stroop_conditions_are_named():
    made = one_run("A1", np.full(40, 0.7), stroop_kinds(40))
    kinds = STROOP.condition_of(read_trials(made).table["condition"])
    assert set(kinds) == {"congruent", "incongruent"}
