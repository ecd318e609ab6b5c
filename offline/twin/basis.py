"""The basis connectomes are looked at through: all principal components of the training people.

`Basis` turns edges into scores, found from the Gram matrix (people are far fewer than edges), so
that nothing a linear layer could use is lost, and says how much of each score every block of
edges, those of the same two networks, has made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from offline.errors import TwinError
from offline.twin.networks import blocks_of, networks_of

__all__ = ["Basis", "fit_basis"]

N_LEADING = 20
BOUND_PERCENTILE = 99.0
CONSTANT = 1e-9
"""SD of an edge, over the median's, below which it is constant."""

Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Basis:
    """Principal components of training people's edges.

    Attributes
    ----------
    mean, scale : ndarray of float64, shape (n_edges,)
        Of the training people; edges are standardised with them. The scale of a constant edge is
        infinite.
    components : ndarray of float64, shape (n_components, n_edges)
        Orthonormal, by falling variance.
    sd : ndarray of float64, shape (n_components,)
        Of the training people's scores.
    block : ndarray of int64, shape (n_edges,)
        Of edges between the same two networks, or within one.
    bounds : tuple of float
        99th percentiles over training people of the two numbers of `distance`.
    n_people : int
        Training people.
    """

    mean: Float64
    scale: Float64
    components: Float64
    sd: Float64
    block: Ints
    bounds: tuple[float, float]
    n_people: int

    def standardised(self, edges: Float64) -> Float64:
        """Edges over their SD and √n_edges: of length near 1, shape (n_people, n_edges)."""
        z: Float64 = (edges - self.mean) / self.scale / np.sqrt(len(self.mean))
        return z

    def scores(self, edges: Float64) -> Float64:
        """Scores, shape (n_people, n_components), of edges (n_people, n_edges)."""
        scores: Float64 = self.standardised(edges) @ self.components.T
        return scores

    def perceptron_input(self, scores: Float64) -> Float64:
        """Scores as the perceptron of the whole form takes them: over the SD of the first.

        Each over its own SD, the last components, which are noise, would be as large as the first.
        """
        taken: Float64 = scores / self.sd[0]
        return taken

    def block_scores(self, edges: Float64) -> Float64:
        """What each block adds to the scores, shape (n_people, n_blocks, n_components)."""
        z = self.standardised(edges)
        parts = [z[:, own] @ self.components[:, own].T for own in self.edges_of_blocks()]
        return np.stack(parts, axis=1)

    def edges_of_blocks(self) -> list[Ints]:
        """Places of each block's edges."""
        order = np.argsort(self.block, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.block))[:-1])

    def distance(self, edges: Float64) -> Float64:
        """How far people are from the training people, shape (n_people, 2).

        Root mean squares of the standardised leading scores, and of all standardised edges.
        """
        n_leading = min(N_LEADING, len(self.sd))
        leading = self.scores(edges)[:, :n_leading] / self.sd[:n_leading]
        z = (edges - self.mean) / self.scale
        squares = [np.mean(leading**2, axis=1), np.mean(z**2, axis=1)]
        distance: Float64 = np.sqrt(np.stack(squares, axis=1))
        return distance

    def outside(self, edges: Float64) -> NDArray[np.bool_]:
        """Who is farther from the training people than 99 % of these, shape (n_people,)."""
        outside: NDArray[np.bool_] = np.any(self.distance(edges) > np.array(self.bounds), axis=1)
        return outside


def fit_basis(edges: Float64) -> Basis:
    """Components of training people's edges.

    Parameters
    ----------
    edges : ndarray of float64, shape (n_people, n_edges)
        Fisher z.

    Raises
    ------
    TwinError
        If there are fewer than three people, or an edge is not finite.
    """
    if len(edges) < 3:
        raise TwinError(f"expected at least 3 people to train with, found {len(edges)}; add people")
    if not np.isfinite(edges).all():
        raise TwinError("expected finite edges, found NaN; leave out ROIs or people without signal")
    mean, scale = edges.mean(axis=0), edges.std(axis=0)
    # an edge that is the same in everybody, up to rounding, says nothing of anybody
    scale = np.where(scale > CONSTANT * np.median(scale), scale, np.inf)
    z = (edges - mean) / scale
    values, vectors = np.linalg.eigh(z @ z.T)
    keep = values > 1e-10 * values[-1]
    values, vectors = values[keep][::-1], vectors[:, keep][:, ::-1]
    components = (vectors / np.sqrt(values)).T @ z
    # the sign of an eigenvector is the library's whim: the largest entry is positive
    flip = np.sign(components[np.arange(len(components)), np.abs(components).argmax(axis=1)])
    sd = np.sqrt(values / len(edges) / edges.shape[1])
    block = blocks_of(networks_of(mean))
    basis = Basis(mean, scale, components * flip[:, None], sd, block, (np.inf, np.inf), len(edges))
    found = np.percentile(basis.distance(edges), BOUND_PERCENTILE, axis=0)
    return replace(basis, bounds=(float(found[0]), float(found[1])))
