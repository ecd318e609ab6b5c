"""AUC: within sites, each site's own, and the figure that may be quoted.

Hanley & McNeil 1982, doi:10.1148/radiology.143.1.7063747; the interval at one site: Newcombe 2006,
doi:10.1002/sim.2324 (method 5), which does not vanish where the AUC is 0 or 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats

from offline.decoder.metrics.intervals import LEVEL, Figure, drawn, ratio

__all__ = ["auc", "auc_interval", "site_auc", "site_aucs"]

EDGE = 1e-9
"""Share by which an AUC of 0 or 1 is moved inside, where its interval is looked for."""

Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]


def auc(y: NDArray[Any], score: Float64) -> float:
    """Probability that a positive scan has the higher score, ties counting half.

    Parameters
    ----------
    y : ndarray of bool, shape (n_scans,)
        Which scans are positive.
    score : ndarray of float64, shape (n_scans,)

    Returns
    -------
    float
        NaN where one class is missing.

    Examples
    --------
    >>> auc(np.array([False, True, True]), np.array([0.1, 0.1, 0.9]))
    0.75
    """
    y = np.asarray(y, bool)
    n_positive, n_negative = int(y.sum()), int((~y).sum())
    if not n_positive or not n_negative:
        return float("nan")
    ranks = stats.rankdata(score)
    above = float(ranks[y].sum()) - n_positive * (n_positive + 1) / 2.0
    return above / (n_positive * n_negative)


def auc_interval(value: float, n_positive: int, n_negative: int) -> tuple[float, float]:
    """Interval of one AUC from its size and the two counts (Newcombe's method 5).

    Parameters
    ----------
    value : float
        AUC, 0..1.
    n_positive, n_negative : int
        People of each class.

    Returns
    -------
    tuple of float
        NaN where the AUC is.
    """
    if np.isnan(value):
        return float("nan"), float("nan")
    z = float(stats.norm.ppf(0.5 + LEVEL / 2.0))
    mean = (n_positive + n_negative) / 2.0 - 1.0

    def beyond(theta: float) -> float:
        """How many standard errors `theta` is from the value, less z; squared form."""
        spread = theta * (1.0 - theta)
        spread *= 1.0 + mean * ((1.0 - theta) / (2.0 - theta) + theta / (1.0 + theta))
        return (value - theta) ** 2 - z * z * spread / (n_positive * n_negative)

    # at 0 and 1 the value itself is a root, and not the one that is looked for
    inside = min(max(value, EDGE), 1.0 - EDGE)
    low = 0.0 if value <= 0.0 else float(optimize.brentq(beyond, 0.0, inside))
    high = 1.0 if value >= 1.0 else float(optimize.brentq(beyond, inside, 1.0))
    return low, high


def site_aucs(y: NDArray[Any], score: Float64, sites: NDArray[Any]) -> pd.DataFrame:
    """AUC of every site from its own people alone.

    Returns
    -------
    pandas.DataFrame
        One row a site: `site`, `n`, `n_positive`, `auc`, `low`, `high`; NaN where a site has one
        class alone. Scans without a score do not count.
    """
    rows = []
    y = np.asarray(y, bool)
    for site in sorted({str(s) for s in sites}):
        at = (sites.astype(str) == site) & np.isfinite(score)
        value = auc(y[at], score[at])
        n_positive = int(y[at].sum())
        low, high = auc_interval(value, n_positive, int(at.sum()) - n_positive)
        rows.append((site, int(at.sum()), n_positive, value, low, high))
    return pd.DataFrame(rows, columns=["site", "n", "n_positive", "auc", "low", "high"])


def site_auc(
    y: NDArray[Any],
    score: Float64,
    sites: NDArray[Any],
    draws: NDArray[np.float32] | None = None,
) -> Figure:
    """Average of the sites' own AUCs, weighted by their sizes; sites of one class do not count.

    Parameters
    ----------
    y : ndarray of bool, shape (n_scans,)
    score : ndarray of float64, shape (n_scans,)
        NaN for scans that have none.
    sites : ndarray, shape (n_scans,)
    draws : ndarray of float32, shape (n_draws, n_scans), or None
        From `person_draws`; None for no interval.
    """
    y = np.asarray(y, bool)
    total, weight, spread = 0.0, 0.0, 0.0
    for site in sorted({str(s) for s in sites}):
        at = (sites.astype(str) == site) & np.isfinite(score)
        positive, negative = np.flatnonzero(at & y), np.flatnonzero(at & ~y)
        if not len(positive) or not len(negative):
            continue
        total += at.sum() * auc(y[at], score[at])
        weight += float(at.sum())
        if draws is not None:
            spread = spread + at.sum() * _drawn_aucs(score, positive, negative, draws)
    if not weight:
        return Figure(np.nan, np.nan, np.nan, 0.5)
    low, high = (np.nan, np.nan) if draws is None else drawn(np.asarray(spread) / weight)
    return Figure(total / weight, low, high, 0.5)


def _drawn_aucs(
    score: Float64, positive: Ints, negative: Ints, draws: NDArray[np.float32]
) -> Float64:
    """AUC of each draw: who is above whom does not change, only how often each counts."""
    a, b = score[positive][:, None], score[negative][None, :]
    above = (a > b) + 0.5 * (a == b)
    of_positive, of_negative = draws[:, positive], draws[:, negative]
    wins = np.einsum("dj,dj->d", of_positive @ above.astype(np.float32), of_negative)
    pairs = of_positive.sum(axis=1, dtype=np.float64) * of_negative.sum(axis=1, dtype=np.float64)
    return ratio(wins, pairs)
