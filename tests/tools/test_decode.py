"""`fcnef decode` end to end on a small simulated cohort, and one line for every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from offline.atlas import Atlas
from offline.cohort import Cohort, build_cohort, open_source, read_people
from offline.decoder import load_decoder
from offline.decoder.study import choose
from offline.errors import DecodeError
from offline.synthetic import traveling_cohort
from tools.cli import run

ATLAS = Atlas("eight", tuple(f"R{k}" for k in range(8)))
QUICK = ["--draws", "1", "--permutations", "2", "--workers", "1"]

Said = pytest.CaptureFixture[str]


def build(folder: Path, people: pd.DataFrame, X: np.ndarray) -> Path:
    """A cohort of edges made small, so that each row can be that of signals."""
    X = 0.25 * (X - 0.15)
    people.to_csv(folder / "people.tsv", sep="\t", index=False, na_rep="n/a")
    np.save(folder / "z.npy", X)
    table = read_people(folder / "people.tsv")
    source = open_source(folder / "z.npy", "z", ATLAS, len(X))
    build_cohort(folder / "cohort", table, source, description="simulated")
    return folder / "cohort"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two travelers, three sites, two disorders with an effect each, 28 edges."""
    c = traveling_cohort(
        n_edges=28, n_travelers=2, scans_per_visit=1, controls=(16, 16, 16),
        patients={"MDD": {0: 10, 1: 10}, "ASD": {1: 10, 2: 10}},
    )  # fmt: skip
    people = c.people.drop(columns=["consent", "medication"])
    people["severity"] = np.round(20 + 40 * c.X[:, 0], 3)
    people["alike"] = 1.5
    people["group"] = np.where(people["diagnosis"] == "control", "g0", "g1")
    X = c.X.copy()
    X[people["diagnosis"] == "MDD", 1] += 0.4
    return build(tmp_path_factory.mktemp("cohort"), people, X)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def mistake(arguments: list[str], capsys: Said) -> str:
    capsys.readouterr()
    assert run(["decode", *arguments]) == 2, arguments
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("fcnef: ")
    return lines[0]


def test_a_disorder_end_to_end(cohort: Path, folder: Path, capsys: Said) -> None:
    command = ["decode", str(cohort), "--target", "diagnosis", "--positive", "MDD", *QUICK]
    assert run([*command, "--out", "out", "--covariates", "age", "sex"]) == 0
    said = capsys.readouterr().out
    assert said.index("2 permutations to come") < said.index("out/report.html")
    results = json.loads((folder / "out" / "results.json").read_text())
    assert results["classes"] == ["control", "MDD"]
    assert results["figures"]["AUC within sites"]["value"] > 0.6
    assert results["settings"]["n_traveling_scans"] == 6
    assert results["settings"]["covariates"] == ["age", "sex"]
    assert results["verdict"]["sentence"] in said
    tables = {path.stem for path in (folder / "out" / "tables").iterdir()}
    assert {"sites", "outputs", "permuted", "edges", "disorders", "confounds"} <= tables
    across = pd.read_csv(folder / "out" / "tables" / "disorders.tsv", sep="\t")
    assert set(zip(across["decoder"], across["disorder"], strict=True)) == {
        (a, b) for a in ("ASD", "MDD") for b in ("ASD", "MDD")
    }
    page = (folder / "out" / "report.html").read_text()
    assert "Every decoder on every disorder" in page
    outputs = pd.read_csv(folder / "out" / "tables" / "outputs.tsv", sep="\t")
    decoder = load_decoder(folder / "out" / "decoder.safetensors")
    assert len(outputs) == 68
    np.testing.assert_allclose(
        outputs["output"], decoder.out_of_fold_[np.isfinite(decoder.out_of_fold_)], rtol=1e-6
    )
    # the same call goes on with what is there
    finished = {p: p.stat().st_mtime_ns for p in (folder / "out" / "work").rglob("item-*")}
    assert len(finished) == 3 + 2
    assert run([*command, "--out", "out", "--covariates", "age", "sex", "--no-disorders"]) == 0
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    again = json.loads((folder / "out" / "results.json").read_text())
    assert again["figures"] == results["figures"]


def test_a_number_with_traveling_subjects(cohort: Path, folder: Path, capsys: Said) -> None:
    command = ["decode", str(cohort), "--target", "severity", "--harmonizer", "traveling"]
    assert run([*command, *QUICK]) == 0
    results = json.loads((folder / "decode-severity" / "results.json").read_text())
    assert results["classes"] is None
    assert results["figures"]["r within sites"]["value"] > 0.5
    assert "Predicted and actual" in (folder / "decode-severity" / "report.html").read_text()


def test_components_without_harmonizer(cohort: Path, folder: Path) -> None:
    command = ["decode", str(cohort), "--target", "sex", "--selector", "components"]
    assert run([*command, "--harmonizer", "none", "--out", "sex", *QUICK]) == 0
    results = json.loads((folder / "sex" / "results.json").read_text())
    assert results["settings"]["estimator"]["class"] == "ComponentClassifier"
    assert results["settings"]["harmonizer"] is None
    assert len(results["site_prediction"]) == 1


def test_who_is_compared_with_whom(cohort: Path) -> None:
    opened = Cohort.open(cohort)
    chosen = choose(opened, "diagnosis", "ASD")
    assert (chosen.negative, len(chosen.people)) == ("control", 48 + 20 + 6)
    assert chosen.told == ("20 scans that are neither ASD nor control were left out",)
    assert chosen.people["traveling"].sum() == 6
    # travelers stay for the harmonizer, whatever is told apart
    patients = choose(opened, "diagnosis", "ASD", "MDD")
    assert len(patients.people) == 20 + 20 + 6
    assert patients.people["traveling"].sum() == 6
    numbers = choose(opened, "age")
    assert numbers.positive is None
    assert len(numbers.people) == 94


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "weight"], "expected a target among session, scanner, diagnosis"),
        (["--target", "site"], "expected a target other than site"),
        (["--target", "participant"], "expected a target among"),
        (["--target", "alike"], "expected alike to vary, found 1.5 for everyone"),
        (["--target", "diagnosis"], "found 3 (ASD, MDD, control); choose with --positive"),
        (["--target", "diagnosis", "--positive", "SCZ"], "found 'SCZ'; check the spelling"),
        (["--target", "diagnosis", "--positive", "control"], "found 'control' twice"),
        (["--target", "sex", "--covariates", "sex"], "other than the target, found 'sex'"),
        (["--target", "sex", "--covariates", "weight"], "found 'weight'"),
        (
            ["--target", "sex", "--harmonizer", "none", "--covariates", "age"],
            "expected no covariates without a harmonizer",
        ),
        (
            ["--target", "sex", "--harmonizer", "traveling", "--covariates", "age"],
            "expected no covariates for traveling",
        ),
        (["--target", "sex", "--permutations", "-1"], "expected no fewer than 0 permutations"),
        (["--target", "sex", "--draws", "0"], "expected at least one draw, found 0"),
        (["--target", "sex", "--coordinates", "none.tsv"], "expected a readable table"),
        (["--target", "sex", "--selector", "trees"], "trees"),
    ],
)
def test_every_mistake_is_one_line(
    cohort: Path, arguments: list[str], message: str, capsys: Said
) -> None:
    assert message in mistake([str(cohort), *arguments], capsys)


def test_no_cohort_is_one_line(capsys: Said) -> None:
    assert "expected a cohort, found none" in mistake(["nowhere", "--target", "sex"], capsys)


def small(folder: Path, n: int, **columns: list[str]) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    people = pd.DataFrame({"participant": [f"p{k}" for k in range(n)], **columns})
    return build(folder, people, 0.3 + 0.2 * rng.standard_normal((n, 28)))


def test_too_few_people_are_refused(folder: Path, capsys: Said) -> None:
    at = small(folder, 19, site=["A"] * 10 + ["B"] * 9, sex=["F", "M"] * 9 + ["F"])
    said = mistake([str(at), "--target", "sex"], capsys)
    assert "expected at least 20 scans with sex, found 19" in said


def with_small_sites(folder: Path, **columns: list[str]) -> Path:
    """Two sites of 16 people, C of one person and D of three."""
    return small(folder, 36, site=["A", "B"] * 16 + ["C"] + ["D"] * 3, **columns)


def test_small_sites_are_refused_before_anything_runs(folder: Path, capsys: Said) -> None:
    at = with_small_sites(folder, sex=["F", "M"] * 18, age=[str(20 + k) for k in range(36)])
    said = mistake([str(at), "--target", "sex", *QUICK], capsys)
    assert "at least 4 people at every site to fit ComBat" in said
    assert "found C 1, D 3; leave such sites out with --min-people-per-site 4" in said
    said = mistake([str(at), "--target", "age", *QUICK], capsys)
    assert "leave such sites out with --min-people-per-site 6" in said
    said = mistake([str(at), "--target", "age", "--min-people-per-site", "99"], capsys)
    assert "found at most 16; ask for fewer" in said
    assert "found 0" in mistake([str(at), "--target", "age", "--min-people-per-site", "0"], capsys)
    assert not (folder / "decode-sex").exists()


def test_small_sites_may_stay_where_nothing_is_harmonized(folder: Path, capsys: Said) -> None:
    at = with_small_sites(folder, sex=["F", "M"] * 18)
    assert run(["decode", str(at), "--target", "sex", "--harmonizer", "none", *QUICK]) == 0
    assert "WARNING: Sites with one person: C" in capsys.readouterr().out


@pytest.mark.parametrize(("target", "least"), [("sex", "4"), ("age", "6")])
def test_small_sites_are_left_out_and_listed(
    folder: Path, target: str, least: str, capsys: Said
) -> None:
    at = with_small_sites(folder, sex=["F", "M"] * 18, age=[str(20 + k) for k in range(36)])
    command = ["decode", str(at), "--target", target, "--min-people-per-site", least, *QUICK]
    assert run([*command, "--out", "out"]) == 0
    said = capsys.readouterr().out
    assert f"4 scans at sites with fewer than {least} people left out: C 1, D 3" in said
    results = json.loads((folder / "out" / "results.json").read_text())
    assert results["settings"]["min_people_per_site"] == int(least)
    assert (results["settings"]["n_people"], results["settings"]["n_sites"]) == (32, 2)
    left_out = pd.read_csv(folder / "out" / "tables" / "excluded.tsv", sep="\t")
    assert left_out["participant"].tolist() == ["p32", "p33", "p34", "p35"]
    assert left_out["reason"].tolist()[0] == f"site C: 1 person, at least {least} asked"
    page = (folder / "out" / "report.html").read_text()
    assert f"<td>site D: 3 people, at least {least} asked</td>" in page
    assert f"Sites with fewer than {least} people of the sample were left out." in page


def test_a_site_that_one_decoder_does_not_know_is_not_in_the_table_of_disorders(
    folder: Path, capsys: Said
) -> None:
    """At site C nobody is a control: the decoder of MDD never saw its scanner."""
    dx = ["HC", "MDD", "HC", "ASD"] * 12 + ["ASD"] * 6
    at = small(folder, 54, site=["A"] * 24 + ["B"] * 24 + ["C"] * 6, diagnosis=dx)
    command = ["decode", str(at), "--target", "diagnosis", "--positive", "MDD", *QUICK]
    assert run([*command, "--out", "out"]) == 0
    across = pd.read_csv(folder / "out" / "tables" / "disorders.tsv", sep="\t")
    assert len(across) == 4
    assert across.loc[across["disorder"] == "ASD", "patients"].tolist() == [12, 12]
    said = capsys.readouterr().out
    assert "NOTE: Not in the table of disorders, as not every decoder knows them: sites C." in said


def test_disorders_that_are_not_in_the_table_are_told(folder: Path, capsys: Said) -> None:
    """Of 14 people with ASD eight are at a site where nobody else is."""
    dx = ["HC", "MDD", "HC", "MDD", "HC", "MDD", "HC", "ASD"] * 6 + ["ASD"] * 8
    at = small(folder, 56, site=["A"] * 24 + ["B"] * 24 + ["C"] * 8, diagnosis=dx)
    command = ["decode", str(at), "--target", "diagnosis", "--positive", "MDD", *QUICK]
    assert run([*command, "--out", "out"]) == 0
    said = capsys.readouterr().out
    assert "for fewer than 10 patients at the sites that are: ASD 6." in said
    assert "NOTE: There is no table of disorders: fewer than two are left." in said
    assert not (folder / "out" / "tables" / "disorders.tsv").exists()
    assert "There is no table of disorders" in (folder / "out" / "report.html").read_text()


def test_the_console_marks_what_is_transductive(folder: Path, capsys: Said) -> None:
    at = small(folder, 32, site=["A", "B"] * 16, sex=["F", "F", "M", "M"] * 8)
    command = ["decode", str(at), "--target", "sex", "--unseen-site", "reference_controls"]
    assert run([*command, *QUICK]) == 0
    said = capsys.readouterr().out
    # of two sites one is left, which has nothing to be harmonized with
    assert "TRANSDUCTIVE" not in said
    at = small(folder / "more", 48, site=["A", "B", "C"] * 16, sex=["F"] * 24 + ["M"] * 24)
    command[1] = str(at)
    assert run([*command, *QUICK, "--out", "more"]) == 0
    said = capsys.readouterr().out
    assert "NOTE: TRANSDUCTIVE" in said
    assert "TRANSDUCTIVE (all sites): harmonized by controls of their own" in said


def test_one_site_has_nothing_to_harmonize(folder: Path, capsys: Said) -> None:
    at = small(folder, 30, site=["A"] * 30, sex=["F", "M"] * 15)
    said = mistake([str(at), "--target", "sex", *QUICK], capsys)
    assert "expected at least two sites" in said


def test_a_diagnosis_without_controls_is_refused(folder: Path) -> None:
    at = small(folder, 30, site=["A", "B"] * 15, diagnosis=["MDD", "MDD", "ASD"] * 10)
    with pytest.raises(DecodeError, match=r"expected controls among the diagnoses ASD, MDD"):
        choose(Cohort.open(at), "diagnosis", "MDD")
    assert choose(Cohort.open(at), "diagnosis", "MDD", "ASD").negative == "ASD"


def test_somebody_with_two_diagnoses_has_both(folder: Path) -> None:
    at = small(folder, 30, site=["A", "B"] * 15, diagnosis=["HC", "MDD", "MDD;ASD"] * 10)
    chosen = choose(Cohort.open(at), "diagnosis", "MDD")
    assert chosen.negative == "HC"
    assert (chosen.y == "MDD").sum() == 20
    assert (choose(Cohort.open(at), "diagnosis", "ASD").y == "ASD").sum() == 10


def test_a_covariate_that_is_the_target_by_another_name_is_refused(
    folder: Path, capsys: Said
) -> None:
    sex = ["F", "M"] * 15
    at = small(
        folder,
        30,
        site=["A", "A", "B"] * 10,
        sex=sex,
        code=["1" if s == "M" else "2" for s in sex],
    )
    said = mistake([str(at), "--target", "sex", "--covariates", "code", *QUICK], capsys)
    assert "do not tell the target, found 'code'" in said
