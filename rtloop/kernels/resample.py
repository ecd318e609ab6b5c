"""A volume under a rigid (or any near-identity affine) map, one axis at a time.

The map p -> M p is split into three passes that move one coordinate each: x along the volume's
own rows, then y, then z (Hanrahan's three-pass decomposition, doi:10.1145/97880.97914). Every
sample is taken on the volume's own grid, every axis is interpolated exactly once, and a voxel
costs three filters of n taps instead of one of n**3. With a smoothing filter for an interpolant
the same passes give the smoothed image that registration compares. Lines are continued by
reflection at their outer voxel edges.
"""

from __future__ import annotations

from math import floor as floor_of

import numpy as np

from rtloop.kernels.layout import (
    BUFFERS,
    INTERPOLANT,
    PAD,
    SPARE,
    Buffers,
    Doubles,
    Floats,
    Interpolation,
    Ints,
    kernel,
)
from rtloop.kernels.lines import filter_lines, reflect_lines
from rtloop.kernels.rows import fill_plane
from rtloop.kernels.simd import LANES

__all__ = ["extent", "fill_columns", "filter_column", "separate"]

_ZERO = np.float32(0.0)


@kernel("void(f8[:, ::1], f8[::1])")
def separate(matrix: Doubles, passes: Doubles) -> None:
    """Split a voxel map into its passes.

    `matrix` (4, 4) maps output to volume voxels. `passes` (12,) receives x' over
    (x, y', z', 1), y' over (x, y, z', 1), z' over (x, y, z, 1); primes are volume coordinates.
    """
    m = matrix
    for i in range(4):
        passes[8 + i] = m[2, i]
    q = m[1, 2] / m[2, 2]
    yy = m[1, 1] - q * m[2, 1]
    passes[4] = m[1, 0] - q * m[2, 0]
    passes[5] = yy
    passes[6] = q
    passes[7] = m[1, 3] - q * m[2, 3]
    q = m[0, 2] / m[2, 2]
    p = (m[0, 1] - q * m[2, 1]) / yy
    passes[0] = m[0, 0] - q * m[2, 0] - p * passes[4]
    passes[1] = p
    passes[2] = q - p * passes[6]
    passes[3] = m[0, 3] - q * m[2, 3] - p * passes[7]


@kernel("UniTuple(f8, 2)(f8[::1], i8, i8[::1], i8)")
def extent(passes: Doubles, row: int, box: Ints, z: int) -> tuple[float, float]:
    """Lowest and highest volume coordinate of a pass over a box.

    `row` is 4 for y (in the volume's slice `z`), 8 for z; `box` (6,) holds the output's ranges.
    """
    low = high = passes[row + 3]
    for i in range(3):
        first, last = box[2 * i], box[2 * i + 1] - 1
        if i == 0:
            first, last = first // LANES * LANES, last // LANES * LANES + LANES - 1
        if i == 2 and row == 4:
            first = last = z
        one, two = passes[row + i] * first, passes[row + i] * last
        low += min(one, two)
        high += max(one, two)
    # Bounds far outside any volume keep integers in range.
    return min(max(low, -1e6), 1e6), min(max(high, -1e6), 1e6)


@kernel(f"void(f4[::1], i8[::1], f8[::1], {INTERPOLANT}, i8[::1], i8[:, ::1], i8, {BUFFERS})")
def fill_columns(
    volume: Floats,
    shape: Ints,
    passes: Doubles,
    interpolant: Interpolation,
    box: Ints,
    spans: Ints,
    every: int,
    buffers: Buffers,
) -> None:
    """Run the passes along x and y: the volume's own slices on the output's x and y.

    Parameters
    ----------
    volume : float32 buffer laid out by `intake.take_in`, finite
    shape : (3,) volume's n_x, n_y, n_z
    passes : (12,) from `separate`
    interpolant : table, number of taps, degree
    box : (6,) output's x, y, z ranges (low, high, exclusive) that will be asked for
    spans : (n_blocks, 2) output's y range wanted per block of sixteen x
    every : of these y, every how manieth is wanted (1 or 2)
    buffers : taps, weights, plane, columns, column; the columns are filled:
        (y, block, PAD + z' + PAD, lane)
    """
    taps, weights, plane, columns, _ = buffers
    _, ny, nz = shape
    n_blocks = spans.shape[0]
    blocks = (box[0] // LANES, (box[1] - 1) // LANES + 1)
    # One sample more on both sides allows for rounding and for shifts held constant.
    reach = interpolant[1] // 2 + 1
    low, high = extent(passes, 8, box, 0)
    z_low, z_high = max(floor_of(low) - reach, 0), min(floor_of(high) + reach + 1, nz)
    plane_rows = (ny + 2 * PAD + SPARE) * LANES
    column_rows = (nz + 2 * PAD + SPARE) * LANES
    for z in range(z_low, z_high):
        low, high = extent(passes, 4, box, z)
        y_low, y_high = max(floor_of(low) - reach, 0), min(floor_of(high) + reach + 1, ny)
        # Rows near an edge are also read through their reflection.
        y_low = 0 if y_low < PAD else y_low
        y_high = ny if y_high > ny - PAD else y_high
        ranges = (blocks[0], blocks[1], y_low, y_high)
        fill_plane(volume, z, shape, passes, ranges, interpolant, taps, plane)
        for block in range(blocks[0], blocks[1]):
            at = block * plane_rows
            start = passes[4] * (block * LANES) + passes[6] * z + passes[7]
            lines = (start, passes[4], passes[5] - 1.0)
            rows = (spans[block, 0], spans[block, 1], every)
            target = (columns, block * column_rows + (PAD + z) * LANES, n_blocks * column_rows)
            reflect_lines(plane, at, ny)
            filter_lines(plane, at, ny, lines, rows, interpolant, weights, target, _ZERO)


@kernel(f"void(i8, i8, UniTuple(i8, 2), i8, i8, f8[::1], {INTERPOLANT}, {BUFFERS})")
def filter_column(
    x: int,
    y: int,
    span: tuple[int, int],
    nz: int,
    n_blocks: int,
    passes: Doubles,
    interpolant: Interpolation,
    buffers: Buffers,
) -> None:
    """Run the pass along z of the sixteen columns at x, y into the column buffer's rows."""
    columns = buffers[3]
    at = (y * n_blocks + x // LANES) * (nz + 2 * PAD + SPARE) * LANES
    lines = (passes[8] * x + passes[9] * y + passes[11], passes[8], passes[10] - 1.0)
    target = (buffers[4], 0, LANES)
    reflect_lines(columns, at, nz)
    filter_lines(
        columns, at, nz, lines, (span[0], span[1], 1), interpolant, buffers[1], target, _ZERO
    )
