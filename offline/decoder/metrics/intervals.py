"""A figure with its interval: from draws of people, or from counts alone.

Scans of one person are not independent: intervals come from drawing people anew within each site
and class (percentiles of `N_DRAWS` draws). They say how sure a figure is for a decoder's outputs,
not how another training sample would have done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from offline.numerals import interval, number

__all__ = ["LEVEL", "N_DRAWS", "Figure", "drawn", "person_draws", "ratio", "wilson"]

LEVEL = 0.95
"""Of all intervals."""

N_DRAWS = 2000
"""Of people, behind an interval."""

Float64 = NDArray[np.float64]


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


def wilson(count: int, n: int) -> tuple[float, float]:
    """Wilson's interval of a proportion; NaN where there is nobody."""
    if not n:
        return float("nan"), float("nan")
    found = stats.binomtest(int(count), int(n)).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def ratio(a: Float64, b: Float64) -> Float64:
    """a / b; NaN where b is not positive."""
    return np.asarray(np.divide(a, b, out=np.full(np.shape(a), np.nan), where=b > 0.0))
