"""From a connectome to a person's codes: the hypernetwork.

`CodeMap` has units of first and second degree on the scores of a connectome (`basis`), of all its
edges and of network blocks,

    codes(x) = c + Σ b'x[block] + Σ x[block]' Q x[other block],

and their weights are not descended to but solved for, as the posterior mean of a Gaussian process
over people. All codes are solved together,

    codes ~ N(0, K ⊗ G + I ⊗ E),

with G, what connectomes say of each code, and E, what they do not, full matrices (`kernels`). That
is what a person's mean response time alone cannot do: where connectomes act on one condition, the
other condition tells how much of a person is not theirs to explain. K is averaged over
(`mixtures`), so that interactions of edges, and blocks, cost little where there are none. With
some 180 people this beats descent on a multilayer perceptron, needs no learning rate, and has the
same bits every time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.twin.kernels import ALL, Kernels, Spectrum, Term, canonical, scores_of
from offline.twin.mixtures import N_TERMS, Mixture, fit_mixtures

__all__ = ["CodeMap", "fit_code_map"]

N_TRAITS = 3
"""Main components of codes that connectomes are asked about. The others are mostly noise of trials;
with all six of a code, G takes some of it for signal, and products of edges are not found."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class CodeMap:
    """Units of first and second degree on a person's scores.

    Attributes
    ----------
    constant : ndarray of float64, shape (n_codes,)
    weights : dict of ndarray of float64
        By term (`kernels.Term`): (n_components, n_codes) of first degree, on a block's scores;
        (n_codes, n_components, n_components) of second, between those of two.
    spread : ndarray of float64, shape (n_codes, n_codes)
        Covariance of people's codes around their map, from people left out of it.
    degree : float
        What share of the prior variance the data gave to the second degree.
    """

    constant: Float64
    weights: dict[Term, Float64]
    spread: Float64
    degree: float

    def codes(self, blocks: Float64) -> Float64:
        """Codes, shape (n_people, n_codes).

        Parameters
        ----------
        blocks : ndarray of float64, shape (n_people, n_blocks, n_components)
            What each block adds to people's scores.
        """
        codes = np.tile(self.constant, (len(blocks), 1))
        for term, weights in self.weights.items():
            scores = [scores_of(blocks, block) for block in term]
            if len(term) == 1:
                codes += scores[0] @ weights
            else:
                codes += np.einsum("pi,kij,pj->pk", scores[0], weights, scores[1], optimize=True)
        return codes

    def slopes(self, blocks: Float64, by_codes: Float64) -> Float64:
        """Derivatives of a target by block scores, shape (n_people, n_blocks, n_components).

        Parameters
        ----------
        blocks : ndarray of float64, shape (n_people, n_blocks, n_components)
        by_codes : ndarray of float64, shape (n_people, n_codes)
            Of the target by the codes.
        """
        slopes = np.zeros_like(blocks)
        for term, weights in self.weights.items():
            if len(term) == 1:
                slopes[:, _places(term[0])] += (by_codes @ weights.T)[:, None]
                continue
            products = np.einsum("pk,kij->pij", by_codes, weights, optimize=True)
            first, second = (scores_of(blocks, block) for block in term)
            slopes[:, _places(term[0])] += (products @ second[:, :, None])[:, None, :, 0]
            slopes[:, _places(term[1])] += first[:, None] @ products
        return slopes


def fit_code_map(
    blocks: Float64, codes: Float64, n_folds: int = 5, n_terms: int = N_TERMS
) -> CodeMap:
    """Solve for the map from scores to codes.

    Parameters
    ----------
    blocks : ndarray of float64, shape (n_people, n_blocks, n_components)
        What each block adds to the scores, of a basis of the same people: their means are 0.
    codes : ndarray of float64, shape (n_people, n_codes)
    n_folds : int
        For the spread, dealt to people in turn.
    n_terms : int
        Terms of network blocks at most.
    """
    centre = codes.mean(axis=0)
    y, into = _traits(codes - centre)
    kernels = Kernels.of_scores(blocks)
    mixtures = fit_mixtures(kernels, y, n_terms)
    weights, constant = _weights(kernels, mixtures)
    residual = codes - centre - (y - _left_out(kernels, y, mixtures, n_folds)) @ into
    return CodeMap(
        constant=centre + constant @ into,
        weights={
            term: found @ into if len(term) == 1 else np.einsum("kij,kl->lij", found, into)
            for term, found in weights.items()
        },
        spread=residual.T @ residual / len(y),
        degree=sum(one.probability * one.degree for one in mixtures),
    )


def _traits(codes: Float64) -> tuple[Float64, Float64]:
    """Main components of centred codes, of variance 1, (n_people, n_traits), and what of each
    code they make, (n_traits, n_codes)."""
    _, size, directions = np.linalg.svd(codes, full_matrices=False)
    sd = size / np.sqrt(len(codes))
    n_traits = max(1, min(N_TRAITS, int(np.sum(sd > 1e-9 * sd[0]))))
    sd, directions = np.where(sd > 0.0, sd, 1.0)[:n_traits], directions[:n_traits]
    return codes @ directions.T / sd, sd[:, None] * directions


def _weights(kernels: Kernels, mixtures: list[Mixture]) -> tuple[dict[Term, Float64], Float64]:
    """Weights of all terms, and the constant."""
    dual: dict[Term, Float64] = {}
    for one in mixtures:
        for term, share in one.shares.items():
            dual[term] = dual.get(term, 0.0) + one.probability * share * one.fit.dual
    found = {term: kernels.weights(term, values) for term, values in dual.items()}
    constant: Float64 = np.sum([own for _, own in found.values()], axis=0)
    return {term: weights for term, (weights, _) in found.items()}, constant


def _left_out(kernels: Kernels, y: Float64, mixtures: list[Mixture], n_folds: int) -> Float64:
    """Traits less what other people's say of them, fold by fold, shape (n_people, n_traits)."""
    fold = np.arange(len(y)) % n_folds
    residual = np.zeros_like(y)
    for one in mixtures:
        kernel = kernels.mixed(one.shares)
        signal, apart, _ = canonical(one.fit.told, one.fit.untold)
        for number in range(n_folds):
            out, rest = fold == number, fold != number
            spectrum = Spectrum.of(kernel[np.ix_(rest, rest)])
            mean = y[rest].mean(axis=0)
            traits = spectrum.vectors.T @ (y[rest] - mean) @ apart.T
            solved = traits / (spectrum.values[:, None] * signal + 1.0) @ apart @ one.fit.told
            predicted = kernel[np.ix_(out, rest)] @ spectrum.vectors @ solved
            residual[out] += one.probability * (y[out] - mean - predicted)
    return residual


def _places(block: int) -> slice:
    """Of the block among all."""
    return slice(None) if block == ALL else slice(block, block + 1)
