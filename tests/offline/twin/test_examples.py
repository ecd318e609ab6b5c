"""Segments by person: padding has no weight, k trials are the first k, and nothing after them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from offline.errors import TwinError
from offline.twin.examples import examples_of
from offline.twin.synthetic import people_with_truth
from offline.twin.tasks import MATCHING, STROOP, encode
from offline.twin.trials import read_trials
from tests.offline.twin.tasks_of import small


def _trials(**changes):
    people, _ = small(n_people=6)
    return people.trials.assign(**changes)


def test_every_trial_of_a_table_is_found_once():
    people, examples = small(n_people=6)
    table = read_trials(people.trials).table
    usable = table[table["correct"]]
    assert np.sum(examples.onset >= 0) == len(table)
    for row, name in enumerate(examples.people):
        known = examples.log_rt[row][np.isfinite(examples.log_rt[row])]
        assert np.allclose(np.exp(known), usable[usable["participant"] == name]["rt_s"])
    missed = examples.choice == examples.n_actions
    assert missed.sum() == table["missed"].sum()
    assert np.all(examples.response_step[missed] == -1)
    assert np.all(examples.inputs[..., -1] == 1.0)


def test_people_with_fewer_runs_are_padded_without_weight():
    matching, _ = small(n_people=6)
    stroop = people_with_truth("linear", seed=0, n_people=3, n_rois=30, task="stroop")
    table = pd.concat([matching.trials, stroop.trials], ignore_index=True).fillna("n/a")
    both = read_trials(table)
    examples = examples_of(encode(both, (MATCHING, STROOP)))
    n_own = np.sum(examples.run >= 0, axis=1)
    assert (n_own[:3] > n_own[3:]).all()
    padded = examples.run < 0
    assert np.all(examples.onset[padded] == -1)
    assert np.all(np.isnan(examples.log_rt[padded]))
    assert np.all(examples.inputs[padded][..., :-1] == 0.0)


@pytest.mark.parametrize("k", [0, 1, 5, 20])
def test_the_first_k_correct_trials_and_nothing_later(k):
    _, examples = small(n_people=6)
    part = examples.first(k)
    known = np.isfinite(part.log_rt)
    assert np.array_equal(known.sum(axis=(1, 2)), np.full(6, k))
    for row in range(6):
        every = examples.log_rt[row][np.isfinite(examples.log_rt[row])]
        assert np.array_equal(part.log_rt[row][known[row]], every[:k])
    last = [np.flatnonzero(known[row].ravel()).max(initial=-1) for row in range(6)]
    for row in range(6):
        # a choice may lie before the last correct trial, or up to the next one, never after it
        places = np.flatnonzero(part.choice[row].ravel() >= 0)
        later = np.isfinite(examples.log_rt[row]).ravel()[: part.choice[row].size]
        assert not later[places[places > last[row]]].any()


def test_segments_are_drawn_by_person():
    _, examples = small(n_people=6)
    chosen = np.array([[0, 3], [2, 5], [1, 1], [4, 6], [0, 1], [7, 8]])
    part = examples.parts(chosen)
    assert np.array_equal(part.log_rt[3, 1], examples.log_rt[3, 6], equal_nan=True)
    assert np.array_equal(part.inputs[1, 0], examples.inputs[1, 2])


def test_a_person_without_trials_or_with_none_answered_is_refused():
    trials = _trials()
    segments = encode(read_trials(trials), (MATCHING,))
    with pytest.raises(TwinError, match="expected trials of sub-nobody, found none"):
        examples_of(segments, [*segments.people, "nobody"])
    silent = trials["participant_id"] == segments.people[2]
    asleep = trials.assign(
        response_time_s=trials["response_time_s"].mask(silent, "n/a"),
        correct=trials["correct"].mask(silent, "0"),
    )
    with pytest.raises(TwinError, match=f"found none of sub-{segments.people[2]}"):
        examples_of(encode(read_trials(asleep), (MATCHING,)))


def test_order_of_people_is_that_asked_for():
    _, examples = small(n_people=6)
    assert examples.of(np.array([4, 1])).people == (examples.people[4], examples.people[1])
