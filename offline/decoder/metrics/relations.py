"""How far one thing goes with another: numbers, numbers within sites, labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from offline.decoder.metrics.intervals import LEVEL, Figure, drawn

__all__ = ["association", "centred", "correlation"]

ROUNDING = 1e-9
"""Values of a site that differ by a smaller share of their size are one value."""

Float64 = NDArray[np.float64]


def centred(values: Float64, sites: NDArray[Any]) -> Float64:
    """Values less their site's mean; 0 where a site has one value, not what rounding leaves."""
    out = np.array(values, np.float64)
    for site in set(sites.tolist()):
        at = sites == site
        constant = np.ptp(out[at]) <= ROUNDING * np.abs(out[at]).max()
        out[at] = 0.0 if constant else out[at] - out[at].mean()
    return out


def correlation(a: Float64, b: Float64, draws: NDArray[np.float32] | None = None) -> Figure:
    """Pearson's r; its interval from the draws, or Fisher's where there are none."""
    known = np.isfinite(a) & np.isfinite(b)
    a, b = np.asarray(a, np.float64)[known], np.asarray(b, np.float64)[known]
    if len(a) < 4 or np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        return Figure(np.nan, np.nan, np.nan, 0.0)
    r = float(np.corrcoef(a, b)[0, 1])
    if draws is None:
        half = float(stats.norm.ppf(0.5 + LEVEL / 2.0)) / np.sqrt(len(a) - 3)
        z = np.arctanh(np.clip(r, -1.0 + 1e-12, 1.0 - 1e-12))
        return Figure(r, float(np.tanh(z - half)), float(np.tanh(z + half)), 0.0)
    w = draws[:, known].astype(np.float64)
    n = w.sum(axis=1)
    a, b = a - a.mean(), b - b.mean()
    mean_a, mean_b = w @ a / n, w @ b / n
    covariance = w @ (a * b) / n - mean_a * mean_b
    scale = np.sqrt((w @ (a * a) / n - mean_a**2) * (w @ (b * b) / n - mean_b**2))
    values = np.divide(covariance, scale, out=np.full(len(w), np.nan), where=scale > 0.0)
    return Figure(r, *drawn(values), 0.0)


def association(a: NDArray[Any], b: NDArray[Any]) -> tuple[float, float, float]:
    """How far one label tells another.

    Returns
    -------
    tuple of float
        Cramér's V (0 independent, 1 determined); mutual information as a share of the entropy of
        `a`; p of the chi-squared test. (0, 0, 1) where either has one value.
    """
    table = pd.crosstab(pd.Series(a.astype(str)), pd.Series(b.astype(str))).to_numpy(np.float64)
    if min(table.shape) < 2:
        return 0.0, 0.0, 1.0
    chi2, p, _, _ = stats.chi2_contingency(table, correction=False)
    n = table.sum()
    joint = table / n
    of_a, of_b = joint.sum(axis=1), joint.sum(axis=0)
    known = joint > 0.0
    information = float(np.sum(joint[known] * np.log((joint / np.outer(of_a, of_b))[known])))
    entropy = -float(np.sum(of_a * np.log(of_a)))
    return float(np.sqrt(chi2 / (n * (min(table.shape) - 1)))), information / entropy, float(p)
