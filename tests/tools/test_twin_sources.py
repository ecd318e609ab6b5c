"""`fcnef twin` on what laboratories have: a cohort beside a table of trials, and the release.

Files are of the layout of real ones, with made-up values.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch", reason="torch is not installed (fcnef[offline])")

from offline.twin.synthetic import people_with_truth
from tests.offline.twin.releases import N_REGIONS, write_release
from tools.cli import run

SMALL = ["--units", "6", "--epochs", "1", "--folds", "3"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> list[str]:
    """A cohort of 26 people, two with a second scan and one without trials, and their trials."""
    folder: Path = tmp_path_factory.mktemp("cohort")
    people = people_with_truth("linear", seed=6, n_people=26, n_rois=20)
    table = people.people.assign(session="1")
    again = table.iloc[:2].assign(session="2")
    pd.concat([table, again]).to_csv(folder / "people.tsv", sep="\t", index=False)
    np.save(folder / "z.npy", np.concatenate([people.edges, people.rescan(1)[:2]]))
    (folder / "atlas.txt").write_text("\n".join(people.atlas.labels))
    trials = people.trials[people.trials["participant_id"] != "P0025"]
    trials.to_csv(folder / "trials.tsv", sep="\t", index=False)
    made = str(folder / "made")
    assert run(
        ["cohort", "build", made, "--people", str(folder / "people.tsv"), "--kind", "z",
         "--arrays", str(folder / "z.npy"), "--atlas", str(folder / "atlas.txt")]
    ) == 0  # fmt: skip
    return [made, "--trials", str(folder / "trials.tsv")]


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> list[str]:
    """The release with 24 people, BOLD of one region to be predicted."""
    folder = write_release(tmp_path_factory.mktemp("release") / "ds005237", n_people=24)
    return [str(folder), "--region", "Schaefer400_005"]


@pytest.fixture(scope="module", params=["cohort", "release"])
def source(request, tmp_path_factory) -> tuple[list[str], Path]:
    """Words of the source, and a twin fitted to it."""
    words = request.getfixturevalue(request.param)
    path = tmp_path_factory.mktemp("fit") / "t.safetensors"
    assert run(["twin", "fit", *words, "--out", str(path), *SMALL]) == 0
    return words, path


def test_a_report_is_of_real_people(source, tmp_path, capsys):
    words, twin = source
    out = tmp_path / "report"
    assert run(["twin", "evaluate", *words, "--twin", str(twin), "--out", str(out)]) == 0
    assert "adds nothing" in capsys.readouterr().out
    results = json.loads((out / "results.json").read_text())
    assert results["provenance"] == "real"
    assert results["settings"]["twin"]["provenance"] == "real"
    table = pd.read_csv(out / "response_times.tsv", sep="\t")
    told = table[(table["predictor"] == "twin")]
    assert np.isfinite(told["rmse_ms"]).all()
    edges = pd.read_csv(out / "edges.tsv", sep="\t")
    assert edges["note"].tolist() == ["not measured: the truth is not known of real people"]
    assert "Simulated people" not in (out / "report.html").read_text()


def test_everybody_usable_is_told(source, tmp_path, capsys):
    words, twin = source
    out = tmp_path / "told.tsv"
    assert run(["twin", "simulate", *words, "--twin", str(twin), "--out", str(out)]) == 0
    people = 24 if "--region" in words else 25
    assert f"{people} people, real twin" in capsys.readouterr().out
    table = pd.read_csv(out, sep="\t")
    assert len(table) == people
    assert table["rt_s"].between(0.2, 3.0).all()


def test_an_edge_is_edited_and_all_are_screened(source, tmp_path, capsys):
    words, twin = source
    out = tmp_path / "effects"
    edge = "Schaefer400_001--Schaefer400_002" if "--region" in words else "Vis_1--Vis_2"
    common = ["twin", "intervene", *words, "--twin", str(twin), "--out", str(out)]
    assert run([*common, "--edge", edge, "--size-sd", "0.3"]) == 0
    effects = pd.read_csv(out / "effects.tsv", sep="\t")
    done = effects[effects["refused"].isna()]
    assert len(done) > len(effects) / 2
    assert np.isfinite(done["low"]).all()
    if "--region" in words:
        assert "response:Schaefer400_005" in set(effects["target"])
    assert run([*common, "--permutations", "39", "--exact", "1"]) == 0
    assert "real twin: no edge qualifies for any of" in capsys.readouterr().out


def test_who_has_no_trials_is_left_out_and_scans_of_a_person_are_one(cohort):
    from offline.cohort import Cohort
    from offline.twin.study import open_study

    study = open_study(cohort[0], cohort[2])
    assert study.left_out.set_index("participant")["reason"]["P0025"] == "no behaviour"
    z = Cohort.open(cohort[0]).z.read(slice(0, 190))
    assert np.allclose(study.edges[1], (z[1] + z[27]) / 2.0)
    assert np.allclose(study.edges[2], z[2])


def refused(capsys, *words: str) -> str:
    assert run(["twin", *words]) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    return text


def test_a_cohort_without_trials_and_a_region_that_is_none_are_one_line(
    cohort, release, tmp_path, capsys
):
    out = ["--out", str(tmp_path / "t")]
    assert "give --trials" in refused(capsys, "fit", cohort[0], *out)
    assert "found no 'amygdala'" in refused(capsys, "fit", release[0], "--region", "amygdala", *out)


def test_tables_that_would_give_a_wrong_number_are_one_line(cohort, tmp_path, capsys):
    table = pd.read_csv(cohort[2], sep="\t", dtype=str, keep_default_na=False)
    answered = table["response_time_s"] != "n/a"
    milliseconds = table["response_time_s"].where(
        ~answered, table["response_time_s"].replace("n/a", "0").astype(float).mul(1000).map(str)
    )
    changed = {
        "divide by 1000": table.assign(response_time_s=milliseconds),
        "found 'inf'": table.assign(response_time_s="inf"),
        "response times all equal": table.assign(response_time_s="0.7", correct="1"),
        "expected a trial type face, shape, found 'faces'": table.assign(
            trial_type=table["trial_type"].replace("face", "faces"), answer="left"
        ),
        "all trials missed": table.assign(response_time_s="n/a", correct="0"),
    }
    path = tmp_path / "trials.tsv"
    for words, wrong in changed.items():
        wrong.to_csv(path, sep="\t", index=False)
        text = refused(
            capsys, "fit", cohort[0], "--trials", str(path), "--out", str(tmp_path / "t")
        )
        assert words in text


def test_regions_of_the_release_are_named_by_a_table_of_its_labels(release, tmp_path, capsys):
    from offline.twin.study import open_study

    names = ["left amygdala", *(f"R{k}" for k in range(1, N_REGIONS))]
    table = tmp_path / "labels.tsv"
    table.write_text("name\n" + "\n".join(names) + "\n")
    study = open_study(release[0], regions=["left amygdala"], labels=table)
    numbered = open_study(release[0], regions=["Schaefer400_001"])
    assert study.atlas.labels == tuple(names)
    assert study.examples.regions == ("left amygdala",)
    assert np.array_equal(study.examples.bold, numbered.examples.bold, equal_nan=True)
    table.write_text("name\n" + "\n".join(names[:-1]) + "\n")
    words = ["--atlas", str(table), "--out", str(tmp_path / "t")]
    assert "expected 11" in refused(capsys, "fit", release[0], *words)


def test_a_graphics_card_that_is_not_there_is_one_line(cohort, tmp_path, capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    text = refused(capsys, "fit", *cohort, "--out", str(tmp_path / "t"), "--device", "cuda")
    assert "expected a GPU that PyTorch can use" in text
    text = refused(capsys, "fit", *cohort, "--out", str(tmp_path / "t"), "--device", "tpu")
    assert "cpu or cuda" in text


def as_events(table: pd.DataFrame, folder: Path) -> None:
    """A joined table as BIDS events, a file a person and run, in folders as `fcnef task` makes."""
    for (person, task, run_), rows in table.groupby(["participant_id", "task", "run"]):
        where = folder / f"sub-{person}" / "ses-1" / "beh"
        where.mkdir(parents=True, exist_ok=True)
        path = where / f"sub-{person}_ses-1_task-{task}_run-{run_}_events.tsv"
        rows.drop(columns=["participant_id", "task", "run"]).to_csv(path, sep="\t", index=False)


def test_bids_events_are_trials_as_a_joined_table_is(cohort, tmp_path, capsys):
    from offline.twin.study import open_study

    as_events(pd.read_csv(cohort[2], sep="\t", dtype=str, keep_default_na=False), tmp_path / "bids")
    joined, events = open_study(cohort[0], cohort[2]), open_study(cohort[0], tmp_path / "bids")
    assert events.examples.people == joined.examples.people
    for name in ("inputs", "onset", "log_rt", "choice", "condition"):
        one, other = getattr(events.examples, name), getattr(joined.examples, name)
        assert np.array_equal(one, other, equal_nan=name == "log_rt")
    assert np.array_equal(events.edges, joined.edges)
    out = ["--out", str(tmp_path / "alone")]
    assert run(["twin", "evaluate", str(tmp_path / "bids"), *out]) == 0
    assert "The twin was not measured" in capsys.readouterr().out
    assert "found regions" in refused(
        capsys, "evaluate", str(tmp_path / "bids"), *out, "--region", "amygdala"
    )


def test_a_task_of_ones_own_is_described_in_toml(cohort, tmp_path, capsys):
    table = pd.read_csv(cohort[2], sep="\t", dtype=str, keep_default_na=False)
    trials = tmp_path / "trials.tsv"
    table.assign(task="flanker").to_csv(trials, sep="\t", index=False)
    words = ["evaluate", cohort[0], "--trials", str(trials), "--out", str(tmp_path / "report")]
    assert "found task 'flanker'" in refused(capsys, *words)
    task = tmp_path / "flanker.toml"
    task.write_text(
        """name = "flanker"
choices = ["left", "right"]
response_window_s = 2.0
stimulus_s = 1.9
answer = "answer"
response = "response"
[channels]
face = { condition = "face" }
shape = { condition = "shape" }
"""
    )
    assert run(["twin", *words, "--task", str(task)]) == 0
    table = pd.read_csv(tmp_path / "report" / "response_times.tsv", sep="\t")
    assert set(table["task"]) == {"flanker"}
    task.write_text("name = 3")
    assert "correct it" in refused(capsys, *words, "--task", str(task))


def test_one_command_writes_the_tables_of_the_release(release, tmp_path, capsys):
    out = tmp_path / "tables"
    assert run(["twin", "reproduce", release[0], "--out", str(out), "--repeats", "1"]) == 0
    assert capsys.readouterr().out.count("rows") == 5
    unseen = pd.read_csv(out / "unseen.tsv", sep="\t")
    assert {"kernel ridge", "CPM, shuffled"} <= set(unseen["predictor"])
    assert len(pd.read_csv(out / "maps.tsv", sep="\t")) == 3
    assert "ds005237" in refused(capsys, "reproduce", str(tmp_path), "--out", str(out))
    known = ["reproduce", release[0], "--out", str(out)]
    assert "seed >= 0" in refused(capsys, *known, "--seed", "-1")
    assert "at least one repeat" in refused(capsys, *known, "--repeats", "0")
    assert "at least 2 folds" in refused(capsys, *known, "--folds", "1")
