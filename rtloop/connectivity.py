"""Sliding-window functional connectivity, one volume at a time.

`SlidingWindowFC` keeps the cross-products of ROI signals and nuisance regressors over the last
`window` volumes of scanner time. A volume enters and another leaves by a rank-1 update, so the
cost does not depend on the window, and the correlation of the residuals under any betas is had
without going back to the volumes. Its contract: r equals what NumPy computes from the window's
volumes to 1e-9, NaN where it is undefined, and the same updates give the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rtloop.kernels.covariance import (
    correlate_all,
    correlate_edges,
    enter,
    project,
    refresh_edges,
    refresh_row,
    scale_rois,
    slide_edges,
    slide_rows,
)

__all__ = [
    "MIN_EFFECTIVE_SAMPLES",
    "SlidingWindowFC",
    "edge_index",
    "edge_pairs",
    "fisher_z",
    "kish_samples",
]

MIN_EFFECTIVE_SAMPLES = 3.0
"""Two samples always correlate by ±1: below three, r is undefined."""

EDGE_REFRESH_VOLUMES = 256
"""In how many volumes all chosen edges are recomputed once from the window."""

CLIP = 1.0 - 1e-12
"""|r| at which Fisher z stops: z = 14.2, so that one perfect edge cannot make a score infinite."""


def edge_pairs(n_rois: int) -> NDArray[np.int64]:
    """ROI pairs of all edges, shape (n_edges, 2): the upper triangle, row-major, k=1."""
    return np.stack(np.triu_indices(n_rois, k=1), axis=1).astype(np.int64)


def edge_index(n_rois: int, a: ArrayLike, b: ArrayLike) -> NDArray[np.int64]:
    """Places of the edges (a, b) in the order of `edge_pairs`.

    Parameters
    ----------
    n_rois : int
        ROIs of the atlas.
    a, b : array_like of int
        ROIs from 0, in either order, of the same shape.

    Raises
    ------
    ValueError
        If an edge joins an ROI with itself or one outside the atlas.

    Examples
    --------
    >>> edge_index(4, [0, 3], [2, 1]).tolist()
    [1, 4]
    """
    low = np.minimum(a, b).astype(np.int64)
    high = np.maximum(a, b).astype(np.int64)
    if np.any(low < 0) or np.any(high >= n_rois) or np.any(low == high):
        raise ValueError(f"edges join two different ROIs of 0..{n_rois - 1}")
    return np.asarray(low * (2 * n_rois - low - 1) // 2 + high - low - 1, np.int64)


def fisher_z(r: ArrayLike) -> NDArray[np.float64]:
    """Fisher z of correlations, clipped only at |r| = 1 - 1e-12; NaN stays NaN."""
    return np.arctanh(np.clip(np.asarray(r, np.float64), -CLIP, CLIP))


def kish_samples(weights: NDArray[np.float64]) -> float:
    """(Σw)² / Σw²: equally weighted samples that weighted ones are worth; 0 if all weights are."""
    total = float(weights.sum())
    squares = float((weights * weights).sum())
    return total * total / squares if squares > 0.0 else 0.0


class SlidingWindowFC:
    """Pearson correlations over the last `window` volumes of scanner time.

    Parameters
    ----------
    n_rois : int
        Length of each volume's ROI signal vector.
    window : int
        Window length in volumes of scanner time, missing and censored ones included.
    edges : array_like of int, shape (n_edges, 2), or None
        ROI pairs to correlate, in this order; None for all of `edge_pairs(n_rois)`.
    n_regressors : int
        Length of each volume's nuisance regressor vector; 0 for none.

    Notes
    -----
    Signals are held relative to the first sample of weight > 0 (float64), and every volume
    recomputes a small part of the sums from the window's samples, in an order that depends on
    the count of volumes alone. The whole is thus refreshed every (n_rois + n_regressors) / 2
    volumes, or every 256 volumes where edges are chosen.
    """

    def __init__(
        self, n_rois: int, window: int, edges: ArrayLike | None = None, n_regressors: int = 0
    ) -> None:
        if n_rois < 2 or window < 1 or n_regressors < 0:
            raise ValueError(
                "expected n_rois >= 2, window >= 1, n_regressors >= 0; found"
                f" {n_rois}, {window}, {n_regressors}"
            )
        self.n_rois = n_rois
        self.window = window
        self.n_regressors = n_regressors
        self.edges = edge_pairs(n_rois) if edges is None else _checked_edges(edges, n_rois)
        self._all = edges is None
        self.reset()

    def reset(self) -> None:
        """Forget every volume, the anchor included: the state of a new object."""
        n = self.n_regressors + self.n_rois
        self._count = 0
        self._anchored = False
        self._raw = np.zeros(n)
        self._anchor = np.zeros(n)
        self._sample = np.zeros(n)
        self._unchanged = np.zeros(n, np.int64)
        self._ring = np.zeros((self.window, n))
        self._ring_weights = np.zeros(self.window)
        self._sums = np.zeros(n)
        self._cross = np.zeros((n if self._all else self.n_regressors, n))
        self._squares = np.zeros(self.n_rois)
        self._pairs = np.zeros(0 if self._all else len(self.edges))
        self._betas = np.zeros((self.n_regressors, self.n_rois))
        self._half = np.zeros((self.n_regressors, self.n_rois))
        self._removed = np.zeros(self.n_rois)
        self._magnitude = np.zeros(self.n_rois)
        self._scale = np.zeros(self.n_rois)

    def update(
        self,
        x: ArrayLike | None,
        weight: float = 1.0,
        regressors: ArrayLike | None = None,
    ) -> None:
        """One volume of scanner time enters the window, the oldest leaves it.

        Parameters
        ----------
        x : array_like of float, shape (n_rois,), or None
            ROI signals, any unit. Not looked at, and may be None, when `weight` is 0.
        weight : float
            >= 0; 0 for a missing or censored volume, which still takes its place in the window.
        regressors : array_like of float, shape (n_regressors,), or None
            Nuisance regressors of this volume, as those the betas are for.

        Raises
        ------
        ValueError
            If the weight is negative or not finite, a shape is wrong, or a value of a volume of
            weight > 0 is not finite: whether to censor is the caller's decision. The window is
            then as before the call.
        """
        if not 0.0 <= weight < np.inf:
            raise ValueError(f"a volume's weight is finite and >= 0, found {weight}")
        if weight > 0.0:
            self._enter(x, regressors)
        self._slide(float(weight))
        self._refresh()
        self._count += 1

    def correlation(
        self, betas: ArrayLike | None = None, out: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Pearson r of each edge over the window, means and covariances weighted.

        Parameters
        ----------
        betas : array_like of float, shape (n_regressors, n_rois), or None
            Where given, r is that of the residuals x - betas'·regressors.
        out : ndarray of float64, shape (n_edges,), C-contiguous, or None
            Filled and returned. None makes a new array on each call, which the caller may keep.

        Returns
        -------
        ndarray of float64, shape (n_edges,)
            NaN for edges of an ROI without variance, and for all with fewer than three
            effective samples.
        """
        if out is None:
            out = np.empty(len(self.edges))
        elif out.shape != (len(self.edges),):
            raise ValueError(f"out has shape {out.shape}, expected ({len(self.edges)},)")
        # Rounding must not make three equal weights fewer than three samples.
        if self.effective_samples < MIN_EFFECTIVE_SAMPLES * (1.0 - 1e-12):
            out.fill(np.nan)
            return out
        total_weight = float(self._ring_weights.sum())
        betas, half = self._project(betas, total_weight)
        self._scale_rois(total_weight)
        if self._all:
            correlate_all(total_weight, self._sums, self._cross, betas, half, self._scale, out)
        else:
            correlate_edges(
                total_weight, self._sums, self._pairs, self.edges, betas, half, self._scale, out
            )
        return out

    def regressor_products(self) -> NDArray[np.float64]:
        """Weighted, centred cross-products of the window's regressors, (n_regressors,) * 2."""
        k = self.n_regressors
        upper = np.triu(self._cross[:k, :k])
        products = upper + np.triu(upper, 1).T
        total = float(self._ring_weights.sum())
        if total == 0.0:
            return products
        return products - np.outer(self._sums[:k], self._sums[:k] / total)

    @property
    def weights(self) -> NDArray[np.float64]:
        """Weights in the window, oldest first, shape (window,); 0 for times before the first."""
        slot = self._count % self.window
        return np.concatenate((self._ring_weights[slot:], self._ring_weights[:slot]))

    @property
    def effective_samples(self) -> float:
        """Kish's (Σw)² / Σw²: equally weighted volumes this window is worth, 0 if empty."""
        return kish_samples(self._ring_weights)

    @property
    def n_valid(self) -> int:
        """Volumes of weight > 0 in the window."""
        return int(np.count_nonzero(self._ring_weights))

    def _enter(self, x: ArrayLike | None, regressors: ArrayLike | None) -> None:
        """Check a sample of weight > 0, anchor it into `_sample`."""
        self._raw[self.n_regressors :] = of_shape(x, "x", (self.n_rois,))
        if self.n_regressors:
            self._raw[: self.n_regressors] = of_shape(
                regressors, "regressors", (self.n_regressors,)
            )
        first = not self._anchored
        if not enter(self._raw, first, self._anchor, self._sample, self._unchanged):
            raise ValueError("a volume of weight > 0 has a value that is not finite; give weight 0")
        self._anchored = True

    def _slide(self, weight: float) -> None:
        """The oldest volume leaves the sums, `_sample` enters; at weight 0 it adds nothing."""
        slot = self._count % self.window
        ring, weights = self._ring, self._ring_weights
        if not self._all:
            slide_edges(
                self._sample, weight, slot, ring, weights, self.edges, self._squares, self._pairs
            )
        slide_rows(self._sample, weight, slot, ring, weights, self._sums, self._cross)

    def _refresh(self) -> None:
        """Recompute this volume's share of the sums from the window.

        Rows of the triangle are taken from both ends, so that every volume's share costs the same.
        """
        ring, weights = self._ring, self._ring_weights
        n_rows = len(self._cross)
        if n_rows:
            row = self._count % ((n_rows + 1) // 2)
            refresh_row(row, ring, weights, self._sums, self._cross)
            refresh_row(n_rows - 1 - row, ring, weights, self._sums, self._cross)
        if not self._all:
            part = self._count % EDGE_REFRESH_VOLUMES
            refresh_edges(
                part,
                EDGE_REFRESH_VOLUMES,
                ring,
                weights,
                self.edges,
                self._sums,
                self._squares,
                self._pairs,
            )

    def _project(
        self, betas: ArrayLike | None, total_weight: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What `betas` take out of the cross-products; nothing (no rows) where there are none."""
        if betas is None or self.n_regressors == 0:
            self._removed.fill(0.0)
            self._magnitude.fill(0.0)
            return self._betas[:0], self._half[:0]
        self._betas[:] = of_shape(betas, "betas", (self.n_regressors, self.n_rois))
        project(
            self._betas,
            total_weight,
            self._sums,
            self._cross,
            self._half,
            self._removed,
            self._magnitude,
        )
        return self._betas, self._half

    def _scale_rois(self, total_weight: float) -> None:
        if self._all:
            self._squares[:] = self._cross.diagonal()[self.n_regressors :]
        scale_rois(
            total_weight,
            self._sums,
            self._squares,
            self._removed,
            self._magnitude,
            self.n_valid,
            self._unchanged,
            self._scale,
        )


def of_shape(values: ArrayLike | None, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """`values` as float64 of this shape: broadcasting would hide a caller's mistake."""
    array = np.asarray(values, np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    return array


def _checked_edges(edges: ArrayLike, n_rois: int) -> NDArray[np.int64]:
    pairs = np.array(edges, np.int64, order="C")
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"edges has shape {pairs.shape}, expected (n_edges, 2)")
    edge_index(n_rois, pairs[:, 0], pairs[:, 1])
    return pairs
