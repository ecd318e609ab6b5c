"""`fcnef harmonize` on small simulated cohorts in their folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from offline.atlas import Atlas
from offline.cohort import Cohort, Limits, build_cohort, open_source, read_people
from offline.harmonize import TravelingSubject, load
from offline.store import EdgeStore
from offline.synthetic import SyntheticCohort, traveling_cohort
from tools.cli import run

N_ROIS = 8
Said = pytest.CaptureFixture[str]


def write(folder: Path, cohort: SyntheticCohort, rows: np.ndarray) -> Path:
    """A cohort folder of some scans."""
    folder.mkdir()
    people = cohort.people[rows]
    people.to_csv(folder / "people.tsv", sep="\t", index=False, na_rep="n/a")
    # small enough to be correlations of some signals, which a cohort asks for
    np.save(folder / "z.npy", 0.2 * cohort.X[rows])
    atlas = Atlas("eight", tuple(f"R{k}" for k in range(N_ROIS)))
    build_cohort(
        folder / "cohort",
        read_people(folder / "people.tsv", {}),
        open_source(folder / "z.npy", "z", atlas, len(people)),
        Limits("open-mri"),
        description="simulated",
    )
    return folder / "cohort"


@pytest.fixture(scope="module")
def simulated() -> SyntheticCohort:
    return traveling_cohort(
        n_edges=N_ROIS * (N_ROIS - 1) // 2,
        n_travelers=4,
        scans_per_visit=1,
        controls=[8, 7, 6],
        patients={"MDD": {0: 5, 1: 4}},
    )


@pytest.fixture(scope="module")
def folder(simulated: SyntheticCohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    everybody = np.ones(len(simulated.X), bool)
    return write(tmp_path_factory.mktemp("cohorts") / "all", simulated, everybody)


def mistake(arguments: list[str], capsys: Said) -> str:
    capsys.readouterr()
    assert run(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_fit_apply_report(folder: Path, tmp_path: Path, capsys: Said) -> None:
    assert run(["harmonize", "fit", str(folder), "--out", str(tmp_path / "h")]) == 0
    said = capsys.readouterr().out
    assert "TravelingSubject, 3 sites: S01, S02, S03" in said
    assert "diagnosis MDD" not in said  # at two sites: not confounded with one
    model = tmp_path / "h" / "model.safetensors"
    assert run(["harmonize", "apply", str(folder), str(model), "--out", str(tmp_path / "a")]) == 0
    cohort, fitted = Cohort.open(folder), load(model)
    assert isinstance(fitted, TravelingSubject)
    expected = fitted.transform(cohort.z, cohort.people["site"].to_numpy(object))
    store = EdgeStore.open(tmp_path / "a" / "edges")
    np.testing.assert_allclose(store.read(slice(None)), expected, atol=1e-6)
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert [site["n_traveling_scans"] for site in report["sites"]] == [4, 4, 4]
    assert report["sites"][0]["n_people"] == 8 + 5 + 4
    assert report["harmonized"]["identity"] == store.identity
    assert report["traveling_report"]["parts"] == [["S01", "S02", "S03"]]
    assert fitted.provenance_["edges"] == cohort.z.identity
    capsys.readouterr()
    assert run(["harmonize", "report", str(model)]) == 0
    assert "regime:" in capsys.readouterr().out


def test_an_apply_that_was_interrupted_leaves_no_edges(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    assert run(["harmonize", "fit", str(folder), "--out", str(tmp_path / "h")]) == 0
    # the folder of a fit stands for the file in it
    words = ["harmonize", "apply", str(folder), str(tmp_path / "h")]
    words += ["--out", str(tmp_path / "a")]
    transform = TravelingSubject.transform

    def cut(self: TravelingSubject, X: object, sites: object, out: object = None, **more: object):
        if out is not None:
            raise OSError(28, "No space left on device")
        return transform(self, X, sites, **more)

    monkeypatch.setattr(TravelingSubject, "transform", cut)
    assert "No space left" in mistake(words, capsys)
    assert not (tmp_path / "a" / "edges").exists()
    monkeypatch.undo()
    assert run(words) == 0
    assert np.isfinite(EdgeStore.open(tmp_path / "a" / "edges").read(slice(None))).all()


def test_combat_keeps_columns(folder: Path, tmp_path: Path, capsys: Said) -> None:
    words = ["--method", "combat", "--covariate", "age", "--covariate", "sex", "--mean-only"]
    assert run(["harmonize", "fit", str(folder), "--out", str(tmp_path / "h"), *words]) == 0
    said = capsys.readouterr().out
    assert "in the fit besides sites: age, sex" in said
    assert "means only" in said
    model = tmp_path / "h" / "model.safetensors"
    assert run(["harmonize", "apply", str(folder), str(model), "--out", str(tmp_path / "a")]) == 0
    again = mistake(
        ["harmonize", "apply", str(folder), str(model), "--out", str(tmp_path / "a")], capsys
    )
    assert "expected no harmonized edges yet" in again


def test_new_sites(simulated: SyntheticCohort, folder: Path, tmp_path: Path, capsys: Said) -> None:
    known = write(tmp_path / "known", simulated, simulated.site != "S03")
    assert run(["harmonize", "fit", str(known), "--out", str(tmp_path / "h")]) == 0
    model = str(tmp_path / "h" / "model.safetensors")
    line = mistake(["harmonize", "apply", str(folder), model, "--out", str(tmp_path / "a")], capsys)
    assert "found S03; extend the model" in line
    assert not (tmp_path / "a").exists()
    for by in ("travelers", "controls"):
        out = tmp_path / f"{by}.safetensors"
        new = write(tmp_path / by, simulated, simulated.site == "S03")
        words = ["harmonize", "extend", model, str(new), "--out", str(out), "--by", by]
        assert run(words) == 0
        fitted = load(out)
        assert fitted.sites_ == ("S01", "S02", "S03")
        assert fitted.transductive_ == (by == "controls")
    assert "TRANSDUCTIVE" in capsys.readouterr().out


def test_combat_tells_which_sites_are_transductive(
    simulated: SyntheticCohort, tmp_path: Path, capsys: Said
) -> None:
    known = write(tmp_path / "known", simulated, simulated.site != "S03")
    fit = ["harmonize", "fit", str(known), "--out", str(tmp_path / "h"), "--method", "combat"]
    assert run(fit) == 0
    new = write(tmp_path / "new", simulated, simulated.site == "S03")
    out = tmp_path / "extended.safetensors"
    words = ["harmonize", "extend", str(tmp_path / "h"), str(new), "--out", str(out)]
    assert run([*words, "--by", "controls"]) == 0
    capsys.readouterr()
    assert run(["harmonize", "report", str(out)]) == 0
    assert "TRANSDUCTIVE: S03 by controls of their own" in capsys.readouterr().out


def test_mistakes(simulated: SyntheticCohort, folder: Path, tmp_path: Path, capsys: Said) -> None:
    fit = ["harmonize", "fit", str(folder), "--out", str(tmp_path / "h")]
    assert "add --method combat" in mistake([*fit, "--mean-only"], capsys)
    assert "add --method traveling" in mistake(
        [*fit, "--method", "combat", "--penalty", "3"], capsys
    )
    assert "found iq" in mistake([*fit, "--method", "combat", "--covariate", "iq"], capsys)
    assert "found none" in mistake(["harmonize", "report", str(tmp_path / "no")], capsys)
    nobody = np.array([t is None for t in simulated.traveler])
    stays = write(tmp_path / "stays", simulated, nobody)
    assert "found none; mark their scans" in mistake(
        ["harmonize", "fit", str(stays), "--out", str(tmp_path / "h")], capsys
    )
