"""The size of an edit's effect: a fixed effect before the background of all edges.

The map from connectomes to codes spreads what it finds over all edges that vary together: the best
prediction of a new person, and by far too small as the effect of a few edges. Here the direction of
an edit is given an effect of its own, as a variant is in mixed-model association (Kang et al.
2010, doi:10.1038/ng.548), a Gaussian process of all edges, of both degrees, being the background:

    codes = c · g + rest,   rest ~ N(0, K ⊗ G + I ⊗ E),   g[i] = k(after, i) - k(before, i)

with people i of the training data; generalised least squares gives c and its covariance, and the
edit's effect is c · |φ(after) - φ(before)|². The map's terms of network blocks are left out: with
them in the background, intervals are too narrow. What it is not: proof that the edit acts. Edges
that go with those that do are given part of the effect.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.errors import TwinError
from offline.twin.basis import Basis
from offline.twin.determinism import deterministic
from offline.twin.examples import Examples
from offline.twin.kernels import ALL, Kernels, Spectrum, Term
from offline.twin.mixtures import fit_mixtures
from offline.twin.shot import infer_codes
from offline.twin.twin import Twin

__all__ = ["Background", "backgrounds_of", "training_codes"]

SAME_Z = 1e-5
"""Mean of an edge over the training people, Fisher z: what float32 may have rounded."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class _Kernel:
    """One mixture's background, people along the eigenvectors of its kernel."""

    shares: dict[Term, float]
    probability: float
    vectors: Float64
    precision: Float64
    """(n_training, n_codes, n_codes)."""
    weighted: Float64
    """The same times the codes, (n_training, n_codes)."""


@dataclass(frozen=True)
class Background:
    """What a member's training people say of any direction of connectomes.

    Attributes
    ----------
    basis : Basis
    scores : ndarray of float64, shape (n_training, n_components)
        Of the training people.
    unit : float
        Of the kernels.
    diagonals : dict of float
        By term.
    code_unit : ndarray of float64, shape (n_codes,)
    kernels : tuple
    """

    basis: Basis
    scores: Float64
    unit: float
    diagonals: dict[Term, float]
    code_unit: Float64
    kernels: tuple[_Kernel, ...]

    @classmethod
    def of(cls, basis: Basis, edges: Float64, codes: Float64) -> Background:
        """Of a member's basis, and its training people's edges (Fisher z) and codes."""
        unit = codes.std(axis=0)
        unit = np.where(unit > 1e-12, unit, 1.0)
        y = (codes - codes.mean(axis=0)) / unit
        kernels = Kernels.of(basis, edges)
        mixtures = fit_mixtures(kernels, y, n_terms=0)
        found = []
        for one in mixtures:
            spectrum = Spectrum.of(kernels.mixed(one.shares))
            precision = one.fit.precision(spectrum)
            weighted = np.einsum("nij,nj->ni", precision, spectrum.vectors.T @ y)
            found.append(
                _Kernel(one.shares, one.probability, spectrum.vectors, precision, weighted)
            )
        diagonals = {term: kernels.of_term(term)[1] for one in mixtures for term in one.shares}
        return cls(basis, kernels.scores, kernels.unit, diagonals, unit, tuple(found))

    def effect(self, before: Float64, after: Float64) -> tuple[Float64, Float64]:
        """Change of people's codes, and its covariance.

        Parameters
        ----------
        before, after : ndarray of float64, shape (n_people, n_edges)
            Fisher z.

        Returns
        -------
        tuple of ndarray of float64
            (n_people, n_codes) and (n_people, n_codes, n_codes).
        """
        moved = {term: self._moved(term, before, after) for term in self.diagonals}
        n_codes = len(self.code_unit)
        mean = np.zeros((len(before), n_codes))
        spread = np.zeros((len(before), n_codes, n_codes))
        found = []
        for one in self.kernels:
            g, size = (
                np.sum([share * moved[term][k] for term, share in one.shares.items()], axis=0)
                for k in (0, 1)
            )
            rotated = g @ one.vectors
            information = np.einsum("pn,nij->pij", rotated**2, one.precision, optimize=True)
            still = size <= 1e-300
            information[still] = np.eye(n_codes)
            covariance = np.linalg.inv(information) * (size**2)[:, None, None]
            along = rotated @ one.weighted * np.where(still, 0.0, 1.0)[:, None]
            change = np.linalg.solve(information, along[:, :, None])[:, :, 0] * size[:, None]
            found.append((one.probability, change, covariance))
            mean += one.probability * change
        for probability, change, covariance in found:
            apart = change - mean
            spread += probability * (covariance + np.einsum("pi,pj->pij", apart, apart))
        scale = self.code_unit
        return mean * scale, spread * np.outer(scale, scale)

    def _moved(self, term: Term, before: Float64, after: Float64) -> tuple[Float64, Float64]:
        """How an edit moves people along a kernel: g by training person, and |φ - φ|²."""
        x, y = (self.basis.standardised(edges) for edges in (before, after))
        n_training = len(self.scores)
        was, now = np.ones((len(x), n_training)), np.ones((len(x), n_training))
        squares = np.ones((3, len(x)))
        for block in term:
            own = slice(None) if block == ALL else self.basis.block == block
            u, v = x[:, own], y[:, own]
            training = self.basis.components[:, own].T @ self.scores.T / self.unit
            was, now = was * (u @ training), now * (v @ training)
            squares *= [np.sum(a * b, axis=1) / self.unit for a, b in ((u, u), (u, v), (v, v))]
        g, size = now - was, squares[0] - 2.0 * squares[1] + squares[2]
        # functions are less their mean over training people
        g, diagonal = g - g.mean(axis=1, keepdims=True), self.diagonals[term]
        return g / diagonal, size / diagonal


def backgrounds_of(
    twin: Twin, training_fc: Float64, training: Examples, *, threads: int = 1
) -> tuple[Background, ...]:
    """Of all members.

    Parameters
    ----------
    twin : Twin
        Low-rank.
    training_fc : ndarray of float64, shape (n_training, n_edges)
        Fisher z of the people the twin was trained with.
    training : Examples
        Of the same people, any order.
    threads : int
        Of torch.

    Raises
    ------
    TwinError
        If the people are not the training people, or their connectomes others, or the twin has no
        codes.
    """
    found = training_codes(twin, training_fc, training, threads=threads)
    return tuple(
        Background.of(member.basis, training_fc[own], codes)
        for member, (own, codes) in zip(twin.members, found, strict=True)
    )


def training_codes(
    twin: Twin, training_fc: Float64, training: Examples, *, threads: int = 1
) -> list[tuple[NDArray[np.int64], Float64]]:
    """Rows and codes of each member's own training people; arguments as of `backgrounds_of`."""
    if twin.members[0].map is None:
        raise TwinError(
            "expected a low-rank twin, whose people have codes, found the whole form; fit a"
            " low-rank twin"
        )
    folds = twin.folds_of(training.people)
    known = int(np.sum(folds >= 0))
    if known < len(twin.people) or known < len(folds):
        raise TwinError(
            f"expected the {len(twin.people)} people the twin was trained with, found {known} of"
            f" them among {len(folds)}; give its training data"
        )
    _require_same(twin, training_fc, folds)
    out = []
    with deterministic(threads):
        for member in twin.members:
            own = np.flatnonzero(folds != member.fold)
            rank = member.settings.rank
            flat, prior = np.zeros((len(own), rank)), np.eye(rank)
            arguments = member.parameters, member.shape, member.settings, training.of(own)
            out.append((own, infer_codes(*arguments, flat, prior, n_steps=4)[0]))
    return out


def _require_same(twin: Twin, training_fc: Float64, folds: NDArray[np.int64]) -> None:
    """Names tell who somebody is, and not which connectome was trained with."""
    for member in twin.members:
        basis = member.basis
        away = np.abs(training_fc[folds != member.fold].mean(axis=0) - basis.mean)
        if away.max() > SAME_Z:
            raise TwinError(
                "expected the connectomes the twin was trained with, found others of the same"
                f" people (an edge's mean is {away.max():.3g} away); give its training data"
            )
