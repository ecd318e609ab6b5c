"""Sixteen float32 lanes as one value: the arithmetic the volume kernels are written in.

Numba's loop vectoriser gives up on short inner loops over several arrays; here the vector is
written out. Each function is one LLVM instruction on `<16 x float>`, which LLVM maps to whatever
the processor has (AVX-512, AVX2, NEON). Lanes never mix except in `total`, whose order is fixed,
so results do not depend on the vector width. Offsets count floats; no alignment is required, but
buffers on 64-byte boundaries are faster.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

__all__ = [
    "LANES",
    "add",
    "floor",
    "fma",
    "lane_numbers",
    "lanes_type",
    "load",
    "mul",
    "select_ge",
    "splat",
    "store",
    "sub",
    "total",
]

LANES = 16
_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_INT32 = ir.IntType(32)
_instruction: Any = intrinsic
"""To a type checker the functions below are opaque: their first argument is Numba's own."""

_declare: Any = cgutils.get_or_insert_function


class _Lanes(types.Type):
    """Numba's type of sixteen float32 lanes."""

    def __init__(self) -> None:
        super().__init__(name=f"Lanes{LANES}xf4")


lanes_type: Any = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    """A value of this type is one LLVM vector."""

    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _VECTOR)  # type: ignore[no-untyped-call]


def _address(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    """Address of element `offset` as one of a vector of the array's elements."""
    data = context.make_array(array_type)(context, builder, array).data
    element = context.get_data_type(array_type.dtype)
    vector = ir.VectorType(element, LANES)
    return builder.bitcast(builder.gep(data, [offset], source_etype=element), vector.as_pointer())


@_instruction
def load(_typing: Any, array: Any, offset: Any) -> Any:
    """Sixteen elements of a flat int16, uint16 or float32 array from `offset` on, as floats."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_type = signature.args[0]
        address = _address(context, builder, array_type, *args)
        element = context.get_data_type(array_type.dtype)
        align = array_type.dtype.bitwidth // 8
        value = builder.load(address, align=align, typ=ir.VectorType(element, LANES))
        if array_type.dtype == types.float32:
            return value
        convert = builder.sitofp if array_type.dtype.signed else builder.uitofp
        return convert(value, _VECTOR)

    return lanes_type(array, types.intp), codegen


@_instruction
def store(_typing: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write sixteen lanes into a flat float32 array from `offset` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature.args[0], *args[:2])
        builder.store(args[2], address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@_instruction
def splat(_typing: Any, value: Any) -> Any:
    """The same number in every lane."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        empty = ir.Constant(_VECTOR, ir.Undefined)
        one = builder.insert_element(empty, args[0], ir.Constant(_INT32, 0))
        return builder.shuffle_vector(one, one, _indices([0] * LANES))

    return lanes_type(types.float32), codegen


@_instruction
def lane_numbers(_typing: Any) -> Any:
    """0, 1, ..., 15."""

    def codegen(*_: Any) -> Any:
        return ir.Constant(_VECTOR, [float(lane) for lane in range(LANES)])

    return lanes_type(), codegen


@_instruction
def fma(_typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once where the processor can."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        function = _declare(builder.module, kind, "llvm.fmuladd.v16f32")
        return builder.call(function, args)

    return lanes_type(a, b, c), codegen


def _binary(instruction: str) -> Any:
    @_instruction
    def operation(_typing: Any, a: Any, b: Any) -> Any:
        def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(*args)

        return lanes_type(a, b), codegen

    return operation


add = _binary("fadd")
sub = _binary("fsub")
mul = _binary("fmul")


@_instruction
def floor(_typing: Any, a: Any) -> Any:
    """Largest integer not above each lane."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        function = _declare(builder.module, kind, "llvm.floor.v16f32")
        return builder.call(function, args)

    return lanes_type(a), codegen


@_instruction
def select_ge(_typing: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    """x in the lanes where a >= b, y in the others."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">=", args[0], args[1]), args[2], args[3])

    return lanes_type(a, b, x, y), codegen


@_instruction
def total(_typing: Any, a: Any) -> Any:
    """Sum of the lanes: halves are added, then halves of the halves."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        value, width = args[0], LANES
        while width > 1:
            half = width // 2
            low = builder.shuffle_vector(value, value, _indices(list(range(half))))
            high = builder.shuffle_vector(value, value, _indices(list(range(half, width))))
            value, width = builder.fadd(low, high), half
        return builder.extract_element(value, ir.Constant(_INT32, 0))

    return types.float32(a), codegen


def _indices(lanes: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_INT32, len(lanes)), lanes)
