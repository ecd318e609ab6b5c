"""Filtering along y or z: sixteen lines that are neighbours in x at once.

Along a line of the grid a rigid map shifts by a constant, up to a stretch of the order of the
squared angle; one set of weights, led along by its slopes, serves a line or a long piece of it.
"""

from __future__ import annotations

from math import floor as floor_of
from typing import Any

import numpy as np

from rtloop.kernels.layout import (
    INTERPOLANT,
    PAD,
    SLOPES,
    TARGET,
    WIDTH,
    Floats,
    Interpolation,
    Target,
    kernel,
    reflected,
)
from rtloop.kernels.simd import (
    LANES,
    floor,
    fma,
    lane_numbers,
    load,
    select_ge,
    splat,
    store,
    sub,
)

__all__ = ["HELD_LINE", "filter_lines", "reflect_lines"]

EXTRA = 8
"""Most voxels by which sixteen neighbouring lines may differ in shift (28 degrees)."""

HELD_LINE = 0.05
"""Voxels of shift along a line that one set of weights and their slopes may serve; the error is
half its square times the image's second derivative."""

_ZERO = np.float32(0.0)
_HALF = np.float32(0.5)


@kernel()
def _weigh_lanes(
    start: float, step: float, table: Floats, n_taps: int, degree: int, weights: Floats
) -> tuple[int, int]:
    """Filter weights of sixteen lines shifted by start + lane * step voxels, and their slopes.

    Returns the shift's common integer part and the number of taps: lanes whose integer part is
    larger have their weights moved up by as many taps.
    """
    last = start + (LANES - 1) * step
    low = floor_of(min(start, last))
    extra = min(floor_of(max(start, last)) - low, EXTRA)
    shift = fma(lane_numbers(), splat(np.float32(step)), splat(np.float32(start - low)))
    # Rounding may put a lane just outside [0, extra + 1): keep it in its neighbour's interval.
    whole = floor(shift)
    whole = select_ge(whole, splat(_ZERO), whole, splat(_ZERO))
    whole = select_ge(whole, splat(np.float32(extra)), splat(np.float32(extra)), whole)
    u = sub(sub(shift, whole), splat(_HALF))
    for k in range(n_taps):
        w = splat(table[degree * WIDTH + k])
        slope = splat(_ZERO)
        for m in range(degree - 1, -1, -1):
            slope = fma(slope, u, w)
            w = fma(w, u, splat(table[m * WIDTH + k]))
        store(weights, k * LANES, w)
        store(weights, (SLOPES + k) * LANES, slope)
    for moved in range(1, extra + 1):
        threshold = splat(np.float32(moved))
        _move_up(weights, 0, n_taps + moved - 1, whole, threshold)
        _move_up(weights, SLOPES, n_taps + moved - 1, whole, threshold)
    return low, n_taps + extra


@kernel()
def _move_up(weights: Floats, first: int, top: int, whole: Any, threshold: Any) -> None:
    """Move rows first..first + top up by one in the lanes where whole >= threshold."""
    above = splat(_ZERO)
    for k in range(first + top, first - 1, -1):
        below = splat(_ZERO) if k == first else load(weights, (k - 1) * LANES)
        store(weights, k * LANES, select_ge(whole, threshold, below, above))
        above = below


@kernel()
def _filter(
    source: Floats,
    at: int,
    weights: Floats,
    n_taps: int,
    change: tuple[float, float],
    target: Target,
    rows: tuple[int, int, int],
) -> None:
    """out[i] = sum_k weights[k] * source[i + k] for rows of sixteen lanes, four rows at once.

    The weights hold at row change[1]; away from it they follow their slopes, change[0] a row.
    """
    out, out_at, out_step = target
    low, high, every = rows
    next_row = every * LANES
    # Groups begin at multiples of four rows wherever `low` is, so that a row's weights do not
    # depend on which others are wanted.
    first = low % every
    for i in range(first + (low - first) // (4 * every) * (4 * every), high, 4 * every):
        a = b = c = d = splat(_ZERO)
        p = at + i * LANES
        away = splat(np.float32(change[0] * (i + 1.5 * every - change[1])))
        for k in range(n_taps):
            w = fma(away, load(weights, (SLOPES + k) * LANES), load(weights, k * LANES))
            q = p + k * LANES
            a = fma(w, load(source, q), a)
            b = fma(w, load(source, q + next_row), b)
            c = fma(w, load(source, q + 2 * next_row), c)
            d = fma(w, load(source, q + 3 * next_row), d)
        o = out_at + i * out_step
        if i >= low:
            store(out, o, a)
        if low <= i + every < high:
            store(out, o + every * out_step, b)
        if low <= i + 2 * every < high:
            store(out, o + 2 * every * out_step, c)
        if i + 3 * every < high:
            store(out, o + 3 * every * out_step, d)


@kernel()
def _first_row(at_least: int, low: int, every: int) -> int:
    """First of the rows low, low + every, ... that is not before `at_least`."""
    return low + max(at_least - low + every - 1, 0) // every * every


@kernel("void(f4[::1], i8, i8)")
def reflect_lines(source: Floats, at: int, n: int) -> None:
    """Continue sixteen lines of n samples, rows PAD..PAD+n at `at`, beyond both ends."""
    for r in range(PAD):
        near = reflected(r, n)
        store(source, at + (PAD - 1 - r) * LANES, load(source, at + (PAD + near) * LANES))
        far = PAD + n - 1 - near
        store(source, at + (PAD + n + r) * LANES, load(source, at + far * LANES))


@kernel(
    f"void(f4[::1], i8, i8, UniTuple(f8, 3), UniTuple(i8, 3), {INTERPOLANT}, f4[::1], {TARGET}, f4)"
)
def filter_lines(
    source: Floats,
    at: int,
    n: int,
    course: tuple[float, float, float],
    rows: tuple[int, int, int],
    interpolant: Interpolation,
    weights: Floats,
    target: Target,
    far: np.float32,
) -> None:
    """Filter sixteen neighbouring lines of n samples.

    `source` at `at` holds rows -PAD..n+PAD. With `course` (start, step, stretch), output row i of
    lane l is taken at i * (1 + stretch) + start + l * step; `rows` are (first, end, every). Rows
    whose taps reach farther than the padding become `far`.
    """
    table, n_taps, degree = interpolant
    start, step, stretch = course
    low, high, every = rows
    out, out_at, out_step = target
    # Segments lie on the whole line, and groups of four rows on multiples of four, not on what is
    # wanted of it: a voxel's value must not depend on which others are asked for.
    segment = n
    if abs(stretch) * n > 2.0 * HELD_LINE:
        segment = max(8, 8 * int(2.0 * HELD_LINE / abs(stretch) / 8.0))
    for segment_low in range(low // segment * segment, high, segment):
        segment_high = min(segment_low + segment, n)
        middle = 0.5 * (segment_low + segment_high - 1)
        shift = start + stretch * middle
        shift = min(max(shift, -1e6), 1e6)
        whole, taps = _weigh_lanes(shift, step, table, n_taps, degree, weights)
        first = PAD + whole - (n_taps // 2 - 1)
        # Rows in reach of the padding (a group may begin three rows earlier), before and after.
        begin = _first_row(max(segment_low, low), low, every)
        end = min(segment_high, high)
        inner = min(_first_row(max(begin, 3 * every - first), low, every), end)
        outer = max(_first_row(min(end, n + 2 * PAD - first - taps + 1), low, every), inner)
        for i in range(begin, inner, every):
            store(out, out_at + i * out_step, splat(far))
        for i in range(outer, end, every):
            store(out, out_at + i * out_step, splat(far))
        wanted = (inner, min(outer, end), every)
        if wanted[0] < wanted[1]:
            change = (stretch, middle)
            _filter(source, at + first * LANES, weights, taps, change, target, wanted)
