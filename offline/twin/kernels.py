"""Similarity of training people's connectomes, and what it says of their codes.

A `Term` is one kernel over people. Of first degree, (b,): the product of two people's edges in
block b, all edges for b = `ALL`. Of second degree, (b, c): that of block b times that of block c,
whose functions are the products of an edge of b with an edge of c. `fit` finds, by
expectation-maximisation, what of the codes goes with a kernel K:

    codes ~ N(0, K ⊗ G + I ⊗ E).

G and E are diagonalised together once a step, so that a step is a few products of arrays
(n_people, n_codes) (as in multi-trait mixed models, Zhou & Stephens 2014, doi:10.1038/nmeth.2848).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.twin.basis import Basis

__all__ = ["ALL", "Fit", "Kernels", "Spectrum", "Term", "canonical", "fit", "scores_of"]

ALL = -1
N_ITERATIONS = 100
Term = tuple[int, ...]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Kernels:
    """Of training people.

    Attributes
    ----------
    scores : ndarray of float64, shape (n_people, n_components)
    blocks : ndarray of float64, shape (n_people, n_blocks, n_components)
        What each block adds to them.
    grams : ndarray of float64, shape (n_blocks + 1, n_people, n_people)
        Of blocks, and of all edges; the latter's mean diagonal is 1.
    unit : float
        What they were divided by.
    """

    scores: Float64
    blocks: Float64
    grams: Float64
    unit: float

    @classmethod
    def of(cls, basis: Basis, edges: Float64) -> Kernels:
        """Of the basis and edges (Fisher z) of the same people."""
        return cls.of_scores(basis.block_scores(edges))

    @classmethod
    def of_scores(cls, blocks: Float64) -> Kernels:
        """Of what each block adds to the scores."""
        scores = blocks.sum(axis=1)
        unit = float(np.sum(scores**2)) / len(scores)
        grams = np.empty((blocks.shape[1] + 1, len(scores), len(scores)))
        for place in range(blocks.shape[1]):
            grams[place] = blocks[:, place] @ scores.T / unit
        grams[ALL] = scores @ scores.T / unit
        return cls(scores, blocks, grams, unit)

    @property
    def n_blocks(self) -> int:
        """Of the atlas."""
        return len(self.grams) - 1

    def of_term(self, term: Term) -> tuple[Float64, float]:
        """A kernel of mean 0 and mean diagonal 1, (n_people, n_people), and its former diagonal."""
        product = np.prod(self.grams[list(term)], axis=0)
        rows = product.mean(axis=0)
        product = product - rows - rows[:, None] + rows.mean()
        diagonal = float(np.trace(product)) / len(product)
        return product / max(diagonal, 1e-300), diagonal

    def mixed(self, shares: dict[Term, float]) -> Float64:
        """Kernels in these shares."""
        parts = [share * self.of_term(term)[0] for term, share in shares.items()]
        mixed: Float64 = np.sum(parts, axis=0)
        return mixed

    def weights(self, term: Term, dual: Float64) -> tuple[Float64, Float64]:
        """Weights of a term's functions, of dual ones (n_people, n_codes).

        Returns
        -------
        tuple of ndarray of float64
            Of block scores, (n_components, n_codes), or of products of two blocks' scores,
            (n_codes, n_components, n_components); and the constant, (n_codes,).
        """
        # functions are less their mean over people, whose sum is 0: so may the dual weights be
        dual = dual - dual.mean(axis=0)
        _, diagonal = self.of_term(term)
        dual = dual / max(diagonal, 1e-300) / self.unit ** len(term)
        if len(term) == 1:
            return self.scores.T @ dual, np.zeros(dual.shape[1])
        products = np.stack([(self.scores * own[:, None]).T @ self.scores for own in dual.T])
        first, second = (scores_of(self.blocks, block) for block in term)
        return products, -np.einsum("kij,ij->k", products, first.T @ second) / len(dual)


def scores_of(blocks: Float64, block: int) -> Float64:
    """Scores of one of `blocks`, or of all edges, shape (n_people, n_components)."""
    scores: Float64 = blocks.sum(axis=1) if block == ALL else blocks[:, block]
    return scores


@dataclass(frozen=True)
class Spectrum:
    """A kernel's eigenvalues, none below 0, and eigenvectors."""

    values: Float64
    vectors: Float64

    @classmethod
    def of(cls, kernel: Float64) -> Spectrum:
        values, vectors = np.linalg.eigh(kernel)
        return cls(np.clip(values, 0.0, None), vectors)


@dataclass(frozen=True)
class Fit:
    """G and E, their log likelihood, and the dual weights K is to be multiplied with."""

    told: Float64
    untold: Float64
    likelihood: float
    dual: Float64

    def precision(self, spectrum: Spectrum) -> Float64:
        """V⁻¹ along the kernel's eigenvectors, shape (n_people, n_codes, n_codes)."""
        inverse = np.linalg.inv(spectrum.values[:, None, None] * self.told + self.untold)
        return np.asarray(inverse, np.float64)


def fit(
    spectrum: Spectrum,
    y: Float64,
    start: tuple[Float64, Float64] | None = None,
    n_iterations: int = N_ITERATIONS,
) -> Fit:
    """G and E of codes, and what a kernel says of them.

    Parameters
    ----------
    spectrum : Spectrum
        Of the kernel of these people.
    y : ndarray of float64, shape (n_people, n_codes)
        Codes, mean 0.
    start : tuple of ndarray or None
        G and E to begin with; None for a third and two thirds of the codes' covariance.
    n_iterations : int
        Of expectation-maximisation.
    """
    rotated = spectrum.vectors.T @ y
    told, untold = _maximise(spectrum.values, rotated, start, n_iterations)
    signal, apart, _ = canonical(told, untold)
    within = spectrum.values[:, None] * signal + 1.0
    traits = rotated @ apart.T
    logdet = float(np.log(within).sum()) - 2.0 * len(y) * float(np.linalg.slogdet(apart)[1])
    likelihood = -0.5 * (logdet + float(np.sum(traits**2 / within)))
    return Fit(told, untold, likelihood, spectrum.vectors @ (traits / within) @ apart @ told)


def canonical(told: Float64, untold: Float64) -> tuple[Float64, Float64, Float64]:
    """Traits that are independent of each other.

    Parameters
    ----------
    told, untold : ndarray of float64, shape (n_codes, n_codes)
        G and E.

    Returns
    -------
    tuple of ndarray of float64
        signal, (n_traits,), apart and together, (n_traits, n_codes) and its inverse:
        apart E apart' = I, apart G apart' = diag(signal).
    """
    root = np.linalg.cholesky(untold)
    inverse = np.linalg.inv(root)
    signal, vectors = np.linalg.eigh(inverse @ told @ inverse.T)
    return np.clip(signal, 0.0, None), vectors.T @ inverse, root @ vectors


def _maximise(
    values: Float64, rotated: Float64, start: tuple[Float64, Float64] | None, n_iterations: int
) -> tuple[Float64, Float64]:
    """G and E of rows that are independent N(0, values[i] G + E), by EM.

    A little of the total variance is kept in E's diagonal: a code without any other noise would
    make the likelihood infinite.
    """
    n, n_codes = rotated.shape
    total = rotated.T @ rotated / n
    floor = 1e-3 * np.diag(np.diag(total)) + 1e-9 * np.eye(n_codes)
    told, untold = start or (total / 3.0 + floor, total * 2.0 / 3.0 + floor)
    known = values > 1e-8 * values[-1]
    weights = np.where(known, 1.0 / np.where(known, values, 1.0), 0.0)[:, None]
    for _ in range(n_iterations):
        signal, apart, together = canonical(told, untold)
        gain = values[:, None] * signal
        gain = gain / (gain + 1.0)
        traits = rotated @ apart.T
        explained = gain * traits
        rest = traits - explained
        told = (explained * weights).T @ explained + np.diag(np.sum(weights * gain, axis=0))
        told = together @ told @ together.T / known.sum()
        untold = together @ (rest.T @ rest + np.diag(gain.sum(axis=0))) @ together.T / n + floor
        told, untold = (told + told.T) / 2.0, (untold + untold.T) / 2.0
    return told, untold
