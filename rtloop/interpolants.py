"""Tables of interpolating and smoothing filters for the resampling kernels.

A filter of n taps gives the value at a fractional position f as sum_k w_k(f) v[k - n/2 + 1]. Each
w_k is tabulated as a polynomial in f - 1/2, so that sixteen positions are weighed by a few fused
multiplications and the result is smooth in f.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["WIDTH", "Interpolant", "cubic_smoother", "windowed_sinc"]

WIDTH = 16
"""Row length of a table; a filter has at most this many taps."""


@dataclass(frozen=True, slots=True, eq=False)
class Interpolant:
    """A filter's table.

    Attributes
    ----------
    table : ndarray, shape ((degree + 1) * WIDTH,), float32
        Row m holds the coefficients of (f - 1/2)**m for every tap.
    n_taps : int
        Even.
    degree : int
    """

    table: NDArray[np.float32]
    n_taps: int
    degree: int

    def weights(self, fraction: float) -> NDArray[np.float64]:
        """Weights of the taps -n/2 + 1 .. n/2 at a position `fraction` voxels after tap 0."""
        rows = self.table.reshape(self.degree + 1, WIDTH)[:, : self.n_taps].astype(np.float64)
        powers = (fraction - 0.5) ** np.arange(self.degree + 1)
        weights: NDArray[np.float64] = (rows * powers[:, None]).sum(axis=0)
        return weights


@cache
def cubic_smoother() -> Interpolant:
    """The cubic B-spline basis, applied to voxels as they are.

    Without the usual prefilter it smooths (standard deviation 0.58 voxels, nearly the same at
    every fractional position), which is what registration wants of both images.
    Unser, doi:10.1109/79.799930.
    """
    # In f, the pieces of the basis over taps -1, 0, 1, 2.
    pieces = np.array(
        [[1.0, -3.0, 3.0, -1.0], [4.0, 0.0, -6.0, 3.0], [1.0, 3.0, 3.0, -3.0], [0.0, 0.0, 0.0, 1.0]]
    )
    rows = np.zeros((4, 4))
    for m in range(4):
        for j in range(m + 1):
            # f**m = (u + 1/2)**m, u = f - 1/2
            rows[j] += pieces[:, m] / 6.0 * _choose(m, j) * 0.5 ** (m - j)
    return _pack(rows)


@cache
def windowed_sinc(n_taps: int = 16, beta: float = 4.0, degree: int = 6) -> Interpolant:
    """Sinc under a Kaiser window, normalised so that constants stay constant.

    Parameters
    ----------
    n_taps : int
        Even, at most `WIDTH`.
    beta : float
        The window's shape parameter.
    degree : int
        Of the polynomials that follow the weights, by Chebyshev interpolation.

    Notes
    -----
    An echo-planar image is band-limited by its k-space, so the ideal interpolant is the sinc;
    sixteen taps under a Kaiser window with beta 4 keep more of the image than a quintic B-spline
    (`tools.bench.motion` compares them).
    """
    n = degree + 1
    angles = np.pi * (np.arange(n) + 0.5) / n
    samples = np.stack([_kaiser_sinc(0.5 + 0.5 * np.cos(a), n_taps, beta) for a in angles])
    # Chebyshev coefficients over u in [-1/2, 1/2], then powers of u by T_m = 4 u T_{m-1} - T_{m-2}.
    rows = np.zeros((n, n_taps))
    before, current = np.zeros(n), np.zeros(n)
    current[0] = 1.0
    for m in range(n):
        coefficient = (np.cos(m * angles)[:, None] * samples).sum(axis=0) * (2.0 if m else 1.0) / n
        rows += current[:, None] * coefficient
        after = np.zeros(n)
        after[1:] = (4.0 if m else 2.0) * current[:-1]
        before, current = current, after - before
    return _pack(rows)


def _kaiser_sinc(fraction: float, n_taps: int, beta: float) -> NDArray[np.float64]:
    distance = fraction - np.arange(-(n_taps // 2 - 1), n_taps // 2 + 1)
    inside = np.clip(1.0 - (2.0 * distance / n_taps) ** 2, 0.0, None)
    weights: NDArray[np.float64] = np.sinc(distance) * np.i0(beta * np.sqrt(inside))
    weights /= weights.sum()
    return weights


def _pack(rows: NDArray[np.float64]) -> Interpolant:
    """Round to float32 with the weights' sum kept at 1 for every fraction."""
    degree, n_taps = rows.shape[0] - 1, rows.shape[1]
    target = np.zeros(degree + 1)
    target[0] = 1.0
    rows = rows + ((target - rows.sum(axis=1)) / n_taps)[:, None]
    table = np.zeros((degree + 1, WIDTH), np.float32)
    table[:, :n_taps] = rows
    return Interpolant(table.ravel(), n_taps, degree)


def _choose(n: int, k: int) -> int:
    result = 1
    for i in range(k):
        result = result * (n - i) // (i + 1)
    return result
