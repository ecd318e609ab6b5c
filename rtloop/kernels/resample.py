"""A volume under a rigid (or any near-identity affine) map, one axis at a time.

The map p -> M p is split into three passes that move one coordinate each: x along the volume's
own rows, then y, then z (Hanrahan's three-pass decomposition, doi:10.1145/97880.97914). Along a
line of the grid the shift is constant up to a stretch of the order of the squared angle, so a
line needs one set of filter weights, and sixteen neighbouring lines are filtered at once. Every
sample is taken on the volume's own grid, every axis is interpolated exactly once, and a voxel
costs three filters of n taps instead of one of n**3.

An interpolant is a tuple `(table, n_taps, degree)`, see `rtloop.interpolants`. With a
smoothing filter for a table the same passes give the smoothed image that registration compares.
Lines are continued by reflection at their outer voxel edges.
"""

from __future__ import annotations

from math import floor as floor_of
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtloop.kernels.simd import (
    LANES,
    floor,
    fma,
    lane_numbers,
    load,
    mul,
    select_ge,
    splat,
    store,
    sub,
)

__all__ = [
    "BUFFERS",
    "INTERPOLANT",
    "OPTIONS",
    "PAD",
    "ROW_START",
    "SPARE",
    "VOLUME_MARGIN",
    "WIDTH",
    "Buffers",
    "Doubles",
    "Floats",
    "Interpolation",
    "Ints",
    "extent",
    "fill_columns",
    "filter_column",
    "filter_lines",
    "reflected",
    "row_stride",
    "separate",
]

PAD = 16
"""Rows added by reflection at both ends of a line: half the longest filter and some shift."""

ROW_START = 16
"""Floats before the first voxel of a row in a volume's buffer; they hold the row's reflection."""

VOLUME_MARGIN = 128
"""Floats before and after the rows of a volume's buffer, so that no shift reads outside it."""

MAX_EVERY = 2
SPARE = 4 * MAX_EVERY
"""Rows after the last one that the four-row filter loop may read."""

EXTRA = 8
"""Most voxels by which sixteen neighbouring lines may differ in shift (28 degrees)."""

FAR = 40.0
"""Voxels to which a row's shift is clipped; what lies farther is outside the volume anyway."""

HELD_LINE = 0.05
"""Voxels of shift along a line that one set of weights and their slopes may serve; the error is
half its square times the image's second derivative."""

HELD_BLOCK = 0.002
"""Voxels by which the shift may be wrong within sixteen samples of a row before slopes are used."""

SLOPES = 32
"""Rows from a weight to its slope in the weights' buffer."""

WIDTH = 16
"""Row length of the interpolants' tables; filters have at most this many taps."""

OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}
INTERPOLANT = "Tuple((f4[::1], i8, i8))"
BUFFERS = "UniTuple(f4[::1], 5)"
TARGET = "Tuple((f4[::1], i8, i8))"
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Interpolation = tuple[Floats, int, int]
Buffers = tuple[Floats, ...]
Target = tuple[Floats, int, int]
"""Where rows go: array, place of row 0, floats from row to row."""
_ZERO = np.float32(0.0)
_HALF = np.float32(0.5)


@njit("void(f8[:, ::1], f8[::1])", **OPTIONS)
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


@njit("i8(i8)", **OPTIONS)
def row_stride(nx: int) -> int:
    """Floats from row to row of a volume's buffer: reflection, nx voxels, reflection."""
    return (ROW_START + nx + 8 + LANES - 1) // LANES * LANES


@njit("i8(i8, i8)", **OPTIONS)
def reflected(i: int, n: int) -> int:
    """Index of the sample that stands `i` rows into the reflection of n samples (0, 1, ...)."""
    while i >= 2 * n:
        i -= 2 * n
    return i if i < n else 2 * n - 1 - i


@njit("UniTuple(f8, 2)(f8[::1], i8, i8[::1], i8)", **OPTIONS)
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


@njit(**OPTIONS)
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


@njit(**OPTIONS)
def _move_up(weights: Floats, first: int, top: int, whole: Any, threshold: Any) -> None:
    """Move rows first..first + top up by one in the lanes where whole >= threshold."""
    above = splat(_ZERO)
    for k in range(first + top, first - 1, -1):
        below = splat(_ZERO) if k == first else load(weights, (k - 1) * LANES)
        store(weights, k * LANES, select_ge(whole, threshold, below, above))
        above = below


@njit(**OPTIONS)
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


@njit(**OPTIONS)
def _first_row(at_least: int, low: int, every: int) -> int:
    """First of the rows low, low + every, ... that is not before `at_least`."""
    return low + max(at_least - low + every - 1, 0) // every * every


@njit("void(f4[::1], i8, i8)", **OPTIONS)
def _reflect_lines(source: Floats, at: int, n: int) -> None:
    """Continue sixteen lines of n samples, rows PAD..PAD+n at `at`, beyond both ends."""
    for r in range(PAD):
        near = reflected(r, n)
        store(source, at + (PAD - 1 - r) * LANES, load(source, at + (PAD + near) * LANES))
        far = PAD + n - 1 - near
        store(source, at + (PAD + n + r) * LANES, load(source, at + far * LANES))


@njit(
    f"void(f4[::1], i8, i8, UniTuple(f8, 3), UniTuple(i8, 3), {INTERPOLANT}, f4[::1], {TARGET}, "
    "f4)",
    **OPTIONS,
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
        change = (stretch, middle)
        _filter(source, at + first * LANES, weights, taps, change, target, wanted)


@njit(**OPTIONS)
def _weigh_block(shift: float, table: Floats, degree: int, taps: Floats, at: int) -> int:
    """Filter weights of sixteen samples of a row, shifted alike, and their derivatives after
    them; returns the integer part."""
    shift = min(max(shift, -FAR), FAR)
    low = floor_of(shift)
    u = splat(np.float32(shift - low - 0.5))
    w = load(table, degree * WIDTH)
    slope = splat(_ZERO)
    for m in range(degree - 1, -1, -1):
        slope = fma(slope, u, w)
        w = fma(w, u, load(table, m * WIDTH))
    store(taps, at, w)
    store(taps, at + 4 * WIDTH, slope)
    return low


@njit(
    f"void(f4[::1], i8, i8[::1], f8[::1], UniTuple(i8, 4), {INTERPOLANT}, f4[::1], f4[::1])",
    **OPTIONS,
)
def _fill_plane(
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

    Four blocks of sixteen are filtered at once. The last four may overlap those before, or the
    rows' ends: the same numbers are then written twice, or nobody reads them.
    """
    table, n_taps, degree = interpolant
    low, high, y_low, y_high = ranges
    nx, ny = shape[0], shape[1]
    stride = row_stride(nx)
    plane_rows = (ny + 2 * PAD + SPARE) * LANES
    for y in range(y_low, y_high):
        row = VOLUME_MARGIN + (z * ny + y) * stride + ROW_START - (n_taps // 2 - 1)
        start = passes[1] * y + passes[2] * z + passes[3]
        block = low
        while block < high:
            block = max(min(block, high - 4), 0)
            x = block * LANES
            shift = start + (passes[0] - 1.0) * (x + 0.5 * (LANES - 1))
            change = (passes[0] - 1.0) * LANES
            p = row + x + _weigh_block(shift, table, degree, taps, 0)
            q = row + x + LANES + _weigh_block(shift + change, table, degree, taps, WIDTH)
            x += 2 * LANES
            shift += 2 * change
            r = row + x + _weigh_block(shift, table, degree, taps, 2 * WIDTH)
            s = row + x + LANES + _weigh_block(shift + change, table, degree, taps, 3 * WIDTH)
            a = b = c = d = splat(_ZERO)
            for k in range(n_taps):
                a = fma(splat(taps[k]), load(volume, p + k), a)
                b = fma(splat(taps[k + WIDTH]), load(volume, q + k), b)
                c = fma(splat(taps[k + 2 * WIDTH]), load(volume, r + k), c)
                d = fma(splat(taps[k + 3 * WIDTH]), load(volume, s + k), d)
            if abs(change) > 2.0 * HELD_BLOCK:
                # Within a block the shift changes too much to be held: go along its slope.
                e = f = g = h = splat(_ZERO)
                for k in range(4 * WIDTH, 4 * WIDTH + n_taps):
                    e = fma(splat(taps[k]), load(volume, p + k - 4 * WIDTH), e)
                    f = fma(splat(taps[k + WIDTH]), load(volume, q + k - 4 * WIDTH), f)
                    g = fma(splat(taps[k + 2 * WIDTH]), load(volume, r + k - 4 * WIDTH), g)
                    h = fma(splat(taps[k + 3 * WIDTH]), load(volume, s + k - 4 * WIDTH), h)
                off = mul(
                    sub(lane_numbers(), splat(np.float32(0.5 * (LANES - 1)))),
                    splat(np.float32(passes[0] - 1.0)),
                )
                a, b, c, d = fma(off, e, a), fma(off, f, b), fma(off, g, c), fma(off, h, d)
            o = block * plane_rows + (PAD + y) * LANES
            store(plane, o, a)
            store(plane, o + plane_rows, b)
            store(plane, o + 2 * plane_rows, c)
            store(plane, o + 3 * plane_rows, d)
            block += 4


@njit(
    f"void(f4[::1], i8[::1], f8[::1], {INTERPOLANT}, i8[::1], i8[:, ::1], i8, {BUFFERS})", **OPTIONS
)
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
        _fill_plane(volume, z, shape, passes, ranges, interpolant, taps, plane)
        for block in range(blocks[0], blocks[1]):
            at = block * plane_rows
            start = passes[4] * (block * LANES) + passes[6] * z + passes[7]
            lines = (start, passes[4], passes[5] - 1.0)
            rows = (spans[block, 0], spans[block, 1], every)
            target = (columns, block * column_rows + (PAD + z) * LANES, n_blocks * column_rows)
            _reflect_lines(plane, at, ny)
            filter_lines(plane, at, ny, lines, rows, interpolant, weights, target, _ZERO)


@njit(f"void(i8, i8, UniTuple(i8, 2), i8, i8, f8[::1], {INTERPOLANT}, {BUFFERS})", **OPTIONS)
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
    _reflect_lines(columns, at, nz)
    filter_lines(
        columns, at, nz, lines, (span[0], span[1], 1), interpolant, buffers[1], target, _ZERO
    )
