"""Who is left out when, and who is drawn: folds of people, and draws of equal classes.

All scans of a person are in one fold, whatever their labels are. People are dealt to folds in
turn, those of one class and site one after another, so that every fold has its share of each
class, and of each site within it, to within one person.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline.errors import DecodeError

__all__ = ["bins", "class_draw", "deal", "number_people"]

Ints = NDArray[np.int64]


def number_people(groups: NDArray[Any]) -> tuple[Ints, list[Any]]:
    """Number of each scan's person, from 0 in order of appearance, and their names."""
    known: dict[Any, int] = {}
    numbers = np.array([known.setdefault(name, len(known)) for name in groups.tolist()], np.int64)
    return numbers, list(known)


def deal(
    people: Ints, labels: Ints, n_folds: int, rng: np.random.Generator, sites: Ints | None = None
) -> Ints:
    """Fold of each scan, shape (n_scans,).

    Parameters
    ----------
    people : ndarray of int64, shape (n_scans,)
        Number of each scan's person.
    labels : ndarray of int64, shape (n_scans,)
        Class of each scan, or bin of a continuous target.
    n_folds : int
    rng : numpy.random.Generator
    sites : ndarray of int64, shape (n_scans,), or None
        Number of each scan's site; None where folds need not be even over sites.

    Raises
    ------
    DecodeError
        If a class has fewer people than there are folds.
    """
    if n_folds < 2:
        raise DecodeError(f"expected at least 2 folds, found {n_folds}; use 10")
    for label in np.unique(labels):
        n_people = len(np.unique(people[labels == label]))
        if n_people < n_folds:
            raise DecodeError(
                f"expected at least {n_folds} people in every class, one for each fold, found"
                f" {n_people}; use fewer folds or add people"
            )
    names, first = np.unique(people, return_index=True)
    order = rng.permutation(len(names))
    # sorting is stable: people of one stratum stay in their random order
    keys = [tuple(np.unique(labels[people == name]).tolist()) for name in names]
    places = [0 if sites is None else int(sites[at]) for at in first]
    dealt = sorted(order.tolist(), key=lambda k: (keys[k], places[k]))
    start = int(rng.integers(n_folds))
    fold_of = np.empty(len(names), np.int64)
    fold_of[dealt] = (start + np.arange(len(names))) % n_folds
    return fold_of[np.searchsorted(names, people)]


def class_draw(labels: Ints, size: int | None, rng: np.random.Generator) -> Ints:
    """Places of equally many scans of each class, drawn without replacement, in order.

    Parameters
    ----------
    labels : ndarray of int64, shape (n_scans,)
    size : int or None
        Scans of each class; None for those of the smallest class.
    rng : numpy.random.Generator

    Raises
    ------
    DecodeError
        If a class has fewer scans than asked for.
    """
    places = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    smallest = min(len(of) for of in places)
    size = smallest if size is None else size
    if size > smallest:
        raise DecodeError(
            f"expected class_size <= {smallest}, the smallest class of a training fold, found"
            f" {size}; ask for less, or for None"
        )
    return np.sort(np.concatenate([rng.choice(of, size, replace=False) for of in places]))


def bins(y: Sequence[float] | NDArray[np.float64], n_folds: int) -> Ints:
    """Bins of a continuous target (quarters where people suffice), to spread over folds."""
    y = np.asarray(y, np.float64)
    n_bins = max(1, min(4, len(y) // (2 * n_folds)))
    edges = np.quantile(y, np.arange(1, n_bins) / n_bins)
    found = np.searchsorted(edges, y, side="right").astype(np.int64)
    # ties can leave a bin with fewer people than folds: then one bin serves
    counts = np.bincount(found, minlength=n_bins)
    return found if counts[counts > 0].min() >= 2 * n_folds else np.zeros(len(y), np.int64)
