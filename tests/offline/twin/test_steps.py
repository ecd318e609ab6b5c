"""Compiled steps against the same written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.twin import steps


def states(x, b, w):
    """The oracle, in float64."""
    x, b, w = (part.astype(np.float64) for part in (x, b, w))
    h = np.zeros((*x.shape[:3], w.shape[1]))
    last = np.zeros_like(h[:, 0])
    for t in range(x.shape[1]):
        last = np.tanh(last @ w.swapaxes(1, 2) + x[:, t] @ b.swapaxes(1, 2))
        h[:, t] = last
    return h


def deltas(slope, h, w):
    out, later = np.zeros(h.shape), np.zeros(h[:, 0].shape)
    for t in reversed(range(h.shape[1])):
        later = (slope[:, t] + later @ w.astype(np.float64)) * (1.0 - h[:, t] ** 2)
        out[:, t] = later
    return out


def draw(n_people, n_steps, n_segments, n_channels, n_units, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_people, n_steps, n_segments, n_channels)).astype(dtype)
    b = rng.standard_normal((n_people, n_units, n_channels)).astype(dtype)
    w = (rng.standard_normal((n_people, n_units, n_units)) / np.sqrt(n_units)).astype(dtype)
    slope = rng.standard_normal((n_people, n_steps, n_segments, n_units)).astype(dtype)
    return x, b, w, slope


# one panel and several, whole and not; one block of segments, and two that are not alike
@pytest.mark.parametrize(
    "shape", [(2, 7, 19, 10, 70), (3, 5, 6, 4, 32), (2, 4, 25, 3, 7), (1, 3, 1, 2, 17)]
)
@pytest.mark.parametrize(("dtype", "most"), [(np.float64, 1e-13), (np.float32, 1e-5)])
def test_states_and_deltas_are_those_of_the_formula(shape, dtype, most):
    x, b, w, slope = draw(*shape, dtype)
    h, expected = steps.forward(x, b, w), states(x, b, w)
    assert h.dtype == dtype
    np.testing.assert_allclose(h, expected, rtol=0, atol=most)
    found, wanted = steps.backward(slope, h, w), deltas(slope, expected, w)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=most * np.abs(wanted).max())


# each length of a block is compiled once: few of them
@given(st.sampled_from([1, 24, 25, 48]), st.integers(0, 2**16))
@settings(max_examples=20, deadline=None)
def test_a_segment_is_the_same_beside_any_others(n_segments, seed):
    x, b, w, slope = draw(1, 4, 60, 2, 9, np.float32, seed)
    h = steps.forward(x, b, w)
    some = steps.forward(x[:, :, -n_segments:], b, w)
    assert np.array_equal(some, h[:, :, -n_segments:])
    delta = steps.backward(slope, h, w)
    few = steps.backward(slope[:, :, -n_segments:], some, w)
    assert np.array_equal(few, delta[:, :, -n_segments:])


@pytest.mark.parametrize(("dtype", "most"), [(np.float64, 4e-16), (np.float32, 2e-7)])
def test_tanh_is_as_exact_as_its_numbers(dtype, most):
    x = np.concatenate([np.linspace(-30.0, 30.0, 20001), np.logspace(-12, 1, 2000)]).astype(dtype)
    out = np.empty_like(x)
    steps._tanh(x, np.array(steps._TANH, dtype), out)
    exact = np.tanh(x.astype(np.longdouble))
    np.testing.assert_allclose(out, exact.astype(np.float64), rtol=6 * most, atol=most)


def test_nan_is_not_bounded_away():
    x, b, w, _ = draw(1, 5, 3, 2, 8, np.float32)
    x[0, 2, 1] = np.nan
    h = steps.forward(x, b, w)
    assert np.isnan(h[0, 2:, 1]).all()
    assert np.isfinite(h[0, :2]).all()
    assert np.isfinite(h[0, :, [0, 2]]).all()


def test_large_input_saturates():
    x, b, w, _ = draw(1, 3, 2, 2, 8, np.float32)
    h = steps.forward(1e30 * x, b, w)
    np.testing.assert_allclose(np.abs(h), 1.0, rtol=0, atol=2e-7)
