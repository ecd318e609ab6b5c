"""`fcnef twin`: simulated people to report, effects and recommendations; a mistake is one line."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch", reason="torch is not installed (fcnef[offline])")

from offline.errors import TwinError
from offline.twin.synthetic import people_with_truth
from tools.cli import run

SOURCE = "synthetic:gated:5:30:30"
SMALL = ["--units", "6", "--epochs", "1", "--folds", "3", "--without", "P0000", "sub-P0001"]
EDGE = ["--edge", "Vis_1--SomMot_2", "--size-sd", "0.5"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("twin")


@pytest.fixture(scope="module")
def fitted(folder):
    path = folder / "t.safetensors"
    assert run(["twin", "fit", SOURCE, "--out", str(path), *SMALL]) == 0
    return path


def refused(capsys, *arguments: str) -> str:
    assert run(["twin", *arguments]) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    return text


def test_fit_leaves_curves_and_cost_beside_the_twin(fitted):
    curves = pd.read_csv(fitted.with_name("t-curves.tsv"), sep="\t")
    assert len(curves) == 3
    assert {"fold", "seed", "epoch", "training", "validation"} <= set(curves.columns)
    cost = json.loads(fitted.with_name("t-cost.json").read_text())
    assert cost["epochs"] == [1, 1, 1]


def test_fit_keeps_its_checkpoint_and_refuses_that_of_other_work(fitted, folder, capsys):
    path, kept = folder / "again.safetensors", folder / "kept"
    arguments = [SOURCE, "--out", str(path), "--checkpoint", str(kept), *SMALL]
    assert run(["twin", "fit", *arguments]) == 0
    assert path.read_bytes() == fitted.read_bytes()
    assert sorted(file.name for file in kept.iterdir()) == [
        f"member-{fold}-0.safetensors" for fold in range(3)
    ]
    other = [word if word != "6" else "7" for word in arguments]
    assert "found others; remove the folder" in refused(capsys, "fit", *other)


def test_simulate_writes_everybody_and_who_told_them(fitted, folder, capsys):
    out = folder / "told.tsv"
    arguments = ["--twin", str(fitted), "--out", str(out), "--seen", "5"]
    assert run(["twin", "simulate", SOURCE, *arguments]) == 0
    assert "SIMULATED" in capsys.readouterr().out
    table = pd.read_csv(out, sep="\t").set_index("participant_id")
    assert table["rt_s"].between(0.3, 2.0).all()
    assert table.loc["sub-P0000", "members"] == 3
    assert table.loc["sub-P0002", "members"] == 1


def test_evaluate_says_where_nothing_is_added(fitted, folder, capsys):
    out = folder / "report"
    assert run(["twin", "evaluate", SOURCE, "--twin", str(fitted), "--out", str(out)]) == 0
    assert "adds nothing" in capsys.readouterr().out
    results = json.loads((out / "results.json").read_text())
    assert results["settings"]["twin"]["provenance"] == "synthetic"
    assert (out / "report.html").is_file()


def test_intervene_on_an_edge_and_by_screening(fitted, folder, capsys):
    out = folder / "effects"
    common = ["twin", "intervene", SOURCE, "--twin", str(fitted), "--out", str(out)]
    assert run([*common, *EDGE]) == 0
    assert "are predicted to respond" in capsys.readouterr().out
    effects = pd.read_csv(out / "effects.tsv", sep="\t")
    assert set(effects["target"]) == {"rt", "rt:matching face", "rt:matching shape"}
    assert (out / "group.svg").read_text().startswith("<svg")
    null = ["--permutations", "39", "--exact", "1"]
    assert run([*common, *null]) == 0
    # thirty people who did one epoch say nothing of an edge
    assert "no edge qualifies for any of 30 people" in capsys.readouterr().out
    table = pd.read_csv(out / "recommended.tsv", sep="\t")
    assert (np.sign(table["delta_z"]) == -np.sign(table["t"])).all()


def intervened(fitted, out, table: str, *words: str) -> pd.DataFrame:
    """One table of an intervention."""
    assert run(["twin", "intervene", SOURCE, "--twin", str(fitted), "--out", str(out), *words]) == 0
    return pd.read_csv(out / table, sep="\t", keep_default_na=False, na_values=["n/a"])


def test_up_and_down_are_each_others_contrary(fitted, folder):
    up, down = (
        intervened(fitted, folder / word, "group.tsv", *EDGE, "--direction", word)
        for word in ("up", "down")
    )
    assert (np.diff(up["change"].dropna()) <= 0.0).all()
    assert (np.diff(down["change"].dropna()) >= 0.0).all()
    up, down = up.set_index("person"), down.set_index("person")
    told = up.index[np.isfinite(up["low"])]
    assert len(told) > 10
    other = [table.loc[told, "why_not"] == "predicted the other way" for table in (up, down)]
    assert (other[0] != other[1]).all()
    assert (other[0] == (up.loc[told, "change"] < 0.0)).all()


def test_screening_edits_each_edge_in_the_direction_asked_for(fitted, folder):
    few = "--permutations", "39", "--exact", "1", "--direction", "up"
    table = intervened(fitted, folder / "screened", "recommended.tsv", *few)
    assert (np.sign(table["delta_z"]) == np.sign(table["t"])).all()


def test_shrunken_effects_have_intervals_for_who_was_left_out_alone(fitted, folder):
    table = intervened(fitted, folder / "shrunken", "effects.tsv", *EDGE, "--size", "shrunken")
    rt = table[table["target"] == "rt"].set_index("person")
    assert np.isfinite(rt["change"]).sum() > 10
    assert set(rt.index[np.isfinite(rt["low"])]) == {"P0000", "P0001"}


def test_trials_seen_are_where_an_intervention_begins(fitted, folder):
    words = *EDGE, "--size", "shrunken", "--seen", "5"
    table = intervened(fitted, folder / "seen", "effects.tsv", *words)
    begin = table[table["target"] == "rt"]["before"].to_numpy()
    told = {}
    for seen in ("0", "5"):
        out = folder / f"told-{seen}.tsv"
        arguments = ["--twin", str(fitted), "--out", str(out), "--seen", seen]
        assert run(["twin", "simulate", SOURCE, *arguments]) == 0
        told[seen] = pd.read_csv(out, sep="\t")["rt_s"].to_numpy()
    assert np.allclose(begin, told["5"], rtol=1e-5)
    assert not np.allclose(begin, told["0"], rtol=1e-3)


def test_a_plan_from_a_simulated_twin_is_refused(fitted, folder, capsys):
    text = refused(
        capsys, "intervene", SOURCE, "--twin", str(fitted), "--out", str(folder / "x"), *EDGE,
        "--plan", "P0000",
    )  # fmt: skip
    assert "expected a twin of real people for a plan" in text


def test_mistakes_are_told_in_one_line(fitted, folder, capsys):
    out = ["--out", str(folder / "mistake")]
    twin = ["--twin", str(fitted)]
    assert "no sub-nobody" in refused(capsys, "simulate", SOURCE, *twin, *out, "--person", "nobody")
    assert "expected a file, found none" in refused(
        capsys, "simulate", SOURCE, "--twin", "none", *out
    )
    other = "synthetic:gated:5:30:20"
    assert "expected the 30 ROIs" in refused(capsys, "simulate", other, *twin, *out)
    assert "an edge of atlas" in refused(
        capsys, "intervene", SOURCE, *twin, *out, "--edge", "here--there"
    )
    edge = ["--edge", "Vis_1--Vis_2"]
    for words, found in (
        (["--size-sd", "1.5"], "-1 to 1 SD, not 0, found 1.5"),
        (["--size-sd", "0"], "found 0"),
        (["--target", "speed"], "expected a target rt"),
        (["--permutations", "10"], "39 or more"),
        (["--exact", "0"], "1 or more edges"),
        (["--person", "P0003", "sub-P0003"], "sub-P0003 twice"),
        (["--trials", "trials.tsv"], "found trials"),
    ):
        assert found in refused(capsys, "intervene", SOURCE, *twin, *out, *edge, *words)
    plan = ["--plan", "P0003"]
    assert "expected --edge with --plan" in refused(capsys, "intervene", SOURCE, *twin, *out, *plan)
    afile = folder / "afile"
    afile.write_text("")
    for command in ("fit", "evaluate", "intervene", "simulate"):
        words = [] if command in ("fit", "evaluate") else twin
        text = refused(capsys, command, SOURCE, *words, "--out", str(afile / "x"))
        assert "expected a folder to write" in text
    assert "no sub-P0oo3" in refused(capsys, "fit", SOURCE, *out, "--without", "P0oo3")
    assert "expected seed >= 0" in refused(capsys, "fit", SOURCE, *out, "--seed", "-1")
    assert "expected a seed >= 0" in refused(capsys, "evaluate", SOURCE, *out, "--seed", "-1")
    assert "expected a cohort" in refused(capsys, "fit", str(folder / "none"), *out)


def test_a_twin_of_simulated_people_is_not_judged_on_real_trials(fitted, folder, capsys):
    trials = folder / "trials.tsv"
    people_with_truth("linear", seed=4, n_people=24, n_rois=20).trials.to_csv(
        trials, sep="\t", index=False
    )
    text = refused(
        capsys, "evaluate", str(trials), "--twin", str(fitted), "--out", str(folder / "x")
    )
    assert "never mixed" in text
    text = refused(capsys, "fit", str(trials), "--out", str(folder / "x"))
    assert "found behaviour alone" in text


def test_connectomes_of_other_people_of_these_names_are_refused(fitted, folder, capsys):
    """Simulated cohorts share their names: own effects need the connectomes trained with."""
    words = ["--twin", str(fitted), "--out", str(folder / "x"), "--edge", "Vis_1--SomMot_2"]
    text = refused(capsys, "intervene", "synthetic:gated:6:30:30", *words)
    assert "found others of the same people" in text


def test_a_twin_of_the_whole_form_is_judged_without_trials(folder, capsys):
    path = str(folder / "whole.safetensors")
    small = ["--units", "4", "--epochs", "1", "--folds", "2", "--form", "whole"]
    assert run(["twin", "fit", SOURCE, "--out", path, *small]) == 0
    out = folder / "whole"
    assert run(["twin", "evaluate", SOURCE, "--twin", path, "--out", str(out)]) == 0
    table = pd.read_csv(out / "response_times.tsv", sep="\t")
    twins = table[table["predictor"] == "twin"].set_index("seen")
    assert twins.loc["connectome only", "rmse_ms"] > 0.0
    assert "takes no trials" in twins.loc["first 2 trials", "note"]


def test_lines_of_a_plan_are_taken_by_fcnef_plan(fitted, folder, capsys):
    """A circuit is trained one way; a person who is predicted to move the other is refused."""
    from dataclasses import replace

    from offline.twin.files import load_twin
    from offline.twin.study import open_study
    from tools.twins.intervening import Asked, Edit, plan_words

    twin = replace(load_twin(fitted), provenance="real")
    study = replace(open_study(SOURCE), provenance="real")
    circuit = ["Vis_1--SomMot_2", "Vis_1--SomMot_1"]
    asked = Asked(twin, study, study, Edit(edge=circuit, size_sd=-0.5), 1)
    places = twin.atlas.edge_places(circuit)
    delta = -0.5 * twin.edge_spread()[1][places]
    found = twin.intervene(study.connectomes, places, delta, study.examples, targets=["rt"])
    person = next(n for n, why in zip(found.people, found.refused, strict=True) if not why)
    sure = np.full_like(found.change, -0.03)
    found = replace(
        found, change=sure, low=sure - 0.01, high=sure + 0.01, agreement=np.ones_like(sure)
    )
    words = plan_words(asked, found, person)
    assert words.count("--edge") == 2
    assert words.endswith("--direction down")
    spheres = [f"--sphere={name}:{k * 20},0,0:6" for k, name in enumerate(("Vis_1", "SomMot_2"))]
    plan = ["plan", "new", str(folder / "plan.json"), "--participant", "p", "--tr", "1"]
    spheres.append("--sphere=SomMot_1:0,40,0:6")
    assert run([*plan, "--volumes", "300", *spheres, *shlex.split(words)]) == 0
    edges = json.loads((folder / "plan.json").read_text())["edges"]
    assert [edge["direction"] for edge in edges] == [-1, -1]
    up = Asked(twin, study, study, Edit(edge=circuit, size_sd=-0.5, direction="up"), 1)
    with pytest.raises(TwinError, match="the other way"):
        plan_words(up, found, person)
