"""Interpolants against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import BSpline

from rtloop.interpolants import Interpolant, quintic_smoother, windowed_sinc

FRACTIONS = np.linspace(0.0, 1.0, 41)


def test_quintic_smoother_is_the_b_spline_basis() -> None:
    basis = BSpline.basis_element(np.arange(-3.0, 4.0), extrapolate=False)
    for fraction in FRACTIONS:
        expected = np.nan_to_num(basis(fraction - np.arange(-2.0, 4.0)))
        np.testing.assert_allclose(quintic_smoother().weights(fraction), expected, atol=1e-6)


def test_windowed_sinc_is_the_windowed_sinc() -> None:
    for fraction in FRACTIONS:
        x = fraction - np.arange(-7.0, 9.0)
        expected = np.sinc(x) * np.i0(4.0 * np.sqrt(np.clip(1.0 - (x / 8.0) ** 2, 0.0, None)))
        expected /= expected.sum()
        np.testing.assert_allclose(windowed_sinc().weights(fraction), expected, atol=2e-5)


@pytest.mark.parametrize("interpolant", [quintic_smoother(), windowed_sinc()])
def test_constants_stay_constant(interpolant: Interpolant) -> None:
    for fraction in FRACTIONS:
        assert interpolant.weights(fraction).sum() == pytest.approx(1.0, abs=3e-7)


@pytest.mark.parametrize("interpolant", [quintic_smoother(), windowed_sinc()])
def test_slopes_are_the_derivative(interpolant: Interpolant) -> None:
    for fraction in FRACTIONS:
        ahead, behind = (interpolant.weights(fraction + step) for step in (1e-5, -1e-5))
        np.testing.assert_allclose(interpolant.slopes(fraction), (ahead - behind) / 2e-5, atol=1e-6)


@pytest.mark.parametrize("interpolant", [quintic_smoother(), windowed_sinc()])
def test_neighbouring_intervals_meet(interpolant: Interpolant) -> None:
    end, start = interpolant.weights(1.0), interpolant.weights(0.0)
    np.testing.assert_allclose(end[1:], start[:-1], atol=3e-5)
    assert abs(end[0]) < 3e-5
    assert abs(start[-1]) < 3e-5


def test_sinc_keeps_voxels_where_they_are() -> None:
    at_voxel = np.zeros(16)
    at_voxel[7] = 1.0
    np.testing.assert_allclose(windowed_sinc().weights(0.0), at_voxel, atol=2e-5)
