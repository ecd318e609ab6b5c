"""Harmonization inside the folds: fitted on a training fold, applied to all, blind to the target.

A harmonizer is cloned for each fold and never sees the target, neither fitting nor transforming.
One whose `fit` takes `subjects` (traveling subjects) gets the traveling scans beside the training
fold; any other is fitted on the training fold alone.
"""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from offline.decoder.samples import Samples
from offline.errors import DecodeError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "centred_within_people",
    "fit_harmonizer",
    "harmonize",
    "harmonized",
    "require_trained_sites",
]

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


def fit_harmonizer(harmonizer: Any, samples: Samples, rows: Ints, X: Floats) -> Any:
    """A clone of `harmonizer`, fitted.

    Parameters
    ----------
    harmonizer : estimator
        Unfitted.
    samples : Samples
    rows : ndarray of int64, shape (n_training,)
        The training fold's rows.
    X : ndarray, shape (n_training, n_edges)
        Their edges.
    """
    fresh = clone(harmonizer)
    sites = _sites(samples)
    takes = signature(fresh.fit).parameters
    if "subjects" in takes:
        together = np.concatenate([rows, samples.travelers])
        subjects = np.full(len(together), None, object)
        subjects[len(rows) :] = [f"T{number}" for number in samples.people[samples.travelers]]
        edges = np.concatenate([X, samples.read(samples.travelers)])
        return fresh.fit(edges, sites[together], subjects)
    if "covariates" in takes:
        return fresh.fit(X, sites[rows], covariates=samples.covariates_of(rows))
    return fresh.fit(X, sites[rows])


def harmonize(
    fitted: Any, X: Floats, sites: NDArray[Any] | None, covariates: pd.DataFrame | None
) -> Floats:
    """Edges without their sites' biases; `X` as it is where nothing was fitted."""
    if fitted is None:
        return X
    if sites is None:
        raise DecodeError("expected the `sites` of scans to harmonize, found none; give them")
    if "covariates" in signature(fitted.transform).parameters:
        return np.asarray(fitted.transform(X, sites, covariates=covariates))
    return np.asarray(fitted.transform(X, sites))


def harmonized(
    harmonizer: Any, samples: Samples, inside: Ints, outside: Ints
) -> tuple[Floats, Floats, Any]:
    """Edges of a training fold and of the scans it leaves out, and the harmonizer fitted for them.

    Parameters
    ----------
    harmonizer : estimator or None
        Unfitted; None leaves edges as they are.
    samples : Samples
    inside, outside : ndarray of int64
        Rows of the training fold and of the others.
    """
    X, held_out = samples.read(inside), samples.read(outside)
    if harmonizer is None:
        return X, held_out, None
    sites, covariates_of = _sites(samples), samples.covariates_of
    fitted = fit_harmonizer(harmonizer, samples, inside, X)
    X = harmonize(fitted, X, sites[inside], covariates_of(inside))
    held_out = harmonize(fitted, held_out, sites[outside], covariates_of(outside))
    return X, held_out, fitted


def require_trained_sites(samples: Samples, folds: Ints) -> None:
    """Refuse folds that leave out all of a site: no harmonizer can learn a site it never sees.

    Raises
    ------
    DecodeError
        Naming the sites.
    """
    sites = _sites(samples)[samples.rows]
    lost = {
        str(site)
        for fold in np.unique(folds)
        for site in set(sites[folds == fold].tolist()) - set(sites[folds != fold].tolist())
    }
    if lost:
        raise DecodeError(
            "expected every site in every training fold, found all scans of"
            f" {', '.join(sorted(lost))} in one; leave such sites out or use no harmonizer"
        )


def centred_within_people(X: Floats, people: NDArray[Any]) -> Floats:
    """Edges minus each person's mean over these scans: what differs between a person's scans.

    Raises
    ------
    DecodeError
        If a person has one scan only.
    """
    _, number, counts = np.unique(people, return_inverse=True, return_counts=True)
    alone = int(np.sum(counts == 1))
    if alone:
        raise DecodeError(
            f"expected at least two scans of every person to compare within people, found {alone}"
            " with one; leave them out or set within_person=False"
        )
    out = np.array(X)
    for person in range(len(counts)):
        rows = np.flatnonzero(number == person)
        out[rows] -= X[rows].mean(axis=0, dtype=np.float64).astype(X.dtype)
    return out


def _sites(samples: Samples) -> NDArray[Any]:
    if samples.sites is None:
        raise DecodeError("expected `sites` for the harmonizer, found none; give a site a scan")
    return samples.sites
