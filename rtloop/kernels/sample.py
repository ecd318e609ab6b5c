"""The third pass where values leave the kernels: a whole grid, or listed voxels.

`resample.fill_columns` comes before; voxels whose place lies outside the volume become NaN.
"""

from __future__ import annotations

import numpy as np

from rtloop.kernels.layout import (
    BUFFERS,
    INTERPOLANT,
    Buffers,
    Doubles,
    Floats,
    Interpolation,
    Ints,
    kernel,
)
from rtloop.kernels.resample import filter_column
from rtloop.kernels.simd import LANES, fma, lane_numbers, load, select_ge, splat, store

__all__ = ["sample_all", "sample_some"]

_HALF = np.float32(0.5)


@kernel()
def _is_inside(matrix: Doubles, x: int, y: int, z: int, shape: Ints) -> bool:
    """Whether an output voxel lies within the volume's outer voxel edges."""
    for i in range(3):
        p = matrix[i, 0] * x + matrix[i, 1] * y + matrix[i, 2] * z + matrix[i, 3]
        if not (-0.5 <= p <= shape[i] - 0.5):
            return False
    return True


@kernel("void(f8[:, ::1], i8, i8, i8, i8, i8[::1], f4[::1])")
def _blank_outside(
    matrix: Doubles, x: int, y: int, low: int, high: int, shape: Ints, column: Floats
) -> None:
    """NaN where the column's voxels lie outside the volume."""
    all_inside = True
    for corner in range(4):
        edge_x = x + (corner & 1) * (LANES - 1)
        edge_z = low if corner < 2 else high - 1
        all_inside = all_inside and _is_inside(matrix, edge_x, y, edge_z, shape)
    if all_inside:
        return
    nothing = splat(np.float32(np.nan))
    for z in range(low, high):
        value = load(column, z * LANES)
        for i in range(3):
            first = matrix[i, 0] * x + matrix[i, 1] * y + matrix[i, 2] * z + matrix[i, 3]
            p = fma(lane_numbers(), splat(np.float32(matrix[i, 0])), splat(np.float32(first)))
            value = select_ge(p, splat(-_HALF), value, nothing)
            value = select_ge(splat(np.float32(shape[i]) - _HALF), p, value, nothing)
        store(column, z * LANES, value)


@kernel(f"void(i8[::1], f8[:, ::1], f8[::1], {INTERPOLANT}, i8[:, ::1], {BUFFERS}, f4[::1])")
def sample_all(
    shape: Ints,
    matrix: Doubles,
    passes: Doubles,
    interpolant: Interpolation,
    rows: Ints,
    buffers: Buffers,
    out: Floats,
) -> None:
    """Resample the whole grid, (z * y * x,), after `fill_columns`; NaN outside the volume.

    `rows` (n, 4+): first x, y, z range of every column.
    """
    nx, ny, nz = shape
    n_blocks = (nx + LANES - 1) // LANES
    column = buffers[4]
    for c in range(rows.shape[0]):
        x, y = rows[c, 0], rows[c, 1]
        filter_column(x, y, (0, nz), nz, n_blocks, passes, interpolant, buffers)
        _blank_outside(matrix, x, y, 0, nz, shape, column)
        if x + LANES <= nx:
            for z in range(nz):
                store(out, (z * ny + y) * nx + x, load(column, z * LANES))
        else:
            for z in range(nz):
                for lane in range(nx - x):
                    out[(z * ny + y) * nx + x + lane] = column[z * LANES + lane]


@kernel(
    f"void(i8[::1], f8[:, ::1], f8[::1], {INTERPOLANT}, i8[:, ::1], {BUFFERS}, i8[:, ::1], f4[::1])"
)
def sample_some(
    shape: Ints,
    matrix: Doubles,
    passes: Doubles,
    interpolant: Interpolation,
    rows: Ints,
    buffers: Buffers,
    wanted: Ints,
    out: Floats,
) -> None:
    """Resample listed voxels only, after `fill_columns`; NaN outside the volume.

    `rows` (n, 6): first x, y, z range, first entry, entries' end of every column. `wanted`
    (n, 2): an entry's place in its column (z * 16 + lane) and in `out`.
    """
    n_blocks = (shape[0] + LANES - 1) // LANES
    column = buffers[4]
    for c in range(rows.shape[0]):
        x, y, low, high = rows[c, 0], rows[c, 1], rows[c, 2], rows[c, 3]
        filter_column(x, y, (low, high), shape[2], n_blocks, passes, interpolant, buffers)
        _blank_outside(matrix, x, y, low, high, shape, column)
        for e in range(rows[c, 4], rows[c, 5]):
            out[wanted[e, 1]] = column[wanted[e, 0]]
