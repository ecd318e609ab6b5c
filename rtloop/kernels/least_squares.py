"""Least squares one row at a time: Givens updating of the triangle [R | Z] with R'R = X'X, Z = Q'Y.

A new row costs p rotations of length p + q, whatever the number of rows before it. Unlike the
normal equations, whose rounding error grows with the squared condition number of X, the rotations
are backward stable column by column (Golub & Van Loan, Matrix Computations, 4th ed., 5.1 and
6.5.3), so neither the regressors' units nor their levels matter.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from numba import njit, types

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["back_substitute", "givens_update", "subtract_fit"]

TINY = 1e-150
"""Regressor values below this are zero: their squares would underflow in a rotation."""

_MATRIX = types.Array(types.float64, 2, "C")
_MATRIX_IN = types.Array(types.float64, 2, "C", readonly=True)
_VECTOR = types.Array(types.float64, 1, "C")
_VECTOR_IN = types.Array(types.float64, 1, "C", readonly=True)


# "contract" (fused multiply-add) only: sums keep their order, NaN its meaning.
@njit(
    types.void(_MATRIX, _MATRIX, _VECTOR, _VECTOR),
    cache=True,
    nogil=True,
    error_model="numpy",
    fastmath={"contract"},
)
def givens_update(R: Array, Z: Array, row_x: Array, row_y: Array) -> None:
    """Rotate one row of the design, with its observations, into the triangle.

    Parameters
    ----------
    R : (p, p) float64
        Upper triangle, updated. All zero before the first row.
    Z : (p, q) float64
        Rotated observations, updated. All zero before the first row.
    row_x : (p,) float64
        The row, times the square root of its weight. Overwritten.
    row_y : (q,) float64
        Its observations, times the same root. Overwritten by the row's rotated residual.
    """
    p = row_x.size
    q = row_y.size
    for j in range(p):
        if abs(row_x[j]) < TINY:
            continue
        radius = math.sqrt(R[j, j] * R[j, j] + row_x[j] * row_x[j])
        c = R[j, j] / radius
        s = row_x[j] / radius
        R[j, j] = radius
        for k in range(j + 1, p):
            above = R[j, k]
            R[j, k] = c * above + s * row_x[k]
            row_x[k] = c * row_x[k] - s * above
        for k in range(q):
            above = Z[j, k]
            Z[j, k] = c * above + s * row_y[k]
            row_y[k] = c * row_y[k] - s * above


@njit(
    types.int64(_MATRIX_IN, _MATRIX_IN, types.float64, _MATRIX, _MATRIX, _VECTOR, _VECTOR, _MATRIX),
    cache=True,
    nogil=True,
    error_model="numpy",
    fastmath={"contract"},
)
def back_substitute(
    R: Array,
    Z: Array,
    tolerance: float,
    work_R: Array,
    work_Z: Array,
    row_x: Array,
    row_y: Array,
    betas: Array,
) -> int:
    """Coefficients of the least-squares fit, with columns that add nothing left out.

    Columns are taken in their order. One whose part outside the span of the columns before it is
    below `tolerance` of its length gets coefficients of exactly 0, and its row of the triangle is
    rotated into those below, so that the others are the least-squares fit without it.

    Parameters
    ----------
    R, Z : (p, p), (p, q) float64
        The triangle, as `givens_update` leaves it.
    tolerance : float64
        Sine of the smallest angle between a column and those before it.
    work_R, work_Z, row_x, row_y : (p, p), (p, q), (p,), (q,) float64
        Scratch.
    betas : (p, q) float64
        Written.

    Returns
    -------
    int64
        Number of columns in the fit.
    """
    p = R.shape[0]
    q = Z.shape[1]
    for j in range(p):
        for k in range(p):
            work_R[j, k] = R[j, k]
        for k in range(q):
            work_Z[j, k] = Z[j, k]

    # leave out what adds nothing
    rank: int = p
    for j in range(p):
        length = 0.0
        for i in range(j + 1):
            length += R[i, j] * R[i, j]
        if abs(work_R[j, j]) > tolerance * math.sqrt(length):
            continue
        rank -= 1
        for k in range(p):
            row_x[k] = work_R[j, k] if k > j else 0.0
            work_R[j, k] = 0.0
        for k in range(q):
            row_y[k] = work_Z[j, k]
        givens_update(work_R, work_Z, row_x, row_y)

    # solve from the last column up
    for j in range(p - 1, -1, -1):
        pivot = work_R[j, j]
        if pivot == 0.0:
            for k in range(q):
                betas[j, k] = 0.0
            continue
        for k in range(q):
            betas[j, k] = work_Z[j, k]
        for i in range(j + 1, p):
            factor = work_R[j, i]
            for k in range(q):
                betas[j, k] -= factor * betas[i, k]
        for k in range(q):
            betas[j, k] /= pivot
    return rank


@njit(
    types.void(_MATRIX_IN, _VECTOR_IN, _VECTOR_IN, _VECTOR),
    cache=True,
    nogil=True,
    error_model="numpy",
    fastmath={"contract"},
)
def subtract_fit(betas: Array, row_x: Array, row_y: Array, out: Array) -> None:
    """Residual of one row: `out = row_y - row_x @ betas`.

    Parameters
    ----------
    betas : (p, q) float64
    row_x : (p,) float64
    row_y : (q,) float64
    out : (q,) float64
        Written; may be `row_y` itself.
    """
    for k in range(row_y.size):
        out[k] = row_y[k]
    for j in range(row_x.size):
        factor = row_x[j]
        for k in range(row_y.size):
            out[k] -= factor * betas[j, k]
