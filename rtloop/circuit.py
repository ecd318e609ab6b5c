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

from rtloop.connectivity import edge_index, fisher_z, kish_samples
from rtloop.errors import PlanError
from rtloop.kernels.sampling_error import (
    accumulate,
    circuit_variance,
    concentration,
    edge_errors,
    lagged_covariances,
    mean_covariances,
    overlaps,
)

__all__ = ["Autocorrelation", "Circuit", "Score", "lags_for"]

LAG_SPAN_S = 20.0
"""How far autocorrelation is followed: BOLD signals have little of it beyond, s."""

MIN_SAMPLES_PER_LAG = 4.0
"""Samples of the run needed per lag (with lag 0) before a standard error is stated."""


def lags_for(tr_s: float) -> int:
    """Number of lags, in volumes, that covers `LAG_SPAN_S` at a repetition time in seconds."""
    return max(1, math.ceil(LAG_SPAN_S / tr_s))


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


class Autocorrelation:
    """Lagged covariances of a few ROIs' residuals over the whole run so far.

    Parameters
    ----------
    n_rois : int
        Length of each volume's residual vector, such as a circuit's ROIs.
    n_lags : int
        Longest lag in volumes; see `lags_for`.

    Notes
    -----
    One update costs n_rois² (n_lags + 1) products, whatever the run's length. Each residual is
    taken as it was under the betas of its own time; later betas do not change it. While betas
    are not yet usable, and between two runs, give volumes of weight 0.
    """

    def __init__(self, n_rois: int, n_lags: int) -> None:
        if n_rois < 1 or n_lags < 1:
            raise ValueError(f"expected n_rois and n_lags >= 1; found {n_rois}, {n_lags}")
        self.n_rois = n_rois
        self.n_lags = n_lags
        # Flat over the first half, where nearly all of the autocorrelation is (so that nothing
        # is shaved off it), then linear to 0, so that noise of the far lags does not add up.
        lag = np.arange(n_lags + 1) / (n_lags + 1)
        self._taper = np.clip(2.0 * (1.0 - lag), 0.0, 1.0)
        self.reset()

    def reset(self) -> None:
        """Forget the run: the state of a new object."""
        n_slots, n = self.n_lags + 1, self.n_rois
        self._count = 0
        self._weight_sum = 0.0
        self._weight_squares = 0.0
        self._anchor: NDArray[np.float64] | None = None
        self._history = np.zeros((n_slots, n))
        self._history_weights = np.zeros(n_slots)
        self._counts = np.zeros(n_slots)
        self._leading = np.zeros((n_slots, n))
        self._lagging = np.zeros((n_slots, n))
        self._products = np.zeros((n_slots, n, n))
        self._covariances = np.zeros((n_slots, n, n))

    def update(self, x: ArrayLike | None, weight: float = 1.0) -> None:
        """Add one volume's residuals, shape (n_rois,); None or anything at all at weight 0.

        Raises
        ------
        ValueError
            If the weight is negative or not finite, the shape is wrong, or a residual of weight
            > 0 is not finite.
        """
        if not 0.0 <= weight < np.inf:
            raise ValueError(f"a volume's weight is finite and >= 0, found {weight}")
        sample = np.zeros(self.n_rois) if weight == 0.0 else self._anchored(x)
        accumulate(
            sample,
            float(weight),
            self._count % (self.n_lags + 1),
            self._history,
            self._history_weights,
            self._counts,
            self._leading,
            self._lagging,
            self._products,
        )
        self._count += 1
        self._weight_sum += weight
        self._weight_squares += weight * weight

    def gap(self) -> None:
        """What comes next does not continue what came before: a new run, or a pause."""
        for _ in range(self.n_lags):
            self.update(None, 0.0)

    @property
    def n_samples(self) -> float:
        """Equally weighted volumes seen so far, (Σw)² / Σw²."""
        if self._weight_squares == 0.0:
            return 0.0
        return self._weight_sum * self._weight_sum / self._weight_squares

    @property
    def ready(self) -> bool:
        """Whether enough of the run has been seen to state a standard error."""
        return self.n_samples >= MIN_SAMPLES_PER_LAG * (self.n_lags + 1)

    def covariances(self) -> NDArray[np.float64]:
        """G[τ, a, b] = cov(x_a(t), x_b(t - τ)), tapered, shape (n_lags + 1, n_rois, n_rois).

        A buffer that the next call fills anew.
        """
        lagged_covariances(
            self._counts,
            self._leading,
            self._lagging,
            self._products,
            self._taper,
            self._covariances,
        )
        return self._covariances

    def _anchored(self, x: ArrayLike | None) -> NDArray[np.float64]:
        sample = np.array(x, np.float64)
        if sample.shape != (self.n_rois,) or not np.isfinite(sample).all():
            raise ValueError(
                f"expected {self.n_rois} finite residuals at weight > 0; found shape"
                f" {sample.shape}, {int(np.isfinite(sample).sum())} finite"
            )
        if self._anchor is None:
            self._anchor = sample.copy()
        return sample - self._anchor


@dataclass(frozen=True, eq=False)
class Circuit:
    """Weighted, directed edges.

    Parameters
    ----------
    edges : array_like of int, shape (n_edges, 2)
        ROI pairs, each once, in either order.
    weights : array_like of float, shape (n_edges,)
        Importance of each edge; the sign is the direction of training. An edge of weight 0 is
        carried along but not needed.
    labels : sequence of str
        One per edge, as shown to the operator; empty for ROI numbers.

    Raises
    ------
    PlanError
        If shapes disagree, an edge joins an ROI with itself or comes twice, a weight is not
        finite, or all are 0.
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
        return self.weights / np.abs(self.weights).sum()

    def positions(self, n_rois: int) -> NDArray[np.int64]:
        """Places of the circuit's edges among all edges of an atlas of `n_rois`."""
        return edge_index(n_rois, self.edges[:, 0], self.edges[:, 1])

    def autocorrelation(self, tr_s: float) -> Autocorrelation:
        """An empty `Autocorrelation` of this circuit's `rois` for a repetition time in seconds."""
        return Autocorrelation(len(self.rois), lags_for(tr_s))

    def score(
        self, r: ArrayLike, autocorrelation: Autocorrelation, weights: NDArray[np.float64]
    ) -> Score:
        """Raw score of a window, with its standard error.

        Parameters
        ----------
        r : array_like of float, shape (n_edges,)
            Correlations of the circuit's edges; from an array of all edges, `r[positions(n_rois)]`.
        autocorrelation : Autocorrelation
            Of the residuals of the circuit's `rois`, the run so far.
        weights : ndarray of float64, shape (window,)
            Weights of the window's volumes in order, such as `SlidingWindowFC.weights`.
        """
        needed = self.weights != 0.0
        z = fisher_z(r)
        value = math.fsum((self.shares * z)[needed])
        n_samples = kish_samples(weights)
        if not autocorrelation.ready or not math.isfinite(value):
            return Score(value, math.nan, math.nan, n_samples, math.nan)
        error, n_effective, bias = self._errors(autocorrelation, weights)
        return Score(value, error, n_effective, n_samples, bias)

    def _errors(
        self, autocorrelation: Autocorrelation, weights: NDArray[np.float64]
    ) -> tuple[float, float, float]:
        """Standard error of the score, effective samples of its average edge, expected bias."""
        covariances = autocorrelation.covariances()
        window = _Window.of(covariances, weights)
        expected, variance, bias = np.empty((3, len(self.edges)))
        edge_errors(*window, self.roi_edges, expected, variance, bias)
        loadings = self._loadings(expected, covariances[0] - window.means)
        scratch = np.empty((2, *loadings.shape))
        first_order = circuit_variance(*window, loadings, scratch[0], scratch[1])

        # Edges share one second-order term: 2 for white signals (as in 1 / (n - 3)), less where
        # few dimensions hold most of the variance.
        second = 2.0 - 4.0 * (_concentration(covariances, weights) - 1.0)
        squares = self.shares**2 * variance
        inflation = 1.0 + second * float((squares * variance).sum() / squares.sum())
        error = math.sqrt(first_order * max(inflation, 0.5)) if first_order > 0.0 else math.nan

        spread = np.sqrt(np.diagonal(covariances[0]))
        run_r = covariances[0][tuple(self.roi_edges.T)] / np.prod(spread[self.roi_edges], axis=1)
        shift = np.arctanh(expected) - np.arctanh(run_r)
        n_effective = 1.0 + 1.0 / float((np.abs(self.shares) * variance).sum())
        return error, n_effective, float((self.shares * (bias + shift)).sum())

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
    if not np.isfinite(weights).all() or not weights.any():
        raise PlanError("a circuit's edge weights are finite, and at least one is not 0")
    if len(labels) != len(weights):
        raise PlanError(f"a circuit has {len(weights)} edges but {len(labels)} labels")
