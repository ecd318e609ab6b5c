"""How well outputs tell a target, with intervals that know of people and sites.

Everything here is a function of what was observed and what a decoder said of people it had never
seen. Scans of one person are not independent, and people of one site are compared with each
other: the average of the sites' own AUCs, weighted by their sizes, cannot be raised by telling
the sites apart, which a pooled AUC can. Intervals come from drawing people anew within each site
and class (percentiles of `N_DRAWS` draws); they say how sure the figure is for this decoder's
outputs, not how another training sample would have done. AUC: Hanley & McNeil 1982,
doi:10.1148/radiology.143.1.7063747; its interval at one site: Newcombe 2006,
doi:10.1002/sim.2324 (method 5), which does not vanish where the AUC is 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats

from offline.numerals import interval, number

__all__ = [
    "LEVEL",
    "N_DRAWS",
    "Figure",
    "association",
    "auc",
    "auc_interval",
    "calibration",
    "calibration_error",
    "centred",
    "correlation",
    "drawn",
    "person_draws",
    "site_auc",
    "site_aucs",
    "threshold_figures",
    "wilson",
]

LEVEL = 0.95
N_DRAWS = 2000
EDGE = 1e-9
ROUNDING = 1e-9

Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its interval.

    Attributes
    ----------
    value, low, high : float
        NaN where undefined.
    chance : float
        What telling nothing gives; NaN where there is no such value.
    """

    value: float
    low: float
    high: float
    chance: float = float("nan")

    @property
    def covers_chance(self) -> bool:
        """Whether chance is inside the interval, or nothing can be said."""
        return not (self.chance < self.low or self.chance > self.high)

    def __str__(self) -> str:
        return f"{number(self.value)} ({interval(self.low, self.high)})"


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


def wilson(count: int, n: int) -> tuple[float, float]:
    """Wilson's interval of a proportion; NaN where there is nobody."""
    if not n:
        return float("nan"), float("nan")
    found = stats.binomtest(int(count), int(n)).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def person_draws(
    people: NDArray[Any], sites: NDArray[Any], labels: NDArray[Any], seed: int
) -> NDArray[np.float32]:
    """How often each scan counts in each draw of people, shape (N_DRAWS, n_scans).

    As many people as there are of each site and class are drawn with replacement among them, all
    scans of a person together. A person whose scans have several labels is a class of its own.

    Parameters
    ----------
    people, sites : ndarray, shape (n_scans,)
    labels : ndarray, shape (n_scans,)
        Class of each scan; one value throughout for a continuous target.
    seed : int
    """
    rng = np.random.default_rng(seed)
    strata: dict[tuple[Any, ...], dict[Any, list[int]]] = {}
    scans: dict[Any, list[int]] = {}
    for scan, person in enumerate(people.tolist()):
        scans.setdefault(person, []).append(scan)
    for person, at in scans.items():
        told = (str(sites[at[0]]), tuple(sorted({str(labels[k]) for k in at})))
        strata.setdefault(told, {})[person] = at
    weights = np.zeros((N_DRAWS, len(people)), np.float32)
    for told in sorted(strata):
        members = list(strata[told].values())
        n = len(members)
        counts = rng.multinomial(n, np.full(n, 1.0 / n), N_DRAWS).astype(np.float32)
        for place, at in enumerate(members):
            weights[:, at] = counts[:, [place]]
    return weights


def drawn(values: Float64) -> tuple[float, float]:
    """Percentile interval of a figure's draws; NaN if more than half of them are."""
    known = values[np.isfinite(values)]
    if 2 * len(known) < len(values) or not len(known):
        return float("nan"), float("nan")
    tail = 50.0 * (1.0 - LEVEL)
    low, high = np.percentile(known, [tail, 100.0 - tail])
    return float(low), float(high)


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
    return _ratio(wins, pairs)


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


def _counts(y: NDArray[np.bool_], said: NDArray[np.bool_], draws: NDArray[Any]) -> Float64:
    """True positives, false negatives, false positives, true negatives; shape (4, n_draws)."""
    kinds = np.stack([y & said, y & ~said, ~y & said, ~y & ~said]).astype(np.float32)
    return np.asarray(kinds @ draws.T, np.float64)


def _ratio(a: Float64, b: Float64) -> Float64:
    return np.asarray(np.divide(a, b, out=np.full(np.shape(a), np.nan), where=b > 0.0))


def _accuracy(counts: Float64) -> Float64:
    return _ratio(counts[0] + counts[3], counts.sum(axis=0))


def _sensitivity(counts: Float64) -> Float64:
    return _ratio(counts[0], counts[0] + counts[1])


def _specificity(counts: Float64) -> Float64:
    return _ratio(counts[3], counts[2] + counts[3])


def _mcc(counts: Float64) -> Float64:
    """Matthews' correlation; 0 where one answer was given throughout."""
    tp, fn, fp, tn = counts
    scale = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    out = np.zeros(len(scale))
    np.divide(tp * tn - fp * fn, scale, out=out, where=scale > 0.0)
    return out


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


def calibration(y: NDArray[Any], p: Float64, n_bins: int = 10) -> pd.DataFrame:
    """How often scans of a predicted probability are positive, in bins of equally many scans.

    Returns
    -------
    pandas.DataFrame
        One row a bin: `n`, `predicted` (mean probability), `observed`, `low`, `high` (Wilson).
    """
    y = np.asarray(y, bool)
    order = np.argsort(p, kind="stable")
    rows = []
    for part in np.array_split(order, max(1, min(n_bins, len(p) // 10))):
        n, count = len(part), int(y[part].sum())
        rows.append((n, float(p[part].mean()), count / n, *wilson(count, n)))
    return pd.DataFrame(rows, columns=["n", "predicted", "observed", "low", "high"])


def calibration_error(bins: pd.DataFrame) -> float:
    """Expected calibration error: mean distance of observed from predicted, over scans."""
    distance = (bins["observed"] - bins["predicted"]).abs()
    return float((distance * bins["n"]).sum() / bins["n"].sum())


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
