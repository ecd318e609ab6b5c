"""Folds keep people together and spread classes and sites; draws are of equal classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.decoder.folds import bins, class_draw, deal, number_people
from offline.errors import DecodeError


@settings(max_examples=60, deadline=None)
@given(
    n_people=st.integers(40, 90),
    n_folds=st.integers(2, 8),
    n_sites=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_people_stay_together_and_strata_are_spread(
    n_people: int, n_folds: int, n_sites: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    label_of = np.arange(n_people) % 2
    site_of = rng.integers(0, n_sites, n_people)
    people = rng.permutation(np.repeat(np.arange(n_people), rng.integers(1, 4, n_people)))
    folds = deal(people, label_of[people], n_folds, rng, site_of[people])
    fold_of = np.full(n_people, -1)
    for person in range(n_people):
        (fold_of[person],) = np.unique(folds[people == person])
    for label in range(2):
        counts = np.bincount(fold_of[label_of == label], minlength=n_folds)
        assert np.ptp(counts) <= 1
        for site in range(n_sites):
            here = fold_of[(label_of == label) & (site_of == site)]
            assert np.ptp(np.bincount(here, minlength=n_folds)) <= 1
    assert np.ptp(np.bincount(fold_of, minlength=n_folds)) <= 1


def test_people_whose_label_varies_are_in_one_fold() -> None:
    people = np.repeat(np.arange(20), 2)
    folds = deal(people, np.tile([0, 1], 20), 5, np.random.default_rng(0))
    assert np.array_equal(folds[::2], folds[1::2])
    assert np.array_equal(np.bincount(folds), np.full(5, 8))


def test_refuses_fewer_people_of_a_class_than_folds() -> None:
    labels = np.array([0] * 30 + [1] * 12)
    # twelve scans of the rarer class, of four people
    people = np.concatenate([np.arange(30), 30 + np.arange(12) % 4])
    with pytest.raises(DecodeError, match=r"at least 10 people in every class.*found 4"):
        deal(people, labels, 10, np.random.default_rng(0))
    with pytest.raises(DecodeError, match="2 folds"):
        deal(people, labels, 1, np.random.default_rng(0))


def test_draw_has_equally_many_of_each_class_and_nobody_twice() -> None:
    labels = np.array([0] * 50 + [1] * 11)
    rows = class_draw(labels, None, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [11, 11]
    assert len(np.unique(rows)) == 22
    assert np.all(np.diff(rows) > 0)
    assert len(class_draw(labels, 7, np.random.default_rng(0))) == 14
    with pytest.raises(DecodeError, match="class_size <= 11"):
        class_draw(labels, 12, np.random.default_rng(0))


def test_numbers_of_people_follow_their_appearance() -> None:
    numbers, names = number_people(np.array(["b", "a", "b", 3], object))
    assert numbers.tolist() == [0, 1, 0, 2]
    assert names == ["b", "a", 3]


def test_bins_of_a_target_with_ties_hold_enough_people() -> None:
    assert np.bincount(bins(np.arange(200.0), 10)).tolist() == [50, 50, 50, 50]
    assert set(bins(np.arange(30.0), 10)) == {0}
    tied = np.concatenate([np.zeros(190), np.arange(10.0)])
    counts = np.bincount(bins(tied, 10))
    assert counts[counts > 0].min() >= 20
