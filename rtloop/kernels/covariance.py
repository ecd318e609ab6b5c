"""Sliding-window cross-products of [regressors, ROI signals], and the correlations that follow.

All signals are held relative to an anchor, so that sums stay near the size of the fluctuations
instead of the image baseline. A joint sample v has the K regressors first, then the ROIs. Over
the window, `sums` holds Σ w v_i and `cross` holds Σ w v_i v_j for j >= i: its first K rows
always, the ROI rows too when all edges are wanted, else `squares` (one per ROI) and `pairs` (one
per edge). Residual covariances under any betas B follow without touching the window again: with
C the centred cross-products, C_xx - B'C_nx - C_xn B + B'C_nn B.

Inner loops run over slices that start at their first element: only then does LLVM vectorise
them (three times faster here than the same loops with an offset in the index).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from numba import njit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = [
    "correlate_all",
    "correlate_edges",
    "enter",
    "project",
    "refresh_edges",
    "refresh_row",
    "scale_rois",
    "slide_edges",
    "slide_rows",
]

UNDEFINED_BELOW = 1e-12
"""A variance below this share of the terms it is the difference of is rounding, not signal."""

# "contract": a product may be fused into the sum it feeds; sums keep their order (no reassoc) and
# NaN its meaning. Bits then depend on the processor, never on the run.
KERNEL: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
}


@njit(
    "boolean(float64[::1], boolean, float64[::1], float64[::1], int64[::1])",
    **KERNEL,
)
def enter(raw: Array, first: bool, anchor: Array, sample: Array, unchanged: Ints) -> bool:
    """Anchor one joint sample; returns False, and changes nothing, if a value is not finite.

    `sample` holds the last anchored sample of weight > 0 and is replaced by this one;
    `unchanged[i]` counts for how many such samples in a row value i has stayed the same.
    """
    for i in range(raw.size):
        if not math.isfinite(raw[i]):
            return False
    for i in range(raw.size):
        if first:
            anchor[i] = raw[i]
        value = raw[i] - anchor[i]
        if value == sample[i] and not first:
            unchanged[i] += 1
        else:
            unchanged[i] = 0
        sample[i] = value
    return True


@njit(
    "void(float64[::1], float64, int64, float64[:, ::1], float64[::1], float64[::1],"
    " float64[:, ::1])",
    **KERNEL,
)
def slide_rows(
    sample: Array, weight: float, slot: int, ring: Array, weights: Array, sums: Array, cross: Array
) -> None:
    """The sample in `slot` leaves `sums` and the rows of `cross`; `sample` takes its place."""
    old = ring[slot]
    old_weight = weights[slot]
    for j in range(sums.size):
        sums[j] += weight * sample[j] - old_weight * old[j]
    for i in range(cross.shape[0]):
        entering = weight * sample[i]
        leaving = old_weight * old[i]
        row = cross[i][i:]
        new_values = sample[i:]
        old_values = old[i:]
        for j in range(row.size):
            row[j] += entering * new_values[j] - leaving * old_values[j]
    for j in range(sums.size):
        old[j] = sample[j]
    weights[slot] = weight


@njit(
    "void(float64[::1], float64, int64, float64[:, ::1], float64[::1], int64[:, ::1],"
    " float64[::1], float64[::1])",
    **KERNEL,
)
def slide_edges(
    sample: Array,
    weight: float,
    slot: int,
    ring: Array,
    weights: Array,
    edges: Ints,
    squares: Array,
    pairs: Array,
) -> None:
    """The same for `squares` and `pairs`; to be called first, while `slot` holds the old sample."""
    first = sample.size - squares.size
    new_values = sample[first:]
    old_values = ring[slot][first:]
    old_weight = weights[slot]
    for i in range(squares.size):
        squares[i] += weight * new_values[i] ** 2 - old_weight * old_values[i] ** 2
    for e in range(pairs.size):
        a = edges[e, 0]
        b = edges[e, 1]
        entering = weight * new_values[a] * new_values[b]
        pairs[e] += entering - old_weight * old_values[a] * old_values[b]


@njit(
    "void(int64, float64[:, ::1], float64[::1], float64[::1], float64[:, ::1])",
    **KERNEL,
)
def refresh_row(i: int, ring: Array, weights: Array, sums: Array, cross: Array) -> None:
    """Recompute sum i and row i of `cross` from the window: what rounding has left behind goes."""
    row = cross[i][i:]
    total = 0.0
    for j in range(row.size):
        row[j] = 0.0
    for t in range(weights.size):
        weighted = weights[t] * ring[t, i]
        total += weighted
        values = ring[t][i:]
        for j in range(row.size):
            row[j] += weighted * values[j]
    sums[i] = total


@njit(
    "void(int64, int64, float64[:, ::1], float64[::1], int64[:, ::1], float64[::1],"
    " float64[::1], float64[::1])",
    **KERNEL,
)
def refresh_edges(
    part: int,
    n_parts: int,
    ring: Array,
    weights: Array,
    edges: Ints,
    sums: Array,
    squares: Array,
    pairs: Array,
) -> None:
    """Recompute every `n_parts`-th ROI's sum and square and edge's pair, from number `part` on."""
    first = sums.size - squares.size
    for i in range(part, squares.size, n_parts):
        total = 0.0
        square = 0.0
        for t in range(weights.size):
            value = ring[t, first + i]
            total += weights[t] * value
            square += weights[t] * value * value
        sums[first + i] = total
        squares[i] = square
    for e in range(part, pairs.size, n_parts):
        a = first + edges[e, 0]
        b = first + edges[e, 1]
        pair = 0.0
        for t in range(weights.size):
            pair += weights[t] * ring[t, a] * ring[t, b]
        pairs[e] = pair


@njit(
    "void(float64[:, ::1], float64, float64[::1], float64[:, ::1], float64[:, ::1],"
    " float64[::1], float64[::1])",
    **KERNEL,
)
def project(
    betas: Array,
    total_weight: float,
    sums: Array,
    cross: Array,
    half: Array,
    removed: Array,
    magnitude: Array,
) -> None:
    """What betas B take out of the ROI cross-products: H in `half`, with B'H + H'B to subtract.

    H = C_nx - C_nn B / 2, shape (K, n_rois). `removed[i]` is the sum of squares taken from ROI
    i, `magnitude[i]` the size of the terms it is the sum of.
    """
    n_regressors, n_rois = betas.shape
    roi_sums = sums[n_regressors:]
    removed[:] = 0.0
    magnitude[:] = 0.0
    for k in range(n_regressors):
        mean = sums[k] / total_weight
        products = cross[k][n_regressors:]
        row = half[k]
        for j in range(n_rois):
            row[j] = products[j] - mean * roi_sums[j]
        for m in range(n_regressors):
            product = cross[k, m] if k <= m else cross[m, k]
            half_centred = 0.5 * (product - mean * sums[m])
            beta = betas[m]
            for j in range(n_rois):
                row[j] -= half_centred * beta[j]
        beta = betas[k]
        for j in range(n_rois):
            term = 2.0 * beta[j] * row[j]
            removed[j] += term
            magnitude[j] += abs(term)


@njit(
    "void(float64, float64[::1], float64[::1], float64[::1], float64[::1], int64, int64[::1],"
    " float64[::1])",
    **KERNEL,
)
def scale_rois(
    total_weight: float,
    sums: Array,
    squares: Array,
    removed: Array,
    magnitude: Array,
    n_valid: int,
    unchanged: Ints,
    scale: Array,
) -> None:
    """1 / root of each ROI's centred residual sum of squares; NaN where there is no variance.

    A signal is constant when its last `n_valid` samples are the same number: exact, where a
    threshold on rounded sums alone would not be.
    """
    first = sums.size - scale.size
    for i in range(scale.size):
        total = sums[first + i]
        variance = squares[i] - total * total / total_weight - removed[i]
        floor = UNDEFINED_BELOW * (squares[i] + magnitude[i])
        if variance > floor and unchanged[first + i] + 1 < n_valid:
            scale[i] = 1.0 / math.sqrt(variance)
        else:
            scale[i] = math.nan


@njit("float64(float64)", **KERNEL)
def _clip(r: float) -> float:
    """Rounding may carry |r| past 1; NaN passes. Selects, not branches, so that loops vectorise."""
    r = 1.0 if r > 1.0 else r
    return -1.0 if r < -1.0 else r


@njit(
    "void(float64, float64[::1], float64[:, ::1], float64[:, ::1], float64[:, ::1],"
    " float64[::1], float64[::1])",
    **KERNEL,
)
def correlate_all(
    total_weight: float,
    sums: Array,
    cross: Array,
    betas: Array,
    half: Array,
    scale: Array,
    out: Array,
) -> None:
    """Pearson r of every edge (upper triangle, row-major, k=1) of the residuals under `betas`.

    `betas` and `half` (from `project`) have no rows where nothing is to be regressed out.
    """
    n_rois = scale.size
    n_regressors = sums.size - n_rois
    roi_sums = sums[n_regressors:]
    start = 0
    for i in range(n_rois - 1):
        after = i + 1
        products = cross[n_regressors + i][n_regressors + after :]
        mean = roi_sums[i] / total_weight
        others = roi_sums[after:]
        row = out[start : start + n_rois - after]
        for j in range(row.size):
            row[j] = products[j] - mean * others[j]
        for k in range(betas.shape[0]):
            beta_i = betas[k, i]
            half_i = half[k, i]
            beta = betas[k][after:]
            halves = half[k][after:]
            for j in range(row.size):
                row[j] -= beta_i * halves[j] + half_i * beta[j]
        scale_i = scale[i]
        scales = scale[after:]
        for j in range(row.size):
            row[j] = _clip(row[j] * (scale_i * scales[j]))
        start += row.size


@njit(
    "void(float64, float64[::1], float64[::1], int64[:, ::1], float64[:, ::1], float64[:, ::1],"
    " float64[::1], float64[::1])",
    **KERNEL,
)
def correlate_edges(
    total_weight: float,
    sums: Array,
    pairs: Array,
    edges: Ints,
    betas: Array,
    half: Array,
    scale: Array,
    out: Array,
) -> None:
    """The same for chosen edges, in their order."""
    roi_sums = sums[sums.size - scale.size :]
    for e in range(pairs.size):
        a = edges[e, 0]
        b = edges[e, 1]
        covariance = pairs[e] - roi_sums[a] / total_weight * roi_sums[b]
        for k in range(betas.shape[0]):
            covariance -= betas[k, a] * half[k, b] + half[k, a] * betas[k, b]
        out[e] = _clip(covariance * (scale[a] * scale[b]))
