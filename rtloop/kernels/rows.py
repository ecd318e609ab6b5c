"""Filtering along x: the rows of one slice of a volume, four blocks of sixteen voxels at once."""

from __future__ import annotations

from math import floor as floor_of
from typing import Any

import numpy as np

from rtloop.kernels.layout import (
    INTERPOLANT,
    PAD,
    ROW_START,
    SPARE,
    VOLUME_MARGIN,
    WIDTH,
    Doubles,
    Floats,
    Interpolation,
    Ints,
    kernel,
    row_stride,
)
from rtloop.kernels.lines import HELD_LINE
from rtloop.kernels.simd import LANES, fma, lane_numbers, load, splat, store

__all__ = ["fill_plane"]

FAR = 40
"""Voxels before a row from which on nothing is read; what lies there is outside the volume."""

_ZERO = np.float32(0.0)


@kernel(inline="always")
def _row_shift(passes: Doubles, x: float, y: int, z: int) -> float:
    """Shift of the sample at x, in voxels; kept where it fits an integer."""
    shift: float = (passes[0] - 1.0) * x + passes[1] * y + passes[2] * z + passes[3]
    return min(max(shift, -1e6), 1e6)


@kernel(inline="always")
def _first_read(shift: float, x: int, nx: int) -> int:
    """Voxel of the row that tap 0 of the sample at x reads, not far outside the row."""
    return min(max(floor_of(shift) + x, -FAR), nx)


@kernel(inline="always")
def _row_start(z: int, y: int, nx: int, ny: int, n_taps: int) -> int:
    """Place in the volume's buffer that the first tap of an unshifted row's first voxel reads."""
    row: int = row_stride(nx)
    return VOLUME_MARGIN + (z * ny + y) * row + ROW_START - (n_taps // 2 - 1)


@kernel(inline="always")
def _plane_rows(ny: int) -> int:
    """Floats from block to block of the plane."""
    return (ny + 2 * PAD + SPARE) * LANES


@kernel(inline="always")
def _weigh(shift: float, table: Floats, degree: int, taps: Floats, at: int) -> None:
    """Filter weights of samples shifted by `shift`, one per tap, and after them their slopes."""
    u = splat(np.float32(shift - floor_of(shift) - 0.5))
    w = load(table, degree * WIDTH)
    slope = splat(_ZERO)
    for m in range(degree - 1, -1, -1):
        slope = fma(slope, u, w)
        w = fma(w, u, load(table, m * WIDTH))
    store(taps, at, w)
    store(taps, at + WIDTH, slope)


@kernel(inline="always")
def _away(x: int, middle: float, stretch: float) -> Any:
    """How far the shifts of sixteen samples from x on are from that at `middle`."""
    first = splat(np.float32(stretch * (x - middle)))
    return fma(lane_numbers(), splat(np.float32(stretch)), first)


@kernel()
def _fill_stretched(
    volume: Floats,
    z: int,
    shape: Ints,
    passes: Doubles,
    ranges: tuple[int, int, int, int],
    interpolant: Interpolation,
    taps: Floats,
    plane: Floats,
) -> None:
    """Fill a plane with one set of weights for every block."""
    table, n_taps, degree = interpolant
    low, high, y_low, y_high = ranges
    nx, ny = shape[0], shape[1]
    for block in range(low, high):
        x = block * LANES
        middle = x + 0.5 * (LANES - 1)
        for y in range(y_low, y_high):
            _weigh(_row_shift(passes, middle, y, z), table, degree, taps, y * 2 * WIDTH)
        away = _away(x, middle, passes[0] - 1.0)
        for y in range(y_low, y_high):
            shift = _row_shift(passes, middle, y, z)
            p = _row_start(z, y, nx, ny, n_taps) + _first_read(shift, x, nx)
            t = y * 2 * WIDTH
            a = splat(_ZERO)
            for k in range(n_taps):
                w = fma(away, splat(taps[t + WIDTH + k]), splat(taps[t + k]))
                a = fma(w, load(volume, p + k), a)
            store(plane, block * _plane_rows(ny) + (PAD + y) * LANES, a)


@kernel(f"void(f4[::1], i8, i8[::1], f8[::1], UniTuple(i8, 4), {INTERPOLANT}, f4[::1], f4[::1])")
def fill_plane(
    volume: Floats,
    z: int,
    shape: Ints,
    passes: Doubles,
    ranges: tuple[int, int, int, int],
    interpolant: Interpolation,
    taps: Floats,
    plane: Floats,
) -> None:
    """Run the pass along x in slice z: `ranges` are the first and last + 1 block and row.

    One set of weights, led along by its slopes, serves a row, or a block if the row is stretched
    more. All weights are written before any is used: a processor is slow to read what it has just
    written in another width.
    """
    table, n_taps, degree = interpolant
    low, high, y_low, y_high = ranges
    nx, ny = shape[0], shape[1]
    stretch = passes[0] - 1.0
    if abs(stretch) * nx > 2.0 * HELD_LINE:
        _fill_stretched(volume, z, shape, passes, ranges, interpolant, taps, plane)
        return
    middle = 0.5 * (nx - 1)
    for y in range(y_low, y_high):
        _weigh(_row_shift(passes, middle, y, z), table, degree, taps, y * 2 * WIDTH)
    # Beyond the last block the numbers mean nothing, and nobody reads them.
    for block in range(low, high, 4):
        x = block * LANES
        away_a = _away(x, middle, stretch)
        away_b = _away(x + LANES, middle, stretch)
        away_c = _away(x + 2 * LANES, middle, stretch)
        away_d = _away(x + 3 * LANES, middle, stretch)
        for y in range(y_low, y_high):
            shift = _row_shift(passes, middle, y, z)
            p = _row_start(z, y, nx, ny, n_taps) + _first_read(shift, x, nx)
            t = y * 2 * WIDTH
            a = b = c = d = splat(_ZERO)
            for k in range(n_taps):
                w, slope = splat(taps[t + k]), splat(taps[t + WIDTH + k])
                a = fma(fma(away_a, slope, w), load(volume, p + k), a)
                b = fma(fma(away_b, slope, w), load(volume, p + LANES + k), b)
                c = fma(fma(away_c, slope, w), load(volume, p + 2 * LANES + k), c)
                d = fma(fma(away_d, slope, w), load(volume, p + 3 * LANES + k), d)
            out = block * _plane_rows(ny) + (PAD + y) * LANES
            store(plane, out, a)
            store(plane, out + _plane_rows(ny), b)
            store(plane, out + 2 * _plane_rows(ny), c)
            store(plane, out + 3 * _plane_rows(ny), d)
