"""Evaluations: nobody is told by what was fitted to them; what is not at hand is not measured."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from offline.errors import AtlasError, TwinError
from offline.numerals import interval, number
from offline.report.twins import twin_verdict, write_twin_report
from offline.twin.evaluate import _other_run, _told, evaluate_twin
from offline.twin.further import _choices
from offline.twin.runs import runs_of
from offline.twin.study import open_study
from offline.twin.synthetic import people_with_truth
from tests.offline.twin.handmade import hand_made, run_of

SOURCE = "synthetic:linear:2:42:30"


@pytest.fixture(scope="module")
def study():
    return open_study(SOURCE, bold=True)


@pytest.fixture(scope="module")
def fitted(study):
    pytest.importorskip("torch", reason="torch is not installed (fcnef[offline])")
    from offline.twin.model import Settings
    from offline.twin.twin import Twin

    settings = Settings(units=8, rank=3, epochs=2, batch=14, folds=3, check_every=2)
    return Twin.fit(
        study.edges, study.examples, study.atlas, "synthetic", settings, sites=study.sites
    )


@pytest.fixture(scope="module")
def evaluation(study, fitted):
    return evaluate_twin(study, fitted, ks=(2, 10), n_draws=100)


def test_every_case_has_the_twin_and_its_baselines(evaluation):
    table = evaluation.tables["response_times"]
    seen = ["connectome only", "first 2 trials", "first 10 trials", "first half"]
    assert list(table["seen"].unique()) == seen
    by_case = table.groupby("seen", sort=False)["predictor"].apply(list)
    ridges = ["kernel ridge", "kernel ridge, quadratic"]
    unseen = ["twin", "group mean", "demographics", *ridges, "CPM"]
    assert by_case["connectome only"] == unseen
    for case in seen[1:]:
        assert by_case[case] == ["twin", "own mean", "James–Stein", "k-shot estimator"]
    gains = table[table["predictor"] != "twin"]
    assert np.isfinite(gains["rmse_gain_ms"]).all()
    twin = table[table["predictor"] == "twin"].set_index("seen")["rmse_ms"]
    expected = gains["rmse_ms"] - gains["seen"].map(twin)
    assert np.allclose(gains["rmse_gain_ms"], expected)


def test_predictions_do_not_depend_on_what_is_predicted(study, fitted):
    """The later half is made anything else: predictions for it stay, bit for bit."""
    run = next(iter(runs_of(study, fitted, 0)))
    late = run.here & ~run.early
    examples = study.examples
    other = replace(
        examples,
        log_rt=np.where(late, 1.0 + examples.log_rt, examples.log_rt),
        choice=np.where(late, 0, examples.choice),
    )
    own = examples.of(run.rows)
    for seen in (None, own.until(2, run.early), run.early):
        a, b = (_told(replace(study, examples=e), fitted, run, seen, 1) for e in (examples, other))
        assert np.array_equal(a, b)

    # the halves as two runs, the later told from the earlier
    first, second = (
        replace(run, here=here, data=replace(run.data, rt_s=run.data.rt_s[:, columns]))
        for here, columns in ((run.early, run.data.early), (late, ~run.data.early))
    )
    a, b = (
        _other_run(replace(study, examples=e), fitted, second, first, {}, "", 1).told["twin"]
        for e in (examples, other)
    )
    assert np.array_equal(a, b)
    a, b = (_told_choices(replace(study, examples=e), fitted, run) for e in (examples, other))
    assert len(a) == len(b) == 2
    for one, same in zip(a, b, strict=True):
        assert np.array_equal(one, same, equal_nan=True)


def _told_choices(study, fitted, run):
    """Probabilities that the table of choices is made of: connectome only, and trials seen."""
    told = []

    def simulate(*asked, **how):
        told.append(fitted.simulate(*asked, **how))
        return told[-1]

    twin = SimpleNamespace(simulate=simulate, settings=fitted.settings)
    _choices(study, twin, run, "", 10, 0, 1)
    return [one.probabilities for one in told]


def test_another_run_is_told_by_all_of_the_other_and_by_nothing_of_itself():
    """People are not the same in both runs, nor in the same order; the line is of other folds."""
    examples = hand_made(0, n_people=8, n_runs=2)
    run = run_of(examples, [0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 0, 1, 2, 0], code=1)
    other = run_of(examples, [6, 4, 7, 0, 2, 1, 5], [0] * 7, code=0)
    asked = []

    def simulate(fc, task, behaviour=None, *, threads=1):
        asked.append((fc, task, behaviour))
        return SimpleNamespace(rt_s=np.nanmean(np.exp(behaviour.log_rt), axis=(1, 2)))

    study = SimpleNamespace(examples=examples, connectomes=np.arange(8.0)[:, None])
    twin = SimpleNamespace(simulate=simulate)
    case = _other_run(study, twin, run, other, {}, "", 1)
    both, fold = np.array([0, 1, 2, 4, 5, 6]), np.array([0, 1, 2, 1, 2, 0])
    rt_s = np.exp(examples.log_rt[both])
    x, y = (np.nanmean(part, axis=(1, 2)) for part in (rt_s[:, :2], rt_s[:, 2:]))
    np.testing.assert_allclose(case.truth, y)
    np.testing.assert_allclose(case.told["own mean"], x)
    np.testing.assert_allclose(case.told["twin"], x)
    assert case.folds.tolist() == fold.tolist()
    for k in range(6):
        kept = fold != fold[k]
        slope = np.cov(x[kept], y[kept])[0, 1] / np.var(x[kept], ddof=1)
        line = y[kept].mean() + slope * (x[k] - x[kept].mean())
        assert case.told["own mean, fitted line"][k] == pytest.approx(line)
    ((fc, task, behaviour),) = asked
    assert fc[:, 0].tolist() == both.tolist()
    assert set(task.run.ravel()) == {1}
    assert set(behaviour.run.ravel()) == {0}
    alone = _other_run(study, None, run, other, {"twin": "none"}, "", 1)
    assert list(alone.told) == ["own mean", "own mean, fitted line"]
    assert alone.absent == {"twin": "none"}


def test_people_in_training_are_told_in_the_twins_folds(study, fitted):
    run = next(iter(runs_of(study, fitted, 0)))
    assert np.array_equal(run.folds, fitted.folds[run.rows])
    for train, test in run.held_out():
        assert not set(train) & set(test)


def test_exchanged_connectomes_and_further_tables_are_measured(evaluation):
    tables = evaluation.tables
    row = tables["matched"].iloc[0]
    assert row["gap"] == pytest.approx(row["r_matched"] - row["r_exchanged"])
    assert row["gap_low"] <= row["gap"] <= row["gap_high"]
    assert set(tables["choices"]["predictor"]) >= {"twin, connectome only", "twin, first 10"}
    assert (tables["choices"]["log_loss"] > 0.0).all()
    assert len(tables["bold"]) == 6
    assert tables["stability"]["over"].tolist() == ["seeds", "folds", "rest runs"]
    assert "one of the seeds" in tables["stability"]["note"][0]
    assert tables["edges"]["by"].tolist() == ["twin", "ridge weights"]
    assert len(tables["interventions"]) == 2
    assert tables["interventions"]["covered"].between(0.0, 1.0).all()
    assert (tables["cost"]["value"] > 0.0).all()


def test_the_report_says_that_it_is_simulated_and_where_nothing_is_added(evaluation, tmp_path):
    path = write_twin_report(evaluation, tmp_path)
    text = path.read_text(encoding="utf-8")
    assert "Simulated people" in text
    assert "http" not in text.replace("http://www.w3.org", "")  # needs no network
    better, nothing = evaluation.adds
    assert len(better) + len(nothing) == 4
    said = twin_verdict(evaluation)
    assert "adds nothing" in said.sentence + said.reading
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["provenance"] == "synthetic"
    assert set(results["tables"]) == set(evaluation.tables)
    for name, table in evaluation.tables.items():
        written = pd.read_csv(tmp_path / f"{name}.tsv", sep="\t")
        assert len(written) == len(table)


def test_ends_of_an_interval_are_one_column_of_the_page(evaluation, tmp_path):
    """As a reader of the page has it: 95 % beside each figure, notes last, counts whole."""
    text = write_twin_report(evaluation, tmp_path).read_text(encoding="utf-8")
    part = text[text.index("<h2>Matched and exchanged") : text.index("<h2>Choices")]
    row = evaluation.tables["matched"].iloc[0]
    assert "<th>gap</th><th>95 %</th>" in part
    assert number(row["gap"], 3) in part
    assert interval(row["gap_low"], row["gap_high"], 3) in part
    assert "gap high" not in part
    part = text[text.index("<h2>Stability") : text.index("<h2>Edges")]
    assert (
        "<th>over</th><th>people</th><th>pairs</th><th>r</th><th>smallest r</th><th>note</th>"
        in part
    )
    assert '<td class="number">3</td>' in part


def test_a_twin_that_beats_all_says_so():
    from offline.twin.evaluate import Evaluation

    rows = []
    for seen, low in (("connectome only", 3.0), ("first half", -1.0)):
        about = {"task": "matching", "run": "1", "seen": seen}
        rows.append({**about, "predictor": "twin", "rmse_ms": 50.0})
        for name, rmse in (("CPM", 60.0), ("worse", 90.0)):
            gain = {"rmse_gain_ms": rmse - 50.0, "rmse_gain_low_ms": low if name == "CPM" else 30.0}
            rows.append({**about, "predictor": name, "rmse_ms": rmse, **gain})
    made = Evaluation("made up", "synthetic", {"response_times": pd.DataFrame(rows)})
    assert made.adds == (["matching 1, connectome only"], ["matching 1, first half"])
    assert twin_verdict(made).found


def test_behaviour_alone_is_judged_and_the_rest_is_not_measured(tmp_path):
    people = people_with_truth("linear", seed=4, n_people=40, n_rois=20)
    trials = tmp_path / "trials.tsv"
    people.trials.to_csv(trials, sep="\t", index=False)
    table = people.people.rename(columns={"participant": "participant_id"}).assign(group="GenPop")
    table.to_csv(tmp_path / "participants.tsv", sep="\t", index=False)
    study = open_study(trials, people=tmp_path / "participants.tsv")
    found = evaluate_twin(study, ks=(2,), n_draws=50)
    times = found.tables["response_times"]
    absent = times[times["rmse_ms"].isna()]
    fc = {"kernel ridge", "kernel ridge, quadratic", "CPM"}
    assert set(absent["predictor"]) == {"twin"} | fc
    assert absent["note"].str.startswith("not measured").all()
    assert np.isfinite(times[times["predictor"] == "demographics"]["r"]).all()
    for name in ("matched", "bold", "stability", "edges", "interventions", "cost"):
        assert found.tables[name]["note"].str.startswith("not measured").all()
    assert twin_verdict(found).sentence == "The twin was not measured."
    page = write_twin_report(found, tmp_path / "report").read_text(encoding="utf-8")
    assert "not measured" in page
    assert "Simulated people" not in page


def test_real_and_simulated_people_are_never_mixed(study, fitted):
    with pytest.raises(TwinError, match="figures are never mixed"):
        evaluate_twin(replace(study, provenance="real"), fitted)


def test_another_atlas_is_refused(study, fitted):
    from offline.atlas import Atlas

    other = replace(study, atlas=Atlas("other", tuple(f"x{k}" for k in range(30))))
    with pytest.raises(AtlasError):
        evaluate_twin(other, fitted)


def test_only_trials_kept_are_shown_and_known(study):
    examples = study.examples.of(np.arange(5))
    keep = (examples.onset >= 0) & (examples.trial < 20)
    task = examples.shown(keep)
    assert (task.onset >= 0).sum() == keep.sum() == 100
    assert task.n_segments < examples.n_segments
    told = examples.known(keep)
    assert np.isfinite(told.log_rt).sum() == (np.isfinite(examples.log_rt) & keep).sum()
    assert np.isnan(told.bold).all()
    with pytest.raises(TwinError, match="expected a trial of somebody"):
        examples.shown(np.zeros_like(keep))


def test_who_is_not_usable_is_left_out_and_listed(tmp_path):
    """Without behaviour, without a connectome, with an ROI that has no signal."""
    from offline.twin.study import _assembled
    from offline.twin.tasks import MATCHING
    from offline.twin.trials import read_trials

    people = people_with_truth("linear", seed=4, n_people=24, n_rois=20)
    table = people.people.set_index("participant")
    table.loc["P9999"] = table.iloc[0]
    edges = dict(zip(people.people["participant"], people.edges.copy(), strict=True))
    del edges["P0003"]
    edges["P0005"] = np.where(np.arange(190) < 19, np.nan, edges["P0005"])
    study = _assembled(
        "x", read_trials(people.trials), (MATCHING,), table, people.atlas, edges, None, ()
    )
    why = study.left_out.set_index("participant")["reason"]
    assert why["P0003"] == "no connectome"
    assert why["P0005"] == "an ROI without signal"
    assert why["P9999"] == "no behaviour"
    assert len(study.examples.people) == 22 == len(study.edges)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("synthetic:cubic", "with a form linear"),
        ("synthetic:linear:x", "expected synthetic:FORM"),
        ("synthetic:linear:1:2:3:4", "expected synthetic:FORM"),
        ("nowhere", "expected a cohort, a release, trials"),
    ],
)
def test_sources_that_are_none_are_refused(source, message):
    with pytest.raises(TwinError, match=message):
        open_study(source)


def test_matched_connectomes_tell_what_the_first_table_says(evaluation):
    table = evaluation.tables["response_times"]
    twin = table[(table["predictor"] == "twin") & (table["seen"] == "connectome only")]
    matched = evaluation.tables["matched"]
    assert np.allclose(matched["r_matched"], twin["r"])
    assert np.allclose(matched["gap"], matched["r_matched"] - matched["r_exchanged"])
