"""Paired comparison of predictions: both of the same people, intervals by drawing people anew.

Predictors of one outcome err on the same people; their difference is far surer than either
figure. Every draw takes the same people for all predictors (percentile bootstrap, Efron 1979,
doi:10.1214/aos/1176344552). An interval says how sure the figure is for these predictions, not
how another training sample would have done.

r is of values less their means over people who were left out together: a model's mean is the other
people's, low where those left out are high, so that over folds even a predictor that says nothing
else has a negative r, and any other seems to be better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offline.errors import TwinError

__all__ = ["Interval", "Metric", "compare", "evaluate", "less_means"]

Metric = Literal["r", "rmse"]
Float64 = NDArray[np.float64]

LEVEL = 0.95
N_DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A figure with its interval; NaN where undefined."""

    value: float
    low: float
    high: float


def evaluate(
    truth: ArrayLike,
    predictions: Mapping[str, ArrayLike],
    n_draws: int = N_DRAWS,
    seed: int = 0,
    folds: ArrayLike | None = None,
) -> dict[str, dict[Metric, Interval]]:
    """Correlation and root mean square error of each predictor.

    Parameters
    ----------
    truth : array_like of float64, shape (n_people,)
    predictions : mapping of str to array_like, shape (n_people,)
    n_draws : int
    seed : int
    folds : array_like of int, shape (n_people,), or None
        Who was left out together; None for one model of all.

    Returns
    -------
    dict of str to dict
        "r" and "rmse" (in the outcome's unit) of each predictor; r of a constant is NaN.

    Raises
    ------
    TwinError
        If shapes differ or a value is not finite.
    """
    figures, drawn = _drawn(truth, predictions, n_draws, seed, folds)
    return {
        name: {metric: _interval(figures[name][metric], drawn[name][metric]) for metric in rows}
        for name, rows in figures.items()
    }


def compare(
    truth: ArrayLike,
    predictions: Mapping[str, ArrayLike],
    ours: str,
    theirs: str,
    n_draws: int = N_DRAWS,
    seed: int = 0,
    folds: ArrayLike | None = None,
) -> dict[Metric, Interval]:
    """How much better one predictor is than another; positive is better for `ours`.

    Parameters
    ----------
    truth : array_like of float64, shape (n_people,)
    predictions : mapping of str to array_like, shape (n_people,)
    ours, theirs : str
        Names among `predictions`.
    n_draws, seed : int
    folds : array_like of int, shape (n_people,), or None
        These as of `evaluate`.

    Returns
    -------
    dict of str to Interval
        "r": r of ours minus r of theirs. "rmse": error of theirs minus error of ours.
    """
    both = {name: predictions[name] for name in (ours, theirs)}
    figures, drawn = _drawn(truth, both, n_draws, seed, folds)
    out: dict[Metric, Interval] = {}
    signs: dict[Metric, float] = {"r": 1.0, "rmse": -1.0}
    for metric, sign in signs.items():
        value = sign * (figures[ours][metric] - figures[theirs][metric])
        out[metric] = _interval(value, sign * (drawn[ours][metric] - drawn[theirs][metric]))
    return out


def _drawn(
    truth: ArrayLike,
    predictions: Mapping[str, ArrayLike],
    n_draws: int,
    seed: int,
    folds: ArrayLike | None,
) -> tuple[dict[str, dict[Metric, float]], dict[str, dict[Metric, Float64]]]:
    y = np.asarray(truth, float)
    told = {name: np.asarray(values, float) for name, values in predictions.items()}
    for name, values in told.items():
        if values.shape != y.shape or y.ndim != 1 or not np.isfinite(values + y).all():
            raise TwinError(
                f"expected one finite prediction of each of {y.size} people, found shape"
                f" {values.shape} of {name}, or missing values; predict everyone"
            )
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(y), np.full(len(y), 1.0 / len(y)), size=n_draws) / len(y)
    everyone = np.full((1, len(y)), 1.0 / len(y))
    group = np.zeros(len(y), np.int64) if folds is None else np.asarray(folds)
    figures = {name: _figures(y, values, group, everyone) for name, values in told.items()}
    single = {
        name: {metric: float(values[0]) for metric, values in rows.items()}
        for name, rows in figures.items()
    }
    return single, {name: _figures(y, values, group, draws) for name, values in told.items()}


def less_means(values: Float64, folds: ArrayLike) -> Float64:
    """Values less their means over people who were left out together."""
    _, place = np.unique(np.asarray(folds), return_inverse=True)
    means = np.bincount(place, values) / np.bincount(place)
    return np.asarray(values - means[place])


def _figures(
    y: Float64, told: Float64, folds: NDArray[np.int64], weights: Float64
) -> dict[Metric, Float64]:
    """Both figures under each draw's weights, (n_draws, n_people) with sums of 1."""
    a, b = less_means(y, folds), less_means(told, folds)
    mean_a, mean_b = weights @ a, weights @ b
    covariance = weights @ (a * b) - mean_a * mean_b
    spread = (weights @ (a * a) - mean_a**2) * (weights @ (b * b) - mean_b**2)
    flat = spread <= 1e-20 * max(float(y.var() ** 2), 1e-300)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.where(flat, np.nan, covariance / np.sqrt(np.maximum(spread, 0.0)))
    return {"r": r, "rmse": np.sqrt(weights @ (y - told) ** 2)}


def _interval(value: float, draws: Float64) -> Interval:
    if not np.isfinite(draws).any():
        return Interval(value, float("nan"), float("nan"))
    tail = 50.0 * (1.0 - LEVEL)
    low, high = np.nanpercentile(draws, [tail, 100.0 - tail])
    return Interval(value, float(low), float(high))
