"""What deciding at the threshold gives: accuracy and its kin, beside what the site alone gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline.decoder.metrics.intervals import Figure, drawn, ratio

__all__ = ["threshold_figures"]

Float64 = NDArray[np.float64]


def threshold_figures(
    y: NDArray[Any], said: NDArray[Any], sites: NDArray[Any], draws: NDArray[np.float32]
) -> dict[str, Figure]:
    """What deciding at the threshold gives.

    Parameters
    ----------
    y, said : ndarray of bool, shape (n_scans,)
        Which scans are positive, and which were called so.
    sites : ndarray, shape (n_scans,)
    draws : ndarray of float32, shape (n_draws, n_scans)

    Returns
    -------
    dict of str to Figure
        `accuracy` and `MCC` (their chance: calling everybody at a site what most people there
        are, which takes no look at a scan), `sensitivity`, `specificity`, and `balanced accuracy
        within sites`, which telling the sites apart cannot raise (its chance is .5).
    """
    y, said = np.asarray(y, bool), np.asarray(said, bool)
    once = np.ones((1, len(y)), np.float32)
    most = np.zeros(len(y), bool)
    for site in set(sites.tolist()):
        at = sites == site
        most[at] = 2 * y[at].sum() > at.sum()
    by_site = _counts(y, most, once)  # what knowing the site alone gives
    kinds: dict[str, tuple[Callable[..., Float64], float]] = {
        "accuracy": (_accuracy, float(_accuracy(by_site)[0])),
        "sensitivity": (_sensitivity, np.nan),
        "specificity": (_specificity, np.nan),
        "MCC": (_mcc, float(_mcc(by_site)[0])),
    }
    figures = {}
    for name, (of, chance) in kinds.items():
        value = float(of(_counts(y, said, once))[0])
        figures[name] = Figure(value, *drawn(of(_counts(y, said, draws))), chance)
    value = float(_balanced(y, said, sites, once)[0])
    interval = drawn(_balanced(y, said, sites, draws))
    figures["balanced accuracy within sites"] = Figure(value, *interval, 0.5)
    return figures


def _balanced(
    y: NDArray[np.bool_], said: NDArray[np.bool_], sites: NDArray[Any], draws: NDArray[Any]
) -> Float64:
    total, weight = np.zeros(len(draws)), 0.0
    for site in sorted({str(s) for s in sites}):
        at = sites.astype(str) == site
        if 0 < y[at].sum() < at.sum():
            counts = _counts(y[at], said[at], draws[:, at])
            total += at.sum() * (_sensitivity(counts) + _specificity(counts)) / 2.0
            weight += float(at.sum())
    return total / weight if weight else np.full(len(draws), np.nan)


def _counts(y: NDArray[np.bool_], said: NDArray[np.bool_], draws: NDArray[Any]) -> Float64:
    """True positives, false negatives, false positives, true negatives; shape (4, n_draws)."""
    kinds = np.stack([y & said, y & ~said, ~y & said, ~y & ~said]).astype(np.float32)
    return np.asarray(kinds @ draws.T, np.float64)


def _accuracy(counts: Float64) -> Float64:
    return ratio(counts[0] + counts[3], counts.sum(axis=0))


def _sensitivity(counts: Float64) -> Float64:
    return ratio(counts[0], counts[0] + counts[1])


def _specificity(counts: Float64) -> Float64:
    return ratio(counts[3], counts[2] + counts[3])


def _mcc(counts: Float64) -> Float64:
    """Matthews' correlation; 0 where one answer was given throughout."""
    tp, fn, fp, tn = counts
    scale = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    out = np.zeros(len(scale))
    np.divide(tp * tn - fp * fn, scale, out=out, where=scale > 0.0)
    return out
