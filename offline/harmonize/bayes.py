"""Empirical Bayes of ComBat: sites' means and variances shrunk towards the site's other edges.

Johnson, Li & Rabinovic 2007 (doi:10.1093/biostatistics/kxj037), sections 3.2 and A.1, in the
form all published implementations share: the conditional posteriors of γ and δ are iterated for
all edges of a site together until the largest relative change falls below 1e-4. They divide by
the old γ with its sign, so that edges of negative γ do not hold the iteration up; the same here,
or results would differ from theirs in the fifth digit.

Only the site's mean and variance of each edge are needed: Σ(x - g)² = (n - 1)δ̂ + n(γ̂ - g)².
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offline.errors import HarmonizeError

__all__ = ["shrink"]

CONVERGED = 1e-4
MOST_ITERATIONS = 10_000

Float64 = NDArray[np.float64]


def shrink(
    gamma: Float64, delta: Float64, n: float, *, parametric: bool, mean_only: bool
) -> tuple[Float64, Float64]:
    """γ* and δ* of one site.

    Parameters
    ----------
    gamma : ndarray of float64, shape (n_edges,)
        Standardized means of the site; no constant edge among them.
    delta : ndarray of float64, shape (n_edges,)
        Standardized variances, ddof 1; not looked at if `mean_only`.
    n : float
        Scans of the site.
    parametric : bool
        Normal and inverse gamma priors, or the other edges themselves as the prior.
    mean_only : bool
        Leave variances as they are.

    Returns
    -------
    tuple of ndarray of float64, shape (n_edges,)
        γ*, δ*.

    Raises
    ------
    HarmonizeError
        If there are fewer than two edges to learn a prior from, or no convergence.
    """
    if len(gamma) < 2:
        raise HarmonizeError(
            f"expected at least two edges that vary, found {len(gamma)}: empirical Bayes learns"
            " its prior from the others; set empirical_bayes=False"
        )
    if not parametric:
        variances = np.ones_like(gamma) if mean_only else delta
        return _nonparametric(gamma, variances, n)
    prior_mean, prior_variance = float(gamma.mean()), float(gamma.var(ddof=1))
    if mean_only:
        # the reference form: the site counts as one scan of variance 1
        star = (prior_variance * gamma + prior_mean) / (prior_variance + 1.0)
        return star, np.ones_like(gamma)
    return _parametric(gamma, delta, n, prior_mean, prior_variance)


def _parametric(
    gamma: Float64, delta: Float64, n: float, prior_mean: float, prior_variance: float
) -> tuple[Float64, Float64]:
    m, s2 = float(delta.mean()), float(delta.var(ddof=1))
    shape, rate = (2.0 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    squares = (n - 1.0) * delta
    weighted = prior_variance * n * gamma
    g, d = gamma, delta
    for _ in range(MOST_ITERATIONS):
        g_new = (weighted + d * prior_mean) / (prior_variance * n + d)
        d_new = (0.5 * (squares + n * (gamma - g_new) ** 2) + rate) / (n / 2.0 + shape - 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            change = max(np.max(np.abs(g_new - g) / g), np.max(np.abs(d_new - d) / d))
        g, d = g_new, d_new
        # a mean of exactly 0 has no relative change; the next round has moved it
        if change <= CONVERGED:
            return g, d
    raise HarmonizeError(
        f"expected empirical Bayes to converge, found a change of {change:.1g} after"
        f" {MOST_ITERATIONS} iterations; set empirical_bayes=False, or mean_only=True"
    )


def _nonparametric(gamma: Float64, delta: Float64, n: float) -> tuple[Float64, Float64]:
    # compiled code only where it is needed: importing numba takes longer than most fits
    from offline.harmonize.kernels import posterior_means

    g, d = np.empty_like(gamma), np.empty_like(delta)
    posterior_means(np.ascontiguousarray(gamma), np.ascontiguousarray(delta), float(n), g, d)
    return g, d
