"""The one loop of ComBat over all pairs of edges, compiled."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["posterior_means"]

NEGLIGIBLE = 60.0
"""Log likelihood below the largest at which an edge has no weight: exp(-60) = 1e-26, and 100,000
such edges are 1e-21 of the sum."""

Float64 = NDArray[np.float64]


@njit("void(f8[::1], f8[::1], f8, f8[::1], f8[::1])", cache=True, nogil=True, error_model="numpy")
def posterior_means(gamma: Float64, delta: Float64, n: float, g: Float64, d: Float64) -> None:
    """Non-parametric γ* and δ*: the other edges' (γ, δ), weighted by this edge's likelihood.

    Log likelihoods are summed relative to the largest one: the plain product, which published
    code takes, underflows for sites of a few hundred scans.
    """
    n_edges = len(gamma)
    log_norm = np.empty(n_edges)
    precision = np.empty(n_edges)
    logs = np.empty(n_edges)
    for j in range(n_edges):
        log_norm[j] = -0.5 * n * math.log(2.0 * math.pi * delta[j])
        precision[j] = 0.5 / delta[j]
    for i in range(n_edges):
        # likelihood of this edge's scans under every other edge's mean and variance
        squares = (n - 1.0) * delta[i]
        best = -math.inf
        for j in range(n_edges):
            difference = gamma[i] - gamma[j]
            logs[j] = log_norm[j] - (squares + n * difference * difference) * precision[j]
        logs[i] = -math.inf
        for j in range(n_edges):
            best = max(best, logs[j])
        # weighted means
        total, sum_g, sum_d = 0.0, 0.0, 0.0
        for j in range(n_edges):
            if logs[j] > best - NEGLIGIBLE:
                weight = math.exp(logs[j] - best)
                total += weight
                sum_g += weight * gamma[j]
                sum_d += weight * delta[j]
        g[i] = sum_g / total
        d[i] = sum_d / total
