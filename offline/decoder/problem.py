"""One of the problems that the path solves in lock-step: its working set and its solution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offline.decoder.descent import fit_working_set
from offline.decoder.design import Design
from offline.decoder.loss import certificate

__all__ = ["Problem"]

Float64 = NDArray[np.float64]


class Problem:
    """One fold's problem: which scans count, and the solution so far.

    Attributes
    ----------
    y, weights : ndarray of float64, shape (n_padded,)
        Target; weights sum to 1 over the scans that count and are 0 for the others.
    intercept : float
    edges : ndarray of int64, shape (n_working,)
        The working set.
    w : ndarray of float64, shape (n_working,)
        Coefficients of the working set, per SD (or per unit) of the edge.
    member : ndarray of uint8, shape (n_edges,)
        1 for edges of the working set.
    eta, residual, curvature : ndarray of float64, shape (n_padded,)
        At the solution, as of `offline.decoder.loss`.
    largest : float
        Largest |Σ x residual| of the working set.
    norm : float
        Of the residuals.
    n_newton : int
        Newton steps so far.
    """

    def __init__(self, y: Float64, weights: Float64, n_edges: int) -> None:
        n = len(y)
        self.y = y
        self.weights = weights
        self.intercept = 0.0
        self.edges = np.zeros(0, np.int64)
        self.w = np.zeros(0)
        self.member = np.zeros(n_edges, np.uint8)
        self.eta, self.residual, self.curvature = np.zeros(n), np.zeros(n), np.zeros(n)
        self.largest = 0.0
        self.norm = 0.0
        self.n_newton = 0

    def restart(self, new: NDArray[np.int64]) -> None:
        """The working set becomes the support and `new` edges."""
        kept = self.w != 0.0
        self.member[self.edges] = 0
        self.edges, self.w = self.edges[kept], self.w[kept]
        self.member[self.edges] = 1
        self.join(new[self.member[new] == 0])

    def join(self, new: NDArray[np.int64]) -> None:
        """Edges outside enter the working set with coefficients of 0."""
        self.edges = np.concatenate([self.edges, new])
        self.w = np.concatenate([self.w, np.zeros(len(new))])
        self.member[new] = 1

    def solve(self, design: Design, lam: float, squared: bool, tolerance: float) -> None:
        """Solve over the working set, to a gap of `tolerance`."""
        gradient = np.zeros(len(self.edges))
        # first: making columns may move all of them
        slots = design.slots(self.edges)
        self.intercept, steps = fit_working_set(
            design.columns,
            slots,
            self.y,
            self.weights,
            lam,
            squared,
            tolerance,
            self.intercept,
            self.w,
            self.eta,
            self.residual,
            self.curvature,
            gradient,
        )
        self.n_newton += steps
        self.largest = float(np.abs(gradient).max(initial=0.0))
        self.norm = float(np.sqrt(np.sum(self.residual * self.residual)))

    def gap(self, lam: float, largest: float, squared: bool) -> float:
        """Duality gap relative to the primal; `largest` over all edges."""
        norm1 = float(np.abs(self.w).sum())
        primal, gap = certificate(
            self.eta, self.y, self.weights, self.residual, lam, norm1, largest, squared
        )
        return float(gap / primal)
