"""Choices, BOLD and stability of hand-made people, against loops over their trials."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from offline.twin import further
from offline.twin.further import (
    LEAST_PROBABILITY,
    _bins,
    _bold,
    _by_outcome,
    _calibration_error,
    _choices,
    _loss,
    _own_rates,
    _rates_of_others,
    _stability,
    _what_happened,
)
from tests.offline.twin.handmade import hand_made, run_of

FOLDS = [0, 1, 0, 1]
RIGHT, WRONG, MISSED = range(3)


TOO_SOON = (0, 0, 2), (2, 1, 1)
"""Trials pressed before an answer could be given: one early, one late."""


@pytest.fixture
def own():
    examples = hand_made(5)
    for values, nothing in (
        (examples.log_rt, np.nan), (examples.choice, -1), (examples.response_step, -1)
    ):  # fmt: skip
        for at in TOO_SOON:
            values[at] = nothing
    return examples


@pytest.fixture
def run(own):
    return run_of(own, [0, 1, 2, 3], FOLDS)


def late_of(own, run):
    return run.late & (_what_happened(own) >= 0)


def outcome(own, at):
    """Of the trial at (person, segment, slot)."""
    if own.choice[at] == own.n_actions:
        return MISSED
    return RIGHT if own.choice[at] == own.answer[at] else WRONG


def rates_by_loops(own, run):
    out = np.full((*own.onset.shape, 3), np.nan)
    late = late_of(own, run)
    for at in zip(*np.nonzero(run.late), strict=True):
        counts = np.full(3, 0.5)
        for other in zip(*np.nonzero(late), strict=True):
            if FOLDS[other[0]] != FOLDS[at[0]] and own.condition[other] == own.condition[at]:
                counts[outcome(own, other)] += 1.0
        out[at] = counts / counts.sum()
    return out


def test_what_happened_is_right_wrong_or_missed(own):
    what = _what_happened(own)
    assert (own.onset[tuple(zip(*TOO_SOON, strict=True))] >= 0).all()
    assert set(what[own.onset >= 0]) == {RIGHT, WRONG, MISSED, -1}
    for at in np.ndindex(what.shape):
        known = own.onset[at] >= 0 and at not in TOO_SOON
        assert what[at] == (outcome(own, at) if known else -1)


def test_rates_are_those_of_the_condition_in_people_of_other_folds(own, run):
    found = _rates_of_others(own, run, _what_happened(own))
    np.testing.assert_allclose(found, rates_by_loops(own, run))


def test_own_rates_are_the_persons_first_half_beside_twenty_trials_of_others(own, run):
    expected = rates_by_loops(own, run)
    for at in zip(*np.nonzero(run.late), strict=True):
        counts = 20.0 * expected[at]
        for early in zip(*np.nonzero(run.early), strict=True):
            if early[0] == at[0] and early not in TOO_SOON:
                counts[outcome(own, early)] += 1.0
        expected[at] = counts / counts.sum()
    np.testing.assert_allclose(_own_rates(own, run, _what_happened(own)), expected)


@pytest.mark.parametrize("rates", [_rates_of_others, _own_rates])
def test_rates_do_not_depend_on_what_they_are_of(own, run, rates):
    what = _what_happened(own)
    fold = np.array(FOLDS) == 0
    other = np.where(late_of(own, run) & fold[:, None, None], (what + 1) % 3, what)
    before, after = rates(own, run, what), rates(own, run, other)
    np.testing.assert_array_equal(after[fold], before[fold])
    assert not np.array_equal(after[~fold], before[~fold], equal_nan=True)


def drawn_probabilities(own):
    return np.random.default_rng(1).dirichlet(np.ones(3), own.onset.shape)


def test_loss_is_each_persons_mean_over_late_trials(own, run):
    what, late, p = _what_happened(own), late_of(own, run), drawn_probabilities(own)
    first = tuple(np.argwhere(late)[0])
    p[first] = np.nan
    losses = [[] for _ in own.people]
    for at in zip(*np.nonzero(late), strict=True):
        losses[at[0]].append(-np.log(LEAST_PROBABILITY if at == first else p[at][what[at]]))
    np.testing.assert_allclose(_loss(p, what, late), [np.mean(loss) for loss in losses])


def test_bins_are_fifths_of_trials_by_the_share_told_not_to_be_right(own, run):
    what, late, p = _what_happened(own), late_of(own, run), drawn_probabilities(own)
    trials = sorted(
        (1.0 - p[at][RIGHT], what[at] != RIGHT) for at in zip(*np.nonzero(late), strict=True)
    )
    bins = _bins(p, what, late, {"run": "1"})
    assert sum(row["trials"] for row in bins) == len(trials)
    gap = 0.0
    for row in bins:
        own_trials, trials = trials[: row["trials"]], trials[row["trials"] :]
        told, found = np.mean(own_trials, axis=0)
        assert row["told"] == pytest.approx(told)
        assert row["found"] == pytest.approx(found)
        assert row["run"] == "1"
        gap += len(own_trials) * abs(told - found) / late.sum()
    assert {row["trials"] for row in bins} <= {late.sum() // 5, late.sum() // 5 + 1}
    assert _calibration_error(p, what, late) == pytest.approx(gap)


def test_outcomes_are_the_answer_the_other_actions_and_the_miss(own):
    p = np.random.default_rng(2).dirichlet(np.ones(4), own.onset.shape)
    found = _by_outcome(p, own)
    for at in zip(*np.nonzero(own.onset >= 0), strict=True):
        answer = own.answer[at]
        wrong = sum(p[at][action] for action in range(3) if action != answer)
        np.testing.assert_allclose(found[at], [p[at][answer], wrong, p[at][3]])


class Knowing:
    """Gives what is done 0.9, and remembers what it was asked with."""

    settings = SimpleNamespace(form="low_rank")

    def __init__(self):
        self.seen = []

    def simulate(self, fc, task, behaviour=None, *, threads=1):
        self.seen.append(behaviour)
        done = task.choice[..., None] == np.arange(task.n_actions + 1)
        return SimpleNamespace(probabilities=np.where(done, 0.9, 0.05))


def test_choices_that_are_known_gain_over_rates(own, run):
    study = SimpleNamespace(examples=own, connectomes=np.zeros((4, 3)))
    twin = Knowing()
    rows, bins = _choices(study, twin, run, "", 50, 0, 1)
    by_name = {row["predictor"]: row for row in rows}
    others = by_name["rates of the condition"], by_name["own rates, first half"]
    for name in ("twin, connectome only", "twin, first 10"):
        row = by_name[name]
        assert row["log_loss"] == pytest.approx(-np.log(0.9))
        for column, other in zip(("gain", "gain_own"), others, strict=True):
            assert row[column] == pytest.approx(other["log_loss"] + np.log(0.9))
            assert 0.0 < row[f"{column}_low"] <= row[column] <= row[f"{column}_high"]
    assert len(bins) == 10
    assert twin.seen[0] is None
    known = np.isfinite(twin.seen[1].log_rt).sum()
    assert known == np.isfinite(own.log_rt[run.early]).sum()


def test_choices_without_right_answers_are_not_measured(own, run):
    unknown = replace(own, answer=np.full_like(own.answer, -1))
    study = SimpleNamespace(examples=unknown, connectomes=np.zeros((4, 3)))
    rows, bins = _choices(study, Knowing(), run, "", 50, 0, 1)
    assert rows[-1]["note"] == "not measured: the right answers are not in the table"
    assert len(rows) == 3
    assert not bins


def test_bold_that_is_told_rightly_gains_over_the_mean_of_other_folds(monkeypatch):
    own = hand_made(1, n_people=12)
    folds = np.arange(12) % 3
    run = run_of(own, list(range(12)), folds.tolist())
    y = np.random.default_rng(3).standard_normal(12)
    y[5] = np.nan
    told = np.where(np.isfinite(y), y, 0.0)
    monkeypatch.setattr(further, "measured_responses", lambda examples, condition: y[:, None])
    monkeypatch.setattr(further, "ask", lambda *asked, **how: told[None, None])
    study = SimpleNamespace(examples=own, connectomes=np.zeros((12, 3)))
    twin = SimpleNamespace(regions=("amygdala",))
    rows = list(_bold(study, twin, run, "", 100, 0, 1))
    assert [row["condition"] for row in rows] == ["all trials", "face", "shape"]
    errors = [y[k] - np.nanmean(y[folds != folds[k]]) for k in range(12) if k != 5]
    for row in rows:
        assert row["n"] == 11
        assert row["r"] == pytest.approx(1.0)
        assert row["rmse"] == pytest.approx(0.0)
        assert row["rmse_group"] == pytest.approx(np.sqrt(np.mean(np.square(errors))))
        assert row["gain"] == pytest.approx(row["rmse_group"])
        assert row["gain_low"] > 0.0


def test_scans_agree_less_the_levels_of_members_of_folds(monkeypatch):
    """Two scans of whom members say the contrary, at levels that would pass for agreement."""
    people = hand_made(2, n_people=6)
    run = run_of(people, list(range(6)), [0, 0, 0, 1, 1, 1])
    level, apart = np.repeat([0.5, 5.0], 3), np.array([1.0, 0.0, -1.0, 1.0, 0.0, -1.0])

    def simulate(fc, task, behaviour=None, *, threads=1):
        return SimpleNamespace(rt_s=level + fc[:, 0] * apart)

    monkeypatch.setattr(further, "deterministic", lambda threads: nullcontext())
    monkeypatch.setattr(further, "outcomes", lambda member, task, who, targets: [who])
    member = SimpleNamespace(fold=0, seed=0, who=lambda z: z[:, 0])
    twin = SimpleNamespace(
        members=[member], simulate=simulate, folds_of=lambda names: run.folds
    )  # fmt: skip
    study = SimpleNamespace(
        examples=people, edges=np.ones((6, 3)), connectomes=np.ones((6, 3)), again=-np.ones((6, 3))
    )
    last = list(_stability(study, twin, run, "", 1))[-1]
    assert last["over"] == "rest runs"
    assert last["r"] == pytest.approx(-1.0)
