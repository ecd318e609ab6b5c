"""What a decoder is given, checked once: scans, people, sites, covariates, and who travels.

Training samples are the rows of `X` that do not travel. Traveling scans are kept apart for
harmonizers that are fitted with them; nothing is trained or judged on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offline.decoder.folds import number_people
from offline.decoder.leakage import refuse_traveling
from offline.errors import DecodeError
from offline.store import EdgeStore, edge_blocks, read_block

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MIN_SCANS", "Samples", "columns_of", "covariate_table"]

MIN_SCANS = 20
"""With fewer, ten folds of two classes are mostly empty, and no figure means anything."""

Ints = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Samples:
    """Scans of a decoder; made by `of`.

    Attributes
    ----------
    X : ndarray or EdgeStore, shape (n_scans, n_edges)
        Fisher z.
    rows, travelers : ndarray of int64
        Rows of `X` that are training samples, and those of traveling scans.
    people : ndarray of int64, shape (n_scans,)
        Number of each scan's person.
    names : list
        Names of the people by number.
    sites : ndarray of object, shape (n_scans,), or None
    covariates : pandas.DataFrame, n_scans rows, or None
    """

    X: Floats | EdgeStore
    rows: Ints
    travelers: Ints
    people: Ints
    names: list[Any]
    sites: NDArray[Any] | None
    covariates: pd.DataFrame | None

    @classmethod
    def of(
        cls,
        X: Floats | EdgeStore,
        sites: ArrayLike | None,
        groups: ArrayLike | None,
        covariates: pd.DataFrame | None,
        traveling: ArrayLike | None,
    ) -> Samples:
        """Check everything that goes with the scans.

        Parameters
        ----------
        X : ndarray or EdgeStore, shape (n_scans, n_edges)
        sites, groups : array_like, shape (n_scans,), or None
            Site and person of each scan; None for one person a scan.
        covariates : pandas.DataFrame or None
            One row a scan.
        traveling : array_like of bool, shape (n_scans,), or None
            Which scans travel; None if none does, which is then checked.

        Raises
        ------
        DecodeError
            If lengths differ, scans are too few or edges are missing.
        LeakageError
            If a person was scanned at several sites and `traveling` does not say why.
        """
        n_scans = X.shape[0]
        people = columns_of("groups", groups, n_scans)
        people = np.arange(n_scans) if people is None else people
        sites = columns_of("sites", sites, n_scans)
        travels = columns_of("traveling", traveling, n_scans)
        if travels is None:
            if sites is not None:
                refuse_traveling(people, sites)
            travels = np.zeros(n_scans, bool)
        travels = travels.astype(bool)
        covariates = covariate_table(covariates, n_scans)
        rows = np.flatnonzero(~travels)
        if len(rows) < MIN_SCANS:
            raise DecodeError(
                f"expected at least {MIN_SCANS} scans that do not travel, found n_samples ="
                f" {len(rows)}; a decoder of so few means nothing, add people"
            )
        numbers, names = number_people(people)
        shared = set(numbers[rows].tolist()) & set(numbers[travels].tolist())
        if shared:
            raise DecodeError(
                f"expected traveling subjects to travel in all of their scans, found {len(shared)}"
                " with scans of both kinds; mark all of them"
            )
        _require_finite(X, rows)
        return cls(X, rows, np.flatnonzero(travels), numbers, names, sites, covariates)

    def read(self, rows: Ints) -> Floats:
        """Edges of some scans, shape (len(rows), n_edges)."""
        return read_block(self.X, slice(None), rows)

    def covariates_of(self, rows: Ints) -> pd.DataFrame | None:
        """Covariates of some scans."""
        return None if self.covariates is None else self.covariates.iloc[rows]


def columns_of(name: str, values: ArrayLike | None, n_scans: int) -> NDArray[Any] | None:
    """A value for each scan as an array of objects; None stays None."""
    if values is None:
        return None
    found = np.asarray(values, object)
    if found.shape != (n_scans,):
        raise DecodeError(
            f"expected one of `{name}` for each of {n_scans} scans, found shape {found.shape};"
            " give them in the order of the rows of X"
        )
    missing = sum(value is None or value != value for value in found.tolist())
    if missing:
        raise DecodeError(f"expected `{name}` of every scan, found {missing} missing; fill them in")
    return found


def covariate_table(covariates: pd.DataFrame | None, n_scans: int) -> pd.DataFrame | None:
    """A table of covariates with one row a scan."""
    if covariates is None:
        return None
    if not hasattr(covariates, "columns"):
        raise DecodeError(
            f"expected covariates as a pandas.DataFrame, found {type(covariates).__name__};"
            " name the columns"
        )
    if len(covariates) != n_scans:
        raise DecodeError(
            f"expected covariates of {n_scans} scans, found {len(covariates)} rows; give them in"
            " the order of the rows of X"
        )
    return covariates.reset_index(drop=True)


def _require_finite(X: Floats | EdgeStore, rows: Ints) -> None:
    scans = np.zeros(len(rows), bool)
    n_edges = 0
    for edges in edge_blocks(X):
        block = read_block(X, edges, rows)
        # a sum is finite unless something in it is not (or overflows, and then this looks closer)
        with np.errstate(over="ignore", invalid="ignore"):
            suspicious = not np.isfinite(block.sum())
        if suspicious:
            bad = ~np.isfinite(block)
            scans |= bad.any(axis=1)
            n_edges += int(bad.any(axis=0).sum())
    if n_edges:
        raise DecodeError(
            f"expected every edge of every scan to be finite, found NaN or infinity in {n_edges}"
            f" edges of {int(scans.sum())} scans; leave out those edges (missing ROIs) or scans"
        )
