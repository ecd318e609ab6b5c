"""Arithmetic of the L1 path: one product for all folds, and proximal Newton on a working set.

Arrays in, arrays out. The loss of scan i is ln(1 + e^η) - yη (logistic, y in {0, 1}) or
(y - η)²/2 (squared), weighted by `weights` (which sum to 1 over the problem's scans, 0 for the
others) and η = b + Σ w_j x_j. `residual` is minus its derivative in η, weight included; at the
best intercept it sums to zero, which the dual of an unpenalised intercept asks for.

Lengths are padded to `LANES` with zeros, so that inner loops have no remainder. "reassoc" lets
LLVM sum a product in lanes: another order of the same sum, fixed when compiled, with NaN kept.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from offline.decoder.quadratic import KERNEL, dot, minimise_model, quadratic_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32 = NDArray[np.float32]
    Float64 = NDArray[np.float64]
    Int64 = NDArray[np.int64]

__all__ = ["GROUP", "LANES", "certificate", "correlate", "fit_working_set", "pick", "project"]

LANES = 32
"""Scans are padded to a multiple of this."""

GROUP = 4
"""Residual vectors that share one pass over an edge; their number is padded to a multiple."""

NEWTON_STEPS = 60
CURVATURE_FLOOR = 1e-9
"""Smallest curvature of a scan, relative to its weight: a sure scan keeps the model convex."""


@njit(**KERNEL)
def correlate(edges: Float32, residuals: Float32, scale: Float32, out: Float32) -> None:
    """`out[k, j] = scale[j] Σ_i edges[j, i] residuals[k, i]`: every edge with every problem.

    An edge's scans are read from memory once for all problems, which is what bounds the time:
    less than half of a BLAS product of these shapes, which copies the large matrix first.
    """
    n_edges, n = edges.shape
    for j in range(n_edges):
        x = edges[j]
        for k in range(0, residuals.shape[0], 4):
            r0, r1, r2, r3 = residuals[k], residuals[k + 1], residuals[k + 2], residuals[k + 3]
            s0 = s1 = s2 = s3 = np.float32(0.0)
            for i in range(n):
                s0 += x[i] * r0[i]
                s1 += x[i] * r1[i]
                s2 += x[i] * r2[i]
                s3 += x[i] * r3[i]
            out[k, j] = s0 * scale[j]
            out[k + 1, j] = s1 * scale[j]
            out[k + 2, j] = s2 * scale[j]
            out[k + 3, j] = s3 * scale[j]


@njit(**KERNEL)
def pick(
    gradient: Float32,
    slack: Float32,
    slack_scale: float,
    threshold: float,
    member: NDArray[np.uint8],
    out: Int64,
) -> int:
    """Edges outside `member` whose |gradient| + slack·slack_scale exceeds `threshold`; how many."""
    count = 0
    for j in range(gradient.size):
        if abs(gradient[j]) + slack[j] * slack_scale > threshold and member[j] == 0:
            out[count] = j
            count += 1
    return count


@njit(**KERNEL)
def project(columns: Float64, slots: Int64, residual: Float64, out: Float64) -> None:
    """|Σ_i x_i residual_i| of some columns, in float64."""
    for a in range(slots.size):
        out[a] = abs(dot(columns[slots[a]], residual))


@njit(**KERNEL)
def _pointwise(
    eta: Float64, y: Float64, weights: Float64, squared: bool, residual: Float64, curvature: Float64
) -> float:
    """Residuals and curvatures of all scans; returns the sum of the residuals."""
    total = 0.0
    for i in range(eta.size):
        if squared:
            curvature[i] = weights[i]
            residual[i] = weights[i] * (y[i] - eta[i])
        else:
            p = 1.0 / (1.0 + math.exp(-eta[i]))
            # 1 - p loses all digits for a sure scan; the exponential of -|η| does not
            t = math.exp(-abs(eta[i]))
            curvature[i] = weights[i] * max(t / ((1.0 + t) * (1.0 + t)), CURVATURE_FLOOR)
            residual[i] = weights[i] * (y[i] - p)
        total += residual[i]
    return total


@njit(**KERNEL)
def _loss(eta: Float64, y: Float64, weights: Float64, squared: bool) -> float:
    total = 0.0
    for i in range(eta.size):
        if weights[i] == 0.0:
            continue
        if squared:
            total += 0.5 * weights[i] * (y[i] - eta[i]) ** 2
        else:
            soft = max(eta[i], 0.0) + math.log1p(math.exp(-abs(eta[i])))
            total += weights[i] * (soft - y[i] * eta[i])
    return total


@njit(**KERNEL)
def _settle_intercept(
    eta: Float64, y: Float64, weights: Float64, squared: bool, residual: Float64, curvature: Float64
) -> float:
    """Move η to the best intercept, residuals and curvatures with it; returns the move."""
    moved = 0.0
    total = _pointwise(eta, y, weights, squared, residual, curvature)
    for _ in range(50):
        if abs(total) < 1e-15:
            break
        step = total / curvature.sum()
        # a Newton step of the logistic loss can overshoot from far away
        step = min(max(step, -2.0), 2.0) if not squared else step
        for i in range(eta.size):
            eta[i] += step
        moved += step
        before = abs(total)
        total = _pointwise(eta, y, weights, squared, residual, curvature)
        if abs(total) < 1e-13 and abs(total) >= before:
            break
    return moved


@njit(**KERNEL)
def certificate(
    eta: Float64,
    y: Float64,
    weights: Float64,
    residual: Float64,
    lam: float,
    norm1: float,
    largest: float,
    squared: bool,
) -> tuple[float, float]:
    """Primal objective and duality gap, with residuals made dual feasible.

    `largest` is the largest |Σ_i x_ji residual_i| over all edges. The dual point is the residual
    shrunk towards zero, class by class so that it sums to zero, then by `lam / largest`.
    """
    primal = _loss(eta, y, weights, squared) + lam * norm1
    shrink = min(1.0, lam / largest) if largest > 0.0 else 1.0
    dual = 0.0
    if squared:
        along = 0.0
        square = 0.0
        for i in range(eta.size):
            if weights[i] > 0.0:
                along += residual[i] * y[i]
                square += residual[i] * residual[i] / weights[i]
        if square > 0.0:
            limit = lam / largest if largest > 0.0 else 1.0
            c = min(max(along / square, -limit), limit)
            dual = c * along - 0.5 * c * c * square
        return primal, primal - dual
    up = 0.0
    down = 0.0
    for i in range(eta.size):
        if y[i] > 0.5:
            up += residual[i]
        else:
            down -= residual[i]
    common = min(up, down)
    scale_up = shrink * common / up if up > 0.0 else 0.0
    scale_down = shrink * common / down if down > 0.0 else 0.0
    for i in range(eta.size):
        if weights[i] == 0.0:
            continue
        # distance of the dual probability from the label
        u = abs(residual[i]) / weights[i] * (scale_up if y[i] > 0.5 else scale_down)
        if 0.0 < u < 1.0:
            dual -= weights[i] * (u * math.log(u) + (1.0 - u) * math.log1p(-u))
    return primal, primal - dual


@njit(**KERNEL)
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
    n, n_working = columns.shape[1], slots.size
    eta[:] = intercept
    for a in range(n_working):
        if w[a] != 0.0:
            x = columns[slots[a]]
            for i in range(n):
                eta[i] += w[a] * x[i]
    intercept += _settle_intercept(eta, y, weights, squared, residual, curvature)
    room = 0
    steps = 0
    rows = np.empty((0, n))
    H = np.empty((0, 0))
    L = np.empty((0, 0))
    change = np.empty(n)
    trial = np.empty(n)
    for step in range(NEWTON_STEPS + 1):
        largest = 0.0
        norm1 = 0.0
        n_active = 0
        for a in range(n_working):
            gradient[a] = dot(columns[slots[a]], residual)
            largest = max(largest, abs(gradient[a]))
            norm1 += abs(w[a])
            if w[a] != 0.0 or abs(gradient[a]) > lam:
                n_active += 1
        primal, gap = certificate(eta, y, weights, residual, lam, norm1, largest, squared)
        steps = step
        if gap <= tolerance * primal or n_active == 0 or step == NEWTON_STEPS:
            break
        active = np.empty(n_active, np.int64)
        chosen = np.empty(n_active, np.int64)
        q = np.empty(n_active)
        new = np.empty(n_active)
        means = np.empty(n_active)
        d = np.empty(n_active)
        at = 0
        for a in range(n_working):
            if w[a] != 0.0 or abs(gradient[a]) > lam:
                active[at] = a
                chosen[at] = slots[a]
                q[at] = -gradient[a]
                new[at] = w[a]
                at += 1
        if n_active > room:
            room = (n_active + 31) // 32 * 32
            rows = np.empty((room, n))
            H = np.empty((room, room))
            L = np.empty((room, room))
        quadratic_model(columns, chosen, curvature, rows, means, H)
        minimise_model(H[:, :n_active], q, new, lam, L, d)
        # the step, its predicted descent, and how far along it the objective really falls
        change[:] = 0.0
        shift = 0.0
        descent = 0.0
        for s in range(n_active):
            a = active[s]
            delta = new[s] - w[a]
            descent += -gradient[a] * delta + lam * (abs(new[s]) - abs(w[a]))
            if delta != 0.0:
                shift -= means[s] * delta
                x = columns[slots[a]]
                for i in range(n):
                    change[i] += delta * x[i]
        for i in range(n):
            change[i] += shift
        if descent >= 0.0:
            break
        t = 1.0
        for _ in range(30):
            size = norm1
            for s in range(n_active):
                a = active[s]
                size += abs(w[a] + t * (new[s] - w[a])) - abs(w[a])
            for i in range(n):
                trial[i] = eta[i] + t * change[i]
            value = _loss(trial, y, weights, squared) + lam * size
            if value <= primal + 1e-4 * t * descent + 1e-15 * primal:
                break
            t *= 0.5
        for s in range(n_active):
            a = active[s]
            w[a] = new[s] if t == 1.0 else w[a] + t * (new[s] - w[a])
        for i in range(n):
            eta[i] = trial[i]
        intercept += t * shift + _settle_intercept(eta, y, weights, squared, residual, curvature)
    return intercept, steps
