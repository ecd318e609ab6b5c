"""The simulator follows the model it says it follows."""

from __future__ import annotations

import numpy as np
import pytest

from offline.synthetic import Magnitudes, case_control, traveling_cohort


def test_the_cohort_of_the_regimes() -> None:
    cohort = traveling_cohort(n_edges=5)
    people = cohort.people
    assert int(people["traveling"].sum()) == 9 * 12 * 3
    assert int((~people["traveling"]).sum()) == 466
    assert people["site"].nunique() == 12
    visits = people[people["traveling"]].groupby("participant")["site"].nunique()
    assert (visits == 12).all()
    assert people.groupby(["participant", "session"]).size().max() == 1
    assert people.groupby("participant")[["age", "sex"]].nunique().max().max() == 1


def test_without_noise_scans_are_the_sum_of_their_parts() -> None:
    sd = Magnitudes(noise=0.0, participant=0.0)
    cohort = traveling_cohort(0.05, n_edges=7, magnitudes=sd, seed=3)
    level = cohort.X[0] - cohort.measurement_bias[0]
    for x, person in zip(cohort.X, cohort.people.itertuples(), strict=True):
        place = cohort.sites.index(person.site)
        expected = level + cohort.measurement_bias[place]
        if not person.traveling:
            expected = expected + cohort.sampling_bias[person.diagnosis][place]
            expected = expected + cohort.disorder_effect.get(person.diagnosis, 0.0)
        np.testing.assert_allclose(x, expected, atol=1e-12)


def test_blocks_sum_to_zero_and_have_their_size() -> None:
    cohort = traveling_cohort(0.07, n_edges=4000)
    np.testing.assert_allclose(cohort.measurement_bias.sum(axis=0), 0.0, atol=1e-12)
    assert np.sqrt(cohort.measurement_bias.var(axis=0, ddof=1).mean()) == pytest.approx(0.04, 0.03)
    for bias in cohort.sampling_bias.values():
        np.testing.assert_allclose(np.nansum(bias, axis=0), 0.0, atol=1e-12)
        assert np.sqrt(np.nanvar(bias, axis=0, ddof=1).mean()) == pytest.approx(0.07, rel=0.04)


def test_the_seed_fixes_everything_and_regimes_share_the_rest() -> None:
    one, again = traveling_cohort(0.035, n_edges=6), traveling_cohort(0.035, n_edges=6)
    assert np.array_equal(one.X, again.X)
    other = traveling_cohort(0.07, n_edges=6)
    travels = one.people["traveling"].to_numpy()
    assert np.array_equal(one.X[travels], other.X[travels])
    assert not np.array_equal(one.X[~travels], other.X[~travels])
    assert not np.array_equal(one.X, traveling_cohort(0.035, n_edges=6, seed=1).X)


def test_case_control_has_the_prevalence_and_the_effect_asked_for() -> None:
    cohort = case_control(
        [400, 600], [0.75, 0.25], n_edges=300, n_effect_edges=12, effect=0.8, seed=1
    )
    share = cohort.people.groupby("site")["diagnosis"].agg(lambda d: (d == "MDD").mean())
    assert share.tolist() == [0.75, 0.25]
    d = cohort.disorder_effect["MDD"]
    assert np.count_nonzero(d) == 12
    within = np.hypot(0.10, 0.09)
    np.testing.assert_allclose(np.abs(d[d != 0]) / within, 0.8)
    sick = cohort.diagnosis == "MDD"
    for site in cohort.sites:
        here = cohort.site == site
        found = cohort.X[here & sick].mean(axis=0) - cohort.X[here & ~sick].mean(axis=0)
        assert np.std(found - d) < 2.0 * within * np.sqrt(1 / 100 + 1 / 300)


def test_nobody_differs_without_an_effect() -> None:
    cohort = case_control([30, 30], [0.5, 0.5], n_edges=20)
    assert not cohort.disorder_effect["MDD"].any()
