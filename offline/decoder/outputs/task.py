"""What is decoded, from what, with what: all that folds, sites left out and permutations need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from offline.decoder.folds import bins, deal
from offline.decoder.samples import Samples

__all__ = ["N_FOLDS", "Task", "UnseenSite"]

UnseenSite = Literal["unharmonized", "extend", "reference_controls"]
"""Scans of a site that the harmonizer did not see: as measured; after adding the site by its
traveling scans; or after adding it by its own controls (transductive: it uses diagnoses of the
people that are judged)."""

N_FOLDS = 10
"""Of estimators that bring none; fewer where a class has fewer people."""

Float64 = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """What is decoded, from what, with what.

    Attributes
    ----------
    samples : Samples
        Scans, people, sites, covariates; sites are always given.
    y : ndarray of float64, shape (n_scans,)
        1 for positive and 0 for negative scans, or a continuous target; not looked at for
        traveling scans.
    categorical : bool
        Whether the target is one of classes.
    estimator : estimator
        Unfitted, without a harmonizer.
    harmonizer : estimator or None
        Unfitted.
    unseen_site : UnseenSite
    seed : int
        Of folds; decoders of this package have their own in `random_state`.
    """

    samples: Samples
    y: Float64
    categorical: bool
    estimator: Any
    harmonizer: Any
    unseen_site: UnseenSite
    seed: int

    @property
    def sites(self) -> NDArray[Any]:
        """Site of every scan, shape (n_scans,)."""
        assert self.samples.sites is not None
        return self.samples.sites

    def folds(self, n_folds: int | None = None) -> Ints:
        """Fold of each training sample, even over classes and sites."""
        samples, y = self.samples, self.y[self.samples.rows]
        people = samples.people[samples.rows]
        if self.categorical:
            labels = y.astype(np.int64)
            fewest = min(len(np.unique(people[labels == k])) for k in np.unique(labels))
        else:
            labels, fewest = bins(y, N_FOLDS), N_FOLDS
        sites = np.unique(self.sites[samples.rows].astype(str), return_inverse=True)[1]
        rng = np.random.default_rng(self.seed)
        return deal(people, labels, max(2, min(n_folds or N_FOLDS, fewest)), rng, sites)

    def labels(self, y: Float64) -> NDArray[Any]:
        """A target as estimators take it: class numbers, or numbers."""
        return y.astype(np.int64) if self.categorical else y

    def output(self, model: Any, X: Floats, **known: Any) -> Float64:
        """What a fitted model says of scans, shape (n_scans,).

        The probability of the positive class, or a prediction. `known` is given to the model.
        """
        if not self.categorical:
            return np.asarray(model.predict(X, **known), np.float64)
        if hasattr(model, "predict_proba"):
            return np.asarray(model.predict_proba(X, **known)[:, 1], np.float64)
        # a distance from the boundary is no probability, but its side of .5 is right
        return np.asarray(expit(model.decision_function(X, **known)), np.float64)
