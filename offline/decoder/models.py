"""What a fold is trained on, and the linear models that come of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["Models", "TrainingFold"]

Floats = NDArray[np.floating[Any]]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class TrainingFold:
    """What one fold's models are trained on.

    Attributes
    ----------
    X : ndarray, shape (n_training, n_edges)
        Harmonized edges.
    y : ndarray of float64, shape (n_training,)
        Class numbers or a continuous target.
    people : ndarray of int64, shape (n_training,)
    seed : tuple of int
        Entropy and fold: all random draws of the fold are made from it.
    """

    X: Floats
    y: Float64
    people: Ints
    seed: tuple[int, int]

    def rng(self, *purpose: int) -> np.random.Generator:
        """A generator of its own for each purpose, the same wherever the fold is run."""
        entropy, fold = self.seed
        return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(fold, *purpose)))


@dataclass(frozen=True)
class Models:
    """Linear models of one fold.

    Attributes
    ----------
    coef : scipy.sparse.csr_array of float64, shape (n_models, n_edges)
    intercept : ndarray of float64, shape (n_models,)
    selected : scipy.sparse.csr_array of int64, shape (1, n_edges)
        In how many of the models each edge was chosen.
    details : dict of ndarray
        One value a model, by name.
    """

    coef: sparse.csr_array
    intercept: Float64
    selected: sparse.csr_array
    details: dict[str, NDArray[Any]] = field(default_factory=dict)

    def scores(self, X: Floats) -> Float64:
        """Linear scores, shape (n_models, n_scans)."""
        support = np.unique(self.coef.indices)
        dense = self.coef[:, support].toarray()
        return np.asarray(dense @ X[:, support].T.astype(np.float64) + self.intercept[:, None])
