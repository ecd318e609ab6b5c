"""Steps of the recurrence as compiled code: one thread takes a person through all of them.

A step is a small product of matrices (some segments times a person's weights), again and again
with the same weights. General libraries lay the weights out anew at every call and are at some
60 % of what a core can do; here they are laid out once, in panels of as many columns as a vector
register holds, and a block of segments times a panel never leaves the registers (Goto & van de
Geijn 2008, doi:10.1145/1356052.1356053). Each lane sums over units in their order, so results do
not depend on how many threads there are, nor on the width of a register.

Arrays here have people first, then steps, segments, units. Buffers are on 64-byte boundaries:
a vector that crosses one costs twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import binding, ir  # type: ignore[import-untyped]  # ships no types
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = ["backward", "forward"]

Array = NDArray[Any]
"""Of float32 or float64, all of a call alike."""

_instruction: Any = intrinsic
"""To a type checker what it decorates is opaque: the first argument is Numba's own."""

_declare: Any = cgutils.get_or_insert_function

_HAS: Any = binding.get_host_cpu_features()
# bytes of a vector register, and how many rows of sums fit into registers beside two more values
if _HAS.get("avx512f"):
    _VECTOR_BYTES, _MOST_ROWS = 64, 24
elif _HAS.get("avx2"):
    _VECTOR_BYTES, _MOST_ROWS = 32, 12
else:
    _VECTOR_BYTES, _MOST_ROWS = 16, 24

_KERNEL: Any = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}

_TANH = (19.1, 1 / 16, 1.0, 2.0, 17325 / 135135, 378 / 135135, 1 / 135135,
         62370 / 135135, 3150 / 135135, 28 / 135135)  # fmt: skip
"""Beyond 19.1 tanh is 1; then Padé's [7/6] approximant, numerator and denominator over 135135."""


def forward(x: Array, b: Array, w: Array) -> Array:
    """States h[t] = tanh(W h[t-1] + B x[t]) of people, h[-1] = 0.

    Parameters
    ----------
    x : ndarray, shape (n_people, n_steps, n_segments, n_channels)
    b : ndarray, shape (n_people, n_units, n_channels)
    w : ndarray, shape (n_people, n_units, n_units)

    Returns
    -------
    ndarray, shape (n_people, n_steps, n_segments, n_units)
    """
    n_people, n_steps, n_segments, n_channels = x.shape
    n_units = w.shape[1]
    h = np.empty((n_people, n_steps, n_segments, n_units), w.dtype)
    block, *buffers = _buffers(n_segments, n_units + n_channels, n_units, w.dtype)
    _forward(block, np.ascontiguousarray(x), b, w, *buffers, np.array(_TANH, w.dtype), h)
    return h


def backward(slope: Array, h: Array, w: Array) -> Array:
    """Derivatives δ of a loss by what goes into tanh: δ[t] = (∂h[t] + W' δ[t+1]) (1 - h[t]²).

    Parameters
    ----------
    slope : ndarray, shape (n_people, n_steps, n_segments, n_units)
        ∂h: the loss's derivative by each state, that state's effect on later ones left out.
    h : ndarray, same shape
    w : ndarray, shape (n_people, n_units, n_units)

    Returns
    -------
    ndarray, same shape as `h`
    """
    n_segments, n_units = h.shape[2:]
    delta = np.empty(h.shape, h.dtype)
    block, *buffers = _buffers(n_segments, n_units, n_units, w.dtype)
    _backward(block, np.ascontiguousarray(slope), h, w, *buffers, delta)
    return delta


def _buffers(
    n_segments: int, n_inner: int, n_units: int, dtype: np.dtype[Any]
) -> tuple[tuple[int, ...], Array, Array, Array]:
    """A tuple as long as a block of segments, weights in panels, a block's rows, its sums.

    The compiler knows a tuple's length, and with it how many sums to keep in registers. Lengths are
    even, so that there are not too many to compile for; rows that nobody needs are zeros.
    """
    n_blocks = -(-n_segments // _MOST_ROWS)
    block = (0, 0) * -(-n_segments // (2 * n_blocks))
    lanes = _VECTOR_BYTES // dtype.itemsize
    n_panels = -(-n_units // lanes)
    panels = _aligned((n_panels, n_inner, lanes), dtype)
    rows = _aligned((n_inner, len(block)), dtype)
    return block, panels, rows, _aligned((len(block), n_panels * lanes), dtype)


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Zeros on a 64-byte boundary."""
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(n_bytes + 64, np.uint8)
    begin = -raw.ctypes.data % 64
    return raw[begin : begin + n_bytes].view(dtype).reshape(shape)


@_instruction
def _add_product(_typing: Any, block: Any, panels: Any, panel: Any, rows: Any, sums: Any) -> Any:
    """Add a block of rows times one panel to the sums of the panel's columns.

    sums[r, panel x lanes + l] += Σ_k rows[k, r] panels[panel, k, l], all arrays in one piece.
    """
    n_rows, number = len(block), panels.dtype
    lanes = _VECTOR_BYTES * 8 // number.bitwidth

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element = context.get_data_type(number)
        vector, align = ir.VectorType(element, lanes), number.bitwidth // 8
        kind = ir.FunctionType(vector, [vector] * 3)
        name = f"llvm.fmuladd.v{lanes}f{number.bitwidth}"
        fma = _declare(builder.module, kind, name)
        int64 = ir.IntType(64)
        lane_zero = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)

        def array(k: int) -> Any:
            return context.make_array(signature.args[k])(context, builder, args[k])

        def at(base: Any, offset: Any) -> Any:
            return builder.gep(base, [offset], source_etype=element)

        def vector_at(base: Any, offset: Any) -> Any:
            return builder.bitcast(at(base, offset), vector.as_pointer())

        def constant(value: int) -> Any:
            return ir.Constant(int64, value)

        weights, these, totals = array(1), array(3), array(4)
        n_inner = builder.extract_value(these.shape, 0)
        width = builder.extract_value(totals.shape, 1)
        own = at(weights.data, builder.mul(builder.mul(args[2], n_inner), constant(lanes)))
        out = at(totals.data, builder.mul(args[2], constant(lanes)))
        outs = [vector_at(out, builder.mul(width, constant(r))) for r in range(n_rows)]

        # begin: the sums so far
        before = [builder.load(place, align=align, typ=vector) for place in outs]
        entry = builder.block
        loop, end = builder.append_basic_block("inner"), builder.append_basic_block("end")
        builder.branch(loop)

        # for every k: a vector of weights, times one number for each row
        builder.position_at_end(loop)
        k = builder.phi(int64)
        k.add_incoming(constant(0), entry)
        running = [builder.phi(vector) for _ in range(n_rows)]
        place = vector_at(own, builder.mul(k, constant(lanes)))
        weight = builder.load(place, align=align, typ=vector)
        first = builder.mul(k, constant(n_rows))
        after = []
        for r, total in enumerate(running):
            value = builder.load(at(these.data, builder.add(first, constant(r))), typ=element)
            alone = ir.Constant(vector, ir.Undefined)
            alone = builder.insert_element(alone, value, ir.Constant(ir.IntType(32), 0))
            everywhere = builder.shuffle_vector(alone, alone, lane_zero)
            after.append(builder.call(fma, [everywhere, weight, total]))
        following = builder.add(k, constant(1))
        k.add_incoming(following, loop)
        for total, start, now in zip(running, before, after, strict=True):
            total.add_incoming(start, entry)
            total.add_incoming(now, loop)
        builder.cbranch(builder.icmp_signed("<", following, n_inner), loop, end)

        # end: the sums go back
        builder.position_at_end(end)
        for place, value in zip(outs, after, strict=True):
            builder.store(value, place, align=align)
        return context.get_dummy_value()

    return types.void(block, panels, panel, rows, sums), codegen


@njit(**_KERNEL)
def _forward(block, x, b, w, panels, rows, sums, tanh, h):  # type: ignore[no-untyped-def]  # numba infers them
    n_people, n_steps, n_segments, n_units = h.shape
    n_channels = x.shape[3]
    for person in range(n_people):
        # lay out W' over B'
        _lay_out(w[person].T, panels, 0)
        _lay_out(b[person].T, panels, n_units)
        for begin in range(0, n_segments, len(block)):
            n_rows = min(len(block), n_segments - begin)
            rows[:] = 0.0
            for t in range(n_steps):
                for r in range(n_rows):
                    for c in range(n_channels):
                        rows[n_units + c, r] = x[person, t, begin + r, c]
                sums[:] = 0.0
                for panel in range(len(panels)):
                    _add_product(block, panels, panel, rows, sums)
                for r in range(n_rows):
                    _tanh(sums[r], tanh, h[person, t, begin + r])
                _as_columns(h[person, t, begin : begin + n_rows], rows)


@njit(**_KERNEL)
def _backward(block, slope, h, w, panels, rows, sums, delta):  # type: ignore[no-untyped-def]  # numba infers them
    n_people, n_steps, n_segments, n_units = h.shape
    one = h.dtype.type(1.0)
    for person in range(n_people):
        _lay_out(w[person], panels, 0)
        for begin in range(0, n_segments, len(block)):
            n_rows = min(len(block), n_segments - begin)
            rows[:] = 0.0
            for t in range(n_steps - 1, -1, -1):
                for r in range(n_rows):
                    sums[r, :n_units] = slope[person, t, begin + r]
                for panel in range(len(panels)):
                    _add_product(block, panels, panel, rows, sums)
                for r in range(n_rows):
                    state, now = h[person, t, begin + r], delta[person, t, begin + r]
                    for unit in range(n_units):
                        now[unit] = sums[r, unit] * (one - state[unit] * state[unit])
                _as_columns(delta[person, t, begin : begin + n_rows], rows)


@njit(**_KERNEL)
def _lay_out(matrix, panels, first):  # type: ignore[no-untyped-def]  # numba infers them
    """Rows of a matrix into rows `first` and after of the panels, some columns in each."""
    lanes = panels.shape[2]
    for panel in range(len(panels)):
        n_columns = min(lanes, matrix.shape[1] - panel * lanes)
        for k in range(len(matrix)):
            for lane in range(n_columns):
                panels[panel, first + k, lane] = matrix[k, panel * lanes + lane]


@njit(**_KERNEL)
def _as_columns(values, rows):  # type: ignore[no-untyped-def]  # numba infers them
    """(row, unit) into (unit, row), as `_add_product` reads them."""
    for unit in range(values.shape[1]):
        for r in range(len(values)):
            rows[unit, r] = values[r, unit]


@njit(**_KERNEL)
def _tanh(values, constants, out):  # type: ignore[no-untyped-def]  # numba infers them
    """tanh of a sixteenth, doubled four times: tanh 2y = 2 tanh y / (1 + tanh² y).

    Numerator and denominator are doubled apart, so that there is one division. NaN stays NaN.
    """
    bound, sixteenth, one, two, p1, p2, p3, q1, q2, q3 = constants[:10]
    for k in range(len(out)):
        value = values[k]
        value = bound if value > bound else value
        value = -bound if value < -bound else value
        y = value * sixteenth
        z = y * y
        p = y * (one + z * (p1 + z * (p2 + z * p3)))
        q = one + z * (q1 + z * (q2 + z * q3))
        for _ in range(4):
            p, q = two * p * q, p * p + q * q
        out[k] = p / q
