"""L1 ensembles: many sparse classifiers on draws of equal classes, averaged.

The recipe of Yamashita et al. 2020 (doi:10.1371/journal.pbio.3000966): ten outer folds; in each
training fold ten draws of equally many scans of each class; on each draw an L1-penalised logistic
path over 25 λ, whose λ is chosen by the one-standard-error rule in ten inner folds. The output is
the mean probability of the classifiers, the threshold .5. How often an edge was chosen is
`selection_counts_`, to be held against `offline.decoder.null`.

Edges are standardised by their SD within each draw (`standardize`): the published solver
(lassoglm) does so by default, and without it λ would favour edges of large variance. It is the
draw's SD for all of its inner folds, labels having no part in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import ClassifierMixin, RegressorMixin

from offline.decoder.calibration import Calibration
from offline.decoder.folded import FoldedDecoder
from offline.decoder.folds import bins, class_draw, deal
from offline.decoder.models import Models, TrainingFold
from offline.decoder.target import ClassTarget, NumberTarget
from offline.errors import DecodeError

if TYPE_CHECKING:
    from offline.decoder.path import LassoPath, Loss

__all__ = ["LassoEnsemble", "LassoEnsembleRegressor"]

Floats = NDArray[np.floating[Any]]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]


class LassoEnsemble(ClassTarget, ClassifierMixin, FoldedDecoder):
    """Ensemble of L1 logistic classifiers of two classes.

    Parameters
    ----------
    n_folds : int
        Outer folds of people.
    n_undersamples : int
        Draws of equal classes in each training fold.
    n_lambdas : int
        Points of each path, λmax·{n, n - 1 … 1}/n.
    n_inner_folds : int
        Folds that choose λ within a draw.
    one_se : bool
        Largest λ within one standard error of the least inner deviance; False takes the least.
    class_size : int or None
        Scans of each class in a draw; None for those of the smaller class.
    harmonizer : estimator or None
        Unfitted; cloned and fitted once in each training fold (`n_folds` fits, shared by its
        draws), never told the target.
    random_state : int or None
        Seed of folds and draws. None draws one, which is kept in `seed_`.
    standardize : bool
        Penalise edges in units of their SD within the draw.
    calibration : "platt" or "isotonic"
        Map of `predict_calibrated`, learned on `out_of_fold_`.
    within_person : bool
        Subtract each person's mean over their scans before training and applying: for states of
        one person (before and after treatment). Every person then needs at least two scans.

    Attributes
    ----------
    classes_ : ndarray, shape (2,)
        Labels in order; probabilities are of the second.
    coef_ : scipy.sparse.csr_array of float64, shape (n_classifiers, n_edges)
        Per unit of the harmonized edge; classifiers of one fold follow each other.
    intercept_, lambda_, gap_ : ndarray of float64, shape (n_classifiers,)
        Intercepts, chosen penalties, and the largest certified duality gap on each path, that of
        inner folds included.
    selection_counts_ : ndarray of int64, shape (n_edges,)
        Classifiers that use each edge.
    out_of_fold_ : ndarray of float64, shape (n_scans,)
        Probability of `classes_[1]` from classifiers that never saw the person; NaN for
        traveling scans.
    out_of_fold_calibrated_ : ndarray of float64, shape (n_scans,)
        The same, calibrated on the other folds.
    folds_ : ndarray of int64, shape (n_scans,)
        Outer fold of each scan; -1 for traveling scans.
    harmonizers_ : list
        Fitted harmonizer of each fold, or None.
    notes_ : tuple of str
        What a reader has to know about the sample.
    """

    def __init__(
        self,
        n_folds: int = 10,
        n_undersamples: int = 10,
        n_lambdas: int = 25,
        n_inner_folds: int = 10,
        one_se: bool = True,
        class_size: int | None = None,
        harmonizer: Any = None,
        random_state: int | None = 0,
        standardize: bool = True,
        calibration: Calibration = "platt",
        within_person: bool = False,
    ) -> None:
        self.n_folds = n_folds
        self.n_undersamples = n_undersamples
        self.n_lambdas = n_lambdas
        self.n_inner_folds = n_inner_folds
        self.one_se = one_se
        self.class_size = class_size
        self.harmonizer = harmonizer
        self.random_state = random_state
        self.standardize = standardize
        self.calibration = calibration
        self.within_person = within_person

    def _train(self, fold: TrainingFold) -> Models:
        labels = fold.y.astype(np.int64)
        paths = []
        for draw in range(self.n_undersamples):
            rng = fold.rng(draw)
            rows = class_draw(labels, self.class_size, rng)
            inner = deal(fold.people[rows], labels[rows], self.n_inner_folds, rng)
            paths.append(_solve(self, fold, rows, inner, "logistic"))
        return _models(paths, self.one_se, fold.X.shape[1])


class LassoEnsembleRegressor(NumberTarget, RegressorMixin, FoldedDecoder):
    """Ensemble of L1 linear models of a continuous target, such as symptom severity.

    The same recipe with the squared loss. There are no classes to make equal: each draw takes a
    share of the training people at random (ours; nothing is published for this case).

    Parameters
    ----------
    n_folds : int
        Outer folds of people, even over quarters of the target.
    n_undersamples : int
    n_lambdas : int
    n_inner_folds : int
    one_se : bool
        These four as of `LassoEnsemble`.
    share : float
        Share of the training people in a draw, above 0, at most 1.
    harmonizer : estimator or None
    random_state : int or None
    standardize : bool
        These three as of `LassoEnsemble`.
    within_person : bool
        Subtract each person's mean edges over their scans; the target is left as it is.

    Attributes
    ----------
    coef_, intercept_, lambda_, gap_, selection_counts_, folds_, harmonizers_, notes_
        As of `LassoEnsemble`.
    out_of_fold_ : ndarray of float64, shape (n_scans,)
        Prediction in units of the target, from models that never saw the person.
    """

    def __init__(
        self,
        n_folds: int = 10,
        n_undersamples: int = 10,
        n_lambdas: int = 25,
        n_inner_folds: int = 10,
        one_se: bool = True,
        share: float = 0.8,
        harmonizer: Any = None,
        random_state: int | None = 0,
        standardize: bool = True,
        within_person: bool = False,
    ) -> None:
        self.n_folds = n_folds
        self.n_undersamples = n_undersamples
        self.n_lambdas = n_lambdas
        self.n_inner_folds = n_inner_folds
        self.one_se = one_se
        self.share = share
        self.harmonizer = harmonizer
        self.random_state = random_state
        self.standardize = standardize
        self.within_person = within_person

    def _train(self, fold: TrainingFold) -> Models:
        people = np.unique(fold.people)
        size = max(self.n_inner_folds, round(self.share * len(people)))
        if size > len(people):
            raise DecodeError(
                f"expected at least {self.n_inner_folds} people in a training fold, found"
                f" {len(people)}; use fewer inner folds"
            )
        paths = []
        for draw in range(self.n_undersamples):
            rng = fold.rng(draw)
            drawn = rng.choice(people, size, replace=False)
            rows = np.flatnonzero(np.isin(fold.people, drawn))
            strata = bins(fold.y[rows], self.n_inner_folds)
            inner = deal(fold.people[rows], strata, self.n_inner_folds, rng)
            paths.append(_solve(self, fold, rows, inner, "squared"))
        return _models(paths, self.one_se, fold.X.shape[1])


def _solve(
    ensemble: LassoEnsemble | LassoEnsembleRegressor,
    fold: TrainingFold,
    rows: Ints,
    inner: Ints,
    loss: Loss,
) -> LassoPath:
    # kernels are compiled, once, when they are imported: not for those who only read a report
    from offline.decoder.path import lasso_path

    return lasso_path(
        fold.X[rows],
        fold.y[rows],
        inner,
        loss=loss,
        n_lambdas=ensemble.n_lambdas,
        standardize=ensemble.standardize,
    )


def _models(paths: list[LassoPath], one_se: bool, n_edges: int) -> Models:
    """The model at the chosen λ of each path."""
    chosen = [path.chosen(one_se) for path in paths]
    edges = [path.edges[k] for path, k in zip(paths, chosen, strict=True)]
    values = [path.coefficients[k] for path, k in zip(paths, chosen, strict=True)]
    starts = np.concatenate([[0], np.cumsum([len(e) for e in edges])])
    coef = sparse.csr_array(
        (np.concatenate(values), np.concatenate(edges), starts), shape=(len(paths), n_edges)
    )
    counts = np.bincount(np.concatenate(edges), minlength=n_edges)
    return Models(
        coef,
        np.array([path.intercepts[k] for path, k in zip(paths, chosen, strict=True)]),
        sparse.csr_array(counts[None, :]),
        {
            "lambda": np.array([p.lambdas[k] for p, k in zip(paths, chosen, strict=True)]),
            "gap": np.array([path.gaps.max() for path in paths]),
        },
    )
