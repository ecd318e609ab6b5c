"""One design and all edges in: coefficients, their standard errors and the size of each factor.

The edges are read once, by blocks. What a fit keeps of them are W = B'D'X of `ridge` and sums of
squares, for travelers and residents apart: residents carry their own person's level in the
residual, travelers do not, and the two noises are not equal.

The standard error is the root of the mean squared error to be expected of the ridge estimate,
whose error is R D'e - λR b: the noise of the scans, and what the penalty takes from coefficients
of the size that the factor is found to have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.errors import DesignError
from offline.harmonize.design import Design
from offline.harmonize.inputs import Edges, inner_blocks, outer_blocks, refuse_missing
from offline.harmonize.ridge import PENALTIES, ConstrainedRidge

__all__ = ["Estimate", "estimate"]

CONSTANT_TOLERANCE = 1e-9
"""Share of the sum of squares below which a variance asks for a look at the values."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """What one fit found.

    Attributes
    ----------
    coefficients : ndarray of float64, shape (n_columns, n_edges)
        Of all columns of the design.
    standard_error : ndarray of float64, shape (n_columns, n_edges)
        Root mean squared error expected of them.
    noise : ndarray of float64, shape (2, n_edges)
        SD of the residuals of travelers and of residents (NaN if there are none).
    size : dict
        SD over levels and edges of the true coefficients of each block, by moments of the
        unpenalised estimate: its mean square less its noise.
    constant_edges : ndarray of int64
        Edges with the same value in every scan: no bias, no error.
    penalty, dof : float
        λ and tr(R D'D).
    gcv : ndarray of float64, shape (n_penalties,)
        At `PENALTIES`.
    undetermined : int
        Directions that the penalty alone decides.
    """

    coefficients: Float64
    standard_error: Float64
    noise: Float64
    size: dict[str, float]
    constant_edges: NDArray[np.int64]
    penalty: float
    dof: float
    gcv: Float64
    undetermined: int


@dataclass
class _Products:
    """W and sums of squares of travelers and residents, with edges that are constant taken out."""

    W: Float64
    W_travel: Float64
    squares: Float64
    squares_travel: Float64
    sums: Float64
    constant_edges: NDArray[np.int64]


def estimate(
    X: Edges,
    rows: NDArray[np.int64],
    travels: NDArray[np.bool_],
    design: Design,
    penalty: float | None,
) -> Estimate:
    """Fit all edges.

    Parameters
    ----------
    X : ndarray or EdgeStore, shape (n_all_scans, n_edges)
    rows : ndarray of int, shape (n_scans,)
        Scans of the design's rows in X.
    travels : ndarray of bool, shape (n_scans,)
        Which of them are traveling subjects'.
    design : Design
    penalty : float or None
        λ; None for generalised cross-validation.

    Raises
    ------
    HarmonizeError
        If a value is not finite.
    DesignError
        If λ = 0 and the design does not determine every coefficient, or there are no more scans
        than effects.
    """
    ridge = ConstrainedRidge(design.matrix, design.constraints)
    undetermined = int(np.sum(~ridge.determined))
    if penalty == 0.0 and undetermined:
        raise DesignError(
            f"expected a design that determines every factor at penalty 0, found {undetermined}"
            " direction(s) it says nothing about; give a penalty > 0 or leave a factor out"
        )
    found = _read(X, rows, travels, ridge)
    squares, total = np.sum(found.W**2, axis=1), float(found.squares.sum())
    gcv = ridge.gcv(squares, total)
    if penalty is None:
        penalty = float(PENALTIES[np.argmin(gcv)])
    travel_products = ridge.group_products(travels)
    groups = [travel_products, np.diag(ridge.eigenvalues) - travel_products]
    noise = _noise(ridge, found, groups, travels, penalty)
    size = _sizes(ridge, design, found.W, groups, noise)
    coefficients = ridge.coefficients(found.W, penalty)
    error = _errors(ridge, design, groups, noise, size, penalty)
    same = found.constant_edges
    constant = design.columns_of("constant").start
    coefficients[:, same] = 0.0
    coefficients[constant, same] = found.sums[same] / len(rows)
    error[:, same] = 0.0
    return Estimate(
        coefficients=coefficients,
        standard_error=error,
        noise=noise,
        size=size,
        constant_edges=same,
        penalty=penalty,
        dof=ridge.dof(penalty),
        gcv=gcv,
        undetermined=undetermined,
    )


def _read(
    X: Edges, rows: NDArray[np.int64], travels: NDArray[np.bool_], ridge: ConstrainedRidge
) -> _Products:
    """Go through the edges once."""
    n_free, n_edges = len(ridge.eigenvalues), X.shape[1]
    # a row of ones more, and the sums come with the products
    projector = np.vstack([ridge.projector, np.ones(len(rows))])
    travel_rows = np.flatnonzero(travels)
    travel_projector = np.ascontiguousarray(ridge.projector[:, travels])
    everybody = len(rows) == X.shape[0]
    W = np.empty((n_free + 1, n_edges))
    W_travel = np.empty((n_free, n_edges))
    squares, squares_travel = np.empty(n_edges), np.empty(n_edges)
    constant: list[int] = []
    for edges, view in outer_blocks(X):
        for inner in inner_blocks(view):
            at = slice(edges.start + inner.start, edges.start + inner.stop)
            part = view[:, inner] if everybody else view[rows, inner]
            block = part.astype(np.float64, copy=False)
            travel = block[travel_rows]
            with np.errstate(invalid="ignore"):  # infinities are looked for in the squares
                np.matmul(projector, block, out=W[:, at])
                np.matmul(travel_projector, travel, out=W_travel[:, at])
            np.einsum("ij,ij->j", block, block, out=squares[at])
            np.einsum("ij,ij->j", travel, travel, out=squares_travel[at])
            if not np.isfinite(squares[at]).all():
                refuse_missing(X, at)
            constant += _constant(block, at.start, squares[at], W[-1, at])
    sums, W = W[-1].copy(), W[:-1]
    same = np.array(constant, np.int64)
    for array in (W.T, W_travel.T, squares, squares_travel):
        array[same] = 0.0
    return _Products(W, W_travel, squares, squares_travel, sums, same)


def _constant(block: Float64, start: int, squares: Float64, sums: Float64) -> list[int]:
    """Edges of a block that have the same value in every scan."""
    variance = squares - sums**2 / len(block)
    maybe = np.flatnonzero(variance <= CONSTANT_TOLERANCE * squares)
    return [start + int(k) for k in maybe if block[:, k].min() == block[:, k].max()]


def _noise(
    ridge: ConstrainedRidge,
    found: _Products,
    groups: list[Float64],
    travels: NDArray[np.bool_],
    penalty: float,
) -> Float64:
    """SD of the residuals of travelers and residents, shape (2, n_edges)."""
    weights = ridge.inverse_weights(penalty)
    noise = np.full((2, len(found.squares)), np.nan)
    for k, n_scans in enumerate((int(travels.sum()), int((~travels).sum()))):
        if n_scans == 0:
            continue
        # tr of the group's part of the hat matrix
        free = n_scans - float(np.sum(np.diag(groups[k]) * weights))
        if free < 1.0:
            who = ("traveling", "residents'")[k]
            raise DesignError(
                f"expected more {who} scans than effects to be told from them, found {n_scans}"
                " scans; scan more, or leave a factor out"
            )
        for edges in inner_blocks(found.W):
            theta = weights[:, None] * found.W[:, edges]
            own = found.W_travel[:, edges]
            squares = found.squares_travel[edges]
            if k == 1:
                own = found.W[:, edges] - own
                squares = found.squares[edges] - squares
            rss = squares + np.einsum("ij,ij->j", theta, groups[k] @ theta - 2.0 * own)
            noise[k, edges] = np.sqrt(np.maximum(rss, 0.0) / free)
    return noise


def _sizes(
    ridge: ConstrainedRidge, design: Design, W: Float64, groups: list[Float64], noise: Float64
) -> dict[str, float]:
    """SD over levels and edges of each block's true coefficients."""
    unpenalised = ridge.basis * ridge.inverse_weights(0.0)
    n_edges = W.shape[1]
    mean_square = np.einsum("ij,jk,ik->i", unpenalised, W @ W.T / n_edges, unpenalised)
    for products, sd in zip(groups, noise, strict=True):
        if np.isfinite(sd).all():
            mean_square -= float(np.mean(sd**2)) * ridge.noise_variance(products, 0.0)
    sizes = {}
    for block in design.blocks:
        n = len(block.levels)
        # levels that sum to zero have lost a share 1/n of their variance
        share = n / (n - 1) if block.sums_to_zero else 1.0
        own = float(np.mean(mean_square[design.columns_of(block.name)])) * share
        sizes[block.name] = float(np.sqrt(max(own, 0.0)))
    return sizes


def _errors(
    ridge: ConstrainedRidge,
    design: Design,
    groups: list[Float64],
    noise: Float64,
    size: dict[str, float],
    penalty: float,
) -> Float64:
    variance = np.zeros((len(ridge.basis), noise.shape[1]))
    for products, sd in zip(groups, noise, strict=True):
        if np.isfinite(sd).all():
            variance += np.outer(ridge.noise_variance(products, penalty), sd**2)
    prior = np.concatenate([np.full(len(b.levels), size[b.name] ** 2) for b in design.blocks])
    variance += (ridge.shrinkage(penalty) ** 2 @ prior)[:, None]
    return np.sqrt(variance)
