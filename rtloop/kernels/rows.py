"""Filtering along x: the rows of one slice of a volume, four blocks of sixteen voxels at once."""

from __future__ import annotations

from math import floor as floor_of
from typing import Any

import numpy as np
from numba import njit

from rtloop.kernels.layout import (
    INTERPOLANT,
    OPTIONS,
    PAD,
    ROW_START,
    SPARE,
    VOLUME_MARGIN,
    WIDTH,
    Doubles,
    Floats,
    Interpolation,
    Ints,
    row_stride,
)
from rtloop.kernels.lines import HELD_LINE
from rtloop.kernels.simd import LANES, fma, lane_numbers, load, mul, splat, store, sub

__all__ = ["fill_plane"]

HELD_BLOCK = 0.002
"""Voxels by which the shift may be wrong within sixteen samples of a row before slopes are used."""

FAR = 40.0
"""Voxels to which a row's shift is clipped; what lies farther is outside the volume anyway."""

_ZERO = np.float32(0.0)


@njit(inline="always", **OPTIONS)
def _weigh_row(shift: float, table: Floats, degree: int) -> Any:
    """Filter weights of samples shifted alike: integer part, weights per tap, their slopes."""
    shift = min(max(shift, -FAR), FAR)
    low = floor_of(shift)
    u = splat(np.float32(shift - low - 0.5))
    w = load(table, degree * WIDTH)
    slope = splat(_ZERO)
    for m in range(degree - 1, -1, -1):
        slope = fma(slope, u, w)
        w = fma(w, u, load(table, m * WIDTH))
    return low, w, slope


@njit(inline="always", **OPTIONS)
def _lanes_from_middle(stretch: float) -> Any:
    """Shift of each lane of a block from that of its middle."""
    middle = splat(np.float32(0.5 * (LANES - 1)))
    return mul(sub(lane_numbers(), middle), splat(np.float32(stretch)))


@njit(inline="always", **OPTIONS)
def _filter_blocks(
    volume: Floats,
    at: int,
    taps: Floats,
    n_taps: int,
    stretch: float,
    first: int,
    plane: Floats,
    out: int,
    out_step: int,
) -> None:
    """Filter four blocks of a row, each with weights of its own and common slopes.

    Beyond the row's end the numbers mean nothing, and nobody reads them.
    """
    p = at + first * LANES
    a = b = c = d = splat(_ZERO)
    for k in range(n_taps):
        a = fma(splat(taps[k]), load(volume, p + k), a)
        b = fma(splat(taps[WIDTH + k]), load(volume, p + LANES + k), b)
        c = fma(splat(taps[2 * WIDTH + k]), load(volume, p + 2 * LANES + k), c)
        d = fma(splat(taps[3 * WIDTH + k]), load(volume, p + 3 * LANES + k), d)
    if abs(stretch) * LANES > 2.0 * HELD_BLOCK:
        e = f = g = h = splat(_ZERO)
        for k in range(n_taps):
            slope = splat(taps[4 * WIDTH + k])
            e = fma(slope, load(volume, p + k), e)
            f = fma(slope, load(volume, p + LANES + k), f)
            g = fma(slope, load(volume, p + 2 * LANES + k), g)
            h = fma(slope, load(volume, p + 3 * LANES + k), h)
        away = _lanes_from_middle(stretch)
        a, b, c, d = fma(away, e, a), fma(away, f, b), fma(away, g, c), fma(away, h, d)
    store(plane, out, a)
    store(plane, out + out_step, b)
    store(plane, out + 2 * out_step, c)
    store(plane, out + 3 * out_step, d)


@njit(inline="always", **OPTIONS)
def _filter_block(
    volume: Floats, p: int, taps: Floats, n_taps: int, stretch: float, plane: Floats, out: int
) -> None:
    """Filter one block of a row with its own weights and slopes."""
    a = e = splat(_ZERO)
    for k in range(n_taps):
        value = load(volume, p + k)
        a = fma(splat(taps[k]), value, a)
        e = fma(splat(taps[4 * WIDTH + k]), value, e)
    store(plane, out, fma(_lanes_from_middle(stretch), e, a))


@njit(
    f"void(f4[::1], i8, i8[::1], f8[::1], UniTuple(i8, 4), {INTERPOLANT}, f4[::1], f4[::1])",
    **OPTIONS,
)
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
    """Run the pass along x in slice z: `ranges` are the first and last + 1 block and row."""
    table, n_taps, degree = interpolant
    low, high, y_low, y_high = ranges
    nx, ny = shape[0], shape[1]
    stride = row_stride(nx)
    stretch = passes[0] - 1.0
    middle = 0.5 * (nx - 1)
    one_set = abs(stretch) * nx <= 2.0 * HELD_LINE
    plane_rows = (ny + 2 * PAD + SPARE) * LANES
    for y in range(y_low, y_high):
        start = passes[1] * y + passes[2] * z + passes[3]
        at = VOLUME_MARGIN + (z * ny + y) * stride + ROW_START - (n_taps // 2 - 1)
        out = (PAD + y) * LANES
        if one_set:
            # The weights of the row's middle, led to each block's middle by their slopes.
            whole, w, slope = _weigh_row(start + stretch * middle, table, degree)
            store(taps, 4 * WIDTH, slope)
            for first in range(low, high, 4):
                for i in range(4):
                    away = stretch * ((first + i + 0.5) * LANES - 0.5 - middle)
                    store(taps, i * WIDTH, fma(splat(np.float32(away)), slope, w))
                _filter_blocks(
                    volume,
                    at + whole,
                    taps,
                    n_taps,
                    stretch,
                    first,
                    plane,
                    out + first * plane_rows,
                    plane_rows,
                )
        else:
            for first in range(low, high):
                x = (first + 0.5) * LANES - 0.5
                whole, w, slope = _weigh_row(start + stretch * x, table, degree)
                store(taps, 0, w)
                store(taps, 4 * WIDTH, slope)
                _filter_block(
                    volume,
                    at + whole + first * LANES,
                    taps,
                    n_taps,
                    stretch,
                    plane,
                    out + first * plane_rows,
                )
