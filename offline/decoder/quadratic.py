"""The quadratic model of a Newton step, with an L1 penalty: built, and minimised to the bottom.

Coordinate descent finds which coefficients are zero; a Cholesky solve for the signs found then
does at once what coordinate descent among correlated edges takes hundreds of sweeps for. The
intercept is eliminated: columns are centred with the curvatures as weights.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from offline.decoder.compiled import KERNEL, dot

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64 = NDArray[np.float64]
    Int64 = NDArray[np.int64]

__all__ = ["minimise_model", "quadratic_model"]

SWEEPS = 12
"""Passes of coordinate descent before signs are taken for settled."""

DIRECT_STEPS = 40
SINGULAR = 1e-11
"""A pivot below this share of its diagonal: the columns depend on each other."""


@njit("void(f8[:, ::1], i8[::1], f8[::1], f8[:, ::1], f8[::1], f8[:, ::1])", **KERNEL)
def quadratic_model(
    columns: Float64, chosen: Int64, curvature: Float64, rows: Float64, means: Float64, H: Float64
) -> None:
    """Second derivatives over the chosen columns with the intercept eliminated.

    `rows` receives the columns centred and scaled by the roots of the curvatures.
    """
    n_chosen, n = chosen.size, columns.shape[1]
    total = curvature.sum()
    root = np.sqrt(curvature)
    for a in range(n_chosen):
        x = columns[chosen[a]]
        row = rows[a]
        mean = dot(x, curvature) / total
        means[a] = mean
        for i in range(n):
            row[i] = root[i] * (x[i] - mean)
    padded = (n_chosen + 3) // 4 * 4
    for a in range(n_chosen, padded):
        rows[a, :] = 0.0
    for a in range(0, padded, 2):
        u0, u1 = rows[a], rows[a + 1]
        for c in range(0, a + 2, 4):
            v0, v1, v2, v3 = rows[c], rows[c + 1], rows[c + 2], rows[c + 3]
            s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = 0.0
            for i in range(n):
                s00 += u0[i] * v0[i]
                s01 += u0[i] * v1[i]
                s02 += u0[i] * v2[i]
                s03 += u0[i] * v3[i]
                s10 += u1[i] * v0[i]
                s11 += u1[i] * v1[i]
                s12 += u1[i] * v2[i]
                s13 += u1[i] * v3[i]
            H[a, c], H[a, c + 1], H[a, c + 2], H[a, c + 3] = s00, s01, s02, s03
            H[a + 1, c], H[a + 1, c + 1], H[a + 1, c + 2], H[a + 1, c + 3] = s10, s11, s12, s13
    for a in range(n_chosen):
        for c in range(a + 1, n_chosen):
            H[a, c] = H[c, a]


@njit("b1(f8[:, ::1], f8[::1], f8[::1], f8)", **KERNEL)
def _sweep(H: Float64, q: Float64, w: Float64, lam: float) -> bool:
    """One pass of coordinate descent over the quadratic model; whether any sign changed."""
    n = w.size
    changed = False
    for a in range(n):
        h = H[a, a]
        if h <= 0.0:
            continue
        u = w[a] * h - q[a]
        new = 0.0
        if u > lam:
            new = (u - lam) / h
        elif u < -lam:
            new = (u + lam) / h
        step = new - w[a]
        if step != 0.0:
            if (new > 0.0) != (w[a] > 0.0) or (new < 0.0) != (w[a] < 0.0):
                changed = True
            w[a] = new
            row = H[a]
            for c in range(n):
                q[c] += step * row[c]
    return changed


@njit("b1(f8[:, ::1], i8)", **KERNEL)
def _factor(L: Float64, n: int) -> bool:
    """Cholesky factor of the leading n x n block in place, lower triangle; False if singular."""
    for a in range(n):
        for c in range(a):
            L[a, c] = (L[a, c] - dot(L[a, :c], L[c, :c])) / L[c, c]
        pivot = L[a, a] - dot(L[a, :a], L[a, :a])
        if pivot <= SINGULAR * L[a, a]:
            return False
        L[a, a] = math.sqrt(pivot)
    return True


@njit("f8(f8[:, ::1], f8[::1], f8[::1], f8, f8[:, ::1], f8[::1])", **KERNEL)
def _direct(H: Float64, q: Float64, w: Float64, lam: float, L: Float64, d: Float64) -> float:
    """Solve the model exactly for the present signs, up to the first sign that would turn.

    Returns the share of the step taken: 1 where no sign turns, 0 where the block is singular.
    """
    n = w.size
    support = np.empty(n, np.int64)
    size = 0
    for a in range(n):
        if w[a] != 0.0:
            support[size] = a
            size += 1
    if size == 0:
        return 1.0
    for s in range(size):
        a = support[s]
        for t in range(s + 1):
            L[s, t] = H[a, support[t]]
        d[s] = -(q[a] + (lam if w[a] > 0.0 else -lam))
    if not _factor(L, size):
        return 0.0
    for s in range(size):
        d[s] = (d[s] - dot(L[s, :s], d[:s])) / L[s, s]
    for s in range(size - 1, -1, -1):
        d[s] /= L[s, s]
        for t in range(s):
            d[t] -= L[s, t] * d[s]
    share = 1.0
    for s in range(size):
        there = w[support[s]] + d[s]
        if there * w[support[s]] <= 0.0:
            share = min(share, -w[support[s]] / d[s])
    for s in range(size):
        a = support[s]
        new = w[a] + share * d[s]
        if share < 1.0 and abs(new) <= 1e-14 * abs(w[a]):
            new = 0.0
        step = new - w[a]
        w[a] = new
        row = H[a]
        for c in range(n):
            q[c] += step * row[c]
    return share


@njit("void(f8[:, ::1], f8[::1], f8[::1], f8, f8[:, ::1], f8[::1])", **KERNEL)
def minimise_model(H: Float64, q: Float64, w: Float64, lam: float, L: Float64, d: Float64) -> None:
    """Minimise the quadratic model plus lam·|w|₁; `q` is its gradient at `w`, kept up to date."""
    for _ in range(DIRECT_STEPS):
        for sweep in range(SWEEPS):
            if not _sweep(H, q, w, lam) and sweep > 0:
                break
        if _direct(H, q, w, lam, L, d) < 1.0:
            continue
        settled = True
        for a in range(w.size):
            if w[a] == 0.0 and abs(q[a]) > lam * (1.0 + 1e-9):
                settled = False
                break
        if settled:
            break
