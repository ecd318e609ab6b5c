"""Lagged covariances of [regressors, ROI signals] over a whole run, one volume at a time.

As for the window (`kernels.covariance`), the residuals under any betas follow from the joint
sums, so that every volume of the run counts with the betas of now, not with those of its time.
Both directions of time are averaged: sampling noise of covariances between ROIs is halved, and
with it a bias of the errors computed from them; what is lost is which of two ROIs leads.
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

__all__ = ["accumulate", "close_section", "lagged_covariances", "spent_dimensions"]

SINGULAR_BELOW = 1e-10
"""A regressor with less than this share of its variance left by those before it adds nothing."""

# "contract": a product may be fused into the sum it feeds; sums keep their order (no reassoc) and
# NaN its meaning. Bits then depend on the processor, never on the run.
KERNEL: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
}


@njit(
    "void(float64[::1], float64, int64, float64[:, ::1], float64[::1], float64[::1],"
    " float64[:, ::1], float64[:, ::1], float64[:, :, ::1])",
    **KERNEL,
)
def accumulate(
    sample: Array,
    weight: float,
    slot: int,
    history: Array,
    history_weights: Array,
    counts: Array,
    leading: Array,
    lagging: Array,
    products: Array,
) -> None:
    """Put a sample v into the history and add its products with itself and the earlier ones.

    `history` is a ring of n_lags + 1 samples. Per lag τ, with u = w_t w_(t-τ): `counts` is Σ u,
    `leading` Σ u v(t), `lagging` Σ u v(t-τ), `products` (upper triangle)
    Σ u (v_a(t) v_b(t-τ) + v_b(t) v_a(t-τ)) / 2.
    """
    n = sample.size
    n_slots = history_weights.size
    newest = history[slot]
    for a in range(n):
        newest[a] = sample[a]
    history_weights[slot] = weight
    if weight == 0.0:
        return
    for lag in range(n_slots):
        earlier = (slot - lag + n_slots) % n_slots
        both = weight * history_weights[earlier]
        if both == 0.0:
            continue
        past = history[earlier]
        counts[lag] += both
        for a in range(n):
            leading[lag, a] += both * sample[a]
            lagging[lag, a] += both * past[a]
            now_a = 0.5 * both * sample[a]
            past_a = 0.5 * both * past[a]
            row = products[lag, a][a:]
            now = sample[a:]
            then = past[a:]
            for b in range(row.size):
                row[b] += now_a * then[b] + past_a * now[b]


@njit(
    "float64(float64, float64[::1], float64[::1], float64[:, ::1], int64, int64)",
    **KERNEL,
)
def _centred(
    count: float, leading: Array, lagging: Array, products: Array, a: int, b: int
) -> float:
    """Centred sum of products of signals a <= b at one lag; 0 where nothing was counted."""
    if count == 0.0:
        return 0.0
    means = leading[a] * lagging[b] + leading[b] * lagging[a]
    return float(products[a, b] - 0.5 * means / count)


@njit(
    "void(float64[::1], float64[:, ::1], float64[:, ::1], float64[:, :, ::1], float64[::1],"
    " float64[:, :, ::1])",
    **KERNEL,
)
def close_section(
    counts: Array,
    leading: Array,
    lagging: Array,
    products: Array,
    seed_counts: Array,
    seed_products: Array,
) -> None:
    """Add a run's sums, centred on its own means, to those of the seed, and start anew."""
    n = leading.shape[1]
    for lag in range(counts.size):
        for a in range(n):
            for b in range(a, n):
                seed_products[lag, a, b] += _centred(
                    counts[lag], leading[lag], lagging[lag], products[lag], a, b
                )
        seed_counts[lag] += counts[lag]
    counts[:] = 0.0
    leading[:] = 0.0
    lagging[:] = 0.0
    products[:] = 0.0


@njit(
    "void(float64[::1], float64[:, ::1], float64[:, ::1], float64[:, :, ::1], float64[::1],"
    " float64[:, :, ::1], float64[:, ::1], float64[::1], float64[:, ::1], float64[:, ::1],"
    " float64[:, :, ::1])",
    **KERNEL,
)
def lagged_covariances(
    counts: Array,
    leading: Array,
    lagging: Array,
    products: Array,
    seed_counts: Array,
    seed_products: Array,
    betas: Array,
    taper: Array,
    joint: Array,
    half: Array,
    out: Array,
) -> None:
    """Tapered lagged covariances of the residuals under `betas`; NaN for a lag never seen.

    C_xx - B'H - H'B with H = C_nx - C_nn B / 2, the regressors being the first of the joint
    signals. Scratch: `joint` (n, n), `half` (K, n_rois).
    """
    n_rois = betas.shape[1]
    n = joint.shape[0]
    first = n - n_rois
    for lag in range(counts.size):
        count = seed_counts[lag] + counts[lag]
        for a in range(n):
            for b in range(a, n):
                total = _centred(counts[lag], leading[lag], lagging[lag], products[lag], a, b)
                joint[a, b] = (total + seed_products[lag, a, b]) / count
                joint[b, a] = joint[a, b]
        for k in range(betas.shape[0]):
            row = half[k]
            cross = joint[k][first:]
            for j in range(n_rois):
                row[j] = cross[j]
            for m in range(betas.shape[0]):
                factor = 0.5 * joint[k, m]
                beta = betas[m]
                for j in range(n_rois):
                    row[j] -= factor * beta[j]
        for i in range(n_rois):
            row = out[lag, i]
            signals = joint[first + i][first:]
            for j in range(n_rois):
                row[j] = signals[j]
            for k in range(betas.shape[0]):
                beta_i = betas[k, i]
                half_i = half[k, i]
                beta = betas[k]
                halves = half[k]
                for j in range(n_rois):
                    row[j] -= beta_i * halves[j] + half_i * beta[j]
            for j in range(n_rois):
                row[j] *= taper[lag]


@njit(
    "float64(float64, float64[::1], float64[::1], float64[:, ::1], float64[:, ::1],"
    " float64[:, ::1], float64[:, ::1], float64[:, ::1])",
    **KERNEL,
)
def spent_dimensions(
    count: float,
    leading: Array,
    lagging: Array,
    products: Array,
    seed_products: Array,
    window: Array,
    factor: Array,
    work: Array,
) -> float:
    """Dimensions of a window that betas estimated from the run spend: tr(X²), X = L⁻¹ S L⁻ᵀ.

    L L' are the run's centred cross-products of the K regressors (the first of the joint sums of
    lag 0), S = `window` the window's (K, K). It is K if the run is the window, K share² if the
    window is a share of a run of even regressors. Scratch: `factor`, `work` (K, K).
    """
    n = window.shape[0]
    for a in range(n):  # Cholesky by rows; a regressor that the others determine has no row
        for b in range(a + 1):
            rest = _centred(count, leading, lagging, products, b, a) + seed_products[b, a]
            scale = products[b, a] + seed_products[b, a]
            for k in range(b):
                rest -= factor[a, k] * factor[b, k]
            if a != b:
                factor[a, b] = rest / factor[b, b] if factor[b, b] > 0.0 else 0.0
            else:
                factor[a, a] = math.sqrt(rest) if rest > SINGULAR_BELOW * scale else 0.0
    for a in range(n):  # work = L⁻¹ S
        for b in range(n):
            work[a, b] = window[a, b]
        for k in range(a):
            for b in range(n):
                work[a, b] -= factor[a, k] * work[k, b]
        for b in range(n):
            work[a, b] = work[a, b] / factor[a, a] if factor[a, a] > 0.0 else 0.0
    total = 0.0
    for a in range(n):  # rows of X = work L⁻ᵀ
        for b in range(n):
            rest = work[a, b]
            for k in range(b):
                rest -= work[a, k] * factor[b, k]
            work[a, b] = rest / factor[b, b] if factor[b, b] > 0.0 else 0.0
            total += work[a, b] * work[a, b]
    return total
