"""The mean of a person's trials, as it is and shrunk towards the group's.

The shrunk one: James & Stein 1961; as empirical Bayes, Efron & Morris 1975,
doi:10.1080/01621459.1975.10479864. Both are what a person's own trials tell without any model of
how response times come about.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin

from offline.errors import TwinError
from offline.twin.behaviour import first_correct

__all__ = ["JamesStein", "OwnMean", "checked_trials", "trial_means"]

Float64 = NDArray[np.float64]


class OwnMean(RegressorMixin, BaseEstimator):
    """The mean of the trials seen; the group's mean for a person with none.

    Attributes
    ----------
    mean_ : float
        Of the training people's later means, s.
    """

    def fit(self, rt_s: Float64, later_s: ArrayLike) -> Self:
        """Learn the group's mean.

        Parameters
        ----------
        rt_s : ndarray of float64, shape (n_people, n_trials)
            Usable response times, NaN elsewhere.
        later_s : array_like of float64, shape (n_people,)
            Mean of later trials, s.
        """
        _, later = checked_trials(rt_s, later_s)
        self.mean_ = float(later.mean())
        return self

    def predict(self, seen_s: Float64) -> Float64:
        """Mean of later trials, shape (n_people,), from those seen (NaN elsewhere)."""
        n_seen = np.isfinite(seen_s).sum(axis=1)
        total = np.nansum(seen_s, axis=1)
        return np.where(n_seen > 0, total / np.maximum(n_seen, 1), self.mean_)


class JamesStein(RegressorMixin, BaseEstimator):
    """The mean of the trials seen, shrunk towards the group's by its reliability.

    Attributes
    ----------
    mean_ : float
        Of the training people's later means, s.
    between_, within_ : float
        Variance between people and of one trial within a person, s².
    early_ : ndarray of float64, shape (n_trials,)
        Training people's mean of their first 1, 2, … usable trials, s: early trials are slower.
    """

    def fit(self, rt_s: Float64, later_s: ArrayLike) -> Self:
        """Learn the group's mean and the two variances; arguments as of `OwnMean.fit`."""
        rt, later = checked_trials(rt_s, later_s)
        self.mean_ = float(later.mean())
        n = np.isfinite(rt).sum(axis=1)
        several = n > 1
        variance = np.nanvar(rt[several], axis=1, ddof=1)
        self.within_ = float(np.average(variance, weights=n[several] - 1))
        observed = float(np.nanmean(rt, axis=1).var(ddof=1))
        self.between_ = max(observed - self.within_ * float(np.mean(1.0 / n)), 1e-12)
        self.early_ = np.array(
            [np.mean(trial_means(first_correct(rt, k))) for k in range(1, rt.shape[1] + 1)]
        )
        return self

    def predict(self, seen_s: Float64) -> Float64:
        """Mean of later trials, shape (n_people,), from those seen (NaN elsewhere)."""
        n = np.isfinite(seen_s).sum(axis=1)
        own = np.nansum(seen_s, axis=1) / np.maximum(n, 1)
        group = self.early_[np.clip(n, 1, len(self.early_)) - 1]
        reliability = self.between_ / (self.between_ + self.within_ / np.maximum(n, 1))
        return self.mean_ + np.where(n > 0, reliability * (own - group), 0.0)


def checked_trials(rt_s: Float64, later_s: ArrayLike, fewest: int = 3) -> tuple[Float64, Float64]:
    """Response times and later means as arrays.

    Raises
    ------
    TwinError
        If shapes differ, there are too few people, or someone has no usable value.
    """
    rt, later = np.asarray(rt_s, float), np.asarray(later_s, float)
    if rt.ndim != 2 or later.shape != (len(rt),) or len(rt) < fewest:
        raise TwinError(
            f"expected trials (n_people, n_trials) of at least {fewest} people and one later mean"
            f" each, found {rt.shape} and {later.shape}; add people"
        )
    if not np.isfinite(later).all() or not np.isfinite(rt).any(axis=1).all():
        at = int(np.flatnonzero(~np.isfinite(later) | ~np.isfinite(rt).any(axis=1))[0])
        raise TwinError(
            f"expected a response time and a later mean of everyone, found none in row {at}; leave"
            " out who is not usable"
        )
    if (rt[np.isfinite(rt)] <= 0.0).any():
        raise TwinError("expected response times above 0 s, found others; leave them out as NaN")
    return rt, later


def trial_means(values: Float64) -> Float64:
    """Mean of each person's values that are there, 0 where none is, shape (n_people,)."""
    n = np.isfinite(values).sum(axis=1)
    means: Float64 = np.nansum(values, axis=1) / np.maximum(n, 1)
    return means
