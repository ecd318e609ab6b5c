"""Proximal Newton on a working set: the arithmetic of the L1 path's inner problem.

Arrays in, arrays out. Each step minimises the quadratic model of the loss (`loss`) over the edges
that may move, with the penalty (`quadratic`), and goes along it as far as the objective falls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from offline.decoder.compiled import KERNEL, dot
from offline.decoder.loss import certificate, loss, settle_intercept
from offline.decoder.quadratic import minimise_model, quadratic_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64 = NDArray[np.float64]
    Int64 = NDArray[np.int64]

__all__ = ["fit_working_set"]

NEWTON_STEPS = 60


@njit("void(f8[:, ::1], i8[::1], f8[::1], f8, f8[::1])", **KERNEL)
def _predict(columns: Float64, slots: Int64, w: Float64, intercept: float, eta: Float64) -> None:
    """η of some coefficients."""
    eta[:] = intercept
    for a in range(slots.size):
        if w[a] != 0.0:
            x = columns[slots[a]]
            for i in range(eta.size):
                eta[i] += w[a] * x[i]


@njit("Tuple((f8, f8, i8))(f8[:, ::1], i8[::1], f8[::1], f8[::1], f8, f8[::1])", **KERNEL)
def _gradients(
    columns: Float64, slots: Int64, residual: Float64, w: Float64, lam: float, gradient: Float64
) -> tuple[float, float, int]:
    """Σ x residual of the working set; its largest size, |w|₁, and how many edges may move."""
    largest = 0.0
    norm1 = 0.0
    n_active = 0
    for a in range(slots.size):
        gradient[a] = dot(columns[slots[a]], residual)
        largest = max(largest, abs(gradient[a]))
        norm1 += abs(w[a])
        if w[a] != 0.0 or abs(gradient[a]) > lam:
            n_active += 1
    return largest, norm1, n_active


@njit("void(i8[::1], f8[::1], f8, f8[::1], i8[::1], i8[::1], f8[::1], f8[::1])", **KERNEL)
def _activate(
    slots: Int64,
    w: Float64,
    lam: float,
    gradient: Float64,
    active: Int64,
    chosen: Int64,
    q: Float64,
    new: Float64,
) -> None:
    """Edges that may move: places in the working set, columns, slopes of the loss, coefficients."""
    at = 0
    for a in range(slots.size):
        if w[a] != 0.0 or abs(gradient[a]) > lam:
            active[at] = a
            chosen[at] = slots[a]
            q[at] = -gradient[a]
            new[at] = w[a]
            at += 1


@njit(
    "UniTuple(f8, 2)(f8[:, ::1], i8[::1], i8[::1], f8[::1], f8[::1], f8[::1], f8[::1], f8,"
    " f8[::1])",
    **KERNEL,
)
def _direction(
    columns: Float64,
    chosen: Int64,
    active: Int64,
    means: Float64,
    w: Float64,
    new: Float64,
    gradient: Float64,
    lam: float,
    change: Float64,
) -> tuple[float, float]:
    """Change of η with the step from `w` to `new`; its share of the intercept, its descent."""
    change[:] = 0.0
    shift = 0.0
    descent = 0.0
    for s in range(active.size):
        a = active[s]
        delta = new[s] - w[a]
        descent += -gradient[a] * delta + lam * (abs(new[s]) - abs(w[a]))
        if delta != 0.0:
            shift -= means[s] * delta
            x = columns[chosen[s]]
            for i in range(change.size):
                change[i] += delta * x[i]
    for i in range(change.size):
        change[i] += shift
    return shift, descent


@njit(
    "Tuple((f8, i8))(f8[:, ::1], i8[::1], f8[::1], f8[::1], f8, b1, f8, f8,"
    " f8[::1], f8[::1], f8[::1], f8[::1], f8[::1])",
    **KERNEL,
)
def fit_working_set(
    columns: Float64,
    slots: Int64,
    y: Float64,
    weights: Float64,
    lam: float,
    squared: bool,
    tolerance: float,
    intercept: float,
    w: Float64,
    eta: Float64,
    residual: Float64,
    curvature: Float64,
    gradient: Float64,
) -> tuple[float, int]:
    """Proximal Newton over the columns `slots`, from `w` and `intercept` on.

    Parameters
    ----------
    columns : ndarray of float64, shape (n_columns, n_padded)
        Centred and scaled edges.
    slots : ndarray of int64, shape (n_working,)
        The working set's rows of `columns`.
    y, weights : ndarray of float64, shape (n_padded,)
    lam : float
        Penalty.
    squared : bool
        Squared instead of logistic loss.
    tolerance : float
        Duality gap over the working set, relative to the primal, to stop at.
    intercept : float
        Where to start.
    w : ndarray of float64, shape (n_working,)
        Coefficients, improved in place.
    eta, residual, curvature : ndarray of float64, shape (n_padded,)
        Written.
    gradient : ndarray of float64, shape (n_working,)
        Written: Σ x residual at the solution.

    Returns
    -------
    tuple
        The best intercept; Newton steps taken.
    """
    n = columns.shape[1]
    _predict(columns, slots, w, intercept, eta)
    intercept += settle_intercept(eta, y, weights, squared, residual, curvature)
    room = 0
    steps = 0
    rows = np.empty((0, n))
    H = np.empty((0, 0))
    L = np.empty((0, 0))
    change = np.empty(n)
    trial = np.empty(n)
    for step in range(NEWTON_STEPS + 1):
        steps = step
        largest, norm1, n_active = _gradients(columns, slots, residual, w, lam, gradient)
        primal, gap = certificate(eta, y, weights, residual, lam, norm1, largest, squared)
        if gap <= tolerance * primal or n_active == 0 or step == NEWTON_STEPS:
            break
        active = np.empty(n_active, np.int64)
        chosen = np.empty(n_active, np.int64)
        q = np.empty(n_active)
        new = np.empty(n_active)
        means = np.empty(n_active)
        d = np.empty(n_active)
        _activate(slots, w, lam, gradient, active, chosen, q, new)
        if n_active > room:
            room = (n_active + 31) // 32 * 32
            rows = np.empty((room, n))
            H = np.empty((room, room))
            L = np.empty((room, room))
        quadratic_model(columns, chosen, curvature, rows, means, H)
        minimise_model(H, q, new, lam, L, d)
        shift, descent = _direction(columns, chosen, active, means, w, new, gradient, lam, change)
        if descent >= 0.0:
            break
        # how far along the step the objective really falls
        t = 1.0
        for _ in range(30):
            size = norm1
            for s in range(n_active):
                a = active[s]
                size += abs(w[a] + t * (new[s] - w[a])) - abs(w[a])
            for i in range(n):
                trial[i] = eta[i] + t * change[i]
            value = loss(trial, y, weights, squared) + lam * size
            if value <= primal + 1e-4 * t * descent + 1e-15 * primal:
                break
            t *= 0.5
        for s in range(n_active):
            a = active[s]
            w[a] = new[s] if t == 1.0 else w[a] + t * (new[s] - w[a])
        for i in range(n):
            eta[i] = trial[i]
        intercept += t * shift + settle_intercept(eta, y, weights, squared, residual, curvature)
    return intercept, steps
