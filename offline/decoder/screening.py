"""All edges against the residuals of all folds: one pass over them, and who stands out.

Arrays in, arrays out. The product is in float32; `pick` adds the bound of its error, and
`project` computes again in float64 what the bound leaves open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from offline.decoder.compiled import KERNEL, dot

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32 = NDArray[np.float32]
    Float64 = NDArray[np.float64]
    Int64 = NDArray[np.int64]

__all__ = ["GROUP", "correlate", "pick", "project"]

GROUP = 4
"""Residual vectors that share one pass over an edge; their number is padded to a multiple."""


@njit("void(f4[:, ::1], f4[:, ::1], f4[::1], f4[:, ::1])", **KERNEL)
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


@njit("i8(f4[::1], f4[::1], f8, f8, u1[::1], i8[::1])", **KERNEL)
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


@njit("void(f8[:, ::1], i8[::1], f8[::1], f8[::1])", **KERNEL)
def project(columns: Float64, slots: Int64, residual: Float64, out: Float64) -> None:
    """|Σ_i x_i residual_i| of some columns, in float64."""
    for a in range(slots.size):
        out[a] = abs(dot(columns[slots[a]], residual))
