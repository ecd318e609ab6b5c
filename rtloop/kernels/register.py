"""One Gauss-Newton step of rigid registration against a fixed reference.

Inverse compositional (Baker & Matthews, doi:10.1023/B:VISI.0000011205.11775.fd): the Jacobian
belongs to the reference, so it and its normal matrix are computed once; a step costs one
resampling and sixteen weighted sums. With v the smoothed volume on the reference grid, R the
smoothed reference, u = (1, x, y, z) voxels from the rotation centre and a the intensity model

    v(M u) = (a . u) R(u)        r = v - (a . u) R

the sums are r g_c u_b over the gradient's components c and r R u_b: the gradient of the squared
error in all affine and intensity directions, of which the ten wanted (three translations, three
rotations, gain, three ramps) are linear combinations.
"""

from __future__ import annotations

from math import asin, atan2, cos, sin, sqrt
from typing import Any

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
from rtloop.kernels.lines import filter_lines
from rtloop.kernels.resample import extent, filter_column, separate
from rtloop.kernels.simd import (
    LANES,
    add,
    fma,
    lane_numbers,
    load,
    mul,
    select_ge,
    splat,
    sub,
    total,
)

__all__ = ["N_PARAMETERS", "N_SUMS", "accumulate", "advance", "place", "rigid_matrix"]

N_PARAMETERS = 10
N_SUMS = 18
"""Sixteen moments, the weighted sum of squared residuals, the sum of weights."""

SLICE_REJECTION = 20.0
"""A voxel counts 1 - this times the share that bad slices have in its value, at least 0."""

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_TINY = np.float32(1e-30)


@kernel()
def _sum_column(
    column: Floats,
    doubt: Floats,
    features: Floats,
    at: int,
    low: int,
    high: int,
    x: int,
    y: int,
    gains: Doubles,
    centre: Doubles,
    weighted: int,
    sums: Doubles,
    slice_weights: Doubles,
) -> None:
    """Add one column's moments to `sums` and its weights to `slice_weights`."""
    xs = add(lane_numbers(), splat(np.float32(x - centre[0])))
    yc = y - centre[1]
    flat = fma(xs, splat(np.float32(gains[1])), splat(np.float32(gains[0] + gains[2] * yc)))
    zero = splat(_ZERO)
    gx = gy = gz = gr = zero
    zx = zy = zz = zr = zero
    squares = counts = zero
    for z in range(low, high):
        f = at + (z - low) * 4 * LANES
        reference = load(features, f + 3 * LANES)
        zc = splat(np.float32(z - centre[2]))
        model = mul(reference, fma(zc, splat(np.float32(gains[3])), flat))
        r = sub(load(column, z * LANES), model)
        # Outside the mask the reference's features are 0.
        weight = select_ge(reference, splat(_TINY), splat(_ONE), zero)
        if weighted:
            trust = fma(load(doubt, z * LANES), splat(np.float32(-SLICE_REJECTION)), splat(_ONE))
            weight = mul(weight, select_ge(trust, zero, trust, zero))
            slice_weights[z] += total(weight)
        counts = add(counts, weight)
        wr = mul(weight, r)
        squares = fma(wr, r, squares)
        wz = mul(wr, zc)
        a = load(features, f)
        b = load(features, f + LANES)
        c = load(features, f + 2 * LANES)
        gx = fma(wr, a, gx)
        gy = fma(wr, b, gy)
        gz = fma(wr, c, gz)
        gr = fma(wr, reference, gr)
        zx = fma(wz, a, zx)
        zy = fma(wz, b, zy)
        zz = fma(wz, c, zz)
        zr = fma(wz, reference, zr)
    sums[16] += total(squares)
    sums[17] += total(counts)
    _add_moments(sums, 0, gx, zx, xs, yc)
    _add_moments(sums, 4, gy, zy, xs, yc)
    _add_moments(sums, 8, gz, zz, xs, yc)
    _add_moments(sums, 12, gr, zr, xs, yc)


@kernel()
def _add_moments(sums: Doubles, k: int, plain: Any, z_weighted: Any, xs: Any, yc: float) -> None:
    one = np.float64(total(plain))
    sums[k] += one
    sums[k + 1] += np.float64(total(mul(plain, xs)))
    sums[k + 2] += one * yc
    sums[k + 3] += np.float64(total(z_weighted))


@kernel(
    f"i8(i8, i8, f8[::1], {INTERPOLANT}, i8[::1], i8[:, ::1], f4[::1], f8[::1], f8[::1], "
    f"f4[::1], f4[::1], i8, {BUFFERS}, f8[::1], f8[::1])"
)
def accumulate(
    nz: int,
    n_blocks: int,
    passes: Doubles,
    interpolant: Interpolation,
    box: Ints,
    columns: Ints,
    features: Floats,
    gains: Doubles,
    centre: Doubles,
    doubt_profile: Floats,
    doubt: Floats,
    doubted: int,
    buffers: Buffers,
    sums: Doubles,
    slice_weights: Doubles,
) -> int:
    """Sum the moments of the residual over all columns, after `fill_columns`.

    Returns 1 if voxels were weighted, because slices are in doubt or near the volume's end.

    Parameters
    ----------
    nz, n_blocks : volume's slices; blocks of sixteen x on the reference's grid
    passes, interpolant, box : as for `fill_columns`
    columns : (n, 5) x, y, z low, z high, place of the column's features
    features : per column and z: gradient x, y, z and value of the smoothed reference, 16 each
    gains : (4,) intensity model over (1, x, y, z)
    centre : (3,) rotation centre, voxels
    doubt_profile : (PAD + z + PAD) rows of 16: 1 for slices not to be used and beyond the volume
    doubt : buffer for one column
    doubted : whether any slice within the volume is in doubt
    buffers : as for `fill_columns`
    sums : (18,) receives the moments, squared residuals, weights
    slice_weights : (z,) receives the weight of each slice, if 1 is returned
    """
    sums[:] = 0.0
    slice_weights[:] = 0.0
    # Half a voxel into the last sample that a filter reaches, its weight there is still nothing.
    reach = interpolant[1] // 2 - 1.5
    z_low, z_high = extent(passes, 8, box, 0)
    weighted = 1 if doubted or z_low < reach or z_high > nz - 1.0 - reach else 0
    for c in range(columns.shape[0]):
        x, y, low, high = columns[c, 0], columns[c, 1], columns[c, 2], columns[c, 3]
        filter_column(x, y, (low, high), nz, n_blocks, passes, interpolant, buffers)
        if weighted:
            lines = (passes[8] * x + passes[9] * y + passes[11], passes[8], passes[10] - 1.0)
            target = (doubt, 0, LANES)
            filter_lines(
                doubt_profile, 0, nz, lines, (low, high, 1), interpolant, buffers[1], target, _ONE
            )
        _sum_column(
            buffers[4],
            doubt,
            features,
            columns[c, 4],
            low,
            high,
            x,
            y,
            gains,
            centre,
            weighted,
            sums,
            slice_weights,
        )
    return weighted


@kernel("void(f8[::1], f8[::1], f8[:, ::1])")
def rigid_matrix(parameters: Doubles, centre: Doubles, matrix: Doubles) -> None:
    """Write the world map x -> Rx Ry Rz (x - centre) + centre + t from (t, angles), mm and rad."""
    cx, sx = cos(parameters[3]), sin(parameters[3])
    cy, sy = cos(parameters[4]), sin(parameters[4])
    cz, sz = cos(parameters[5]), sin(parameters[5])
    matrix[0, 0] = cy * cz
    matrix[0, 1] = -cy * sz
    matrix[0, 2] = sy
    matrix[1, 0] = cx * sz + sx * sy * cz
    matrix[1, 1] = cx * cz - sx * sy * sz
    matrix[1, 2] = -sx * cy
    matrix[2, 0] = sx * sz - cx * sy * cz
    matrix[2, 1] = sx * cz + cx * sy * sz
    matrix[2, 2] = cx * cy
    for i in range(3):
        moved = 0.0
        for j in range(3):
            moved += matrix[i, j] * centre[j]
        matrix[i, 3] = centre[i] + parameters[i] - moved
        matrix[3, i] = 0.0
    matrix[3, 3] = 1.0


@kernel("void(f8[::1], f8[::1], f8[:, ::1], f8[:, ::1], f8[:, :, ::1], f8[:, ::1], f8[::1])")
def place(
    parameters: Doubles,
    centre: Doubles,
    to_voxel: Doubles,
    to_world: Doubles,
    work: Doubles,
    matrix: Doubles,
    passes: Doubles,
) -> None:
    """Write the voxel map (4, 4) of a motion and its passes, in one fixed order of sums."""
    world = work[0]
    rigid_matrix(parameters, centre, world)
    for i in range(4):
        for j in range(4):
            outer = 0.0
            for k in range(4):
                inner = 0.0
                for m in range(4):
                    inner += world[k, m] * to_world[m, j]
                outer += to_voxel[i, k] * inner
            matrix[i, j] = outer
    separate(matrix, passes)


@kernel("i8(f8[:, ::1], f8[::1])")
def _solve(normal: Doubles, right: Doubles) -> int:
    """Solve a symmetric positive definite system in place by Cholesky; 0 where it is not one."""
    n = right.size
    for i in range(n):
        for j in range(i + 1):
            s = normal[i, j]
            for k in range(j):
                s -= normal[i, k] * normal[j, k]
            if i == j:
                if not s > 0.0:
                    return 0
                normal[i, i] = sqrt(s)
            else:
                normal[i, j] = s / normal[j, j]
    for i in range(n):
        for k in range(i):
            right[i] -= normal[i, k] * right[k]
        right[i] /= normal[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            right[i] -= normal[k, i] * right[k]
        right[i] /= normal[i, i]
    return 1


@kernel("void(f8[::1], f8[::1], f8[::1], f8[:, :, ::1])")
def _compose(parameters: Doubles, step: Doubles, centre: Doubles, work: Doubles) -> None:
    """parameters <- the map of parameters after the inverse of the map of step."""
    now, change, product = work[0], work[1], work[2]
    rigid_matrix(parameters, centre, now)
    rigid_matrix(step, centre, change)
    for i in range(3):
        for j in range(3):
            s = 0.0
            for k in range(3):
                s += now[i, k] * change[j, k]
            product[i, j] = s
        for j in range(3):
            parameters[i] -= product[i, j] * step[j]
    parameters[3] = atan2(-product[1, 2], product[2, 2])
    parameters[4] = asin(min(max(product[0, 2], -1.0), 1.0))
    parameters[5] = atan2(-product[0, 1], product[0, 0])


@kernel(
    "f8(f8[::1], f8[:, ::1], f8[:, :, ::1], f8[::1], f8[::1], f8[::1], f8[::1], f8[:, ::1], "
    "f8[::1], f8[:, :, ::1])"
)
def advance(
    sums: Doubles,
    projection: Doubles,
    normals: Doubles,
    shares: Doubles,
    centre: Doubles,
    parameters: Doubles,
    gains: Doubles,
    normal: Doubles,
    step: Doubles,
    work: Doubles,
) -> float:
    """Take the step that the moments ask for.

    Parameters
    ----------
    sums : (18,) from `accumulate`
    projection : (16, 10) wanted directions in terms of the moments'
    normals : (z, 10, 10) normal matrix of each slice of the reference
    shares : (z,) share of each slice that counted
    centre : (3,) rotation centre, world mm
    parameters : (6,) translations mm, angles rad; updated
    gains : (4,) intensity model; updated
    normal, step, work : (10, 10), (10,), (3, 4, 4) buffers

    Returns
    -------
    float
        Length of the step: |translation| + 50 mm |rotation|; -1 if it cannot be computed.
    """
    normal[:] = 0.0
    for z in range(shares.size):
        for i in range(N_PARAMETERS):
            for j in range(i + 1):
                normal[i, j] += shares[z] * normals[z, i, j]
    for i in range(N_PARAMETERS):
        s = 0.0
        for k in range(16):
            s += projection[k, i] * sums[k]
        step[i] = s
    if not _solve(normal, step) or not gains[0] > 0.0:
        return -1.0
    for i in range(6):
        step[i] /= gains[0]
    for i in range(4):
        gains[i] += step[6 + i]
    length = sqrt(step[0] ** 2 + step[1] ** 2 + step[2] ** 2)
    length += 50.0 * sqrt(step[3] ** 2 + step[4] ** 2 + step[5] ** 2)
    # Beyond this the linear model says nothing; a shorter step in the same direction is safe.
    if not length < 1e6:
        return -1.0
    if length > 20.0:
        for i in range(6):
            step[i] *= 20.0 / length
    _compose(parameters, step[:6], centre, work)
    return length
