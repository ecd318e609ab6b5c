"""Lagged covariances of a few ROIs' residuals over the whole run so far.

What a window's correlation is worth depends on how its signals hang together in time, which one
short window cannot tell. `Autocorrelation` gathers it from every volume of the run, at a cost
that the run's length does not change.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rtloop.connectivity import of_shape
from rtloop.kernels.lagged import accumulate, close_section, lagged_covariances, spent_dimensions

__all__ = ["Autocorrelation", "lags_for"]

LAG_SPAN_S = 20.0
"""How far autocorrelation is followed: BOLD signals have little of it beyond, s."""

MIN_SAMPLES_PER_LAG = 4.0
"""Samples of the run needed per lag (lag 0 counted) before a standard error is stated."""

Float64 = NDArray[np.float64]


def lags_for(tr_s: float) -> int:
    """Number of lags, in volumes, that covers `LAG_SPAN_S` at a repetition time in seconds."""
    return max(1, math.ceil(LAG_SPAN_S / tr_s))


class Autocorrelation:
    """Lagged covariances of residuals, both directions of time averaged.

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
    It is fed every volume the betas are estimated from, with the same weights and regressors.
    Residuals are then those of all volumes under the betas asked for, whenever they came.
    Residuals taken each under the betas of its time may be given in place of signals, without
    regressors; being a little whiter than the window's, they make standard errors 1-3 % smaller
    after 5 minutes of run. An update costs (n_rois + n_regressors)² (n_lags + 1) products.
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
        """Forget everything: the state of a new object."""
        n_slots, n = self.n_lags + 1, self.n_regressors + self.n_rois
        self._count = 0
        self._weight_sum = 0.0
        self._weight_squares = 0.0
        self._anchor: Float64 | None = None
        self._nothing = np.zeros(n)
        self._history = np.zeros((n_slots, n))
        self._history_weights = np.zeros(n_slots)
        self._counts = np.zeros(n_slots)
        self._leading = np.zeros((n_slots, n))
        self._lagging = np.zeros((n_slots, n))
        self._products = np.zeros((n_slots, n, n))
        self._seed_counts = np.zeros(n_slots)
        self._seed_products = np.zeros((n_slots, n, n))
        self._joint = np.zeros((n, n))
        self._half = np.zeros((self.n_regressors, self.n_rois))
        self._covariances = np.zeros((n_slots, self.n_rois, self.n_rois))

    def seed(
        self,
        regressors: ArrayLike,
        signals: ArrayLike,
        weights: ArrayLike | None = None,
        n_own: int = 1,
    ) -> None:
        """Start from a run that is over, such as the day's rest, before the first `update`.

        Parameters
        ----------
        regressors : array_like, shape (n_volumes, n_regressors)
            Rows of the same model, made for that run, as given to `Denoiser.seed`.
        signals : array_like, shape (n_volumes, n_rois)
            ROI signals.
        weights : array_like, shape (n_volumes,), or None
            Per volume of scanner time, 0 for missing ones; None for 1. A volume with anything
            not finite in it has none.
        n_own : int
            First columns that belong to that run alone (level, drift): they are regressed out
            of its signals and other regressors here, for no betas of this run speak of them.
        """
        if self._anchor is not None:
            raise ValueError("seed before the first volume of the run")
        rows = np.array(regressors, np.float64)
        means = np.array(signals, np.float64)
        each = np.ones(len(rows)) if weights is None else np.array(weights, np.float64)
        joint = np.concatenate((rows, means), axis=1)
        each[~np.isfinite(joint).all(axis=1)] = 0.0
        joint[each == 0.0] = 0.0
        _project_out(joint, each, n_own)
        for sample, weight in zip(joint, each, strict=True):
            first, rest = sample[: self.n_regressors], sample[self.n_regressors :]
            self.update(rest, float(weight), first)
        close_section(
            self._counts,
            self._leading,
            self._lagging,
            self._products,
            self._seed_counts,
            self._seed_products,
        )
        self._history_weights[:] = 0.0
        self._anchor = None

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

    @property
    def n_samples(self) -> float:
        """Equally weighted volumes seen so far, (Σw)² / Σw²."""
        if self._weight_squares == 0.0:
            return 0.0
        return self._weight_sum * self._weight_sum / self._weight_squares

    @property
    def ready(self) -> bool:
        """Whether enough has been seen to state a standard error."""
        return self.n_samples >= MIN_SAMPLES_PER_LAG * (self.n_lags + 1)

    def covariances(self, betas: ArrayLike | None = None) -> Float64:
        """Tapered lagged covariances of the residuals under `betas` (n_regressors, n_rois).

        Returns
        -------
        ndarray of float64, shape (n_lags + 1, n_rois, n_rois)
            NaN for a lag never seen. A buffer that the next call fills anew.
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
            self._seed_counts,
            self._seed_products,
            np.ascontiguousarray(used),
            self._taper,
            self._joint,
            self._half,
            self._covariances,
        )
        return self._covariances

    def spent(self, regressor_products: Float64) -> float:
        """Dimensions of a window that betas estimated from all volumes so far spend.

        Parameters
        ----------
        regressor_products : ndarray of float64, shape (n_regressors, n_regressors)
            The window's, centred, such as `SlidingWindowFC.regressor_products()`.

        Returns
        -------
        float
            `n_regressors` where the window is all there is; falls with the square of its share.
        """
        factor, work = np.zeros((2, self.n_regressors, self.n_regressors))
        return float(
            spent_dimensions(
                self._counts[0],
                self._leading[0],
                self._lagging[0],
                self._products[0],
                self._seed_products[0],
                regressor_products,
                factor,
                work,
            )
        )

    def _anchored(self, x: ArrayLike | None, regressors: ArrayLike | None) -> Float64:
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


def _project_out(joint: Float64, weights: Float64, n_columns: int) -> None:
    """Regress the first columns out of all others, in place; the first become 0.

    Gram-Schmidt by elementwise sums, whose bits no BLAS thread can change. A second pass takes
    out what rounding left at the image's baseline.
    """
    scale = (weights[:, None] * joint * joint).sum(axis=0)
    for j in range(n_columns):
        direction = joint[:, j].copy()
        square = float((weights * direction * direction).sum())
        joint[:, j] = 0.0
        if not square > 1e-14 * scale[j]:
            continue
        for _ in range(2):
            along = ((weights * direction)[:, None] * joint).sum(axis=0) / square
            joint -= direction[:, None] * along
