"""Estimators from a person's first trials: against closed forms and simulated truth."""

from __future__ import annotations

import numpy as np
import pytest

from offline.errors import TwinError
from offline.twin.baselines import JamesStein, KShot, OwnMean
from offline.twin.behaviour import first_correct
from offline.twin.tables import run_data
from offline.twin.tasks import STROOP
from offline.twin.trials import read_trials
from tests.offline.twin.trialtables import people_table


def people(n_people=120, seed=0, **truth):
    """Simulated: trials as the baselines take them, and z-scored age."""
    table, demographics = people_table(n_people, 60, seed, **truth)
    data = run_data(read_trials(table), STROOP)
    age = demographics["age"].to_numpy()
    return data, ((age - age.mean()) / age.std())[:, None]


def halves(n):
    train = np.arange(n) % 2 == 0
    return train, ~train


def rmse(told, truth):
    return float(np.sqrt(np.mean((told - truth) ** 2)))


def test_own_mean_is_the_mean_and_the_groups_where_there_is_none():
    data, _ = people(20)
    own = OwnMean().fit(data.rt_s, data.second_s)
    np.testing.assert_allclose(own.predict(data.seen(3)), np.nanmean(data.seen(3), axis=1))
    assert own.predict(data.seen(0))[0] == pytest.approx(data.second_s.mean())


def test_james_stein_knows_the_variances_of_simulated_people():
    rng = np.random.default_rng(0)
    level = 0.8 + 0.1 * rng.standard_normal((3000, 1))
    rt_s = np.abs(level + 0.2 * rng.standard_normal((3000, 12)))
    model = JamesStein().fit(rt_s, level[:, 0])
    assert model.between_ == pytest.approx(0.01, rel=0.1)
    assert model.within_ == pytest.approx(0.04, rel=0.03)
    seen = first_correct(rt_s, 3)
    shrunk = 0.01 / (0.01 + 0.04 / 3)
    expected = 0.8 + shrunk * (np.nanmean(seen, axis=1) - 0.8)
    np.testing.assert_allclose(model.predict(seen), expected, atol=0.01)
    assert rmse(model.predict(seen), level[:, 0]) < rmse(np.nanmean(seen, axis=1), level[:, 0])


@pytest.mark.parametrize("seed", [0, 1])
def test_k_shot_is_better_where_items_and_age_matter(seed):
    """Simulated people in whom condition, first trials and age move response times."""
    data, age = people(240, seed, by_age=0.012)
    train, test = halves(240)
    plain = JamesStein().fit(data.rt_s[train], data.second_s[train])
    ours = KShot().fit(data.rt_s[train], data.second_s[train], data.conditions[train], age[train])
    for k in (2, 5, 10):
        seen = data.seen(k)[test]
        told = ours.predict(seen, data.conditions[test], age[test])
        assert rmse(told, data.second_s[test]) < rmse(plain.predict(seen), data.second_s[test])


def test_k_shot_ties_where_there_is_nothing_else_to_know():
    data, age = people(240, 3, level_sd=0.25)
    train, test = halves(240)
    noise = np.random.default_rng(0).standard_normal(age.shape)
    plain = JamesStein().fit(data.rt_s[train], data.second_s[train])
    ours = KShot().fit(data.rt_s[train], data.second_s[train], data.conditions[train], noise[train])
    seen = data.seen(20)[test]
    told = ours.predict(seen, data.conditions[test], noise[test])
    assert rmse(told, data.second_s[test]) < 1.05 * rmse(plain.predict(seen), data.second_s[test])


def test_without_a_trial_the_prior_speaks():
    data, age = people(240, 5, by_age=0.012)
    train, test = halves(240)
    model = KShot().fit(data.rt_s[train], data.second_s[train], data.conditions[train], age[train])
    told = model.predict(data.seen(0)[test], data.conditions[test], age[test])
    assert np.corrcoef(told, data.second_s[test])[0, 1] > 0.5
    # the more is seen, the surer
    _, alone = model.predict(data.seen(0)[test], data.conditions[test], age[test], return_std=True)
    _, ten = model.predict(data.seen(10)[test], data.conditions[test], age[test], return_std=True)
    assert (ten < alone).all()


def test_one_wild_response_moves_it_less_than_the_mean():
    data, age = people(120, 6)
    model = KShot().fit(data.rt_s, data.second_s, data.conditions, age)
    seen = data.seen(5)[:1]
    wild = seen.copy()
    wild[0, np.flatnonzero(np.isfinite(seen[0]))[2]] = 6.0
    told = [model.predict(s, data.conditions[:1], age[:1])[0] for s in (seen, wild)]
    plain = [np.nanmean(s) for s in (seen, wild)]
    assert abs(told[1] - told[0]) < 0.35 * (plain[1] - plain[0])


def test_the_same_people_give_the_same_bits_in_any_order():
    data, age = people(60, 7)
    model = KShot().fit(data.rt_s, data.second_s, data.conditions, age)
    seen = data.seen(5)
    once = model.predict(seen, data.conditions, age)
    order = np.random.default_rng(0).permutation(60)
    again = model.predict(seen[order], data.conditions[order], age[order])
    np.testing.assert_array_equal(again, once[order])


def test_another_order_of_conditions_is_understood():
    """A person who saw other stimuli: their items are their own conditions', not the place's."""
    data, age = people(120, 8)
    model = KShot().fit(data.rt_s, data.second_s, data.conditions, age)
    seen = np.where(np.isfinite(data.seen(4)[:1]), 0.9, np.nan)
    told = {}
    for kind in ("congruent", "incongruent"):
        cells = np.where(data.early, kind, data.conditions[:1])
        told[kind] = model.predict(seen, cells, age[:1])[0]
    # who takes .9 s for congruent words is slower than who takes it for incongruent ones
    assert told["congruent"] > told["incongruent"] + 0.03


@pytest.mark.parametrize("model", [OwnMean, JamesStein, KShot])
def test_what_cannot_be_learned_from_is_refused(model):
    data, _ = people(20)
    later = data.second_s.copy()
    later[3] = np.nan
    with pytest.raises(TwinError, match="found none in row 3"):
        model().fit(data.rt_s, later)
    empty = data.rt_s.copy()
    empty[2] = np.nan
    with pytest.raises(TwinError, match="found none in row 2"):
        model().fit(empty, data.second_s)
    negative = data.rt_s.copy()
    negative[1, 1] = -0.2
    with pytest.raises(TwinError, match="above 0 s"):
        model().fit(negative, data.second_s)
    with pytest.raises(TwinError, match="add people"):
        model().fit(data.rt_s[:2], data.second_s[:2])


def test_k_shot_refuses_arrays_of_other_people_or_runs():
    data, _ = people(20)
    with pytest.raises(TwinError, match="one row a person"):
        KShot().fit(data.rt_s, data.second_s, data.conditions[:10])
    with pytest.raises(TwinError, match="finite covariates"):
        KShot().fit(data.rt_s, data.second_s, covariates=np.full((20, 1), np.nan))
    model = KShot().fit(data.rt_s, data.second_s)
    with pytest.raises(TwinError, match="the run that was learned"):
        model.predict(data.rt_s[:, :30])
