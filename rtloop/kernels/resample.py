"""A volume under a rigid (or any near-identity affine) map, one axis at a time.

The map p -> M p is split into three passes that move one coordinate each: x along the volume's
own rows, then y, then z (Hanrahan's three-pass decomposition, doi:10.1145/97880.97914). Along a
line of the grid the shift is constant up to a stretch of the order of the squared angle, so a
line needs one set of filter weights, and sixteen neighbouring lines are filtered at once. Every
sample is taken on the volume's own grid, every axis is interpolated exactly once, and a voxel
costs three filters of n taps instead of one of n**3.

An interpolant is a tuple `(table, n_taps, degree, drift)`, see `rtloop.interpolants`. With a
smoothing filter for a table the same passes give the smoothed image that registration compares.
Lines are continued by reflection at their outer voxel edges.
"""

from __future__ import annotations

from math import floor as floor_of

import numpy as np
from numba import njit

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

__all__ = [
    "BUFFERS",
    "INTERPOLANT",
    "OPTIONS",
    "PAD",
    "ROW_START",
    "SPARE",
    "VOLUME_MARGIN",
    "WIDTH",
    "fill_columns",
    "filter_column",
    "filter_lines",
    "reach",
    "reflected",
    "row_stride",
    "sample_all",
    "sample_some",
    "separate",
]

PAD = 12
"""Rows added by reflection at both ends of a line: half the longest filter and some shift."""

ROW_START = 16
"""Floats before the first voxel of a row in a volume's buffer; they hold the row's reflection."""

VOLUME_MARGIN = 128
"""Floats before and after the rows of a volume's buffer, so that no shift reads outside it."""

SPARE = 4
"""Rows after the last one that the four-row filter loop may read."""

EXTRA = 8
"""Most voxels by which sixteen neighbouring lines may differ in shift (28 degrees)."""

FAR = 40.0
"""Voxels to which a row's shift is clipped; what lies farther is outside the volume anyway."""

WIDTH = 16
"""Row length of the interpolants' tables; filters have at most this many taps."""

OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}
INTERPOLANT = "Tuple((f4[::1], i8, i8, f8))"
BUFFERS = "UniTuple(f4[::1], 5)"
_ZERO = np.float32(0.0)
_HALF = np.float32(0.5)


@njit("void(f8[:, ::1], f8[::1])", **OPTIONS)
def separate(matrix, passes):
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
def row_stride(nx):
    """Floats from row to row of a volume's buffer: reflection, nx voxels, reflection."""
    return (ROW_START + nx + 8 + LANES - 1) // LANES * LANES


@njit("i8(i8, i8)", **OPTIONS)
def reflected(i, n):
    """Index of the sample that stands `i` rows into the reflection of n samples (0, 1, ...)."""
    while i >= 2 * n:
        i -= 2 * n
    return i if i < n else 2 * n - 1 - i


@njit("UniTuple(i8, 2)(f8[::1], i8, i8[::1], i8, i8)", **OPTIONS)
def reach(passes, row, box, z, n_taps):
    """Samples of the volume that a pass reads for all of a box: first, last + 1.

    `row` is 4 for y (in the volume's slice `z`), 8 for z; `box` (6,) holds the output's ranges.
    One sample more on both sides allows for rounding and for shifts held constant.
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
    # Bounds far outside any volume keep the integers in range.
    low, high = max(low, -1e6), min(high, 1e6)
    return int(floor_of(low)) - n_taps // 2, int(floor_of(high)) + n_taps // 2 + 2


@njit(**OPTIONS)
def _weigh_lanes(start, step, table, n_taps, degree, weights):
    """Filter weights of sixteen lines shifted by start + lane * step voxels.

    Returns the shift's common integer part and the number of taps: lanes whose integer part is
    larger have their weights moved up by as many taps.
    """
    last = start + (LANES - 1) * step
    low = floor_of(min(start, last))
    extra = min(int(floor_of(max(start, last)) - low), EXTRA)
    shift = fma(lane_numbers(), splat(np.float32(step)), splat(np.float32(start - low)))
    # Rounding may put a lane just outside [0, extra + 1): keep it in its neighbour's interval.
    whole = floor(shift)
    whole = select_ge(whole, splat(_ZERO), whole, splat(_ZERO))
    whole = select_ge(whole, splat(np.float32(extra)), splat(np.float32(extra)), whole)
    u = sub(sub(shift, whole), splat(_HALF))
    for k in range(n_taps):
        w = splat(table[degree * WIDTH + k])
        for m in range(degree - 1, -1, -1):
            w = fma(w, u, splat(table[m * WIDTH + k]))
        store(weights, k * LANES, w)
    for moved in range(1, extra + 1):
        top = n_taps + moved - 1
        threshold = splat(np.float32(moved))
        for k in range(top, -1, -1):
            here = splat(_ZERO) if k == top else load(weights, k * LANES)
            below = splat(_ZERO) if k == 0 else load(weights, (k - 1) * LANES)
            store(weights, k * LANES, select_ge(whole, threshold, below, here))
    return int(low), n_taps + extra


@njit(**OPTIONS)
def _filter(source, at, weights, n_taps, out, out_at, out_step, low, high):
    """out[i] = sum_k weights[k] * source[i + k] for rows of sixteen lanes, four rows at once."""
    for i in range(low, high, 4):
        a = b = c = d = splat(_ZERO)
        p = at + i * LANES
        for k in range(n_taps):
            w = load(weights, k * LANES)
            q = p + k * LANES
            a = fma(w, load(source, q), a)
            b = fma(w, load(source, q + LANES), b)
            c = fma(w, load(source, q + 2 * LANES), c)
            d = fma(w, load(source, q + 3 * LANES), d)
        o = out_at + i * out_step
        store(out, o, a)
        if i + 1 < high:
            store(out, o + out_step, b)
        if i + 2 < high:
            store(out, o + 2 * out_step, c)
        if i + 3 < high:
            store(out, o + 3 * out_step, d)


@njit("void(f4[::1], i8, i8)", **OPTIONS)
def _reflect_lines(source, at, n):
    """Continue sixteen lines of n samples, rows PAD..PAD+n at `at`, beyond both ends."""
    for r in range(PAD):
        near = reflected(r, n)
        store(source, at + (PAD - 1 - r) * LANES, load(source, at + (PAD + near) * LANES))
        far = PAD + n - 1 - near
        store(source, at + (PAD + n + r) * LANES, load(source, at + far * LANES))


@njit(
    f"void(f4[::1], i8, i8, f8, f8, f8, i8, i8, {INTERPOLANT}, f4[::1], f4[::1], i8, i8, f4)",
    **OPTIONS,
)
def filter_lines(
    source, at, n, start, step, stretch, low, high, interpolant, weights, out, out_at, out_step, far
):
    """Sixteen neighbouring lines of n samples, output rows low..high.

    `source` at `at` holds rows -PAD..n+PAD. Output row i of lane l is taken at
    i * (1 + stretch) + start + l * step. Rows whose taps reach farther become `far`.
    """
    table, n_taps, degree, drift = interpolant
    # Segments of constant shift lie on the whole line, not on what is wanted of it: a voxel's
    # value must not depend on which others are asked for.
    segment = n
    if abs(stretch) * n > 2.0 * drift:
        segment = max(8, 8 * int(2.0 * drift / abs(stretch) / 8.0))
    for segment_low in range(low // segment * segment, high, segment):
        segment_high = min(segment_low + segment, n)
        begin, end = max(segment_low, low), min(segment_high, high)
        shift = start + stretch * 0.5 * (segment_low + segment_high - 1)
        shift = min(max(shift, -1e6), 1e6)
        whole, taps = _weigh_lanes(shift, step, table, n_taps, degree, weights)
        first = PAD + whole - (n_taps // 2 - 1)
        inner_low = min(max(begin, -first), end)
        inner_high = max(min(end, n + 2 * PAD - first - taps + 1), inner_low)
        for i in range(begin, inner_low):
            store(out, out_at + i * out_step, splat(far))
        for i in range(inner_high, end):
            store(out, out_at + i * out_step, splat(far))
        _filter(
            source, at + first * LANES, weights, taps, out, out_at, out_step, inner_low, inner_high
        )


@njit(**OPTIONS)
def _weigh_row(shift, table, degree, taps):
    """Filter weights of one row shifted by `shift` voxels; returns the shift's integer part."""
    shift = min(max(shift, -FAR), FAR)
    low = floor_of(shift)
    u = splat(np.float32(shift - low - 0.5))
    w = load(table, degree * WIDTH)
    for m in range(degree - 1, -1, -1):
        w = fma(w, u, load(table, m * WIDTH))
    store(taps, 0, w)
    return int(low)


@njit(
    f"void(f4[::1], i8, i8, f8, f8, i8, i8, {INTERPOLANT}, f4[::1], f4[::1], i8, i8)", **OPTIONS
)
def _filter_row(
    volume, at, n, start, stretch, low, high, interpolant, taps, out, out_at, out_step
):
    """One row of the volume, output blocks low..high, taken at x * (1 + stretch) + start."""
    table, n_taps, degree, drift = interpolant
    constant = abs(stretch) * n <= 2.0 * drift
    whole = _weigh_row(start + stretch * 0.5 * (n - 1), table, degree, taps)
    left = at - (n_taps // 2 - 1)
    block = low
    while constant and block + 4 <= high:
        a = b = c = d = splat(_ZERO)
        p = left + whole + block * LANES
        for k in range(n_taps):
            w = splat(taps[k])
            a = fma(w, load(volume, p + k), a)
            b = fma(w, load(volume, p + k + LANES), b)
            c = fma(w, load(volume, p + k + 2 * LANES), c)
            d = fma(w, load(volume, p + k + 3 * LANES), d)
        o = out_at + block * out_step
        store(out, o, a)
        store(out, o + out_step, b)
        store(out, o + 2 * out_step, c)
        store(out, o + 3 * out_step, d)
        block += 4
    while block < high:
        if not constant:
            middle = block * LANES + 0.5 * (LANES - 1)
            whole = _weigh_row(start + stretch * middle, table, degree, taps)
        a = splat(_ZERO)
        p = left + whole + block * LANES
        for k in range(n_taps):
            a = fma(splat(taps[k]), load(volume, p + k), a)
        store(out, out_at + block * out_step, a)
        block += 1


@njit(
    f"void(f4[::1], i8[::1], f8[::1], {INTERPOLANT}, i8[::1], i8[:, ::1], {BUFFERS})", **OPTIONS
)
def fill_columns(volume, shape, passes, interpolant, box, spans, buffers):
    """Passes along x and y: the volume's own slices on the output's x and y.

    Parameters
    ----------
    volume : float32 buffer laid out by `intake.take_in`, finite
    shape : (3,) volume's n_x, n_y, n_z
    passes : (12,) from `separate`
    interpolant : table, number of taps, degree, drift
    box : (6,) output's x, y, z ranges (low, high, exclusive) that will be asked for
    spans : (n_blocks, 2) output's y range wanted per block of sixteen x
    buffers : taps, weights, plane, columns, column; the columns are filled:
        (y, block, PAD + z' + PAD, lane)
    """
    taps, weights, plane, columns, _ = buffers
    nx, ny, nz = shape
    stride = row_stride(nx)
    n_taps = interpolant[1]
    n_blocks = spans.shape[0]
    block_low, block_high = box[0] // LANES, (box[1] - 1) // LANES + 1
    z_low, z_high = reach(passes, 8, box, 0, n_taps)
    plane_rows = (ny + 2 * PAD + SPARE) * LANES
    column_rows = (nz + 2 * PAD + SPARE) * LANES
    for z in range(max(z_low, 0), min(z_high, nz)):
        y_low, y_high = reach(passes, 4, box, z, n_taps)
        # Rows near an edge are also read through their reflection.
        y_low = 0 if y_low < PAD else y_low
        y_high = ny if y_high > ny - PAD else y_high
        for y in range(y_low, y_high):
            at = VOLUME_MARGIN + (z * ny + y) * stride + ROW_START
            start = passes[1] * y + passes[2] * z + passes[3]
            _filter_row(volume, at, nx, start, passes[0] - 1.0, block_low, block_high,
                        interpolant, taps, plane, (PAD + y) * LANES, plane_rows)
        for block in range(block_low, block_high):
            start = passes[4] * (block * LANES) + passes[6] * z + passes[7]
            _reflect_lines(plane, block * plane_rows, ny)
            filter_lines(plane, block * plane_rows, ny, start, passes[4], passes[5] - 1.0,
                         spans[block, 0], spans[block, 1], interpolant, weights, columns,
                         block * column_rows + (PAD + z) * LANES, n_blocks * column_rows, _ZERO)


@njit(f"void(i8, i8, i8, i8, i8[::1], f8[::1], {INTERPOLANT}, {BUFFERS})", **OPTIONS)
def filter_column(x, y, low, high, shape, passes, interpolant, buffers):
    """Pass along z of the sixteen columns at x, y: the column buffer's rows low..high."""
    columns = buffers[3]
    nz = shape[2]
    n_blocks = (shape[0] + LANES - 1) // LANES
    at = (y * n_blocks + x // LANES) * (nz + 2 * PAD + SPARE) * LANES
    start = passes[8] * x + passes[9] * y + passes[11]
    _reflect_lines(columns, at, nz)
    filter_lines(columns, at, nz, start, passes[8], passes[10] - 1.0, low, high, interpolant,
                 buffers[1], buffers[4], 0, LANES, _ZERO)


@njit(**OPTIONS)
def _is_inside(matrix, x, y, z, shape):
    """Whether an output voxel lies within the volume's outer voxel edges."""
    for i in range(3):
        p = matrix[i, 0] * x + matrix[i, 1] * y + matrix[i, 2] * z + matrix[i, 3]
        if not (-0.5 <= p <= shape[i] - 0.5):
            return False
    return True


@njit("void(f8[:, ::1], i8, i8, i8, i8, i8[::1], f4[::1])", **OPTIONS)
def _blank_outside(matrix, x, y, low, high, shape, column):
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


@njit(
    f"void(i8[::1], f8[:, ::1], f8[::1], {INTERPOLANT}, i8[:, ::1], {BUFFERS}, f4[::1])", **OPTIONS
)
def sample_all(shape, matrix, passes, interpolant, rows, buffers, out):
    """The whole grid, (z * y * x,), after `fill_columns`; NaN outside the volume.

    `rows` (n, 4+): first x, y, z range of every column.
    """
    nx, ny, nz = shape
    column = buffers[4]
    for c in range(rows.shape[0]):
        x, y = rows[c, 0], rows[c, 1]
        filter_column(x, y, 0, nz, shape, passes, interpolant, buffers)
        _blank_outside(matrix, x, y, 0, nz, shape, column)
        if x + LANES <= nx:
            for z in range(nz):
                store(out, (z * ny + y) * nx + x, load(column, z * LANES))
        else:
            for z in range(nz):
                for lane in range(nx - x):
                    out[(z * ny + y) * nx + x + lane] = column[z * LANES + lane]


@njit(
    f"void(i8[::1], f8[:, ::1], f8[::1], {INTERPOLANT}, i8[:, ::1], {BUFFERS}, i8[:, ::1], "
    "f4[::1])",
    **OPTIONS,
)
def sample_some(shape, matrix, passes, interpolant, rows, buffers, wanted, out):
    """Listed voxels only, after `fill_columns`; NaN outside the volume.

    `rows` (n, 6): first x, y, z range, first entry, entries' end of every column. `wanted`
    (n, 2): an entry's place in its column (z * 16 + lane) and in `out`.
    """
    column = buffers[4]
    for c in range(rows.shape[0]):
        x, y, low, high = rows[c, 0], rows[c, 1], rows[c, 2], rows[c, 3]
        filter_column(x, y, low, high, shape, passes, interpolant, buffers)
        _blank_outside(matrix, x, y, low, high, shape, column)
        for e in range(rows[c, 4], rows[c, 5]):
            out[wanted[e, 1]] = column[wanted[e, 0]]
