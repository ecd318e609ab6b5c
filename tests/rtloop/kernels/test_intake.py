"""Intake of volumes against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtloop.columns import volume_buffer
from rtloop.kernels.intake import doubt_slices, take_in
from rtloop.kernels.layout import ROW_START, VOLUME_MARGIN, row_stride

Floats = NDArray[np.float32]


def _taken(
    image: NDArray[np.generic], factors: list[int]
) -> tuple[Floats, Floats, NDArray[np.float64]]:
    """Rows with their reflections, block means, slice sums."""
    nx, ny, nz = image.shape
    mx, my, mz = (n // f for n, f in zip(image.shape, factors, strict=True))
    volume, coarse = volume_buffer((nx, ny, nz)), volume_buffer((mx, my, mz))
    partial, sums = np.zeros((my + 1) * nx, np.float32), np.zeros(nz)
    flat = np.ascontiguousarray(image.T).reshape(-1)
    take_in(flat, np.array(image.shape), np.array(factors), volume, coarse, partial, sums)
    rows = volume[VOLUME_MARGIN:-VOLUME_MARGIN].reshape(nz, ny, row_stride(nx))
    blocks = coarse[VOLUME_MARGIN:-VOLUME_MARGIN].reshape(mz, my, row_stride(mx))
    return rows, blocks[:, :, ROW_START : ROW_START + mx], sums


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(80, 7, 5), (33, 12, 9), (5, 6, 4)])
def test_rows_blocks_and_sums(dtype: type, shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 30_000, shape).astype(dtype)
    factors = [2, 3, 2]
    rows, blocks, sums = _taken(image, factors)
    n = shape[0]
    np.testing.assert_array_equal(rows[:, :, ROW_START : ROW_START + n], image.T)
    reflected = np.pad(image, [(8, 8), (0, 0), (0, 0)], mode="symmetric").T
    np.testing.assert_array_equal(rows[:, :, ROW_START - 8 : ROW_START + n + 8], reflected)
    np.testing.assert_allclose(sums, image.sum(axis=(0, 1), dtype=np.float64), rtol=1e-6)
    m = [k // f for k, f in zip(shape, factors, strict=True)]
    whole = image[: m[0] * 2, : m[1] * 3, : m[2] * 2].astype(np.float64)
    means = whole.reshape(m[0], 2, m[1], 3, m[2], 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(blocks, means.T, rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_shows_in_its_slice(value: float) -> None:
    image = np.ones((20, 6, 5), np.float32)
    image[18, 3, 2] = value
    _, _, sums = _taken(image, [2, 2, 2])
    assert np.flatnonzero(~np.isfinite(sums)).tolist() == [2]


def test_slices_that_depart_are_doubted() -> None:
    rng = np.random.default_rng(0)
    reference = 1e6 * np.sin(np.linspace(0.2, 3.0, 36))
    reference[0] = 0.0
    sums = reference * np.linspace(0.9, 1.1, 36) * rng.uniform(0.98, 1.02, 36)
    doubted, window = np.zeros(36, np.bool_), np.zeros(7)
    ordinary = float(np.median(reference))
    assert doubt_slices(sums, reference, ordinary, 0.12, doubted, window) == 0
    sums[[11, 12, 29]] *= 0.5
    assert doubt_slices(sums, reference, ordinary, 0.12, doubted, window) == 3
    assert np.flatnonzero(doubted).tolist() == [11, 12, 29]
    ratio = np.divide(sums, reference, where=reference > 0, out=np.full(36, np.nan))
    course = np.array([np.nanmedian(ratio[max(z - 3, 0) : z + 4]) for z in range(36)])
    departs = np.abs(sums - course * reference) > 0.12 * course * ordinary
    np.testing.assert_array_equal(doubted, departs)
