"""The two-fold measure: people whole, halves even, and what the methods do. Simulated data."""

from __future__ import annotations

import numpy as np
import pytest

from offline.errors import DesignError
from offline.harmonize import ComBat, TravelingSubject, two_fold_bias
from offline.harmonize.metric import _halves
from offline.synthetic import SyntheticCohort, traveling_cohort


@pytest.fixture(scope="module")
def cohort() -> SyntheticCohort:
    return traveling_cohort(0.07, n_edges=300, seed=0)


def test_bias_of_people_not_seen_gets_less(cohort: SyntheticCohort) -> None:
    given = (cohort.X, cohort.site, cohort.traveler, cohort.diagnosis)
    found = two_fold_bias(*given)
    # twice as noisy an estimate as the whole cohort's, of a bias of .04
    assert found.before == pytest.approx(0.04, rel=0.15)
    assert 0.2 < found.reduction < 0.6
    assert found == two_fold_bias(*given, seed=0)
    assert found != two_fold_bias(*given, seed=1)
    alone = two_fold_bias(*given, harmonizer=TravelingSubject(estimator="traveling_only"))
    assert 0.2 < alone.reduction < 0.6
    combat = two_fold_bias(*given, harmonizer=ComBat())
    assert combat.reduction < found.reduction  # it takes sampling bias for measurement bias


def test_halves_keep_people_whole_and_strata_even(cohort: SyntheticCohort) -> None:
    people = cohort.people["participant"].to_numpy(object)
    given = (cohort.site, cohort.traveler, cohort.diagnosis, people)
    half = _halves(*given, np.random.default_rng(0))
    first, second = set(people[half]), set(people[~half])
    assert not first & second
    table = cohort.people.assign(half=half)
    residents = table[~table["traveling"]]
    counts = residents.groupby(["site", "diagnosis"])["half"].agg(["sum", "size"])
    assert (np.abs(2 * counts["sum"] - counts["size"]) <= 1).all()
    assert table[table["traveling"]].groupby("participant")["half"].nunique().max() == 1


def test_a_resident_scanned_twice_stays_in_one_half() -> None:
    sites = np.array(["a", "b"] * 20, object)
    travelers = np.array(["t1", "t2", "t3", "t4"] + [None] * 36, object)
    people = np.array([None] * 4 + [f"p{k // 2}" for k in range(36)], object)
    half = _halves(sites, travelers, None, people, np.random.default_rng(3))
    assert all(half[4 + 2 * k] == half[5 + 2 * k] for k in range(18))


def test_three_travelers_are_too_few() -> None:
    cohort = traveling_cohort(n_edges=10, n_travelers=3, scans_per_visit=1)
    with pytest.raises(DesignError, match="at least four travelers, found 3"):
        two_fold_bias(cohort.X, cohort.site, cohort.traveler, cohort.diagnosis)
