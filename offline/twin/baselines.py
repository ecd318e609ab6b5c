"""What a twin has to beat: each a small estimator, fitted on training people only.

Seen people: `OwnMean`, `JamesStein`, `KShot` (from the person's own trials). Unseen people:
`Demographics` from a table, `KernelRidge` (He et al. 2020, doi:10.1016/j.neuroimage.2019.116276)
and `Cpm` (Shen et al. 2017, doi:10.1038/nprot.2016.178) from functional connectivity. BOLD:
`GroupMap`. All follow scikit-learn's conventions; nothing is learned from whom they predict.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import RidgeCV

from offline.errors import TwinError
from offline.twin.kshot import KShot
from offline.twin.shrinkage import JamesStein, OwnMean

__all__ = ["Cpm", "Demographics", "GroupMap", "JamesStein", "KShot", "KernelRidge", "OwnMean"]

Float64 = NDArray[np.float64]

PENALTIES = np.logspace(-1.0, 3.0, 9)
WIDTHS = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
CONSTANT = 1e-9
"""SD of an edge, over the median's, below which it is constant."""

KERNEL_PENALTIES = np.logspace(-3.0, 2.0, 16)
"""In units of the kernel's mean diagonal."""

P_EDGE = 0.01


class Demographics(RegressorMixin, BaseEstimator):
    """Ridge on a participants table: numbers with their squares, and classes of text columns.

    Parameters
    ----------
    columns : tuple of str
        Columns to use; those that a table lacks are an error.

    Attributes
    ----------
    levels_ : dict of str to list of str
        Classes of each text column, from the training people; another class counts as none.
    coef_ : ndarray of float64, shape (n_features,)
        In units of the target per SD.
    alpha_ : float
        Penalty, by leave-one-out error of the training people.
    """

    def __init__(self, columns: tuple[str, ...] = ("age", "sex", "site", "group")) -> None:
        self.columns = columns

    def fit(self, table: pd.DataFrame, y: ArrayLike) -> Self:
        """Learn from people and their outcome, shape (n_people,).

        Raises
        ------
        TwinError
            If a column is missing, or the outcome is not one finite number a person.
        """
        y = _outcome(y, len(table))
        self.levels_: dict[str, list[str]] = {}
        self.centres_: dict[str, tuple[float, float]] = {}
        for name in self.columns:
            column = self._column(table, name)
            if pd.api.types.is_numeric_dtype(column):
                self.centres_[name] = (float(column.mean()), float(column.std(ddof=0)) or 1.0)
            else:
                self.levels_[name] = sorted(column.dropna().astype(str).unique())
        features = self.encode(table)
        self.mean_, self.sd_ = features.mean(axis=0), features.std(axis=0)
        self.sd_[self.sd_ == 0.0] = 1.0
        found = RidgeCV(alphas=PENALTIES).fit((features - self.mean_) / self.sd_, y)
        self.coef_, self.intercept_ = np.asarray(found.coef_), float(found.intercept_)
        self.alpha_ = float(found.alpha_)
        return self

    def standardised(self, table: pd.DataFrame) -> Float64:
        """Columns as numbers, in SD of the training people."""
        known: Float64 = (self.encode(table) - self.mean_) / self.sd_
        return known

    def encode(self, table: pd.DataFrame) -> Float64:
        """Features of people, shape (n_people, n_features); a missing value is the mean."""
        parts = []
        for name in self.columns:
            column = self._column(table, name)
            if name in self.centres_:
                centre, spread = self.centres_[name]
                z = (column.to_numpy(float) - centre) / spread
                z = np.where(np.isfinite(z), z, 0.0)
                parts += [z, z * z]
            else:
                text = column.astype(str).to_numpy()
                # the first class is what the others are compared with
                parts += [(text == level).astype(float) for level in self.levels_[name][1:]]
        return np.stack(parts, axis=1)

    def predict(self, table: pd.DataFrame) -> Float64:
        """Outcome of people, shape (n_people,)."""
        predicted: Float64 = self.intercept_ + self.standardised(table) @ self.coef_
        return predicted

    def _column(self, table: pd.DataFrame, name: str) -> pd.Series:
        if name not in table.columns:
            raise TwinError(
                f"expected the columns {', '.join(self.columns)}, found no {name}; add it, or name"
                " the columns to use"
            )
        return table[name]


class KernelRidge(RegressorMixin, BaseEstimator):
    """Ridge on the similarity of people's connectivity.

    Parameters
    ----------
    kernel : {"correlation", "linear", "quadratic", "rbf"}
        Correlation between two people's edges; the product of edges standardised over the training
        people; that product squared, which is a product over all pairs of edges; a Gaussian of
        their distance.

    Attributes
    ----------
    alpha_ : float
        Penalty in units of the kernel's mean diagonal, by leave-one-out error of the training
        people.
    width_ : float
        Of the Gaussian, in units of the training people's root mean square distance, likewise.
    """

    def __init__(
        self, kernel: Literal["correlation", "linear", "quadratic", "rbf"] = "correlation"
    ) -> None:
        self.kernel = kernel

    def fit(self, X: Float64, y: ArrayLike) -> Self:
        """Learn from edges, shape (n_people, n_edges), Fisher z, and outcomes (n_people,)."""
        X = _edges(X)
        y = _outcome(y, len(X))
        self.mean_, self.sd_ = X.mean(axis=0), X.std(axis=0)
        self.sd_[self.sd_ <= CONSTANT * np.median(self.sd_)] = np.inf
        self.X_ = self._prepared(X)
        product = self.X_ @ self.X_.T
        self.scale_ = float(np.trace(product)) / len(X)
        self.intercept_ = float(y.mean())
        best = np.inf
        for width in WIDTHS if self.kernel == "rbf" else (1.0,):
            kernel = self._of_products(product, np.diag(product), width)
            error, alpha, dual = _least_left_out(kernel, y - self.intercept_)
            if error < best:
                best, self.alpha_, self.width_, self.dual_ = error, alpha, width, dual
                self.row_means_ = kernel.mean(axis=0)
        return self

    def predict(self, X: Float64) -> Float64:
        """Outcome of people, shape (n_people,)."""
        own = self._prepared(_edges(X, self.X_.shape[1]))
        kernel = self._of_products(own @ self.X_.T, np.sum(own**2, axis=1), self.width_)
        predicted: Float64 = self.intercept_ + (kernel - self.row_means_) @ self.dual_
        return predicted

    def _prepared(self, X: Float64) -> Float64:
        if self.kernel != "correlation":
            standardised: Float64 = (X - self.mean_) / self.sd_
            return standardised
        own = X - X.mean(axis=1, keepdims=True)
        of_length_1: Float64 = own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-12)
        return of_length_1

    def _of_products(self, product: Float64, squares: Float64, width: float) -> Float64:
        """The kernel of people, `squares` their own products, with the training people."""
        kernel: Float64 = product / self.scale_
        if self.kernel == "quadratic":
            kernel = kernel**2
        if self.kernel == "rbf":
            theirs = np.sum(self.X_**2, axis=1)
            distance = (squares[:, None] + theirs - 2.0 * product) / self.scale_
            # people's mean squared distance is twice their mean product with themselves
            kernel = np.exp(-np.maximum(distance, 0.0) / (4.0 * width**2))
        return kernel


def _least_left_out(kernel: Float64, y: Float64) -> tuple[float, float, Float64]:
    """Error of people left out one by one, the penalty it is least with, and dual weights."""
    n = len(y)
    centring = np.eye(n) - 1.0 / n
    values, vectors = np.linalg.eigh(centring @ kernel @ centring)
    values, along = np.maximum(values, 0.0), vectors.T @ y
    best = np.inf, 0.0, np.zeros(n)
    for alpha in KERNEL_PENALTIES:
        # the mean takes one degree of freedom, which is 1/n of every leverage
        leverage = (vectors**2 @ (values / (values + alpha))) + 1.0 / n
        left = vectors @ (along * alpha / (values + alpha))
        error = float(np.mean((left / (1.0 - leverage)) ** 2))
        if error < best[0]:
            best = error, float(alpha), centring @ (vectors @ (along / (values + alpha)))
    return best


class Cpm(RegressorMixin, BaseEstimator):
    """Connectome-based predictive modelling: summed edges that go with the outcome, and a line.

    Parameters
    ----------
    p : float
        Two-sided level at which an edge is taken.

    Attributes
    ----------
    positive_, negative_ : ndarray of bool, shape (n_edges,)
        Edges that rise, or fall, with the outcome.
    coef_ : ndarray of float64, shape (2,)
        Of the two sums; 0 for a sum without edges.
    """

    def __init__(self, p: float = P_EDGE) -> None:
        self.p = p

    def fit(self, X: Float64, y: ArrayLike) -> Self:
        """Learn from edges, shape (n_people, n_edges), Fisher z, and outcomes (n_people,)."""
        X = _edges(X)
        y = _outcome(y, len(X))
        centred, target = X - X.mean(axis=0), y - y.mean()
        norms = np.linalg.norm(centred, axis=0) * np.linalg.norm(target)
        r = target @ centred / np.where(norms > 0.0, norms, np.inf)
        free = len(X) - 2
        t = r * np.sqrt(free / np.maximum(1.0 - r * r, 1e-300))
        chosen = 2.0 * stats.t.sf(np.abs(t), free) < self.p
        self.positive_, self.negative_ = chosen & (r > 0), chosen & (r < 0)
        sums = self._sums(X)
        self.middle_, self.intercept_ = sums.mean(axis=0), float(y.mean())
        self.coef_ = np.linalg.lstsq(sums - self.middle_, target, rcond=None)[0]
        return self

    def predict(self, X: Float64) -> Float64:
        """Outcome of people, shape (n_people,); the mean where no edge was found."""
        sums = self._sums(_edges(X, len(self.positive_)))
        predicted: Float64 = self.intercept_ + (sums - self.middle_) @ self.coef_
        return predicted

    def _sums(self, X: Float64) -> Float64:
        return np.stack([X[:, self.positive_].sum(1), X[:, self.negative_].sum(1)], axis=1)


class GroupMap(BaseEstimator):
    """The training people's mean map, for everyone.

    Attributes
    ----------
    map_ : ndarray of float64, shape (n_regions,) or (n_volumes, n_regions)
        Mean over people; NaN where no one has a value.
    """

    def fit(self, maps: Float64) -> Self:
        """Learn from maps, shape (n_people, …); NaN where a person has no value."""
        maps = np.asarray(maps, float)
        if maps.ndim < 2 or not len(maps):
            raise TwinError(f"expected maps (n_people, n_regions), found shape {maps.shape}")
        n = np.isfinite(maps).sum(axis=0)
        total = np.nansum(maps, axis=0)
        self.map_ = np.where(n > 0, total / np.maximum(n, 1), np.nan)
        return self

    def predict(self, n_people: int) -> Float64:
        """The map of so many people, shape (n_people, …)."""
        return np.broadcast_to(self.map_, (n_people, *self.map_.shape)).copy()


def _edges(X: ArrayLike, n_edges: int | None = None) -> Float64:
    out = np.asarray(X, float)
    if out.ndim != 2 or (n_edges is not None and out.shape[1] != n_edges):
        expected = "n_edges" if n_edges is None else n_edges
        raise TwinError(
            f"expected edges (n_people, {expected}), found shape {out.shape}; take the atlas that"
            " was learned"
        )
    if not np.isfinite(out).all():
        person, edge = np.argwhere(~np.isfinite(out))[0]
        raise TwinError(
            f"expected finite edges, found {out[person, edge]} in row {person}, edge {edge}; leave"
            " out ROIs that not everyone has"
        )
    return out


def _outcome(y: ArrayLike, n_people: int) -> Float64:
    out = np.asarray(y, float)
    if out.shape != (n_people,) or n_people < 5 or not np.isfinite(out).all():
        raise TwinError(
            f"expected one finite outcome of each of {n_people} people (at least 5), found shape"
            f" {out.shape} with {int((~np.isfinite(out)).sum())} missing; leave out who has none"
        )
    return out
