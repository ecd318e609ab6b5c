"""Who is usable: every reason for leaving out is listed; halves and reliability against oracles."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from offline.errors import TaskError
from offline.twin.behaviour import (
    first_correct,
    include,
    odd_even_reliability,
    spearman_brown,
    summarise,
)
from offline.twin.tasks import MATCHING, STROOP
from offline.twin.trials import read_trials
from tests.offline.twin.trialtables import one_run, people_table, stroop_kinds

N = 60
KINDS = stroop_kinds(N)


def run_of(participant, missed=0, wrong=0, negative=0, early=0):
    """A run of 60 trials with so many of each kind, the others right."""
    rt_s = np.linspace(0.6, 0.8, N)
    rt_s[:missed] = np.nan
    made = one_run(participant, rt_s, KINDS)
    after = missed + np.arange(wrong)
    made.loc[after, "correct"] = "0"
    made.loc[N - 1 - np.arange(negative), "response_time_s"] = "-0.2"
    made.loc[N - 11 - np.arange(early), "response_time_s"] = "0.05"
    return made


def included(*tables, people=None):
    return include(read_trials(pd.concat(tables, ignore_index=True)), people=people)


def reasons(inclusion, participant):
    rows = inclusion.table[inclusion.table["participant"] == participant]
    return list(zip(rows["left_out"], rows["reason"], strict=True))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, []),
        ({"missed": N}, "all trials missed"),
        ({"missed": 31}, "too many missed"),
        ({"missed": 30}, []),
        ({"wrong": N}, "accuracy not above chance"),
        ({"wrong": 40}, "accuracy not above chance"),
        ({"wrong": 33}, []),
        ({"negative": 4}, "negative response times"),
        ({"missed": 30, "wrong": 11}, "too few correct trials"),
    ],
)
def test_a_run_is_left_out_for(counts, expected):
    found = reasons(included(run_of("A1", **counts)), "A1")
    told = [reason for left_out, reason in found if left_out == "run"]
    assert told == ([expected] if expected else [])
    assert (("person", "no usable run") in found) == bool(expected)


def test_chance_is_the_tasks():
    # 27 of 60 right: above one in three, not above one in two
    stroop = run_of("A1", wrong=33)
    matching = stroop.assign(task="hammer", trial_type="face")
    assert reasons(included(stroop), "A1") == []
    assert ("run", "accuracy not above chance") in reasons(included(matching), "A1")


def test_single_trials_are_listed_and_the_run_stays():
    inclusion = included(run_of("A1", negative=1, early=2))
    assert reasons(inclusion, "A1") == [
        ("trials", "negative response time"),
        ("trials", "anticipation"),
    ]
    assert inclusion.table["found"].tolist() == ["1 of 60 trials", "2 of 60 trials"]
    assert len(inclusion.trials) == N


def test_people_without_behaviour_are_listed():
    inclusion = included(run_of("A1"), run_of("B2", missed=N), people=["sub-A1", "B2", "C3"])
    assert reasons(inclusion, "C3") == [("person", "no behaviour")]
    assert reasons(inclusion, "B2") == [("run", "all trials missed"), ("person", "no usable run")]
    assert inclusion.trials.people == ("A1",)


def slower(made, factor, rows=slice(None)):
    """A run with some response times longer."""
    made = made.copy()
    longer = factor * made["response_time_s"].astype(float)
    made.loc[rows, "response_time_s"] = longer.map(str).loc[rows]
    return made


def test_a_table_in_milliseconds_is_refused():
    runs = [slower(run_of(name), 1000.0) for name in ("A1", "B2", "C3")]
    with pytest.raises(
        TaskError, match=r"seconds, within 2.25 s .* a median of 700; divide by 1000"
    ):
        included(*runs)
    with pytest.raises(TaskError, match="found a median of 700; divide by 1000"):
        included(*runs, run_of("D4"))


def test_a_task_in_milliseconds_beside_another_in_seconds_is_refused():
    faces = slower(run_of("A1"), 1000.0).assign(task="hammer", trial_type="face")
    with pytest.raises(TaskError, match="task hammer: expected response times in seconds"):
        included(faces, run_of("A1"), run_of("B2"), run_of("C3"))


def test_answers_after_the_next_stimulus_are_no_milliseconds():
    with pytest.raises(TaskError, match=r"a median of 5\.6; correct them, or response_window_s"):
        included(*[slower(run_of(name), 8.0) for name in ("A1", "B2")])


@pytest.mark.parametrize(
    ("factor", "rows", "found"),
    [
        (1000.0, slice(None), "median 700 s, window 2.25 s"),
        (8.0, slice(None), "median 5.6 s, window 2.25 s"),
        (1000.0, slice(7, 7), "1 of 60 answers after 22.5 s"),
    ],
)
def test_one_person_in_another_unit_is_left_out(factor, rows, found):
    inclusion = included(run_of("A1"), slower(run_of("B2"), factor, rows), run_of("C3"))
    assert reasons(inclusion, "B2") == [
        ("run", "response times beyond the window"), ("person", "no usable run"),
    ]  # fmt: skip
    assert inclusion.table["found"][0] == found
    assert inclusion.trials.people == ("A1", "C3")


def test_single_late_answers_stay():
    inclusion = included(slower(run_of("A1"), 5.0, slice(0, 3)), run_of("B2"))
    assert len(inclusion.table) == 0
    assert inclusion.trials.table["rt_s"].max() > 3.0


def test_response_times_that_are_all_equal_are_no_measurement():
    made = run_of("A1").assign(response_time_s="0.7")
    inclusion = included(made, run_of("B2"))
    assert reasons(inclusion, "A1") == [
        ("run", "response times all equal"), ("person", "no usable run"),
    ]  # fmt: skip


def test_a_person_named_twice_is_refused():
    with pytest.raises(TaskError, match="found participant A1 again"):
        included(run_of("A1"), people=["A1", "sub-A1"])


def test_nobody_usable_is_a_result():
    inclusion = included(run_of("A1", missed=N))
    assert len(inclusion.trials) == 0
    assert inclusion.trials.people == ()


def test_an_unknown_task_is_refused():
    made = run_of("A1").assign(task="nback")
    with pytest.raises(TaskError, match="'nback'"):
        included(made)


def test_summaries_are_those_of_a_plain_loop():
    table, _ = people_table(5, 31)
    table.loc[[3, 40], ["response_time_s", "correct"]] = "n/a", "0"
    table.loc[50, "correct"] = "0"
    trials = read_trials(table)
    found = summarise(trials).set_index("participant")
    for person, rows in trials.table.groupby("participant"):
        rt = np.where(rows["correct"], rows["rt_s"], np.nan)
        place = np.arange(len(rt))
        mean = {
            "mean_s": place >= 0,
            "first_s": place < 16,
            "second_s": place >= 16,
            "odd_s": place % 2 == 0,
            "even_s": place % 2 == 1,
        }
        for name, which in mean.items():
            assert found.loc[person, name] == pytest.approx(np.nanmean(rt[which]))
        assert found.loc[person, "n_missed"] == rows["missed"].sum()
        wrong = ~rows["correct"] & ~rows["missed"]
        assert found.loc[person, "n_wrong"] == wrong.sum()
        assert found.loc[person, "accuracy"] == rows["correct"].mean()


def test_first_correct_counts_what_is_there():
    rt_s = np.array([[np.nan, 0.5, np.nan, 0.6, 0.7], [0.4, 0.5, 0.6, 0.7, 0.8]])
    assert np.isnan(first_correct(rt_s, 0)).all()
    kept = np.isfinite(first_correct(rt_s, 2))
    assert kept.tolist() == [[False, True, False, True, False], [True, True] + [False] * 3]


def test_reliability_is_that_of_the_whole_run():
    """Simulated: of n trials with these variances the mean's reliability is known."""
    rng = np.random.default_rng(0)
    n_people, n_trials, person, noise = 4000, 20, 0.04, 0.5
    values = np.sqrt(person) * rng.standard_normal((n_people, 1))
    values = values + np.sqrt(noise) * rng.standard_normal((n_people, n_trials))
    found = odd_even_reliability(values[:, ::2].mean(axis=1), values[:, 1::2].mean(axis=1))
    assert found == pytest.approx(person / (person + noise / n_trials), abs=0.03)
    assert np.isnan(odd_even_reliability(np.array([1.0, np.nan]), np.array([1.0, 2.0])))
    assert spearman_brown(spearman_brown(0.4, 3.0), 1 / 3) == pytest.approx(0.4)


def test_the_public_trials(data):
    trials = read_trials(data / "behaviour" / "tcp_trials.tsv.gz")
    people = pd.read_csv(data / "behaviour" / "tcp_participants.tsv", sep="\t")["participant_id"]
    inclusion = include(trials, (MATCHING, STROOP), people)
    table = inclusion.table
    assert (table["reason"] == "no behaviour").sum() == 17
    counts = table[table["left_out"] == "run"]["reason"].value_counts()
    assert counts.to_dict() == {"accuracy not above chance": 12, "too many missed": 9}
    runs = inclusion.trials.table.groupby(["task", "run"])["participant"].nunique()
    assert runs.tolist() == [214, 217, 212]
