"""What a correlation over a short window is worth: lagged covariances and the errors they imply.

For stationary Gaussian signals with lagged covariances Γ_ab(τ), taken as alike in both directions
of time, two weighted sample covariances c_ab and c_cd of one window covary as (Isserlis)
Σ_tq w_t w_q (Γ_ac Γ_bd + Γ_ad Γ_bc)(t - q) / s² - M_ac M_bd - M_ad M_bc, s = Σ w, M being the
covariances of the window's means, which are subtracted (true to terms of the order of a
correlation time over the window, squared). Gaps and weights enter by `overlap`, W(τ) =
Σ w_t w_(t-τ). The delta method leads on to Fisher z. For white signals these are the formulas of
Pearson and Filon (1898, doi:10.1098/rsta.1898.0007), with autocorrelation those of Bartlett
(1946) and of Afyouni et al. (2019, doi:10.1016/j.neuroimage.2019.05.011).
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

__all__ = ["circuit_variance", "concentration", "edge_errors", "mean_covariances", "overlaps"]

# "contract": a product may be fused into the sum it feeds; sums keep their order (no reassoc) and
# NaN its meaning. Bits then depend on the processor, never on the run.
KERNEL: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
}


@njit(
    "void(float64[::1], float64[::1])",
    **KERNEL,
)
def overlaps(weights: Array, out: Array) -> None:
    """W(τ) = Σ_t w_t w_(t-τ) for τ = 0, 1, ... as many as `out` holds; 0 beyond the window."""
    for lag in range(out.size):
        total = 0.0
        for t in range(lag, weights.size):
            total += weights[t] * weights[t - lag]
        out[lag] = total


@njit(
    "void(float64[:, :, ::1], float64[::1], float64, float64[:, ::1])",
    **KERNEL,
)
def mean_covariances(covariances: Array, overlap: Array, total: float, out: Array) -> None:
    """Covariances of the weighted means of a window, from all lags of both signs."""
    n_rois = out.shape[0]
    for a in range(n_rois):
        for b in range(n_rois):
            product = overlap[0] * covariances[0, a, b]
            for lag in range(1, overlap.size):
                product += 2.0 * overlap[lag] * covariances[lag, a, b]
            out[a, b] = product / (total * total)


@njit(
    "float64(float64[:, :, ::1], float64[::1], int64, int64, int64, int64)",
    **KERNEL,
)
def _product(covariances: Array, overlap: Array, a: int, b: int, c: int, d: int) -> float:
    """Σ_tq w_t w_q Γ_ab(t - q) Γ_cd(t - q)."""
    total: float = overlap[0] * covariances[0, a, b] * covariances[0, c, d]
    for lag in range(1, overlap.size):
        total += 2.0 * overlap[lag] * covariances[lag, a, b] * covariances[lag, c, d]
    return total


@njit(
    "float64(float64[:, :, ::1], float64[::1], float64, float64[:, ::1], int64, int64, int64,"
    " int64)",
    **KERNEL,
)
def _covariance(
    covariances: Array, overlap: Array, total: float, means: Array, a: int, b: int, c: int, d: int
) -> float:
    """Covariance of the sample covariances c_ab and c_cd of one window."""
    first = _product(covariances, overlap, a, c, b, d) / (total * total)
    second = _product(covariances, overlap, a, d, b, c) / (total * total)
    return float(first - means[a, c] * means[b, d] + second - means[a, d] * means[b, c])


@njit(
    "void(float64[:, :, ::1], float64[::1], float64, float64[:, ::1], int64[:, ::1],"
    " float64[::1], float64[::1], float64[::1])",
    **KERNEL,
)
def edge_errors(
    covariances: Array,
    overlap: Array,
    total: float,
    means: Array,
    edges: Ints,
    expected: Array,
    variance: Array,
    bias: Array,
) -> None:
    """Per edge: r to be expected in the window, first-order variance and second-order bias of z.

    With u = c_ij, a = c_ii, b = c_jj in units of their expectations, r = u / sqrt(a b); bias is
    half the second derivatives times the covariances of (u, a, b). White signals: 1 / (n - 1) and
    r / (2 (n - 1)).
    """
    for e in range(edges.shape[0]):
        i = edges[e, 0]
        j = edges[e, 1]
        var_i = covariances[0, i, i] - means[i, i]
        var_j = covariances[0, j, j] - means[j, j]
        root = math.sqrt(var_i * var_j)
        r = (covariances[0, i, j] - means[i, j]) / root
        window = (covariances, overlap, total, means)
        uu = _covariance(*window, i, j, i, j) / (root * root)
        aa = _covariance(*window, i, i, i, i) / (var_i * var_i)
        bb = _covariance(*window, j, j, j, j) / (var_j * var_j)
        ua = _covariance(*window, i, j, i, i) / (root * var_i)
        ub = _covariance(*window, i, j, j, j) / (root * var_j)
        ab = _covariance(*window, i, i, j, j) / (var_i * var_j)
        slope = 1.0 / (1.0 - r * r)
        variance_r = uu + 0.25 * r * r * (aa + bb + 2.0 * ab) - r * (ua + ub)
        bias_r = 0.5 * (0.75 * r * (aa + bb) + 0.5 * r * ab - ua - ub)
        expected[e] = r
        variance[e] = variance_r * slope * slope
        bias[e] = bias_r * slope + variance_r * r * slope * slope


@njit(
    "float64(float64[:, ::1], float64[:, ::1], float64[:, ::1])",
    **KERNEL,
)
def _trace_of_square(loadings: Array, covariance: Array, product: Array) -> float:
    """tr(Q Γ Q Γ); most loadings are 0 (ROIs that share no edge). `product` is scratch."""
    n = product.shape[0]
    for a in range(n):
        row = product[a]
        row[:] = 0.0
        for b in range(n):
            loading = loadings[a, b]
            if loading == 0.0:
                continue
            values = covariance[b]
            for c in range(n):
                row[c] += loading * values[c]
    total = 0.0
    for a in range(n):
        for b in range(n):
            total += product[a, b] * product[b, a]
    return total


@njit(
    "float64(float64[:, :, ::1], float64[::1], float64, float64[:, ::1], float64[:, ::1],"
    " float64[:, ::1])",
    **KERNEL,
)
def circuit_variance(
    covariances: Array, overlap: Array, total: float, means: Array, loadings: Array, product: Array
) -> float:
    """First-order variance of Σ_ab Q_ab c_ab, Q = `loadings` symmetric: all edges at once.

    2 Σ_tq w_t w_q tr(Q Γ Q Γ)(t-q) / s² - 2 tr(Q M Q M). `product` (n_rois, n_rois) is scratch.
    """
    variance: float = 0.0
    for lag in range(overlap.size):
        sides = 1.0 if lag == 0 else 2.0
        share = sides * overlap[lag] / (total * total)
        variance += share * _trace_of_square(loadings, covariances[lag], product)
    return 2.0 * (variance - _trace_of_square(loadings, means, product))


@njit(
    "void(float64[::1], float64[::1], float64[::1], float64[:, ::1])",
    **KERNEL,
)
def _fill_window(autocovariance: Array, weights: Array, row_means: Array, matrix: Array) -> None:
    """Covariance of a window's mean-removed samples, each times the root of its weight."""
    n = weights.size
    n_lags = autocovariance.size
    total = 0.0
    for t in range(n):
        total += weights[t]
    grand = 0.0
    for t in range(n):
        mean = 0.0
        for q in range(max(0, t - n_lags + 1), min(n, t + n_lags)):
            mean += weights[q] * autocovariance[abs(t - q)]
        row_means[t] = mean / total
        grand += weights[t] * row_means[t] / total
    for t in range(n):
        for q in range(n):
            lag = abs(t - q)
            covariance = autocovariance[lag] if lag < n_lags else 0.0
            covariance += grand - row_means[t] - row_means[q]
            matrix[t, q] = math.sqrt(weights[t] * weights[q]) * covariance


@njit(
    "float64(float64[::1], float64[::1], float64[::1], float64[:, ::1])",
    **KERNEL,
)
def concentration(autocovariance: Array, weights: Array, row: Array, matrix: Array) -> float:
    """How unevenly a window's variance lies on its dimensions: κ = tr(B³) tr(B) / tr(B²)², >= 1.

    B is the covariance of the weighted, mean-removed samples; κ = 1 if all dimensions are alike
    (white signals). Scratch: `row` (n,), `matrix` (n, n), n the window.
    """
    _fill_window(autocovariance, weights, row, matrix)
    n = weights.size
    first = 0.0
    second = 0.0
    third = 0.0
    for t in range(n):
        first += matrix[t, t]
        if weights[t] == 0.0:
            continue
        square = row[t:]  # row t of B², from the diagonal on
        square[:] = 0.0
        for k in range(n):
            factor = matrix[t, k]
            values = matrix[k][t:]
            for q in range(square.size):
                square[q] += factor * values[q]
        upper = matrix[t][t:]
        second += square[0]
        third += square[0] * upper[0]
        for q in range(1, square.size):
            third += 2.0 * square[q] * upper[q]
    return third * first / (second * second)
