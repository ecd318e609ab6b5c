"""Tables of interpolating and smoothing filters for the resampling kernels.

A filter of n taps gives the value at a fractional position f as sum_k w_k(f) v[k - n/2 + 1]. Each
w_k is tabulated as a polynomial in f - 1/2, so that sixteen positions are weighed by a few fused
multiplications and the result is smooth in f.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import comb, cos, factorial, pi

import numpy as np
from numpy.typing import NDArray

from rtloop.kernels.resample import WIDTH

__all__ = ["Interpolant", "quintic_smoother", "windowed_sinc"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Interpolant:
    """A filter's table, and how exactly it is to be placed.

    Attributes
    ----------
    table : ndarray, shape ((degree + 1) * WIDTH,), float32
        Row m holds the coefficients of (f - 1/2)**m for every tap.
    n_taps : int
        Even, at most `WIDTH`.
    degree : int
    drift : float
        Voxels by which a sample may lie beside its place: the shift along a line of the grid is
        held constant until it would be off by more.
    """

    table: NDArray[np.float32]
    n_taps: int
    degree: int
    drift: float

    @property
    def arguments(self) -> tuple[NDArray[np.float32], int, int, float]:
        """What the kernels take."""
        return self.table, self.n_taps, self.degree, self.drift

    def weights(self, fraction: float) -> Floats:
        """Weights of the taps -n/2 + 1 .. n/2 at a position `fraction` voxels after tap 0."""
        return self._polynomials([(fraction - 0.5) ** m for m in range(self.degree + 1)])

    def slopes(self, fraction: float) -> Floats:
        """Derivatives of `weights` by `fraction`."""
        u = fraction - 0.5
        return self._polynomials([m * u ** max(m - 1, 0) for m in range(self.degree + 1)])

    def _polynomials(self, powers: list[float]) -> Floats:
        rows = self.table.reshape(self.degree + 1, WIDTH)[:, : self.n_taps].astype(np.float64)
        result: Floats = (rows * np.array(powers)[:, None]).sum(axis=0)
        return result


@cache
def quintic_smoother() -> Interpolant:
    """The quintic B-spline basis, applied to voxels as they are.

    Without the usual prefilter it smooths (standard deviation 0.71 voxels), which is what
    registration wants of both images, and it does so alike at every fractional position: the
    cubic basis differs enough between 0 and 1/2 to bias estimates by 0.01 to 0.02 mm.
    Unser, doi:10.1109/79.799930.
    """

    def basis(x: Floats) -> Floats:
        total = np.zeros_like(x)
        for j in range(7):
            total += (-1) ** j * comb(6, j) / factorial(5) * np.clip(x + 3.0 - j, 0.0, None) ** 5
        return total

    return _tabulate(basis, n_taps=6, degree=5, drift=0.005)


@cache
def windowed_sinc() -> Interpolant:
    """Sinc of sixteen taps under a Kaiser window (beta 4).

    An echo-planar image is band-limited by its k-space, so the ideal interpolant is the sinc.
    With this window more of the image survives than with a quintic B-spline
    (`tools.bench.motion` compares them).
    """

    def kernel(x: Floats) -> Floats:
        inside = np.clip(1.0 - (x / 8.0) ** 2, 0.0, None)
        return np.asarray(np.sinc(x) * np.i0(4.0 * np.sqrt(inside)), np.float64)

    return _tabulate(kernel, n_taps=16, degree=6, drift=0.02)


def _tabulate(
    kernel: Callable[[Floats], Floats], n_taps: int, degree: int, drift: float
) -> Interpolant:
    """Chebyshev interpolation of the taps' weights over a voxel, their sum kept at 1."""
    n = degree + 1
    taps = np.arange(-(n_taps // 2 - 1), n_taps // 2 + 1, dtype=np.float64)
    angles = [pi * (j + 0.5) / n for j in range(n)]
    positions = np.array([0.5 + 0.5 * cos(a) for a in angles])
    samples = kernel(positions[:, None] - taps)
    samples /= samples.sum(axis=1, keepdims=True)
    rows = np.zeros((n, n_taps))
    # Chebyshev polynomials of 2u by rising powers of u: T0 = 1, T1 = 2u, T_m = 4u T_m-1 - T_m-2.
    before, current = np.zeros(n), np.zeros(n)
    current[0] = 1.0
    for m in range(n):
        cosines = np.array([cos(m * a) for a in angles]) * ((2.0 if m else 1.0) / n)
        rows += current[:, None] * (cosines[:, None] * samples).sum(axis=0)
        after = -before
        after[1:] += (4.0 if m else 2.0) * current[:-1]
        before, current = current, after
    target = np.eye(1, n)[0]
    rows += ((target - rows.sum(axis=1)) / n_taps)[:, None]
    table = np.zeros((n, WIDTH), np.float32)
    table[:, :n_taps] = rows
    return Interpolant(table.ravel(), n_taps, degree, drift)
