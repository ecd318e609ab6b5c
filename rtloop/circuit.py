"""A circuit of weighted, directed edges, its raw score, and how far the score can be trusted.

The raw score is Σ w z / Σ |w| over the circuit's edges, z the Fisher z of each edge's correlation
in the window. Its standard error comes from what the run so far has shown of the signals' lagged
covariances (`Autocorrelation`): one short window is too noisy to tell. It counts the window's
effective samples (autocorrelation of both ROIs of each edge, censored and weighted volumes) and
the covariance between edges, which share ROIs. The equations are in `kernels.sampling_error`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rtloop.autocorrelation import Autocorrelation, lags_for
from rtloop.connectivity import edge_index, fisher_z, kish_samples, of_shape
from rtloop.errors import PlanError
from rtloop.kernels.sampling_error import (
    circuit_variance,
    concentration,
    edge_errors,
    mean_covariances,
    overlaps,
)

__all__ = ["Autocorrelation", "Circuit", "Score", "lags_for"]


@dataclass(frozen=True, slots=True)
class Score:
    """A circuit's raw score in one window.

    Attributes
    ----------
    value : float
        Raw score Σ w z / Σ |w|, Fisher z units; NaN if an edge is undefined.
    standard_error : float
        Of `value`, Fisher z units; NaN until the run is long enough to tell.
    n_effective : float
        Independent volumes the window is worth for the circuit's average edge: about
        1 / sqrt(n_effective - 3) is the standard error of one edge's z.
    n_samples : float
        Equally weighted volumes the window holds, (Σw)² / Σw², autocorrelation not counted.
    bias : float
        What `value` is expected to exceed the Fisher z of the run's correlation by: small samples
        push z outward by r / (2 (n - 1)), and removing the window's mean takes more from slow
        signals than from white noise. `value` is not corrected for it.
    """

    value: float
    standard_error: float
    n_effective: float
    n_samples: float
    bias: float

    @property
    def estimate(self) -> float:
        """`value` less its bias: what to compare with a population's Fisher z."""
        return self.value - self.bias


@dataclass(frozen=True, eq=False)
class Circuit:
    """Weighted, directed edges.

    Attributes
    ----------
    edges : array_like of int, shape (n_edges, 2)
        ROI pairs, each once, in either order.
    weights : array_like of float, shape (n_edges,)
        Importance of each edge; the sign is the direction of training.
    labels : sequence of str
        One per edge, as shown to the operator; empty for ROI numbers.

    Raises
    ------
    PlanError
        If shapes disagree, an edge joins an ROI with itself or comes twice, or a weight is 0 or
        not finite.
    """

    edges: NDArray[np.int64]
    weights: NDArray[np.float64]
    labels: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        edges = np.array(self.edges, np.int64, order="C")
        weights = np.array(self.weights, np.float64)
        if edges.ndim != 2 or edges.shape[1] != 2 or weights.shape != edges.shape[:1]:
            raise PlanError(
                "a circuit needs edges (n, 2) and one weight per edge; found shapes"
                f" {edges.shape} and {weights.shape}"
            )
        labels = tuple(self.labels) or tuple(f"{a}-{b}" for a, b in edges.tolist())
        _check_edges(edges)
        _check_weights(weights, labels)
        object.__setattr__(self, "edges", edges)
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "labels", labels)

    @cached_property
    def rois(self) -> NDArray[np.int64]:
        """ROIs of the circuit's edges, ascending: the order of its `Autocorrelation`."""
        return np.unique(self.edges)

    @cached_property
    def roi_edges(self) -> NDArray[np.int64]:
        """Edges as places in `rois`, shape (n_edges, 2)."""
        return np.searchsorted(self.rois, self.edges).astype(np.int64)

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """w / Σ |w| per edge, shape (n_edges,)."""
        return np.asarray(self.weights / np.abs(self.weights).sum(), np.float64)

    def positions(self, n_rois: int) -> NDArray[np.int64]:
        """Places of the circuit's edges among all edges of an atlas of `n_rois`."""
        return edge_index(n_rois, self.edges[:, 0], self.edges[:, 1])

    def autocorrelation(self, tr_s: float, n_regressors: int = 0) -> Autocorrelation:
        """An empty `Autocorrelation` of this circuit's `rois` for a repetition time in seconds."""
        return Autocorrelation(len(self.rois), lags_for(tr_s), n_regressors)

    def score(
        self,
        r: ArrayLike,
        run: Autocorrelation,
        weights: NDArray[np.float64],
        betas: ArrayLike | None = None,
        regressor_products: NDArray[np.float64] | None = None,
    ) -> Score:
        """Raw score of a window, with its standard error.

        Parameters
        ----------
        r : array_like of float, shape (n_edges,)
            Correlations of the circuit's edges; from an array of all edges, `r[positions(n_rois)]`.
        run : Autocorrelation
            Of the circuit's `rois` over the run so far.
        weights : ndarray of float64, shape (window,)
            The window's, in the order of time, such as `SlidingWindowFC.weights`.
        betas : array_like of float, shape (n_regressors, n_rois of the atlas), or None
            Those `r` was computed under; None if there were none, or if `run` was given
            residuals.
        regressor_products : ndarray of float64, shape (n_regressors, n_regressors), or None
            `SlidingWindowFC.regressor_products()`, to count what the betas cost the window; None
            if they were not estimated from this run.
        """
        z = fisher_z(of_shape(r, "r", self.weights.shape))
        value = math.fsum(self.shares * z)
        n_samples = kish_samples(weights)
        if not run.ready or not math.isfinite(value):
            return Score(value, math.nan, math.nan, n_samples, math.nan)
        used = None if betas is None else np.asarray(betas, np.float64)[:, self.rois]
        spent = 0.0 if regressor_products is None else run.spent(regressor_products)
        error, n_effective, bias = self._errors(run.covariances(used), weights, spent)
        return Score(value, error, n_effective, n_samples, bias)

    def _errors(
        self, covariances: NDArray[np.float64], weights: NDArray[np.float64], spent: float
    ) -> tuple[float, float, float]:
        """Standard error of the score, effective samples of its average edge, expected bias.

        All NaN where the run's covariances cannot be those of this window's signals, as when a
        signal is constant, or when the betas have used the window up.
        """
        window = _Window.of(covariances, weights)
        expected, variance, bias = np.empty((3, len(self.edges)))
        edge_errors(*window, self.roi_edges, expected, variance, bias)
        centred = covariances[0] - window.means
        if not (np.all(np.abs(expected) < 1.0) and np.all(np.diagonal(centred) > 0.0)):
            return math.nan, math.nan, math.nan
        loadings = self._loadings(expected, centred)
        first_order = circuit_variance(*window, loadings, np.empty_like(loadings))
        dimensions = 1.0 / float((np.abs(self.shares) * variance).sum())
        left = dimensions - spent
        if not (first_order > 0.0 and left >= 1.0):
            return math.nan, math.nan, math.nan

        # Edges share one second-order term: 2 for white signals (as in 1 / (n - 3)), less where
        # few dimensions hold most of the variance.
        second = 2.0 - 4.0 * (_concentration(covariances, weights) - 1.0)
        inflation = dimensions / left * max(1.0 + second / left, 0.5)
        shift = fisher_z(expected) - fisher_z(self._correlations(covariances[0]))
        total_bias = math.fsum(self.shares * (bias + shift))
        return math.sqrt(first_order * inflation), 1.0 + left, total_bias

    def _correlations(self, covariance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pearson r of the circuit's edges from a covariance matrix of its ROIs."""
        i, j = self.roi_edges.T
        variance = np.diagonal(covariance)
        return np.asarray(covariance[i, j] / np.sqrt(variance[i] * variance[j]), np.float64)

    def _loadings(
        self, expected: NDArray[np.float64], covariance: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Q with score - truth = Σ_ab Q_ab (c_ab - E c_ab) to first order; symmetric."""
        loadings = np.zeros_like(covariance)
        for (i, j), r, share in zip(self.roi_edges, expected, self.shares, strict=True):
            slope = share / (1.0 - r * r)
            off = 0.5 * slope / math.sqrt(covariance[i, i] * covariance[j, j])
            loadings[i, j] += off
            loadings[j, i] += off
            loadings[i, i] -= 0.5 * slope * r / covariance[i, i]
            loadings[j, j] -= 0.5 * slope * r / covariance[j, j]
        return loadings


class _Window(NamedTuple):
    """What the error kernels need of a window, in their order."""

    covariances: NDArray[np.float64]
    overlap: NDArray[np.float64]
    total: float
    means: NDArray[np.float64]

    @classmethod
    def of(cls, covariances: NDArray[np.float64], weights: NDArray[np.float64]) -> _Window:
        overlap = np.empty(len(covariances))
        overlaps(weights, overlap)
        total = float(weights.sum())
        means = np.empty_like(covariances[0])
        mean_covariances(covariances, overlap, total, means)
        return cls(covariances, overlap, total, means)


def _concentration(covariances: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Of a signal with the circuit's mean autocorrelation, over this window."""
    spectra = np.diagonal(covariances, axis1=1, axis2=2)
    pooled = (spectra / spectra[0]).mean(axis=1)
    n = len(weights)
    return float(concentration(pooled, weights, np.empty(n), np.empty((n, n))))


def _check_edges(edges: NDArray[np.int64]) -> None:
    if edges.size == 0 or edges.min() < 0 or np.any(edges[:, 0] == edges[:, 1]):
        raise PlanError("a circuit's edges join two different ROIs, numbered from 0; at least one")
    if len(np.unique(np.sort(edges, axis=1), axis=0)) < len(edges):
        raise PlanError("a circuit holds an edge twice; give each ROI pair once, with one weight")


def _check_weights(weights: NDArray[np.float64], labels: tuple[str, ...]) -> None:
    if not np.isfinite(weights).all() or np.any(weights == 0.0):
        raise PlanError("a circuit's edge weights are finite and not 0; leave such an edge out")
    if len(labels) != len(weights):
        raise PlanError(f"a circuit has {len(weights)} edges but {len(labels)} labels")
