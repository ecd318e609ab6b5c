"""`fcnef cohort` as a person types it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from offline.atlas import Atlas
from offline.cohort import Cohort
from tests.offline.cohorts import ATLAS, people_table, series, write_series
from tests.offline.trees import write_labels, write_run
from tools.cli import run

Said = pytest.CaptureFixture[str]

PEOPLE = ["--people", "people.tsv", "--arrays", "arrays", "--atlas", "atlas.txt"]
BUILD = ["cohort", "build", "made", *PEOPLE, "--kind", "series"]


def other(option: str, value: str) -> list[str]:
    """The build command with another value of one option."""
    place = BUILD.index(option) + 1
    return [*BUILD[:place], value, *BUILD[place + 1 :]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    people_table(6, BDI=range(6), mean_fd=[0.1, 0.7, 0.1, 0.1, 0.1, 0.1]).to_csv(
        "people.tsv", sep="\t", index=False
    )
    write_series(tmp_path / "arrays", 6)
    Path("atlas.txt").write_text("\n".join(ATLAS.labels))
    return tmp_path


def test_build_show_and_withdraw(capsys: Said) -> None:
    assert run([*BUILD, "--tr", "2", "--max-mean-fd", "0.5", "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert "made: 5 scans of 5 people, arrays (series)" in said
    assert "atlas atlas: 8 ROIs, 28 edges" in said
    assert "site: A 3, B 2" in said
    assert "mean FD: at most 0.5 mm" in said
    assert "left out: 1 scan (" in said
    assert "1 x mean FD 0.7 mm, limit 0.5 mm" in said
    assert run(["cohort", "show", "made", "--excluded"]) == 0
    assert capsys.readouterr().out == (
        "participant\tsession\treason\np01\t1\tmean FD 0.7 mm, limit 0.5 mm\n"
    )
    assert run(["cohort", "withdraw", "made", "sub-p03"]) == 0
    assert "made: 1 scan removed" in capsys.readouterr().out
    assert Cohort.open("made").people["participant"].tolist() == ["p00", "p02", "p04", "p05"]
    assert run([*BUILD, "--rebuild"]) == 0
    assert "p03" not in Cohort.open("made").people["participant"].tolist()


def test_build_from_a_tree(folder: Path, capsys: Said) -> None:
    labels = write_labels(folder / "labels.nii.gz")
    for person in ("01", "02"):
        for k, session in enumerate(("siteATTd1", "siteATV")):
            x = series(int(person) + 10 * k, 80)
            write_run(folder / "tree", person, x, labels, session=session)
    tree = ["cohort", "bids", "made", "tree", "--labels", "labels.nii.gz", "--atlas", "atlas.txt"]
    options = ["--space", "MNI", "--release", "traveling", "--tier", "open-traveling"]
    assert run([*tree, *options, "--censor", "0.5"]) == 0
    said = capsys.readouterr().out
    assert "made: 4 scans of 2 people" in said
    assert "traveling subjects: 2 people, 4 scans, 2 sites" in said
    assert run([*tree, "--space", "MNI"]) == 2
    assert "expected either --people or --release" in capsys.readouterr().err


def test_build_from_the_connectivity_release(folder: Path, capsys: Said) -> None:
    rng = np.random.default_rng(0)
    R = [np.corrcoef(rng.standard_normal((200, 140)).T) for _ in range(3)]
    root = folder / "SRPBS_FC" / "ShowaU"
    root.mkdir(parents=True)
    edges = np.stack([r[np.triu_indices(140, 1)] for r in R])
    scipy.io.savemat(root / "SWA_FC_Matrices_N3.mat", {"FCMat": edges})
    (root / "SUBINFO_ShowaU.tsv").write_text("ID\tDiagnosis\nA\t0\nB\t2\nC\t0\n")
    assert run(["cohort", "release", "made", "SRPBS_FC"]) == 0
    said = capsys.readouterr().out
    assert "140 ROIs, 9,730 edges" in said
    assert "diagnosis: HC 2, SCZ 1" in said
    assert "ROITBL_BAL.mat not found" in said


@pytest.mark.parametrize("words", ["build", "bids", "release", "show", "withdraw"])
def test_help_has_an_example(words: str, capsys: Said) -> None:
    assert run(["cohort", words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"fcnef cohort {words}" in shown.partition("Example:")[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cohort", "show", "none"], "expected a cohort, found none; check the path"),
        (["cohort", "withdraw", "none", "p01"], "expected a cohort, found none"),
        (other("--kind", "fc"), "Choose from"),
        ([*BUILD, "--column", "age"], "--column: expected OURS=THEIRS, found 'age'"),
        ([*BUILD, "--column", "age=years"], "found age=years; columns are participant, site"),
        ([*BUILD, "--tier", "open-mri"], "expected a column consent for the tier open-mri"),
        (other("--atlas", "none.tsv"), "expected a readable table of labels"),
        (other("--arrays", "none"), "expected a file or folder, found none"),
        (other("--people", "none.tsv"), "expected a table with a header, found No such file"),
        ([*BUILD, "--min-minutes", "4"], "everyone excluded: minutes not known"),
        ([*BUILD, "--min-minutes", "0"], "expected more than 0 minutes as the least, found 0"),
        ([*BUILD, "--max-mean-fd", "nan"], "displacement above 0 mm, found nan mm"),
        ([*BUILD, "--max-missing-share", "10"], "expected a share of missing ROIs of 0 to 1"),
        ([*BUILD, "--tr", "2500"], "above 0 and up to 20 s, found 2500 s; give seconds"),
        ([*BUILD, "--tr", "0"], "above 0 and up to 20 s, found 0 s"),
        ([*BUILD, "--tr", "2", "--censor", "-1"], "displacement above 0 mm, found -1 mm"),
        ([*BUILD, "--workers", "0"], "expected at least one worker"),
        ([*BUILD, "--workers", "99999999999999999999"], "expected at most 1024 workers"),
        (["cohort", "release", "made", "arrays"], "expected .mat files of 9730 edges"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], words: str, capsys: Said) -> None:
    assert run(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not Path("made/cohort.json").exists()


def test_real_rest_in_one_command(data: Path, capsys: Said) -> None:
    rest = data / "rest"
    command = ["cohort", "build", "rest", "--kind", "series", "--tr", "2.5", "--drop", "GlobSig"]
    command += ["--people", str(rest / "rpn_3site_participants.tsv")]
    command += ["--arrays", str(rest / "rpn_3site_mist122_timeseries.npz")]
    assert run([*command, "--missing-rois", "drop"]) == 0
    assert "117 scans of 117 people" in capsys.readouterr().out
    cohort = Cohort.open("rest")
    assert (cohort.atlas.n_rois, len(cohort.people)) == (121, 117)
    assert "ROIs left out for everyone: CER7b_l" in cohort.about["notes"]
    atlas = Atlas.load(rest / "rpn_atlas_mist122_relabeled.tsv")
    assert cohort.atlas.digest == atlas.without(["CER7b_l"]).digest
