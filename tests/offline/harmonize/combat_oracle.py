"""ComBat as written in Johnson et al. 2007 and Fortin et al. 2018: slow, edge by edge, obvious.

Every step is taken from the papers' equations, on whole matrices and residuals; it shares nothing
with the package but the numbers it is given.
"""

from __future__ import annotations

import math

import numpy as np


def combat(
    X,
    sites,
    C=None,
    *,
    parametric=True,
    empirical_bayes=True,
    mean_only=False,
    reference=None,
):
    """Harmonized X, (n_scans, n_edges), of covariate columns C, (n_scans, n_columns)."""
    n, n_edges = X.shape
    names = sorted(set(sites))
    of_site = [np.flatnonzero(sites == name) for name in names]
    batch = np.zeros((n, len(names)))
    for k, rows in enumerate(of_site):
        batch[rows, k] = 1.0
    C = np.zeros((n, 0)) if C is None else C
    design = np.hstack([batch, C])
    beta = np.linalg.lstsq(design, X, rcond=None)[0]
    residual = X - design @ beta
    kept = C @ beta[len(names) :]
    if reference is None:
        alpha = sum(len(rows) * beta[k] for k, rows in enumerate(of_site)) / n
        variance = (residual**2).sum(axis=0) / n
    else:
        ref = names.index(reference)
        alpha = beta[ref]
        variance = (residual[of_site[ref]] ** 2).sum(axis=0) / len(of_site[ref])
    sd = np.sqrt(variance)
    Z = (X - alpha - kept) / sd
    out = np.empty_like(X)
    for name, rows in zip(names, of_site, strict=True):
        if name == reference:
            out[rows] = X[rows]
            continue
        gamma, delta = Z[rows].mean(axis=0), np.ones(n_edges)
        if not mean_only:
            delta = Z[rows].var(axis=0, ddof=1)
        if empirical_bayes:
            gamma, delta = _shrunk(Z[rows], gamma, delta, parametric, mean_only)
        out[rows] = (Z[rows] - gamma) / np.sqrt(delta) * sd + alpha + kept[rows]
    return out


def _shrunk(Z, gamma, delta, parametric, mean_only):
    n, n_edges = Z.shape
    if not parametric:
        return _integrated(Z, gamma, delta)
    tau2, mean = gamma.var(ddof=1), gamma.mean()
    if mean_only:
        return (tau2 * gamma + mean) / (tau2 + 1.0), np.ones(n_edges)
    v, s2 = delta.mean(), delta.var(ddof=1)
    a = (v**2 + 2 * s2) / s2
    b = (v**3 + v * s2) / s2
    g, d = gamma.copy(), delta.copy()
    while True:
        g_new, d_new = np.empty(n_edges), np.empty(n_edges)
        for e in range(n_edges):
            g_new[e] = (n * tau2 * gamma[e] + d[e] * mean) / (n * tau2 + d[e])
            d_new[e] = (b + 0.5 * sum((z - g_new[e]) ** 2 for z in Z[:, e])) / (n / 2 + a - 1)
        change = max(max(abs(g_new - g) / g), max(abs(d_new - d) / d))
        g, d = g_new, d_new
        if change <= 1e-4:
            return g, d


def _integrated(Z, gamma, delta):
    """Monte Carlo integral over the other edges (Johnson 2007, A.2), likelihood as a product."""
    n_edges = Z.shape[1]
    g, d = np.empty(n_edges), np.empty(n_edges)
    for e in range(n_edges):
        others = [k for k in range(n_edges) if k != e]
        likelihood = np.array(
            [
                math.prod(
                    math.exp(-((z - gamma[k]) ** 2) / (2 * delta[k]))
                    / math.sqrt(2 * math.pi * delta[k])
                    for z in Z[:, e]
                )
                for k in others
            ]
        )
        g[e] = likelihood @ gamma[others] / likelihood.sum()
        d[e] = likelihood @ delta[others] / likelihood.sum()
    return g, d
