"""The size of an edit's effect: a fixed effect before the background of all edges.

The map from connectomes to codes spreads what it finds over all edges that vary together: the best
prediction of a new person, and by far too small as the effect of a few edges. Here the direction of
an edit is given an effect of its own, as a variant is in mixed-model association (Kang et al.
2010, doi:10.1038/ng.548), the map's Gaussian process being the background:

    codes = c · g + rest,   rest ~ N(0, K ⊗ G + I ⊗ E),   g[i] = k(after, i) - k(before, i)

with people i of the training data; generalised least squares gives c and its covariance, and the
edit's effect is c · |φ(after) - φ(before)|². The shrunken effect is proportional to the same
g'V⁻¹y; what changes is the size, and that the interval says how little a direction is known. What
it is not: proof that the edit acts. Edges that go with those that do are given part of the effect.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.errors import TwinError
from offline.twin.examples import Examples
from offline.twin.hyper import DEGREES, Basis, Kernels, fit_degree
from offline.twin.members import Member
from offline.twin.shot import infer_codes
from offline.twin.train import deterministic
from offline.twin.twin import Twin, digest_of_name

__all__ = ["Background", "backgrounds_of", "training_codes"]

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class _Degree:
    """One degree's background in the eigenbasis of its kernel."""

    degree: float
    weight: float
    vectors: Float64
    inverse: Float64
    """(n_training, n_codes, n_codes), of each row's covariance."""
    weighted: Float64
    """The same times the rotated codes, (n_training, n_codes)."""


@dataclass(frozen=True)
class Background:
    """What a member's training people say of any direction of connectomes.

    Attributes
    ----------
    basis : Basis
    training : ndarray of float64, shape (n_training, n_edges)
        Standardised edges over √n_edges.
    unit, second_unit : float
        Of the two kernels.
    code_unit : ndarray of float64, shape (n_codes,)
    degrees : tuple
    """

    basis: Basis
    training: Float64
    unit: float
    second_unit: float
    code_unit: Float64
    degrees: tuple[_Degree, ...]

    @classmethod
    def of(cls, member: Member, edges: Float64, codes: Float64) -> Background:
        """Of a member, from its training people's edges (Fisher z) and codes."""
        unit = codes.std(axis=0)
        unit = np.where(unit > 1e-12, unit, 1.0)
        y = (codes - codes.mean(axis=0)) / unit
        kernels = Kernels.of(member.basis.scores(edges))
        fits = [fit_degree(kernels.mixed(degree), y) for degree in DEGREES]
        likelihood = np.array([fit.likelihood for fit in fits])
        weights = np.exp(likelihood - likelihood.max())
        weights /= weights.sum()
        degrees = []
        for degree, fit, weight in zip(DEGREES, fits, weights.tolist(), strict=True):
            if weight < 1e-3:
                continue
            values, vectors = np.linalg.eigh(kernels.mixed(degree))
            values = np.clip(values, 0.0, None)
            inverse = np.linalg.inv(values[:, None, None] * fit.told + fit.untold)
            weighted = np.einsum("nij,nj->ni", inverse, vectors.T @ y)
            degrees.append(_Degree(degree, weight, vectors, inverse, weighted))  # type: ignore[arg-type]  # inv keeps float64
        return cls(
            member.basis, _standardised(member.basis, edges), kernels.unit, kernels.second_unit,
            unit, tuple(degrees),
        )  # fmt: skip

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
        x, moved = _standardised(self.basis, before), _standardised(self.basis, after)
        a, b = x @ self.training.T / self.unit, moved @ self.training.T / self.unit
        first = b - a
        second = b**2 - a**2
        second = (second - second.mean(axis=1, keepdims=True)) / self.second_unit
        dots = [np.sum(u * v, axis=1) / self.unit for u, v in ((x, x), (x, moved), (moved, moved))]
        size_first = dots[0] - 2.0 * dots[1] + dots[2]
        size_second = (dots[0] ** 2 - 2.0 * dots[1] ** 2 + dots[2] ** 2) / self.second_unit
        total = sum(one.weight for one in self.degrees)
        n_codes = len(self.code_unit)
        mean = np.zeros((len(x), n_codes))
        spread = np.zeros((len(x), n_codes, n_codes))
        found = []
        for one in self.degrees:
            g = (1.0 - one.degree) * first + one.degree * second
            size = (1.0 - one.degree) * size_first + one.degree * size_second
            rotated = g @ one.vectors
            information = np.einsum("pn,nij->pij", rotated**2, one.inverse)
            still = size <= 1e-300
            information[still] = np.eye(n_codes)
            covariance = np.linalg.inv(information) * (size**2)[:, None, None]
            along = rotated @ one.weighted * np.where(still, 0.0, 1.0)[:, None]
            change = np.linalg.solve(information, along[:, :, None])[:, :, 0] * size[:, None]
            found.append((one.weight / total, change, covariance))
            mean += one.weight / total * change
        for weight, change, covariance in found:
            apart = change - mean
            spread += weight * (covariance + np.einsum("pi,pj->pij", apart, apart))
        scale = self.code_unit
        return mean * scale, spread * np.outer(scale, scale)


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
        If the people are not the training people, or the twin has no codes.
    """
    found = training_codes(twin, training, threads=threads)
    return tuple(
        Background.of(member, training_fc[own], codes)
        for member, (own, codes) in zip(twin.members, found, strict=True)
    )


def training_codes(
    twin: Twin, training: Examples, *, threads: int = 1
) -> list[tuple[NDArray[np.int64], Float64]]:
    """Rows and codes of each member's own training people; arguments as of `backgrounds_of`."""
    if twin.members[0].map is None:
        raise TwinError(
            "expected a low-rank twin, whose people have codes, found the whole form; fit a"
            " low-rank twin"
        )
    names = [digest_of_name(name) for name in training.people]
    if set(names) != set(twin.people) or len(names) != len(twin.people):
        raise TwinError(
            f"expected the {len(twin.people)} people the twin was trained with, found"
            f" {len(set(names) & set(twin.people))} of them among {len(names)}; give its training"
            " data"
        )
    fold_of = dict(zip(twin.people, twin.folds.tolist(), strict=True))
    folds = np.array([fold_of[name] for name in names])
    out = []
    with deterministic(threads):
        for member in twin.members:
            own = np.flatnonzero(folds != member.fold)
            rank = member.settings.rank
            flat, prior = np.zeros((len(own), rank)), np.eye(rank)
            arguments = member.parameters, member.shape, member.settings, training.of(own)
            out.append((own, infer_codes(*arguments, flat, prior, n_steps=4)[0]))
    return out


def _standardised(basis: Basis, edges: Float64) -> Float64:
    z: Float64 = (edges - basis.mean) / basis.scale / np.sqrt(len(basis.mean))
    return z
