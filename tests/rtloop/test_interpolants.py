"""Interpolants against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from scipy.interpolate import BSpline

from rtloop.interpolants import Interpolant, band_interpolator, quintic_smoother

FRACTIONS = np.linspace(0.0, 1.0, 41)


def test_quintic_smoother_is_the_b_spline_basis() -> None:
    basis = BSpline.basis_element(np.arange(-3.0, 4.0), extrapolate=False)
    for fraction in FRACTIONS:
        expected = np.nan_to_num(basis(fraction - np.arange(-2.0, 4.0)))
        np.testing.assert_allclose(quintic_smoother().weights(fraction), expected, atol=1e-6)


def test_band_interpolator_reproduces_quintic_polynomials() -> None:
    taps = np.arange(-7.0, 9.0)
    for fraction in FRACTIONS:
        weights = band_interpolator().weights(fraction)
        for power in range(6):
            expected = ((fraction - 0.5) / 8.0) ** power
            assert weights @ ((taps - 0.5) / 8.0) ** power == pytest.approx(expected, abs=1e-6)


def test_band_interpolator_is_the_least_squares_solution() -> None:
    """Against SciPy's constrained minimiser, at one position."""
    taps = np.arange(-7.0, 9.0)
    frequencies = np.linspace(0.0, 0.88 * np.pi, 2001)
    weights = band_interpolator().weights(0.37)

    def squared_error(w: np.ndarray) -> float:
        response = np.exp(1j * np.outer(frequencies, taps)) @ w
        return float((np.abs(response - np.exp(0.37j * frequencies)) ** 2).mean())

    moments = (taps / 8.0) ** np.arange(6)[:, None]
    free = scipy.linalg.null_space(moments)
    best = squared_error(weights)
    for direction in free.T:
        for size in (1e-3, -1e-3):
            assert squared_error(weights + size * direction) > best


@pytest.mark.parametrize("interpolant", [quintic_smoother(), band_interpolator()])
def test_constants_stay_constant(interpolant: Interpolant) -> None:
    for fraction in FRACTIONS:
        assert interpolant.weights(fraction).sum() == pytest.approx(1.0, abs=3e-7)


@pytest.mark.parametrize("interpolant", [quintic_smoother(), band_interpolator()])
def test_slopes_are_the_derivative(interpolant: Interpolant) -> None:
    for fraction in FRACTIONS:
        ahead, behind = (interpolant.weights(fraction + step) for step in (1e-5, -1e-5))
        np.testing.assert_allclose(interpolant.slopes(fraction), (ahead - behind) / 2e-5, atol=1e-6)


@pytest.mark.parametrize("interpolant", [quintic_smoother(), band_interpolator()])
def test_neighbouring_intervals_meet(interpolant: Interpolant) -> None:
    end, start = interpolant.weights(1.0), interpolant.weights(0.0)
    np.testing.assert_allclose(end[1:], start[:-1], atol=3e-5)
    assert abs(end[0]) < 3e-5
    assert abs(start[-1]) < 3e-5


def test_voxels_stay_where_they_are() -> None:
    at_voxel = np.zeros(16)
    at_voxel[7] = 1.0
    np.testing.assert_allclose(band_interpolator().weights(0.0), at_voxel, atol=2e-5)
