"""How often an edge is chosen when the target means nothing: the null of the largest count.

With tens of thousands of edges some are chosen often by chance. Labels are permuted, the whole
recipe is run again (harmonization, folds and draws included), and the count of the most often
chosen edge is kept. An edge is reported if its own count lies above what that maximum reaches: this
holds the error over all edges at once where no edge differs. Where some do, edges correlated with
them help to predict without differing themselves and can exceed it too (5 of 18 reported edges in
the simulation of `make proof decoder`): the list is of edges that the decoder relies on.

People keep their scans and sites keep their prevalence: labels are exchanged between people of
one site whose label is the same in all of their scans; people whose label varies (before and
after treatment) have it shuffled among their own scans.

Permutations may use fewer draws than the decoder did. The counts they are compared with then come
from the same smaller ensemble trained on the true labels: like is compared with like.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from offline.blocks import Executor, open_executor
from offline.decoder.folded import FoldedDecoder
from offline.decoder.samples import columns_of
from offline.errors import DecodeError
from offline.store import EdgeStore

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SelectionNull", "max_count_null", "permuted"]

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SelectionNull:
    """Selection counts against what the largest one reaches by chance.

    Attributes
    ----------
    counts : ndarray of int64, shape (n_edges,)
        Of an ensemble of `n_models` models on the true labels.
    largest : ndarray of int64, shape (n_permutations,)
        Largest count over edges under each permutation.
    n_models : int
        Models behind each count, in truth and permutations alike.
    quantile : float
        Of `largest`, which an edge has to exceed. Fewer than 1 / (1 - quantile) - 1 permutations
        cannot show that of any.
    cpu_s : float
        CPU time of one run of the recipe, measured on the true labels, s.
    """

    counts: Ints
    largest: Ints
    n_models: int
    quantile: float
    cpu_s: float

    @property
    def threshold(self) -> int:
        """Counts above this have p of at most 1 - quantile; `n_models` where none can have it."""
        n = len(self.largest)
        allowed = int((1.0 - self.quantile) * (n + 1.0) + 1e-9) - 1  # maxima that may reach a count
        return self.n_models if allowed < 0 else int(np.sort(self.largest)[n - 1 - allowed])

    @property
    def significant(self) -> Ints:
        """Edges chosen more often than the threshold, the most often chosen first."""
        edges = np.flatnonzero(self.counts > self.threshold)
        return edges[np.argsort(-self.counts[edges], kind="stable")]

    def p(self) -> NDArray[np.float64]:
        """Of each edge, corrected over all edges: the share of maxima that reach its count."""
        reached = np.searchsorted(np.sort(self.largest), self.counts, side="left")
        return np.asarray((1.0 + len(self.largest) - reached) / (1.0 + len(self.largest)))


def max_count_null(
    decoder: FoldedDecoder,
    X: Floats | EdgeStore,
    y: ArrayLike,
    *,
    sites: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    covariates: pd.DataFrame | None = None,
    traveling: ArrayLike | None = None,
    n_permutations: int = 100,
    n_undersamples: int | None = None,
    quantile: float = 0.95,
    seed: int = 0,
    executor: Executor | None = None,
    checkpoint: str | Path | None = None,
    say: Callable[[str], None] | None = None,
) -> SelectionNull:
    """Run the recipe on permuted labels.

    Parameters
    ----------
    decoder : LassoEnsemble or another decoder
        Its settings are used; it is not changed.
    X : ndarray or EdgeStore, shape (n_scans, n_edges)
        Fisher z.
    y : array_like, shape (n_scans,)
        Target.
    sites, groups : array_like, shape (n_scans,), or None
        Site and person of each scan.
    covariates : pandas.DataFrame or None
        What the harmonizer shall keep.
    traveling : array_like of bool, shape (n_scans,), or None
        As of the decoder's `fit`.
    n_permutations : int
    n_undersamples : int or None
        Draws in each fold, fewer than the decoder's to save time; None for the decoder's own.
    quantile : float
        Of the largest counts, which an edge has to exceed.
    seed : int
        Of the permutations.
    executor : offline.blocks.Executor or None
        Runs the permutations; None: here, one by one.
    checkpoint : str or Path or None
        Folder where finished permutations are kept, so that an interrupted run goes on.
    say : callable or None
        Told the cost before the permutations begin; None prints it on standard error.

    Raises
    ------
    DecodeError
        If there is nothing to permute.
    """
    if n_permutations < 1 or not 0.0 < quantile < 1.0:
        raise DecodeError(
            f"expected at least one permutation and 0 < quantile < 1, found {n_permutations} and"
            f" {quantile}; use 100 and 0.95"
        )
    smaller = clone(decoder)
    if n_undersamples is not None:
        smaller.set_params(n_undersamples=n_undersamples)
    known = {"sites": sites, "groups": groups, "covariates": covariates, "traveling": traveling}
    started_s = time.process_time()
    true = clone(smaller).fit(X, y, **known)
    cpu_s = time.process_time() - started_s
    n_models = len(true.intercept_)
    (say or _tell)(
        f"{n_permutations} permutations of {n_models} models: about"
        f" {n_permutations * cpu_s / 60.0:.1f} minutes of CPU ({cpu_s:.1f} s each)"
    )
    work = partial(_largest_count, smaller, X, np.asarray(y), known, seed)
    with nullcontext(executor) if executor else open_executor(workers=1) as running:
        found = list(running.map(work, range(n_permutations), "permutations", checkpoint))
    return SelectionNull(
        true.selection_counts_, np.array(found, np.int64), n_models, quantile, cpu_s
    )


def permuted(
    y: NDArray[Any],
    people: NDArray[Any],
    sites: NDArray[Any] | None,
    rng: np.random.Generator,
) -> NDArray[Any]:
    """A target with people's labels exchanged within sites, or within people where they vary.

    Parameters
    ----------
    y, people, sites : ndarray, shape (n_scans,)
        `sites` None: everyone at one.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (n_scans,)
    """
    out = np.array(y)
    known: dict[Any, list[int]] = {}
    for row, person in enumerate(people.tolist()):
        known.setdefault(person, []).append(row)
    by_site: dict[str, list[list[int]]] = {}
    for rows in known.values():
        if all(y[row] == y[rows[0]] for row in rows):
            site = "" if sites is None else str(sites[rows[0]])
            by_site.setdefault(site, []).append(rows)
        else:
            out[rows] = y[np.array(rows)[rng.permutation(len(rows))]]
    for site in sorted(by_site):
        members = by_site[site]
        for rows, other in zip(members, rng.permutation(len(members)), strict=True):
            out[rows] = y[members[other][0]]
    return out


def _largest_count(
    decoder: FoldedDecoder,
    X: Floats | EdgeStore,
    y: NDArray[Any],
    known: dict[str, Any],
    seed: int,
    permutation: int,
) -> int:
    """Largest selection count of one permutation."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(permutation,)))
    n_scans = X.shape[0]
    people = columns_of("groups", known["groups"], n_scans)
    people = np.arange(n_scans) if people is None else people
    sites = columns_of("sites", known["sites"], n_scans)
    travels = columns_of("traveling", known["traveling"], n_scans)
    stays = np.ones(n_scans, bool) if travels is None else ~travels.astype(bool)
    target = np.array(y)
    target[stays] = permuted(y[stays], people[stays], None if sites is None else sites[stays], rng)
    # folds and draws of their own: a permutation is a whole new run
    run = clone(decoder).set_params(random_state=int(rng.integers(2**31)))
    return int(run.fit(X, target, **known).selection_counts_.max())


def _tell(text: str) -> None:
    print(text, file=sys.stderr)
