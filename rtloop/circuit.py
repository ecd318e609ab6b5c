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

from rtloop.connectivity import SlidingWindowFC, edge_index, fisher_z, of_shape
from rtloop.errors import PlanError
from rtloop.kernels.lagged import accumulate, lagged_covariances, spent_dimensions
from rtloop.kernels.sampling_error import (
    circuit_variance,
    concentration,
    edge_errors,
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
        Length of each volume's signal vector, such as a circuit's ROIs.
    n_lags : int
        Longest lag in volumes; see `lags_for`.
    n_regressors : int
        Length of each volume's nuisance regressor vector; 0 for none.

    Notes
    -----
    It is fed every volume the betas are estimated from (rest that seeds them included), with the
    same regressors. Residuals are those of all volumes under the betas asked for: nothing of a
    volume depends on when it came. One update costs (n_rois + n_regressors)² (n_lags + 1)
    products whatever the run's length.
    """

    def __init__(self, n_rois: int, n_lags: int, n_regressors: int = 0) -> None:
        if n_rois < 1 or n_lags < 1 or n_regressors < 0:
            raise ValueError(
                "expected n_rois and n_lags >= 1, n_regressors >= 0; found"
                f" {n_rois}, {n_lags}, {n_regressors}"
            )
        self.n_rois = n_rois
        self.n_lags = n_lags
        self.n_regressors = n_regressors
        # Flat over the first half, where nearly all of the autocorrelation is (so that none of
        # it is shaved off), then linear to 0, so that noise of the far lags does not add up.
        lag = np.arange(n_lags + 1) / (n_lags + 1)
        self._taper = np.clip(2.0 * (1.0 - lag), 0.0, 1.0)
        self.reset()

    def reset(self) -> None:
        """Forget the run: the state of a new object."""
        n_slots, n = self.n_lags + 1, self.n_regressors + self.n_rois
        self._count = 0
        self._weight_sum = 0.0
        self._weight_squares = 0.0
        self._anchor: NDArray[np.float64] | None = None
        self._nothing = np.zeros(n)
        self._history = np.zeros((n_slots, n))
        self._history_weights = np.zeros(n_slots)
        self._counts = np.zeros(n_slots)
        self._leading = np.zeros((n_slots, n))
        self._lagging = np.zeros((n_slots, n))
        self._products = np.zeros((n_slots, n, n))
        self._joint = np.zeros((n, n))
        self._half = np.zeros((self.n_regressors, self.n_rois))
        self._covariances = np.zeros((n_slots, self.n_rois, self.n_rois))

    def update(
        self, x: ArrayLike | None, weight: float = 1.0, regressors: ArrayLike | None = None
    ) -> None:
        """Add one volume of scanner time.

        Parameters
        ----------
        x : array_like of float, shape (n_rois,), or None
            ROI signals; not looked at when `weight` is 0.
        weight : float
            >= 0; 0 for a missing or censored volume.
        regressors : array_like of float, shape (n_regressors,), or None
            Nuisance regressors of this volume.

        Raises
        ------
        ValueError
            If the weight is negative or not finite, a shape is wrong, or a value of a volume of
            weight > 0 is not finite.
        """
        if not 0.0 <= weight < np.inf:
            raise ValueError(f"a volume's weight is finite and >= 0, found {weight}")
        sample = self._anchored(x, regressors) if weight > 0.0 else self._nothing
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
        self._history_weights[:] = 0.0

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

    def covariances(self, betas: ArrayLike | None = None) -> NDArray[np.float64]:
        """Tapered lagged covariances of the residuals under `betas` (n_regressors, n_rois).

        Returns
        -------
        ndarray of float64, shape (n_lags + 1, n_rois, n_rois)
            Mean of both directions of time; NaN for a lag never seen. A buffer that the next
            call fills anew.
        """
        if betas is None:
            used = np.zeros((0, self.n_rois))
        else:
            used = of_shape(betas, "betas", (self.n_regressors, self.n_rois))
        lagged_covariances(
            self._counts,
            self._leading,
            self._lagging,
            self._products,
            np.ascontiguousarray(used),
            self._taper,
            self._joint,
            self._half,
            self._covariances,
        )
        return self._covariances

    def spent(self, window: NDArray[np.float64]) -> float:
        """Dimensions of a window that betas estimated from the run so far spend.

        `window` holds the window's centred regressor products, shape (n_regressors,
        n_regressors), such as `SlidingWindowFC.regressor_products()`. The answer is n_regressors
        where the window is all there is, and falls with the square of its share of the run.
        """
        factor, work = np.zeros((2, self.n_regressors, self.n_regressors))
        return float(
            spent_dimensions(
                self._counts[0],
                self._leading[0],
                self._lagging[0],
                self._products[0],
                window,
                factor,
                work,
            )
        )

    def _anchored(self, x: ArrayLike | None, regressors: ArrayLike | None) -> NDArray[np.float64]:
        sample = np.empty(self.n_regressors + self.n_rois)
        sample[self.n_regressors :] = of_shape(x, "x", (self.n_rois,))
        if self.n_regressors:
            sample[: self.n_regressors] = of_shape(regressors, "regressors", (self.n_regressors,))
        if not np.isfinite(sample).all():
            raise ValueError("a volume of weight > 0 has a value that is not finite; give weight 0")
        if self._anchor is None:
            self._anchor = sample.copy()
        sample -= self._anchor
        return sample


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

    def autocorrelation(self, tr_s: float, n_regressors: int = 0) -> Autocorrelation:
        """An empty `Autocorrelation` of this circuit's `rois` for a repetition time in seconds."""
        return Autocorrelation(len(self.rois), lags_for(tr_s), n_regressors)

    def score(
        self,
        r: ArrayLike,
        window: SlidingWindowFC,
        run: Autocorrelation,
        betas: ArrayLike | None = None,
    ) -> Score:
        """Raw score of a window, with its standard error.

        Parameters
        ----------
        r : array_like of float, shape (n_edges,)
            Correlations of the circuit's edges; from an array of all edges, `r[positions(n_rois)]`.
        window : SlidingWindowFC
            Where `r` comes from: its weights and regressors are looked at.
        run : Autocorrelation
            Of the circuit's `rois` over the run so far.
        betas : array_like of float, shape (n_regressors, window.n_rois), or None
            Those `r` was computed under.
        """
        z = fisher_z(of_shape(r, "r", self.weights.shape))
        value = math.fsum((self.shares * z)[self.weights != 0.0])
        n_samples = window.effective_samples
        if not run.ready or not math.isfinite(value):
            return Score(value, math.nan, math.nan, n_samples, math.nan)
        if betas is None:
            covariances, spent = run.covariances(), 0.0
        else:
            covariances = run.covariances(np.asarray(betas, np.float64)[:, self.rois])
            spent = run.spent(window.regressor_products())
        error, n_effective, bias = self._errors(covariances, window.weights, spent)
        return Score(value, error, n_effective, n_samples, bias)

    def _errors(
        self, covariances: NDArray[np.float64], weights: NDArray[np.float64], spent: float
    ) -> tuple[float, float, float]:
        """Standard error of the score, effective samples of its average edge, expected bias."""
        window = _Window.of(covariances, weights)
        expected, variance, bias = np.empty((3, len(self.edges)))
        edge_errors(*window, self.roi_edges, expected, variance, bias)
        dimensions = 1.0 / float((np.abs(self.shares) * variance).sum())
        if not dimensions - spent >= 1.0:
            return math.nan, math.nan, math.nan
        loadings = self._loadings(expected, covariances[0] - window.means)
        first_order = circuit_variance(*window, loadings, np.empty_like(loadings))

        # Edges share one second-order term: 2 for white signals (as in 1 / (n - 3)), less where
        # few dimensions hold most of the variance.
        left = dimensions - spent
        second = 2.0 - 4.0 * (_concentration(covariances, weights) - 1.0)
        inflation = dimensions / left * max(1.0 + second / left, 0.5)
        error = math.sqrt(first_order * inflation) if first_order > 0.0 else math.nan

        spread = np.sqrt(np.diagonal(covariances[0]))
        run_r = covariances[0][tuple(self.roi_edges.T)] / np.prod(spread[self.roi_edges], axis=1)
        shift = np.arctanh(expected) - np.arctanh(run_r)
        return error, 1.0 + left, float((self.shares * (bias + shift)).sum())

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
