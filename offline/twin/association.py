"""All edges' own effects at once, each before the background of all edges.

`background` gives the size of one edit. Here every single edge is given an effect of its own, as
every variant is in mixed-model association (Kang et al. 2010, doi:10.1038/ng.548), at once:

    codes = α z[edge] ⊗ G s + N(0, K ⊗ G + I ⊗ E),    K of first degree,

with people's connectomes K as they are, G, E of the codes at hand, and s the slope of a target by
the codes. G s is the direction in which connectomes as a whole move the codes that the target
hangs on: an edge is taken to act as they do, on one condition where they do, which is far surer
than to leave its direction open. In the eigenbasis of K everything is a weighted sum over people,
so that codes exchanged between people cost no more than products of matrices: the null is of the
very statistic that it is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.twin.basis import Basis
from offline.twin.kernels import ALL, Kernels, Spectrum, fit

__all__ = ["Association", "Directions"]

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Association:
    """What a member's training people say of each edge, per SD of it.

    Attributes
    ----------
    gradient : ndarray of float64, shape (n_edges, n_codes)
        Of the log likelihood by an effect on the codes, in units of these.
    information : ndarray of float64, shape (n_edges, n_codes, n_codes)
        Its variance.
    told : ndarray of float64, shape (n_codes, n_codes)
        G.
    unit : ndarray of float64, shape (n_codes,)
        Of the codes.
    """

    gradient: Float64
    information: Float64
    told: Float64
    unit: Float64

    def on(self, slope: Float64) -> tuple[Float64, Float64]:
        """Effects on people's targets and their variances, each (n_people, n_edges).

        Parameters
        ----------
        slope : ndarray of float64, shape (n_people, n_codes)
            Of the target by the codes.
        """
        n_people, n_codes = slope.shape
        own = slope * self.unit
        direction = own @ self.told
        pairs = (direction[:, :, None] * direction[:, None, :]).reshape(n_people, n_codes**2)
        information = pairs @ self.information.reshape(-1, n_codes**2).T
        size = np.sum(own * direction, axis=1)[:, None]
        # an edge that is the same in everybody says nothing: effect 0, no matter how certain
        information = np.where(information > 1e-300, information, np.inf)
        variance = np.where(np.isfinite(information), size**2 / information, size**2)
        return size * (direction @ self.gradient.T) / information, variance


@dataclass(frozen=True)
class Directions:
    """Every edge of a member's training people, along the eigenvectors of their kernel.

    Attributes
    ----------
    spectrum : Spectrum
        Of their kernel of first degree.
    edges : ndarray of float64, shape (n_people, n_edges)
        Standardised edges, people along the eigenvectors.
    """

    spectrum: Spectrum
    edges: Float64

    @classmethod
    def of(cls, basis: Basis, edges: Float64) -> Directions:
        """Of the basis and edges (Fisher z) of the same people."""
        spectrum = Spectrum.of(Kernels.of(basis, edges).of_term((ALL,))[0])
        standardised = (edges - basis.mean) / basis.scale
        return cls(spectrum, spectrum.vectors.T @ standardised)

    def associate(self, codes: Float64) -> Association:
        """All edges beside codes, (n_people, n_codes)."""
        unit = codes.std(axis=0)
        unit = np.where(unit > 1e-12, unit, 1.0)
        y = (codes - codes.mean(axis=0)) / unit
        found = fit(self.spectrum, y)
        inverse = found.precision(self.spectrum)
        weighted = np.einsum("nij,nj->ni", inverse, self.spectrum.vectors.T @ y)
        information = (self.edges**2).T @ inverse.reshape(len(y), -1)
        return Association(
            self.edges.T @ weighted, information.reshape(-1, *found.told.shape), found.told, unit
        )
