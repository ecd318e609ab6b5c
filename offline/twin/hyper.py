"""From a connectome to a person's codes: the hypernetwork, and the basis it looks through.

Two layers. `Basis` turns edges into scores on all principal components of the training people,
found from their Gram matrix (people are far fewer than edges), so that nothing a linear layer
could use is lost. `CodeMap` has units of first and second degree on the scores,

    codes(x) = c + b'x + x'Qx,

and their weights are not descended to but solved for, as the posterior mean of a Gaussian process
over people with kernel (1 - θ) x·x' + θ (x·x')². All codes are solved together,

    codes ~ N(0, K_θ ⊗ G + I ⊗ E),

with G, what connectomes say of each code, and E, what they do not, full matrices found by
expectation-maximisation of the likelihood in the eigenbasis of K (as in multi-trait mixed
models, Zhou & Stephens 2014, doi:10.1038/nmeth.2848). That is what a person's mean response time
alone cannot do: where connectomes act on one condition, the other condition tells how much of a
person is not theirs to explain. θ is averaged over by its likelihood, so that interactions of
edges cost little where there are none. With some 180 people this beats descent on a multilayer
perceptron, needs no learning rate, and has the same bits every time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from offline.errors import TwinError

__all__ = [
    "DEGREES",
    "Basis",
    "CodeMap",
    "Fit",
    "Kernels",
    "fit_basis",
    "fit_code_map",
    "fit_degree",
]

DEGREES = (0.0, 0.3, 0.6, 1.0)
"""θ: prior share of the second degree."""

N_ITERATIONS = 100
N_LEADING = 20
BOUND_PERCENTILE = 99.0
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Basis:
    """Principal components of training people's edges.

    Attributes
    ----------
    mean, scale : ndarray of float64, shape (n_edges,)
        Of the training people; edges are standardised with them.
    components : ndarray of float64, shape (n_components, n_edges)
        Orthonormal, by falling variance.
    sd : ndarray of float64, shape (n_components,)
        Of the training people's scores.
    bounds : tuple of float
        99th percentiles over training people of the two numbers of `distance`.
    n_people : int
        Training people.
    """

    mean: Float64
    scale: Float64
    components: Float64
    sd: Float64
    bounds: tuple[float, float]
    n_people: int

    def scores(self, edges: Float64) -> Float64:
        """Scores, shape (n_people, n_components), of edges (n_people, n_edges)."""
        z = (edges - self.mean) / self.scale
        scores: Float64 = z @ self.components.T / np.sqrt(len(self.mean))
        return scores

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


@dataclass(frozen=True)
class CodeMap:
    """Units of first and second degree on a person's scores.

    Attributes
    ----------
    constant : ndarray of float64, shape (n_codes,)
    linear : ndarray of float64, shape (n_components, n_codes)
    quadratic : ndarray of float64, shape (n_codes, n_components, n_components)
        Symmetric.
    spread : ndarray of float64, shape (n_codes, n_codes)
        Covariance of people's codes around their map, from people left out of it.
    degree : float
        Mean θ: what share of the prior variance the data gave to the second degree.
    """

    constant: Float64
    linear: Float64
    quadratic: Float64
    spread: Float64
    degree: float

    def codes(self, scores: Float64) -> Float64:
        """Codes, shape (n_people, n_codes)."""
        second = np.einsum("pi,kij,pj->pk", scores, self.quadratic, scores, optimize=True)
        codes: Float64 = self.constant + scores @ self.linear + second
        return codes

    def slopes(self, scores: Float64) -> Float64:
        """Derivatives of codes by scores, shape (n_people, n_codes, n_components)."""
        second: Float64 = 2.0 * np.einsum("kij,pj->pki", self.quadratic, scores, optimize=True)
        return self.linear.T + second


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
    scale = np.where(scale > 0.0, scale, 1.0)
    z = (edges - mean) / scale
    values, vectors = np.linalg.eigh(z @ z.T)
    keep = values > 1e-10 * values[-1]
    values, vectors = values[keep][::-1], vectors[:, keep][:, ::-1]
    components = (vectors / np.sqrt(values)).T @ z
    # the sign of an eigenvector is the library's whim: the largest entry is positive
    flip = np.sign(components[np.arange(len(components)), np.abs(components).argmax(axis=1)])
    sd = np.sqrt(values / len(edges) / edges.shape[1])
    basis = Basis(mean, scale, components * flip[:, None], sd, (np.inf, np.inf), len(edges))
    found = np.percentile(basis.distance(edges), BOUND_PERCENTILE, axis=0)
    return replace(basis, bounds=(float(found[0]), float(found[1])))


def fit_code_map(scores: Float64, codes: Float64, n_folds: int = 5) -> CodeMap:
    """Solve for the map from scores to codes.

    Parameters
    ----------
    scores : ndarray of float64, shape (n_people, n_components)
        Of a basis of the same people: their means are 0.
    codes : ndarray of float64, shape (n_people, n_codes)
    n_folds : int
        For the spread, dealt to people in turn.
    """
    centre, unit = codes.mean(axis=0), codes.std(axis=0)
    unit = np.where(unit > 1e-12, unit, 1.0)
    y = (codes - centre) / unit
    kernels = Kernels.of(scores)
    fits = [fit_degree(kernels.mixed(degree), y) for degree in DEGREES]
    likelihood = np.array([fit.likelihood for fit in fits])
    weights = np.exp(likelihood - likelihood.max())
    weights /= weights.sum()
    first = sum(w * (1.0 - t) * fit.dual for w, t, fit in zip(weights, DEGREES, fits, strict=True))
    second = sum(w * t * fit.dual for w, t, fit in zip(weights, DEGREES, fits, strict=True))
    constant, linear, quadratic = kernels.primal(first, second)
    residual = np.zeros_like(y)
    for fold in range(n_folds):
        out = np.arange(len(y)) % n_folds == fold
        for w, t, fit in zip(weights, DEGREES, fits, strict=True):
            if w > 1e-3:
                residual[out] += w * _left_out(kernels.mixed(t), y, fit, out)
    spread = residual.T @ residual / len(y) / weights[weights > 1e-3].sum() ** 2
    return CodeMap(
        constant=centre + unit * constant,
        linear=linear * unit,
        quadratic=quadratic * unit[:, None, None],
        spread=spread * np.outer(unit, unit),
        degree=float(weights @ np.array(DEGREES)),
    )


@dataclass(frozen=True)
class Kernels:
    """Kernels of first and second degree over training people, mean 0 and mean diagonal 1."""

    scores: Float64
    unit: float
    first: Float64
    second: Float64
    second_unit: float

    @classmethod
    def of(cls, scores: Float64) -> Kernels:
        gram = scores @ scores.T
        unit = float(np.trace(gram)) / len(gram)
        square = (gram / unit) ** 2
        rows = square.mean(axis=0)
        square = square - rows - rows[:, None] + rows.mean()
        second_unit = float(np.trace(square)) / len(gram)
        return cls(scores, unit, gram / unit, square / second_unit, second_unit)

    def mixed(self, degree: float) -> Float64:
        """The kernel of a prior share `degree` of the second degree, (n_people, n_people)."""
        return (1.0 - degree) * self.first + degree * self.second

    def primal(self, first: Float64, second: Float64) -> tuple[Float64, Float64, Float64]:
        """Constant, linear and quadratic weights of dual ones, each (n_people, n_codes)."""
        linear = self.scores.T @ first / self.unit
        # features of second degree are x x' / unit minus their mean over people; the mean of
        # dual weights has no effect, as the features' sum over people is 0
        dual = second - second.mean(axis=0)
        quadratic = np.einsum("pk,pi,pj->kij", dual, self.scores, self.scores, optimize=True)
        quadratic /= self.unit**2 * self.second_unit
        moment = self.scores.T @ self.scores / len(self.scores)
        return -np.einsum("kij,ij->k", quadratic, moment), linear, quadratic


@dataclass(frozen=True)
class Fit:
    """G and E, their log likelihood, and the dual weights K is to be multiplied with."""

    told: Float64
    untold: Float64
    likelihood: float
    dual: Float64


def fit_degree(kernel: Float64, y: Float64) -> Fit:
    """G and E of codes `y`, (n_people, n_codes), mean 0, with a kernel (n_people, n_people)."""
    values, vectors = np.linalg.eigh(kernel)
    values = np.clip(values, 0.0, None)
    rotated = vectors.T @ y
    told, untold = _maximise(values, rotated)
    covariance = values[:, None, None] * told + untold
    solved = np.linalg.solve(covariance, rotated[:, :, None])[:, :, 0]
    _, logdet = np.linalg.slogdet(covariance)
    likelihood = -0.5 * float(logdet.sum() + np.sum(rotated * solved))
    return Fit(told, untold, likelihood, vectors @ solved @ told)


def _maximise(values: Float64, rotated: Float64) -> tuple[Float64, Float64]:
    """G and E of rows that are independent N(0, values[i] G + E), by EM from a third and the rest.

    A little of the total variance is kept in E's diagonal: a code without any other noise would
    make the likelihood infinite.
    """
    n, n_codes = rotated.shape
    total = rotated.T @ rotated / n
    floor = 1e-3 * np.diag(np.diag(total)) + 1e-9 * np.eye(n_codes)
    told, untold = total / 3.0 + floor, total * 2.0 / 3.0 + floor
    known = values > 1e-8 * values[-1]
    weights = np.where(known, 1.0 / np.where(known, values, 1.0), 0.0)
    for _ in range(N_ITERATIONS):
        covariance = values[:, None, None] * told + untold
        inverse = np.linalg.inv(covariance)
        gain = values[:, None, None] * (told @ inverse)
        explained = np.einsum("nij,nj->ni", gain, rotated)
        left = values[:, None, None] * told - values[:, None, None] * (gain @ told)
        told = (explained * weights[:, None]).T @ explained
        told = (told + np.einsum("n,nij->ij", weights, left)) / known.sum()
        rest = rotated - explained
        untold = (rest.T @ rest + left.sum(axis=0)) / n + floor
        told, untold = (told + told.T) / 2.0, (untold + untold.T) / 2.0
    return told, untold


def _left_out(kernel: Float64, y: Float64, fit: Fit, out: NDArray[np.bool_]) -> Float64:
    """Codes of some people less what the others' say of them, shape (n_out, n_codes)."""
    values, vectors = np.linalg.eigh(kernel[np.ix_(~out, ~out)])
    covariance = np.clip(values, 0.0, None)[:, None, None] * fit.told + fit.untold
    mean = y[~out].mean(axis=0)
    rotated = vectors.T @ (y[~out] - mean)
    solved = np.linalg.solve(covariance, rotated[:, :, None])[:, :, 0]
    predicted = kernel[np.ix_(out, ~out)] @ (vectors @ solved @ fit.told)
    rest: Float64 = y[out] - mean - predicted
    return rest
