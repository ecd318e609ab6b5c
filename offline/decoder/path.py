"""L1-penalised paths of one data set and all its inner folds, solved in lock-step.

All problems share one design and differ in which scans count. Along λ = λmax·{25, 24 … 1}/25
each keeps a working set, solves it by proximal Newton in float64 (`descent`), and one product of
all edges with all residuals tells where an edge outside is violated. That product is in float32
with a proven bound of its error; what the bound leaves open is computed again in float64. A
solution is handed out with a duality gap of at most `tolerance` of its objective, or not at all.

Objective: mean over scans of ln(1 + e^η) - yη (or (y - η)²/2) + λ Σ_j s_j |w_j|, η = Xw + b,
with s_j the edge's SD over the data set (1 if not standardised); other solvers' C is 1/(n λ).
Strong rule: Tibshirani et al. 2012 (doi:10.1111/j.1467-9868.2011.01004.x). Working sets and the
duality gap as their measure: Massias et al. 2018 (Celer), Bertrand et al. 2022 (skglm).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from offline.decoder.design import Design
from offline.decoder.problem import Problem
from offline.decoder.screening import GROUP, correlate, pick, project
from offline.errors import DecodeError

__all__ = ["TOLERANCE", "LassoPath", "Loss", "lasso_path"]

Float64 = NDArray[np.float64]
Loss = Literal["logistic", "squared"]

TOLERANCE = 1e-6
"""Largest duality gap of a solution, relative to its objective."""

INNER_TOLERANCE = 1e-7
"""Gap over the working set alone: what is left of `TOLERANCE` may go to edges outside."""

FIRST_TOLERANCE = 1e-4
"""The same in the first round at a new λ, whose working set will hardly be the last."""

MAX_ROUNDS = 100
MAX_NEW = 200
"""Edges that may join a working set at once."""


@dataclass(frozen=True, slots=True)
class LassoPath:
    """Solutions along the path.

    Attributes
    ----------
    lambdas : ndarray of float64, shape (n_lambdas,)
        Penalties, descending, in units of the loss's slope per SD (or per unit) of an edge.
    edges, coefficients : list of ndarray
        Support and coefficients (per unit of the edge) of the whole data set at each λ.
    intercepts : ndarray of float64, shape (n_lambdas,)
    deviance : ndarray of float64, shape (n_folds, n_lambdas)
        Mean loss of the scans left out in each inner fold, times two.
    gaps : ndarray of float64, shape (n_folds + 1, n_lambdas)
        Certified duality gaps relative to the objective; the whole data set comes last.
    n_products : int
        Products of all edges with residuals.
    n_newton : int
        Newton steps of all problems.
    """

    lambdas: Float64
    edges: list[NDArray[np.int64]]
    coefficients: list[Float64]
    intercepts: Float64
    deviance: Float64
    gaps: Float64
    n_products: int
    n_newton: int

    def chosen(self, one_se: bool = True) -> int:
        """Index of the λ of least mean deviance, or of the largest within one standard error."""
        mean = self.deviance.mean(axis=0)
        best = int(np.argmin(mean))
        if not one_se:
            return best
        error = self.deviance[:, best].std(ddof=1) / np.sqrt(len(self.deviance))
        return int(np.flatnonzero(mean <= mean[best] + error)[0])


def lasso_path(
    X: NDArray[np.floating],
    y: Float64,
    folds: NDArray[np.int64] | None = None,
    *,
    loss: Loss = "logistic",
    n_lambdas: int = 25,
    standardize: bool = True,
    tolerance: float = TOLERANCE,
) -> LassoPath:
    """Solve the path of a data set and of each of its inner folds.

    Parameters
    ----------
    X : ndarray of float32 or float64, shape (n_scans, n_edges)
        Finite.
    y : ndarray of float64, shape (n_scans,)
        0 and 1 for the logistic loss.
    folds : ndarray of int, shape (n_scans,), or None
        Inner fold, from 0, in which each scan is left out; None for the data set alone.
    loss : "logistic" or "squared"
    n_lambdas : int
        λ = λmax·{n, n - 1 … 1}/n, the λmax of the whole data set.
    standardize : bool
        Penalise each edge in units of its SD over the data set.
    tolerance : float
        Largest relative duality gap.

    Returns
    -------
    LassoPath

    Raises
    ------
    DecodeError
        If the target or every edge is constant, or a solution cannot be certified.
    """
    solver = _LockStep(X, y, folds, loss == "squared", standardize, tolerance)
    return solver.run(n_lambdas)


class _LockStep:
    """All problems of one data set on their way down the path."""

    def __init__(
        self,
        X: NDArray[np.floating],
        y: Float64,
        folds: NDArray[np.int64] | None,
        squared: bool,
        standardize: bool,
        tolerance: float,
    ) -> None:
        if np.ptp(y) == 0.0:
            raise DecodeError(f"expected a target that varies, found {y[0]:g} for all; add people")
        self.squared, self.tolerance = squared, tolerance
        self.design = Design(X, standardize)
        n, padded = len(y), self.design.edges.shape[1]
        target = np.zeros(padded)
        target[:n] = y
        n_folds = 0 if folds is None else int(folds.max()) + 1
        self.problems = []
        self.left_out = []
        for fold in range(n_folds + 1):
            counts = np.zeros(padded)
            counts[:n] = 1.0 if folds is None or fold == n_folds else folds != fold
            weights = counts / counts.sum()
            self.problems.append(Problem(target, weights, self.design.n_edges))
            self.left_out.append(np.flatnonzero(counts[:n] == 0.0))
        rows = -(-len(self.problems) // GROUP) * GROUP
        self.residuals = np.zeros((rows, padded), np.float32)
        self.gradients = np.zeros((rows, self.design.n_edges), np.float32)
        # last product of each problem: what the next λ's working set is chosen from
        self.seen = np.zeros((len(self.problems), self.design.n_edges), np.float32)
        self.found = np.zeros(self.design.n_edges, np.int64)
        self.n_products = 0

    def run(self, n_lambdas: int) -> LassoPath:
        top = self._start()
        lambdas = top * np.arange(n_lambdas, 0, -1) / n_lambdas
        n_folds = len(self.problems) - 1
        gaps = np.zeros((n_folds + 1, n_lambdas))
        deviance = np.zeros((n_folds, n_lambdas))
        edges, coefficients, intercepts = [], [], np.zeros(n_lambdas)
        for at, lam in enumerate(lambdas):
            gaps[:, at] = self._solve(float(lam), float(lambdas[max(at - 1, 0)]))
            for fold in range(n_folds):
                deviance[fold, at] = self._deviance(fold)
            whole = self.problems[-1]
            support = whole.edges[whole.w != 0.0]
            w = whole.w[whole.w != 0.0] * self.design.inverse[support]
            order = np.argsort(support)
            edges.append(support[order])
            coefficients.append(w[order])
            intercepts[at] = whole.intercept - float(np.sum(w * self.design.mean[support]))
        return LassoPath(
            lambdas,
            edges,
            coefficients,
            intercepts,
            deviance,
            gaps,
            self.n_products,
            sum(problem.n_newton for problem in self.problems),
        )

    def _start(self) -> float:
        """Everything at zero; returns λmax of the whole data set, exact."""
        for problem in self.problems:
            # without edges the penalty plays no part: only the intercept is found
            problem.solve(self.design, 1.0, self.squared, self.tolerance)
        self._multiply(list(range(len(self.problems))))
        whole = self.problems[-1]
        seen = np.abs(self.seen[-1]).astype(np.float64)
        slack = whole.norm * self.design.slack
        close = np.flatnonzero(seen + slack >= (seen - slack).max())
        top = float(self._exact(whole, close).max(initial=0.0))
        if top <= 0.0:
            raise DecodeError("expected edges that vary, found every edge constant; check X")
        return top

    def _solve(self, lam: float, previous: float) -> Float64:
        """All problems at one λ; returns their gaps."""
        for at, problem in enumerate(self.problems):
            # strong rule: an edge below 2λ - λ' seldom enters between λ' and λ
            threshold = max(2.0 * lam - previous, 0.5 * lam)
            problem.restart(self._strongest(at, self._outside(at, threshold)))
        gaps = np.full(len(self.problems), np.inf)
        pending = list(range(len(self.problems)))
        tolerance = FIRST_TOLERANCE
        for _ in range(MAX_ROUNDS):
            for at in pending:
                self.problems[at].solve(self.design, lam, self.squared, tolerance)
            self._multiply(pending)
            pending = [at for at in pending if not self._certified(at, lam, gaps)]
            if not pending:
                return gaps
            tolerance = INNER_TOLERANCE
        raise DecodeError(
            f"expected a duality gap <= {self.tolerance:g}, found {gaps.max():.1e} after"
            f" {MAX_ROUNDS} rounds; look for edges of extreme size"
        )

    def _multiply(self, problems: list[int]) -> None:
        """One product of all edges with the residuals of these problems."""
        rows = -(-len(problems) // GROUP) * GROUP
        self.residuals[:rows] = 0.0
        for row, at in enumerate(problems):
            self.residuals[row] = self.problems[at].residual
        correlate(
            self.design.edges,
            self.residuals[:rows],
            self.design.inverse32,
            self.gradients[:rows],
        )
        for row, at in enumerate(problems):
            self.seen[at] = self.gradients[row]
        self.n_products += 1

    def _certified(self, at: int, lam: float, gaps: Float64) -> bool:
        """Whether a problem is solved; if not, the edges it lacks have joined its working set."""
        problem = self.problems[at]
        outside = self._outside(at, lam, problem.norm)
        close = self._strongest(at, outside)
        exact = self._exact(problem, close)
        if len(close) < len(outside) and not np.any(exact > lam):
            # offsets so large that single precision tells little: all of them in double
            close, exact = outside, self._exact(problem, outside)
        largest = max(problem.largest, float(exact.max(initial=0.0)))
        gaps[at] = problem.gap(lam, largest, self.squared)
        if gaps[at] <= self.tolerance and len(close) == len(outside):
            return True
        problem.join(close[exact > lam][:MAX_NEW])
        return False

    def _outside(self, at: int, threshold: float, norm: float = 0.0) -> NDArray[np.int64]:
        """Edges outside the working set that may exceed a threshold."""
        count = pick(
            self.seen[at],
            self.design.slack,
            norm,
            threshold,
            self.problems[at].member,
            self.found,
        )
        return self.found[:count].copy()

    def _strongest(self, at: int, edges: NDArray[np.int64]) -> NDArray[np.int64]:
        """At most `MAX_NEW` of some edges, those that go best with the residuals."""
        if len(edges) <= MAX_NEW:
            return edges
        order = np.argpartition(-np.abs(self.seen[at][edges]), MAX_NEW)
        return np.sort(edges[order[:MAX_NEW]])

    def _exact(self, problem: Problem, edges: NDArray[np.int64]) -> Float64:
        """|Σ x residual| of some edges in float64."""
        slots = self.design.slots(edges)
        out = np.empty(len(edges))
        project(self.design.columns, slots, problem.residual, out)
        return out

    def _deviance(self, fold: int) -> float:
        """Twice the mean loss of the scans a fold leaves out."""
        problem, rows = self.problems[fold], self.left_out[fold]
        eta, y = problem.eta[rows], problem.y[rows]
        if self.squared:
            return float(np.mean((y - eta) ** 2))
        return float(2.0 * np.mean(np.logaddexp(0.0, eta) - y * eta))
