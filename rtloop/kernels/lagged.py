"""Lagged covariances of [regressors, ROI signals] over a whole run, one volume at a time.

As for the window (`kernels.covariance`), the residuals under any betas follow from the joint
sums, so that every volume of the run counts with the betas of now, not with those of its time.
Both directions of time are averaged: sampling noise of covariances between ROIs is halved, and
with it a bias of the errors computed from them; what is lost is which of two ROIs leads.
"""

from __future__ import annotations

import math

from numba import njit

__all__ = ["accumulate", "lagged_covariances", "spent_dimensions"]

SINGULAR_BELOW = 1e-10
"""A regressor with less than this share of its variance left by those before it adds nothing."""

FASTMATH = {"contract"}


@njit(
    "void(float64[::1], float64, int64, float64[:, ::1], float64[::1], float64[::1],"
    " float64[:, ::1], float64[:, ::1], float64[:, :, ::1])",
    cache=True,
    nogil=True,
    error_model="numpy",
    fastmath=FASTMATH,
)
def accumulate(
    sample, weight, slot, history, history_weights, counts, leading, lagging, products
):  # fmt: skip
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
    "void(float64, float64[::1], float64[::1], float64[:, ::1], float64[:, ::1])",
    cache=True,
    nogil=True,
    error_model="numpy",
    fastmath=FASTMATH,
)
def _centre(count, leading, lagging, products, out):
    """Full symmetric covariance matrix of one lag from its sums."""
    n = leading.size
    for a in range(n):
        for b in range(a, n):
            means = leading[a] * lagging[b] + leading[b] * lagging[a]
            out[a, b] = (products[a, b] - 0.5 * means / count) / count
            out[b, a] = out[a, b]


@njit(
    "void(float64[::1], float64[:, ::1], float64[:, ::1], float64[:, :, ::1], float64[:, ::1],"
    " float64[::1], float64[:, ::1], float64[:, ::1], float64[:, :, ::1])",
    cache=True,
    nogil=True,
    error_model="numpy",
    fastmath=FASTMATH,
)
def lagged_covariances(
    counts, leading, lagging, products, betas, taper, joint, half, out
):  # fmt: skip
    """Tapered lagged covariances of the residuals under `betas`; NaN for a lag never seen.

    C_xx - B'H - H'B with H = C_nx - C_nn B / 2, the regressors being the first of the joint
    signals. Scratch: `joint` (n, n), `half` (K, n_rois).
    """
    n_rois = betas.shape[1]
    first = joint.shape[0] - n_rois
    for lag in range(counts.size):
        _centre(counts[lag], leading[lag], lagging[lag], products[lag], joint)
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
    " float64[:, ::1], float64[:, ::1])",
    cache=True,
    nogil=True,
    error_model="numpy",
    fastmath=FASTMATH,
)
def spent_dimensions(count, leading, lagging, products, window, factor, work):
    """Dimensions of a window that betas estimated from the run spend: tr(X²), X = L⁻¹ S L⁻ᵀ.

    L L' are the run's centred cross-products of the K regressors (the first of the joint sums of
    lag 0), S = `window` the window's (K, K). It is K if the run is the window, K share² if the
    window is a share of a run of even regressors. Scratch: `factor`, `work` (K, K).
    """
    n = window.shape[0]
    for a in range(n):  # Cholesky by rows; a regressor that the others determine has no row
        for b in range(a + 1):
            means = leading[a] * lagging[b] + leading[b] * lagging[a]
            rest = products[b, a] - 0.5 * means / count
            scale = products[b, a]
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
