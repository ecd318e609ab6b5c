"""A person's mean response time from their first few trials, and what is known of everyone.

An estimator of the mean of later trials, learned on other people, that knows more of how response
times come about than their mean (`offline.twin.shrinkage`):

    g(RT[i, t]) = item[t] + prior[i] + level[i] + drift[i](t) + noise[i, t]

`item` is what trial t costs everyone (its place in the run and its condition), `prior` a ridge
on covariates (age, sex, site, group), `level` the person, `drift` slow change of the person over
trials (an exponential covariance), and level, drift and noise are Gaussian with variances of the
training people; responses far out weigh less. Its prediction is the conditional mean over the
later trials given those seen, none included, brought to seconds.

Which scale g response times are Gaussian on differs between tasks, and slow responses, which a
robust level plays down, are part of the mean that is to be told. So the model is fitted on log,
seconds and reciprocal, and the three predictions and the mean of the trials seen, less their
items, are stacked: non-negative weights, by least squares on training people left out in turn
(Breiman 1996, doi:10.1007/BF00117832), for every number of trials seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import RidgeCV

from offline.errors import TwinError
from offline.twin.behaviour import first_correct
from offline.twin.shrinkage import checked_trials, trial_means

__all__ = ["SCALES", "KShot"]

Float64 = NDArray[np.float64]
Scale = Literal["log", "seconds", "reciprocal"]

SCALES: tuple[Scale, ...] = ("log", "seconds", "reciprocal")
CLIP = 2.5
"""Standard deviations beyond which a response weighs less.

Huber 1964, doi:10.1214/aoms/1177703732.
"""

N_FOLDS = 5
"""Folds of training people, so that what is stacked was not learned from whom it tells."""

N_ROUNDS = 3
"""How often a person's level and the weights of their responses are found from each other."""

LENGTHS = (6.0, 12.0, 25.0, 50.0)
"""Trials over which a person's drift is alike, to choose from."""

SIZES = (0, 1, 2, 3, 5, 10, 20)
"""Trials seen, for which predictions are stacked on the training people, the first half besides;
between them weights are interpolated in log(1 + trials)."""

PENALTIES = np.logspace(0.0, 3.0, 7)


@dataclass(frozen=True)
class _Level:
    """What was learned on one scale."""

    scale: Scale
    item: Float64
    by_condition: dict[Any, float]
    clip: float
    middle: Float64
    spread: Float64
    slope: Float64
    intercept: float
    person: float
    drift: float
    length: float
    noise: float


class KShot(RegressorMixin, BaseEstimator):
    """Conditional mean of later trials given the first few, conditions and covariates.

    Parameters
    ----------
    clip : float
        Standard deviations beyond which a response weighs less.

    Attributes
    ----------
    sizes_ : ndarray of int64, shape (n_sizes,)
        Numbers of trials seen for which weights were learned.
    weights_ : ndarray of float64, shape (n_sizes, 5)
        Intercept (s), and weights of the predictions on the scales of `SCALES` and of the mean.
    error_ : ndarray of float64, shape (n_sizes,)
        Root mean square error of the training people, each left out in turn, s.
    variances_ : dict of str to dict
        Of each scale: variance of "person", "drift" and "noise", and "drift_trials", over how
        many trials a person's drift is alike.
    """

    def __init__(self, clip: float = CLIP) -> None:
        self.clip = clip

    def fit(
        self,
        rt_s: Float64,
        later_s: ArrayLike,
        conditions: NDArray[Any] | None = None,
        covariates: Float64 | None = None,
    ) -> Self:
        """Learn items, prior, variances, scale and calibration.

        Parameters
        ----------
        rt_s : ndarray of float64, shape (n_people, n_trials)
            Usable response times of a whole run, NaN elsewhere.
        later_s : array_like of float64, shape (n_people,)
            Mean over the usable trials of the second half, s.
        conditions : ndarray, shape (n_people, n_trials), or None
            Condition of every trial, also of those without response time.
        covariates : ndarray of float64, shape (n_people, n_covariates), or None

        Raises
        ------
        TwinError
            If there are fewer than 10 people, shapes differ, or a person has no later mean.
        """
        rt, later = checked_trials(rt_s, later_s, fewest=10)
        cells = np.zeros(rt.shape, np.int64) if conditions is None else conditions
        known = np.zeros((len(rt), 0)) if covariates is None else np.asarray(covariates, float)
        if cells.shape != rt.shape or len(known) != len(rt) or not np.isfinite(known).all():
            raise TwinError(
                f"expected conditions {rt.shape} and {len(rt)} rows of finite covariates, found"
                f" {cells.shape} and {known.shape}; give one row a person"
            )
        self.n_trials_ = rt.shape[1]
        self._levels = self._learn(rt, cells, known)
        self.variances_ = {
            level.scale: {
                "person": level.person,
                "drift": level.drift,
                "noise": level.noise,
                "drift_trials": level.length,
            }
            for level in self._levels
        }
        half = (rt.shape[1] - 1) // 2 + 1
        early = np.where(np.arange(rt.shape[1]) < half, rt, np.nan)
        self.sizes_ = np.array(sorted({*(size for size in SIZES if size < half), half}))
        parts = self._told_from_others(rt, early, cells, known)
        stacked = [_stack(part, later) for part in parts]
        self.weights_ = np.array([weights for weights, _ in stacked])
        self.error_ = np.array([error for _, error in stacked])
        return self

    def predict(
        self,
        seen_s: Float64,
        conditions: NDArray[Any] | None = None,
        covariates: Float64 | None = None,
        return_std: bool = False,
    ) -> Float64 | tuple[Float64, Float64]:
        """Mean of the second half, from the trials seen.

        Parameters
        ----------
        seen_s : ndarray of float64, shape (n_people, n_trials)
            NaN for every trial that is not known; a person may have none.
        conditions : ndarray, shape (n_people, n_trials), or None
        covariates : ndarray of float64, shape (n_people, n_covariates), or None
            As of `fit`.
        return_std : bool
            Also return the standard error of each prediction.

        Returns
        -------
        ndarray of float64, shape (n_people,)
            Seconds; with `return_std` a tuple of two.
        """
        seen = np.asarray(seen_s, float)
        if seen.ndim != 2 or seen.shape[1] != self.n_trials_:
            raise TwinError(
                f"expected trials (n_people, {self.n_trials_}), found {seen.shape}; give the run"
                " that was learned, with NaN for trials not seen"
            )
        cells = np.zeros(seen.shape, np.int64) if conditions is None else conditions
        known = np.zeros((len(seen), 0)) if covariates is None else np.asarray(covariates, float)
        at, size = np.log1p(np.isfinite(seen).sum(axis=1)), np.log1p(self.sizes_)
        weights = np.stack([np.interp(at, size, column) for column in self.weights_.T], axis=1)
        parts = _parts(self._levels, seen, cells, known)
        mean = weights[:, 0] + np.sum(weights[:, 1:] * parts, axis=1)
        return (mean, np.interp(at, size, self.error_)) if return_std else mean

    def _learn(self, rt: Float64, cells: NDArray[Any], known: Float64) -> list[_Level]:
        return [self._level(scale, rt, cells, known) for scale in SCALES]

    def _told_from_others(
        self, rt: Float64, early: Float64, cells: NDArray[Any], known: Float64
    ) -> Float64:
        """What is stacked, shape (n_sizes, n_people, 4), of people not used to learn it."""
        fold = np.random.default_rng(0).permutation(len(rt)) % N_FOLDS
        out = np.zeros((len(self.sizes_), len(rt), len(SCALES) + 1))
        for number in range(N_FOLDS):
            rest, own = fold != number, fold == number
            levels = self._learn(rt[rest], cells[rest], known[rest])
            for place, size in enumerate(self.sizes_):
                seen = first_correct(early[own], size)
                out[place, own] = _parts(levels, seen, cells[own], known[own])
        return out

    def _level(self, scale: Scale, rt: Float64, cells: NDArray[Any], known: Float64) -> _Level:
        values = _to_scale(rt, scale)
        item, by_condition = _items(values, cells)
        residual = values - _item_of(item, by_condition, cells)
        own = np.nanmedian(residual, axis=1)
        within = 1.4826 * float(np.nanmedian(np.abs(residual - own[:, None])))
        reach = self.clip * within
        pulled = np.clip(residual, own[:, None] - reach, own[:, None] + reach)
        mean = trial_means(pulled)
        middle, spread = known.mean(axis=0), known.std(axis=0) + 1e-12
        slope, intercept = _prior((known - middle) / spread, mean)
        prior = intercept + (known - middle) / spread @ slope
        person, drift, length, noise = _variances(pulled - prior[:, None])
        return _Level(
            scale, item, by_condition, self.clip, middle, spread, slope, intercept,
            person, drift, length, noise,
        )  # fmt: skip


def _to_scale(rt_s: Float64, scale: Scale) -> Float64:
    if scale == "log":
        return np.log(rt_s)
    return rt_s if scale == "seconds" else -1.0 / rt_s


def _from_scale(values: Float64, scale: Scale) -> Float64:
    if scale == "log":
        return np.exp(values)
    # a prediction beyond any response would turn round at 0
    return values if scale == "seconds" else -1.0 / np.minimum(values, -0.1)


def _items(values: Float64, cells: NDArray[Any]) -> tuple[Float64, dict[Any, float]]:
    """What each place and condition adds, people's levels apart; places shrunk to their noise."""
    residual = values - trial_means(values)[:, None]
    there = np.isfinite(residual)
    by_condition: dict[Any, float] = {}
    for name in np.unique(cells[there]):
        by_condition[name] = float(residual[there & (cells == name)].mean())
    left = residual - _item_of(np.zeros(values.shape[1]), by_condition, cells)
    n = np.isfinite(left).sum(axis=0)
    place = np.nansum(left, axis=0) / np.maximum(n, 1)
    noise = float(np.nanvar(left))
    signal = max(float(place.var()) - noise * float(np.mean(1.0 / np.maximum(n, 1))), 0.0)
    return place * (signal / (signal + noise / np.maximum(n, 1) + 1e-300)), by_condition


def _item_of(place: Float64, by_condition: dict[Any, float], cells: NDArray[Any]) -> Float64:
    """Items of everyone's trials, shape (n_people, n_trials); a new condition adds nothing."""
    out = np.broadcast_to(place, cells.shape).copy()
    for name, value in by_condition.items():
        out[cells == name] += value
    return out


def _prior(known: Float64, mean: Float64) -> tuple[Float64, float]:
    if not known.shape[1]:
        return np.zeros(0), float(mean.mean())
    # penalty by exact leave-one-out error on the training people
    ridge = RidgeCV(alphas=PENALTIES).fit(known, mean)
    return np.asarray(ridge.coef_), float(ridge.intercept_)


def _variances(residual: Float64) -> tuple[float, float, float, float]:
    """Variance of level and drift, length of the drift, variance of the noise.

    Covariances between trials are fitted by those of a level and an exponential drift; what
    their diagonal leaves is noise.
    """
    there = np.isfinite(residual)
    filled = np.where(there, residual, 0.0)
    counts = there.T.astype(float) @ there
    covariance = filled.T @ filled / np.maximum(counts, 1.0)
    a, b = np.triu_indices(residual.shape[1], 1)
    weights = np.sqrt(counts[a, b])
    best = (np.inf, 0.0, 0.0, LENGTHS[0])
    for length in LENGTHS:
        shape = np.stack([np.ones(len(a)), np.exp(-(b - a) / length)], axis=1)
        (level, drift), misfit = nnls(shape * weights[:, None], covariance[a, b] * weights)
        if misfit < best[0]:
            best = (misfit, float(level), float(drift), length)
    _, person, drift, length = best
    total = float(np.average(np.diag(covariance), weights=np.diag(counts)))
    return person, drift, length, max(total - person - drift, 1e-6 * total + 1e-12)


def _predicted(level: _Level, seen_s: Float64, cells: NDArray[Any], known: Float64) -> Float64:
    """Conditional mean over the second half, s, shape (n_people,)."""
    n_trials = seen_s.shape[1]
    prior = level.intercept + (known - level.middle) / level.spread @ level.slope
    items = _item_of(level.item, level.by_condition, cells)
    residual = _to_scale(seen_s, level.scale) - items - prior[:, None]
    lags = np.abs(np.subtract.outer(np.arange(n_trials), np.arange(n_trials)))
    covariance = level.person + level.drift * np.exp(-lags / level.length)
    later = np.arange(n_trials) > (n_trials - 1) // 2
    with_later = covariance[:, later].mean(axis=1)
    out = prior + items[:, later].mean(axis=1)
    for person, row in enumerate(residual):
        places = np.flatnonzero(np.isfinite(row))
        if len(places):
            out[person] += _conditional_mean(
                row[places], covariance[np.ix_(places, places)], with_later[places], level
            )
    return _from_scale(out, level.scale)


def _conditional_mean(
    seen: Float64, covariance: Float64, with_later: Float64, level: _Level
) -> float:
    """Mean of the later trials' level and drift, given residuals seen, each (n_seen,).

    A response far from what the person's other responses suggest counts as one with more noise;
    at first, before anything is known of the person, as far as from everyone's.
    """
    expected = np.zeros(len(seen))
    spread = np.sqrt(level.noise + level.person + level.drift)
    solved = seen
    for _ in range(N_ROUNDS):
        away = np.abs(seen - expected) / (level.clip * spread)
        noise = level.noise * np.maximum(away, 1.0)
        solved = np.linalg.solve(covariance + np.diag(noise), seen)
        expected, spread = covariance @ solved, np.sqrt(level.noise)
    return float(with_later @ solved)


def _parts(levels: list[_Level], seen: Float64, cells: NDArray[Any], known: Float64) -> Float64:
    """What is stacked, shape (n_people, 4): predictions on each scale, the mean less its items."""
    told = [_predicted(level, seen, cells, known) for level in levels]
    plain = levels[SCALES.index("seconds")]
    items = _item_of(plain.item, plain.by_condition, cells)
    # without a trial there is no mean: its weight is 0 then
    return np.stack([*told, trial_means(seen - items)], axis=1)


def _stack(parts: Float64, later: Float64) -> tuple[Float64, float]:
    """Intercept and non-negative weights of the parts, and the error they leave."""
    middle = parts.mean(axis=0)
    weights = nnls(parts - middle, later - later.mean())[0]
    told = later.mean() + (parts - middle) @ weights
    error = float(np.sqrt(np.mean((later - told) ** 2)))
    return np.array([later.mean() - middle @ weights, *weights]), error
