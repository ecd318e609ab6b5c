"""A ridge model on principal components that go with the target, in folds of people.

`ComponentClassifier` and `ComponentRegressor` put it on the scores of the components that
`ComponentSelector` finds, or on the edges that it selects: anew in every training fold.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.linear_model import LogisticRegression, Ridge

from offline.decoder.calibration import Calibration
from offline.decoder.folded import FoldedDecoder
from offline.decoder.models import Models, TrainingFold
from offline.decoder.parameters import Features
from offline.decoder.selector import ComponentSelector
from offline.decoder.target import ClassTarget, NumberTarget

__all__ = ["ComponentClassifier", "ComponentRegressor"]

Float64 = NDArray[np.float64]


class _ComponentDecoder(FoldedDecoder):
    """A ridge model on what `ComponentSelector` finds in a training fold."""

    def __init__(
        self,
        n_folds: int = 10,
        q: float = 0.05,
        features: Features = "scores",
        penalty: float = 1.0,
        standardize: bool = False,
        harmonizer: Any = None,
        random_state: int | None = 0,
        within_person: bool = False,
    ) -> None:
        self.n_folds = n_folds
        self.q = q
        self.features = features
        self.penalty = penalty
        self.standardize = standardize
        self.harmonizer = harmonizer
        self.random_state = random_state
        self.within_person = within_person

    def _train(self, fold: TrainingFold) -> Models:
        selector = ComponentSelector(self.q, self.standardize).fit(fold.X, fold.y)
        n_edges = fold.X.shape[1]
        edges = np.flatnonzero(selector.edges_)
        if self.features == "scores":
            design = selector.transform(fold.X)
        else:
            design = fold.X[:, edges].astype(np.float64)
        middle = design.mean(axis=0)
        size = design.std(axis=0)
        size[size == 0.0] = 1.0
        slope, intercept = self._ridge((design - middle) / size, fold.y)
        slope = slope / size
        intercept -= float(slope @ middle)
        if self.features == "scores":
            slope = slope @ (selector.components_ / selector.scale_)
            intercept -= float(slope @ selector.mean_)
            edges = np.arange(n_edges) if len(selector.selected_) else edges[:0]
            slope = slope if len(edges) else slope[:0]
        coef = sparse.csr_array((slope, edges, [0, len(edges)]), shape=(1, n_edges))
        details = {"n_components": np.array([len(selector.selected_)])}
        chosen = sparse.csr_array(selector.edges_[None, :].astype(np.int64))
        return Models(coef, np.array([intercept]), chosen, details)

    @abstractmethod
    def _ridge(self, design: Float64, y: Float64) -> tuple[Float64, float]:
        """Slope and intercept of standardised features."""


class ComponentClassifier(ClassTarget, ClassifierMixin, _ComponentDecoder):
    """Logistic ridge on components that differ between two classes, in folds of people.

    Parameters
    ----------
    n_folds : int
        Folds of people, one model each.
    q : float
        False discovery rate over components and edges.
    features : "scores" or "edges"
        Whether the model uses the selected components' scores or the selected edges.
    penalty : float
        Of the ridge, on features of unit SD and the sum over scans of the loss; classes are
        weighted to be equal.
    standardize : bool
        Scale edges to unit SD before.
    harmonizer : estimator or None
        Unfitted; cloned and fitted in each training fold, never told the target.
    random_state : int or None
        Seed of the folds.
    calibration : "platt" or "isotonic"
        Map of `predict_calibrated`, learned on `out_of_fold_`.
    within_person : bool
        Subtract each person's mean over their scans before training and applying.

    Attributes
    ----------
    coef_, intercept_, out_of_fold_, out_of_fold_calibrated_, folds_, harmonizers_, notes_
        As of `LassoEnsemble`, with one model a fold. A fold in which no component passes has a
        model of zeros, whose output is .5.
    selection_counts_ : ndarray of int64, shape (n_edges,)
        Folds in which each edge was selected.
    n_components_ : ndarray of int64, shape (n_folds,)
        Components selected in each fold.
    """

    def __init__(
        self,
        n_folds: int = 10,
        q: float = 0.05,
        features: Features = "scores",
        penalty: float = 1.0,
        standardize: bool = False,
        harmonizer: Any = None,
        random_state: int | None = 0,
        calibration: Calibration = "platt",
        within_person: bool = False,
    ) -> None:
        super().__init__(
            n_folds, q, features, penalty, standardize, harmonizer, random_state, within_person
        )
        self.calibration = calibration

    def _ridge(self, design: Float64, y: Float64) -> tuple[Float64, float]:
        if not design.shape[1]:
            return np.zeros(0), 0.0
        found = LogisticRegression(
            C=1.0 / self.penalty, class_weight="balanced", tol=1e-8, max_iter=1000
        ).fit(design, y)
        return found.coef_[0], float(found.intercept_[0])


class ComponentRegressor(NumberTarget, RegressorMixin, _ComponentDecoder):
    """Ridge regression on components that go with a continuous target, in folds of people.

    Parameters are those of `ComponentClassifier`, but for `calibration`; `penalty` goes with the
    sum over scans of the squared loss.

    Attributes
    ----------
    coef_, intercept_, selection_counts_, n_components_, folds_, harmonizers_, notes_
        As of `ComponentClassifier`.
    out_of_fold_ : ndarray of float64, shape (n_scans,)
        Prediction in units of the target, from models that never saw the person.
    """

    def _ridge(self, design: Float64, y: Float64) -> tuple[Float64, float]:
        if not design.shape[1]:
            return np.zeros(0), float(y.mean())
        found = Ridge(alpha=self.penalty, solver="cholesky").fit(design, y)
        return np.asarray(found.coef_), float(found.intercept_)
