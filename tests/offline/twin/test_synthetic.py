"""Simulated people: what is said about them is so, and their truth is what their trials show."""

from __future__ import annotations

import numpy as np
import pytest

from offline.twin.hrf import LENGTH_S, canonical_hrf
from offline.twin.synthetic import EXPLAINED, FORMS, people_with_truth
from offline.twin.synthetic_connectomes import draw_connectomes
from offline.twin.synthetic_runs import BEHAVIOUR, BOLD_NOISE_SD, REGIONS
from offline.twin.tasks import MATCHING, STROOP, encode
from offline.twin.trials import read_trials


@pytest.fixture(scope="module")
def cohorts():
    return {form: people_with_truth(form, seed=3, n_people=228) for form in FORMS}


def test_the_same_seed_is_the_same_people_and_the_form_changes_behaviour_alone(cohorts):
    again = people_with_truth("linear", seed=3)
    assert np.array_equal(again.edges, cohorts["linear"].edges)
    assert again.trials.equals(cohorts["linear"].trials)
    assert np.array_equal(cohorts["none"].edges, cohorts["gated"].edges)
    assert not cohorts["gated"].trials.equals(cohorts["linear"].trials)
    assert not np.array_equal(people_with_truth("linear", seed=4).edges, again.edges)


def test_connectomes_are_correlation_matrices_that_vary_as_real_ones_do():
    connectomes = draw_connectomes(111, np.random.default_rng(5), 100)
    edges = connectomes.scan(np.random.default_rng(6), n_samples=100)
    matrix = np.eye(100)
    a, b = connectomes.atlas.edges().T
    matrix[a, b] = matrix[b, a] = np.tanh(edges[7])
    assert np.linalg.eigvalsh(matrix).min() > -1e-12
    centred = edges - edges.mean(axis=0)
    assert 0.19 < centred.std(axis=0).mean() < 0.25
    centred -= centred.mean(axis=1, keepdims=True)
    share = np.linalg.svd(centred, compute_uv=False) ** 2
    share = np.cumsum(share) / share.sum()
    # real rest of 111 people, see the module
    assert np.allclose(share[[0, 1, 2, 4, 9, 19]], [0.08, 0.14, 0.19, 0.25, 0.37, 0.52], atol=0.06)


@pytest.mark.parametrize("form", ["linear", "interaction", "gated"])
def test_planted_edges_explain_what_is_said_of_mean_rt(cohorts, form):
    cohort = cohorts[form]
    own = cohort.edges[:, cohort.planted]
    z = (own - own.mean(axis=0)) / own.std(axis=0)
    columns = z[:, :5] * z[:, 5:] if form == "interaction" else z
    design = np.column_stack([np.ones(len(z)), columns.sum(axis=1) if form == "interaction" else z])
    rt_s = cohort.mean_rt_s()
    fitted = design @ np.linalg.lstsq(design, rt_s, rcond=None)[0]
    explained = 1.0 - np.var(rt_s - fitted) / np.var(rt_s)
    assert EXPLAINED - 0.12 < explained < EXPLAINED + 0.15


def test_of_a_product_of_edges_little_is_left_to_the_edges_alone():
    cohort = people_with_truth("interaction", seed=3, n_people=2000, n_rois=40)
    z = np.column_stack([np.ones(2000), cohort.edges[:, cohort.planted]])
    rt_s = cohort.mean_rt_s()
    fitted = z @ np.linalg.lstsq(z, rt_s, rcond=None)[0]
    assert np.var(fitted) / np.var(rt_s) < 0.08


def test_a_gated_edge_acts_in_one_condition_alone(cohorts):
    cohort = cohorts["gated"]
    table = read_trials(cohort.trials).table
    mean = table[table["correct"]].groupby(["participant", "condition"])["rt_s"].mean().unstack()
    effect = cohort.delta_rt_s(cohort.planted[:5], np.full(5, 0.1))
    assert np.abs(effect).min() > 0.0
    own = cohort.edges[:, cohort.planted]
    z = np.column_stack([np.ones(228), (own - own.mean(axis=0)) / own.std(axis=0)])

    def explained(rt_s):
        fitted = z @ np.linalg.lstsq(z, rt_s, rcond=None)[0]
        return 1.0 - np.var(rt_s - fitted) / np.var(rt_s)

    assert explained(mean["face"].to_numpy()) > 0.4
    assert explained(mean["shape"].to_numpy()) < 0.15


def test_changed_edges_change_what_they_act_on_and_nothing_else(cohorts):
    cohort = cohorts["linear"]
    others = np.setdiff1d(np.arange(cohort.atlas.n_edges), cohort.planted)
    assert np.array_equal(cohort.delta_rt_s(others, np.full(len(others), 0.3)), np.zeros(228))
    one = cohort.delta_rt_s(cohort.planted[:1], [0.1])
    assert len(set(np.sign(one))) == 1
    assert np.abs(one).min() > 0.001
    response = cohort.delta_response(cohort.bold_planted[:1], [0.1])
    only_second = not set(cohort.bold_planted[:1]) & set(cohort.planted)
    assert only_second
    assert np.all(response[:, 0] == 0.0)
    assert np.all(response[:, 1] != 0.0)


def test_nothing_planted_is_nothing(cohorts):
    cohort = cohorts["none"]
    every = np.arange(cohort.atlas.n_edges)
    assert len(cohort.planted) == len(cohort.bold_planted) == 0
    assert np.all(cohort.delta_rt_s(every, np.full(len(every), 0.5)) == 0.0)


def test_trials_show_the_truth(cohorts):
    cohort = cohorts["linear"]
    trials = read_trials(cohort.trials)
    shown = np.nanmean(np.where(trials.grid("correct") > 0, trials.grid("rt_s"), np.nan), axis=1)
    truth = cohort.mean_rt_s()
    assert np.corrcoef(shown, truth)[0, 1] > 0.96
    assert abs(np.mean(shown - truth)) < 0.02
    missed = trials.table["missed"].mean()
    assert 0.01 < missed < 0.05


@pytest.mark.parametrize(
    ("task", "spec", "n_trials"), [("matching", MATCHING, 108), ("stroop", STROOP, 78)]
)
def test_both_tasks_have_their_published_trials_and_can_be_encoded(task, spec, n_trials):
    cohort = people_with_truth("linear", seed=1, n_people=20, n_rois=30, task=task)
    assert cohort.edges.shape == (20, 435)
    trials = read_trials(cohort.trials)
    per_person = trials.table.groupby("participant").size()
    assert per_person.tolist() == [n_trials] * 20
    counts = trials.table[trials.table["participant"] == "P0000"]
    second = spec.condition_of(counts["condition"]) == BEHAVIOUR[task].conditions[1]
    assert second.sum() == (54 if task == "matching" else 24)
    segments = encode(trials, (spec,), bold=cohort.bold, regions=REGIONS)
    assert (segments.answer[segments.trial >= 0] >= 0).all()
    assert np.nanstd(segments.bold) == pytest.approx(BOLD_NOISE_SD, rel=0.1)


def test_the_response_to_a_constant_is_the_constant_and_peaks_at_five_seconds():
    times_s = np.arange(0.0, LENGTH_S, 0.01)
    response = canonical_hrf(times_s)
    assert response.sum() * 0.01 == pytest.approx(1.0, abs=1e-3)
    assert times_s[response.argmax()] == pytest.approx(5.0, abs=0.1)
    assert canonical_hrf([-1.0, LENGTH_S + 1.0]).tolist() == [0.0, 0.0]
