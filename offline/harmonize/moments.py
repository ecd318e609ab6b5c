"""What ComBat needs of the edges: moments of each site and covariate, read once by blocks.

Least squares on sites and covariates is solved within sites (Frisch–Waugh–Lovell): with every
column centred in its site, coefficients of covariates are those of the whole design, and a
site's level follows from its means. Pooled and site variances then follow from cross-products,
so that no residual is ever stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.errors import DesignError, HarmonizeError
from offline.harmonize.covariates import Covariates
from offline.harmonize.inputs import (
    Edges,
    SiteRows,
    inner_blocks,
    named,
    outer_blocks,
    refuse_missing,
)

__all__ = ["Standardization", "standardize"]

NO_VARIANCE = 1e-20
"""Share of the mean square below which a variance is rounding alone."""

Float64 = NDArray[np.float64]


@dataclass
class Standardization:
    """Edges in units of their pooled SD, each site's mean and variance in them.

    Attributes
    ----------
    grand_mean : ndarray of float64, shape (n_edges,)
        Mean of the sites' levels weighted by scans, or the reference site's level; Fisher z.
    coefficients : ndarray of float64, shape (n_columns, n_edges)
        Of covariates.
    pooled_sd : ndarray of float64, shape (n_edges,)
        Of residuals (ddof 0), of all scans or of the reference site's; 1 in constant edges.
    gamma : ndarray of float64, shape (n_sites, n_edges)
        Mean of each site, standardized.
    delta : ndarray of float64, shape (n_sites, n_edges)
        Variance of each site (ddof 1), standardized.
    constant_edges : ndarray of int64
        Edges with one value in all scans.
    """

    grand_mean: Float64
    coefficients: Float64
    pooled_sd: Float64
    gamma: Float64
    delta: Float64
    constant_edges: NDArray[np.int64]


def standardize(
    X: Edges, sites: SiteRows, covariates: Covariates, C: Float64, reference: int | None
) -> Standardization:
    """Moments of all edges.

    Parameters
    ----------
    X : ndarray or EdgeStore, shape (n_scans, n_edges)
    sites : SiteRows
        Of the scans.
    covariates : Covariates
        Only to name a column.
    C : ndarray of float64, shape (n_scans, n_columns)
        Covariates of the scans, in the order of X.
    reference : int or None
        Place of the reference site.

    Raises
    ------
    HarmonizeError
        If values are not finite, or an edge varies between sites alone.
    DesignError
        If sites or other covariates determine a covariate, or nothing is left to estimate a
        variance from.
    """
    C = C[sites.order]
    C_means = np.stack([C[part].mean(axis=0) for part in sites.slices])
    centred = C - np.repeat(C_means, sites.counts.astype(int), axis=0)
    covariates.require_independent(centred)
    if len(C) <= len(sites.names) + C.shape[1]:
        raise DesignError(
            f"expected more scans than sites and covariates, found {len(C)} scans,"
            f" {len(sites.names)} sites and {C.shape[1]} covariate columns; add scans"
        )
    gram = np.array([centred[part].T @ centred[part] for part in sites.slices])
    out = _empty(len(sites.names), C.shape[1], X.shape[1])
    constant: list[int] = []
    for edges, view in outer_blocks(X):
        for inner in inner_blocks(view):
            at = slice(edges.start + inner.start, edges.start + inner.stop)
            block = sites.take(view[:, inner])
            # infinities are looked for in the sums, and said
            with np.errstate(invalid="ignore", over="ignore"):
                means, squares, cross, same = _site_moments(block, sites, centred)
            if not (np.isfinite(squares).all() and np.isfinite(means).all()):
                refuse_missing(X, at)
            constant += [at.start + int(k) for k in same]
            _solve(out, at, same, means, squares, cross, C_means, gram, sites, reference)
    out.constant_edges = np.array(constant, np.int64)
    return out


def _empty(n_sites: int, n_columns: int, n_edges: int) -> Standardization:
    return Standardization(
        grand_mean=np.empty(n_edges),
        coefficients=np.empty((n_columns, n_edges)),
        pooled_sd=np.empty(n_edges),
        gamma=np.empty((n_sites, n_edges)),
        delta=np.empty((n_sites, n_edges)),
        constant_edges=np.zeros(0, np.int64),
    )


def _site_moments(
    block: Float64, sites: SiteRows, centred: Float64
) -> tuple[Float64, Float64, Float64, NDArray[np.int64]]:
    """Means, sums of squares about them, products with covariates, and edges without variance.

    `block` is in site order, and centred by the way.
    """
    n_sites, n = len(sites.names), block.shape[1]
    means, squares = np.empty((n_sites, n)), np.empty((n_sites, n))
    cross = np.empty((n_sites, centred.shape[1], n))
    for k, part in enumerate(sites.slices):
        rows = block[part]
        np.mean(rows, axis=0, out=means[k])
        rows -= means[k]
        # not einsum: it fuses products and sums or does not, as the array lies in memory
        np.sum(rows * rows, axis=0, out=squares[k])
        np.matmul(centred[part].T, rows, out=cross[k])
    # where every site's variance is rounding and the means agree, the edge is constant
    size = np.max(np.abs(means), axis=0)
    spread = np.ptp(means, axis=0)
    flat = squares.sum(axis=0) <= NO_VARIANCE * len(block) * size**2
    return means, squares, cross, np.flatnonzero(flat & (spread <= 1e-10 * size))


def _solve(
    out: Standardization,
    at: slice,
    same: NDArray[np.int64],
    means: Float64,
    squares: Float64,
    cross: Float64,
    C_means: Float64,
    gram: Float64,
    sites: SiteRows,
    reference: int | None,
) -> None:
    """Fill one block of edges."""
    counts = sites.counts
    beta = np.linalg.solve(gram.sum(axis=0), cross.sum(axis=0))
    levels = means - C_means @ beta
    # residual squares of each site: Sxx - 2 b'Scx + b'Scc b
    explained = np.sum(beta * (2.0 * cross - gram @ beta), axis=1)
    residual = np.maximum(squares - explained, 0.0)
    if reference is None:
        mean = np.sum(counts[:, None] * levels, axis=0) / counts.sum()
        variance = residual.sum(axis=0) / counts.sum()
    else:
        mean, variance = levels[reference].copy(), residual[reference] / counts[reference]
    varies = np.ones(len(mean), bool)
    varies[same] = False
    size = np.max(np.abs(means), axis=0) ** 2 + np.sum(squares, axis=0) / counts.sum()
    _require_variance(variance > NO_VARIANCE * size, varies, at, sites, reference)
    beta[:, same], variance[same] = 0.0, 1.0
    sd = np.sqrt(variance)
    out.grand_mean[at], out.coefficients[:, at], out.pooled_sd[at] = mean, beta, sd
    out.gamma[:, at] = np.where(varies, (levels - mean) / sd, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        delta = residual / (counts[:, None] - 1.0) / variance
    out.delta[:, at] = np.where(varies, delta, 1.0)


def _require_variance(
    has_variance: NDArray[np.bool_],
    varies: NDArray[np.bool_],
    at: slice,
    sites: SiteRows,
    reference: int | None,
) -> None:
    lost = np.flatnonzero(varies & ~has_variance)
    if len(lost):
        where = "within sites" if reference is None else f"at site {sites.names[reference]}"
        raise HarmonizeError(
            f"expected edges that vary {where}, found {len(lost)} that do not among edges"
            f" {at.start} to {at.stop - 1} (first:"
            f" {named([str(at.start + int(k)) for k in lost], 3)}); leave them out"
        )
