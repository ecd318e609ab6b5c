"""All edges' own effects at once, each before the background of all: which goes with behaviour?

`background` gives the size of one edit. Here every single edge is given an effect of its own, as
every variant is in mixed-model association (Kang et al. 2010, doi:10.1038/ng.548), at once:

    codes = c · z[edge] + N(0, K ⊗ G + I ⊗ E),    K of first degree,

with people's connectomes K as they are and G, E of the codes at hand. In the eigenbasis of K
everything is a weighted sum over people, so that codes exchanged between people cost no more than
products of matrices: the null is of the very statistic that it is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.twin.hyper import Basis, Kernels, fit_degree

__all__ = ["Association", "Directions"]

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Association:
    """Each edge's own effect on a member's codes.

    Attributes
    ----------
    effect : ndarray of float64, shape (n_edges, n_codes)
        Change of the codes per SD of the edge.
    covariance : ndarray of float64, shape (n_edges, n_codes, n_codes)
    """

    effect: Float64
    covariance: Float64

    def on(self, slope: Float64) -> tuple[Float64, Float64]:
        """Effects on people's targets and their variances, each (n_people, n_edges).

        Parameters
        ----------
        slope : ndarray of float64, shape (n_people, n_codes)
            Of the target by the codes.
        """
        n_people, n_codes = slope.shape
        pairs = (slope[:, :, None] * slope[:, None, :]).reshape(n_people, n_codes**2)
        return slope @ self.effect.T, pairs @ self.covariance.reshape(-1, n_codes**2).T


@dataclass(frozen=True)
class Directions:
    """Every edge of a member's training people, along the eigenvectors of their kernel.

    Attributes
    ----------
    kernel : ndarray of float64, shape (n_people, n_people)
        Of first degree.
    values : ndarray of float64, shape (n_people,)
        Its eigenvalues.
    vectors : ndarray of float64, shape (n_people, n_people)
    edges : ndarray of float64, shape (n_people, n_edges)
        Standardised edges, people along the eigenvectors.
    """

    kernel: Float64
    values: Float64
    vectors: Float64
    edges: Float64

    @classmethod
    def of(cls, basis: Basis, edges: Float64) -> Directions:
        """Of the basis and edges (Fisher z) of the same people."""
        kernel = Kernels.of(basis.scores(edges)).first
        values, vectors = np.linalg.eigh(kernel)
        standardised = (edges - basis.mean) / basis.scale
        return cls(kernel, np.clip(values, 0.0, None), vectors, vectors.T @ standardised)

    def associate(self, codes: Float64) -> Association:
        """Own effects of all edges on codes, (n_people, n_codes)."""
        unit = codes.std(axis=0)
        unit = np.where(unit > 1e-12, unit, 1.0)
        y = (codes - codes.mean(axis=0)) / unit
        fit = fit_degree(self.kernel, y)
        n_people, n_codes = y.shape
        inverse = np.linalg.inv(self.values[:, None, None] * fit.told + fit.untold)
        weighted = np.einsum("nij,nj->ni", inverse, self.vectors.T @ y)
        information = (self.edges**2).T @ inverse.reshape(n_people, n_codes**2)
        information = information.reshape(-1, n_codes, n_codes)
        # an edge that is the same in everybody says nothing, with certainty
        still = np.trace(information, axis1=1, axis2=2) <= 1e-12
        information[still] = np.eye(n_codes)
        covariance = np.linalg.inv(information)
        effect = np.einsum("eij,ej->ei", covariance, self.edges.T @ weighted)
        return Association(effect * unit, covariance * np.outer(unit, unit))
