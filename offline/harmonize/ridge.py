"""Ridge regression under linear constraints, for all edges at once.

Minimises |x - D b|² + λ|b|² subject to A b = 0. Its solution is b = R D'x, where R is the upper
left block of the inverse of [[D'D + λI, A'], [A, 0]]. With N an orthonormal basis of what A
leaves free and N'D'DN = V diag(e) V', R = B diag(1 / (e + λ)) B', B = NV: one eigendecomposition
serves every λ and every edge, and a fit needs the edges only as W = B'D'X, read once.

λ is chosen by generalised cross-validation (Golub, Heath & Wahba 1979,
doi:10.1080/00401706.1979.10489751) with the degrees of freedom tr(R D'D): one λ for all edges,
that of the least total over edges. The residual sum of squares over all edges at any λ follows
from the row sums of W² alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["PENALTIES", "ConstrainedRidge"]

PENALTIES = np.logspace(-3, 5, 321)
"""Where the cross-validation looks: 40 penalties a decade, steps of 6 %."""

RANK_TOLERANCE = 1e-10
"""Eigenvalues below this share of the largest belong to what the design does not determine."""

Float64 = NDArray[np.float64]


class ConstrainedRidge:
    """The system of one design.

    Parameters
    ----------
    D : ndarray of float64, shape (n_scans, n_columns)
        Design.
    A : ndarray of float64, shape (n_constraints, n_columns)
        Constraints, independent of each other.

    Attributes
    ----------
    eigenvalues : ndarray of float64, shape (n_free,)
        e.
    basis : ndarray of float64, shape (n_columns, n_free)
        B.
    projector : ndarray of float64, shape (n_free, n_scans)
        B'D'.
    determined : ndarray of bool, shape (n_free,)
        Which directions the design determines without a penalty.
    """

    def __init__(self, D: Float64, A: Float64) -> None:
        # the right singular vectors beyond the rank of A span what it leaves free
        free = np.linalg.svd(A)[2][len(A) :].T if len(A) else np.eye(D.shape[1])
        values, vectors = np.linalg.eigh(free.T @ (D.T @ D) @ free)
        self.n_scans = len(D)
        self.eigenvalues = np.maximum(values, 0.0)
        self.basis = free @ vectors
        self.projector = np.ascontiguousarray(self.basis.T @ D.T)
        self.determined = self.eigenvalues > RANK_TOLERANCE * self.eigenvalues.max()

    def dof(self, penalty: float) -> float:
        """Degrees of freedom of the fit, tr(R D'D)."""
        return float(np.sum(self.eigenvalues / (self.eigenvalues + penalty)))

    def inverse_weights(self, penalty: float) -> Float64:
        """1 / (e + λ), shape (n_free,); at λ = 0 undetermined directions have weight 0."""
        weights: Float64 = np.zeros_like(self.eigenvalues)
        use = self.determined if penalty == 0.0 else np.ones_like(self.determined)
        weights[use] = 1.0 / (self.eigenvalues[use] + penalty)
        return weights

    def coefficients(self, W: Float64, penalty: float) -> Float64:
        """Solution b, shape (n_columns, n_edges).

        Parameters
        ----------
        W : ndarray of float64, shape (n_free, n_edges)
            `projector @ X`.
        penalty : float
            λ, at least 0.
        """
        solution: Float64 = (self.basis * self.inverse_weights(penalty)) @ W
        return solution

    def residual_squares(self, penalty: float, squares: Float64, total: float) -> float:
        """Residual sum of squares over all edges.

        Parameters
        ----------
        penalty : float
            λ.
        squares : ndarray of float64, shape (n_free,)
            Sums over edges of W².
        total : float
            Sum over edges and scans of X².
        """
        e = self.eigenvalues
        return total - float(np.sum(squares * (e + 2.0 * penalty) / (e + penalty) ** 2))

    def gcv(self, squares: Float64, total: float, penalties: Float64 = PENALTIES) -> Float64:
        """Total generalised cross-validation score over edges at each penalty."""
        n = self.n_scans
        scores = np.empty(len(penalties))
        for k, penalty in enumerate(penalties):
            free = 1.0 - self.dof(penalty) / n
            scores[k] = self.residual_squares(penalty, squares, total) / (n * free**2)
        return scores

    def group_products(self, rows: NDArray[np.bool_]) -> Float64:
        """B'D'DB of some scans, shape (n_free, n_free)."""
        part = self.projector[:, rows]
        products: Float64 = part @ part.T
        return products

    def noise_variance(self, products: Float64, penalty: float) -> Float64:
        """Variance of each coefficient for unit noise in some scans, shape (n_columns,).

        The diagonal of R D_g'D_g R, with `products` of the scans g.
        """
        weighted = self.basis * self.inverse_weights(penalty)
        variance: Float64 = np.sum((weighted @ products) * weighted, axis=1)
        return variance

    def shrinkage(self, penalty: float) -> Float64:
        """λR, shape (n_columns, n_columns): what the penalty takes from the true coefficients."""
        taken: Float64 = penalty * (self.basis * self.inverse_weights(penalty)) @ self.basis.T
        return taken
