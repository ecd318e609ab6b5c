"""Which kernels people's codes follow: mixtures of them, each with its posterior probability.

Four mixtures of the two degrees of all edges come first. To these, one after the other, up to
two terms of network blocks are added: the edges of one block, or products of the edges of two. A
term is as likely a priori to be of a block as of a pair, and every block, and every pair, as any
other, so that the many pairs pay for being many. The first is added to the most likely mixture and
to the first degree alone, the second to the most likely with one; of all terms, those with the
largest score (derivative of the log likelihood by the term's share, over its standard deviation)
are fitted. All mixtures seen are averaged over by their probability, so that blocks cost little
where connectomes do not act by them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from offline.twin.kernels import ALL, Fit, Kernels, Spectrum, Term, canonical, fit

__all__ = ["DEGREES", "N_TERMS", "Mixture", "fit_mixtures"]

DEGREES = (0.0, 0.3, 0.6, 1.0)
"""Prior share of the second degree of all edges."""

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of a term that is added."""

N_TERMS = 2
"""Terms of network blocks at most."""

ODDS = 3.0
"""A priori, of one more term."""

N_FITTED = 25
"""Terms of the largest scores."""

N_ITERATIONS = 25
"""Of expectation-maximisation from the mixture that is gone on from."""

LEAST_PROBABILITY = 1e-2
"""Of a mixture a posteriori, below which it is left out."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Mixture:
    """Kernels in some shares, what the codes say of them, and how likely that is.

    Attributes
    ----------
    shares : dict of float
        By term; they sum to 1.
    fit : Fit
    log_joint : float
        Log likelihood and log prior.
    probability : float
        A posteriori, of the mixtures that were kept.
    """

    shares: dict[Term, float]
    fit: Fit
    log_joint: float
    probability: float = 0.0

    @property
    def degree(self) -> float:
        """Share of terms of second degree."""
        return sum(share for term, share in self.shares.items() if len(term) == 2)


def fit_mixtures(kernels: Kernels, y: Float64, n_terms: int = N_TERMS) -> list[Mixture]:
    """All mixtures that are likely; their probabilities sum to 1.

    Parameters
    ----------
    kernels : Kernels
    y : ndarray of float64, shape (n_people, n_codes)
        Codes, mean 0.
    n_terms : int
        0 for all edges alone.
    """
    found = []
    for degree in DEGREES:
        shares = {(ALL,): 1.0 - degree, (ALL, ALL): degree}
        shares = {term: share for term, share in shares.items() if share}
        one = fit(Spectrum.of(kernels.mixed(shares)), y)
        found.append(Mixture(shares, one, one.likelihood - np.log(len(DEGREES))))
    newest = found
    for step in range(n_terms if kernels.n_blocks > 1 else 0):
        best = max(newest, key=lambda one: one.log_joint)
        bases = [best] if step or best is found[0] else [found[0], best]
        newest = [one for base in bases for one in _extended(kernels, y, base)]
        found = found + newest
    return _likely(found)


def _likely(found: list[Mixture]) -> list[Mixture]:
    """Those that are likely, each once, with their probabilities."""
    # a term that is all there is may have been come to from two mixtures
    once = {tuple(sorted(one.shares.items())): one for one in found}
    mixtures = list(once.values())
    logs = np.array([one.log_joint for one in mixtures])
    probability = np.exp(logs - logs.max())
    probability /= probability.sum()
    kept = probability >= min(LEAST_PROBABILITY, probability.max())
    probability /= probability[kept].sum()
    return [
        replace(one, probability=float(p))
        for one, p, keep in zip(mixtures, probability, kept, strict=True)
        if keep
    ]


def _extended(kernels: Kernels, y: Float64, base: Mixture) -> list[Mixture]:
    """A mixture and one more term, in all shares."""
    kernel = kernels.mixed(base.shares)
    blocks: list[Term] = [(block,) for block in range(kernels.n_blocks)]
    pairs: list[Term] = list(combinations_with_replacement(range(kernels.n_blocks), 2))
    terms = [term for term in blocks + pairs if term not in base.shares]
    scores = _scores(kernels, Spectrum.of(kernel), y, base.fit, terms)
    found = []
    for place in np.argsort(-scores, kind="stable")[:N_FITTED].tolist():
        term = terms[place]
        own, _ = kernels.of_term(term)
        # of one of the two degrees, one of all terms of it, and so much of it
        of_degree = blocks if len(term) == 1 else pairs
        prior = base.log_joint + np.log(ODDS / 2.0 / len(of_degree) / len(SHARES))
        for share in SHARES:
            shares = {known: (1.0 - share) * of for known, of in base.shares.items() if share < 1}
            spectrum = Spectrum.of((1.0 - share) * kernel + share * own)
            one = fit(spectrum, y, (base.fit.told, base.fit.untold), N_ITERATIONS)
            gained = one.likelihood - base.fit.likelihood
            found.append(Mixture({**shares, term: share}, one, prior + gained))
    return found


def _scores(
    kernels: Kernels, spectrum: Spectrum, y: Float64, base: Fit, terms: list[Term]
) -> Float64:
    """Derivative of the log likelihood by each term's share over its SD, G and E held."""
    signal, apart, _ = canonical(base.told, base.untold)
    inverse = 1.0 / (spectrum.values[:, None] * signal + 1.0)
    traits = inverse * (spectrum.vectors.T @ y @ apart.T)
    scores = np.empty(len(terms))
    for place, term in enumerate(terms):
        kernel, _ = kernels.of_term(term)
        along = spectrum.vectors.T @ kernel @ spectrum.vectors
        gained = np.sum(signal * np.einsum("ni,ni->i", traits, along @ traits))
        expected = np.sum(signal * (np.diag(along) @ inverse))
        variance = np.sum(signal**2 * np.einsum("ni,ni->i", inverse, along**2 @ inverse))
        scores[place] = (gained - expected) / np.sqrt(max(2.0 * variance, 1e-300))
    return scores
