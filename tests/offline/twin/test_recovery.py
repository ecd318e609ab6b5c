"""Known truth: who tells it exactly has r = 1, and who ranks planted edges first, precision 1."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from offline.twin import recovery
from offline.twin.recovery import _edits, _recovered
from tests.offline.twin.handmade import hand_made
from tests.offline.twin.tasks_of import small

N_PEOPLE = 30
ORDER = np.array([7, 3, 19, 0, 11, 28, 5])


@pytest.fixture
def told(monkeypatch):
    """Rows of `_edits` for a twin that says what is given of the true effects."""
    people, examples = small(n_people=N_PEOPLE)
    study = SimpleNamespace(connectomes=people.edges[ORDER], examples=examples.of(ORDER))
    spread = people.edges.mean(axis=0), people.edges.std(axis=0)
    twin = SimpleNamespace(edge_spread=lambda: spread)
    monkeypatch.setattr(recovery, "_backgrounds", lambda *asked: None)

    def rows(say):
        def edited(twin, z, edges, delta, *rest):
            after = people.edges.copy()
            after[np.ix_(ORDER, edges)] += delta
            true = (people.mean_rt_s(after) - people.mean_rt_s())[ORDER]
            change, low, high = say(true)
            return SimpleNamespace(change=change[None], low=low[None], high=high[None])

        monkeypatch.setattr(recovery, "edited_twins", edited)
        return list(_edits(study, twin, people, 0, 1))

    return rows


def test_the_very_effects_are_recovered_and_covered(told):
    rows = told(lambda true: (true, true - 1e-9, true + 1e-9))
    assert [row["circuit"] for row in rows] == ["planted 1", "planted 2"]
    for row in rows:
        assert row["n"] == len(ORDER)
        assert row["r"] == pytest.approx(1.0)
        assert row["covered"] == 1.0
        assert row["true_ms"] == pytest.approx(row["predicted_ms"])
        assert 0.1 < row["true_ms"] < 500.0


def test_halved_effects_are_smaller_and_intervals_beside_them_do_not_cover(told):
    """One person is refused, and two intervals of six are beside the truth."""

    def say(true):
        change = 0.5 * true
        change[2] = np.nan
        return change, true + np.array([0.01, -0.01, np.nan, -0.01, 0.01, -0.01, -0.01]), true + 0.1

    for row in told(say):
        assert (row["n"], row["refused"]) == (6, 1)
        assert row["r"] == pytest.approx(1.0)
        assert row["predicted_ms"] == pytest.approx(0.5 * row["true_ms"])
        assert row["covered"] == pytest.approx(4 / 6)


def test_planted_edges_that_come_first_have_precision_one(monkeypatch):
    """Of the twin by its importance, of ridge by a response time that one edge makes up."""
    rng = np.random.default_rng(0)
    examples = hand_made(0, n_people=40)
    z = rng.standard_normal((40, 60))
    slower = np.where(np.isfinite(examples.log_rt), 0.1 * z[:, 7, None, None], np.nan)
    study = SimpleNamespace(connectomes=z, examples=replace(examples, log_rt=slower))
    planted = np.array([7])
    asked = []

    def first(*arguments):
        asked.append(arguments)
        return np.isin(np.arange(60), planted).astype(float)

    monkeypatch.setattr(recovery, "importance", first)
    twin = object()
    rows = {row["by"]: row for row in _recovered(study, twin, SimpleNamespace(planted=planted))}
    assert asked == [(twin, z, study.examples)]
    for name in ("twin", "ridge weights"):
        assert rows[name]["auprc"] == pytest.approx(1.0)
        assert rows[name]["times_prevalence"] == pytest.approx(60.0)
