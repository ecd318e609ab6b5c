"""Sixteen lanes against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from rtloop.kernels.simd import (
    LANES,
    add,
    floor,
    fma,
    lane_numbers,
    load,
    mul,
    select_ge,
    splat,
    store,
    sub,
    total,
)

Floats = NDArray[np.float32]


@njit([f"f4({kind}[::1], f4[::1], f4[::1])" for kind in ("i2", "u2", "f4")], cache=False)  # type: ignore[untyped-decorator]
def _everything(source: Any, other: Floats, out: Floats) -> np.float32:
    a, b = load(source, 1), load(other, 0)
    store(out, 0, a)
    store(out, 16, add(a, b))
    store(out, 32, sub(a, b))
    store(out, 48, mul(a, b))
    store(out, 64, fma(a, b, splat(np.float32(1.0))))
    store(out, 80, floor(b))
    store(out, 96, select_ge(b, splat(np.float32(0.0)), a, b))
    store(out, 112, lane_numbers())
    return total(b)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32])
def test_each_instruction(dtype: type) -> None:
    rng = np.random.default_rng(0)
    low = 0 if dtype is np.uint16 else -30_000
    high = 65_000 if dtype is np.uint16 else 32_000
    source = rng.integers(low, high, LANES + 1).astype(dtype)
    other = rng.standard_normal(LANES).astype(np.float32)
    other[3] = np.nan
    out = np.zeros(8 * LANES, np.float32)
    _everything(source, other, out)
    a, b = source[1:].astype(np.float32), other
    expected = [a, a + b, a - b, a * b, a * b + np.float32(1), np.floor(b), np.where(b >= 0, a, b)]
    for row, value in zip(out.reshape(8, LANES), [*expected, np.arange(16)], strict=True):
        np.testing.assert_allclose(row, value, rtol=1e-6)


def test_total_adds_halves_of_halves() -> None:
    values = np.random.default_rng(1).standard_normal(LANES).astype(np.float32)
    expected = values.copy()
    while expected.size > 1:
        expected = expected[: expected.size // 2] + expected[expected.size // 2 :]
    out = np.zeros(8 * LANES, np.float32)
    assert _everything(np.zeros(17, np.float32), values, out) == expected[0]
