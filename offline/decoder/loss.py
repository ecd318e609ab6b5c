"""The loss of the L1 path, its derivatives in η, its best intercept, and how far from the optimum.

The loss of scan i is ln(1 + e^η) - yη (logistic, y in {0, 1}) or (y - η)²/2 (squared), weighted
by `weights` (which sum to 1 over the problem's scans, 0 for the others) and η = b + Σ w_j x_j.
`residual` is minus its derivative in η, weight included; at the best intercept it sums to zero,
which the dual of an unpenalised intercept asks for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from offline.decoder.compiled import KERNEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64 = NDArray[np.float64]

__all__ = ["certificate", "loss", "settle_intercept"]

CURVATURE_FLOOR = 1e-9
"""Smallest curvature of a scan, relative to its weight: a sure scan keeps the model convex."""


@njit("f8(f8[::1], f8[::1], f8[::1], b1, f8[::1], f8[::1])", **KERNEL)
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


@njit("f8(f8[::1], f8[::1], f8[::1], b1)", **KERNEL)
def loss(eta: Float64, y: Float64, weights: Float64, squared: bool) -> float:
    """Weighted loss of all scans."""
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


@njit("f8(f8[::1], f8[::1], f8[::1], b1, f8[::1], f8[::1])", **KERNEL)
def settle_intercept(
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


@njit("UniTuple(f8, 2)(f8[::1], f8[::1], f8[::1], f8[::1], f8, f8, f8, b1)", **KERNEL)
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
    primal = loss(eta, y, weights, squared) + lam * norm1
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
