"""Targets: two classes with probabilities, or a continuous one; checked and made numbers.

`ClassTarget` is what all classifiers share: labels to numbers, outputs to probabilities, their
calibration, and the threshold of .5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from offline.decoder.calibration import Calibration, Calibrator, logit
from offline.decoder.folds import bins
from offline.decoder.samples import Samples
from offline.errors import DecodeError
from offline.store import EdgeStore

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ClassTarget", "NumberTarget", "continuous_target"]

Floats = NDArray[np.floating[Any]]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]


class ClassTarget:
    """The side of a decoder that knows of classes; `FoldedDecoder` is its other side."""

    _categorical = True
    calibration: Calibration
    classes_: NDArray[Any]
    out_of_fold_: Float64
    folds_: Ints

    def predict_proba(
        self,
        X: Floats | EdgeStore,
        *,
        sites: ArrayLike | None = None,
        covariates: pd.DataFrame | None = None,
        groups: ArrayLike | None = None,
    ) -> Float64:
        """Mean probabilities of the classifiers: the recipe's own output.

        Parameters
        ----------
        X : ndarray or EdgeStore, shape (n_scans, n_edges)
            Fisher z, not harmonized.
        sites : array_like, shape (n_scans,), or None
            Needed where a harmonizer was fitted.
        covariates : pandas.DataFrame or None
            As given to `fit`.
        groups : array_like, shape (n_scans,), or None
            Person of each scan: those known from training are judged by classifiers that never
            saw them. None takes everyone for new.

        Returns
        -------
        ndarray of float64, shape (n_scans, 2)
            Columns as `classes_`.

        Raises
        ------
        DecodeError
            If edges are missing.
        AtlasError
            If the edges are of another atlas than those trained with.
        """
        p = self._mean_output(X, sites, covariates, groups)  # type: ignore[attr-defined]  # of the FoldedDecoder it is mixed into
        return np.stack([1.0 - p, p], axis=1)

    def predict_calibrated(
        self,
        X: Floats | EdgeStore,
        *,
        sites: ArrayLike | None = None,
        covariates: pd.DataFrame | None = None,
        groups: ArrayLike | None = None,
    ) -> Float64:
        """Probabilities as frequencies of the training sample, shape (n_scans, 2).

        Calibrated on `out_of_fold_`, so not to be judged on the training people: for those there
        is `out_of_fold_calibrated_`. Arguments as of `predict_proba`.
        """
        raw = self.predict_proba(X, sites=sites, covariates=covariates, groups=groups)
        p = self.calibrator_(raw[:, 1])
        return np.stack([1.0 - p, p], axis=1)

    def decision_function(self, X: Floats | EdgeStore, **known: Any) -> Float64:
        """Log odds of the mean probability; above 0 is `classes_[1]`. Arguments as there."""
        return logit(self.predict_proba(X, **known)[:, 1])

    def predict(self, X: Floats | EdgeStore, **known: Any) -> NDArray[Any]:
        """Labels at the threshold .5; arguments as of `predict_proba`."""
        above = self.predict_proba(X, **known)[:, 1] > 0.5
        return self.classes_[above.astype(np.int64)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]  # of the FoldedDecoder it is mixed into
        tags.classifier_tags.multi_class = False
        return tags

    def _encode(self, y: ArrayLike, samples: Samples) -> Float64:
        labels = _values(y, samples)
        check_classification_targets(labels)
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        if len(self.classes_) != 2:
            raise DecodeError(
                f"expected a target of two classes, found {len(self.classes_)} class(es)"
                f" ({', '.join(map(str, self.classes_[:4].tolist()))}); Only binary classification"
                " is supported: choose two groups, one decoder for each disorder"
            )
        return numbers.astype(np.float64)

    def _strata(self, target: Float64) -> Ints:
        return target.astype(np.int64)

    def _output(self, scores: Float64) -> Float64:
        return np.asarray(expit(scores))

    def _keep(
        self, results: Any, samples: Samples, folds: Ints, seed: int, target: Float64
    ) -> None:
        super()._keep(results, samples, folds, seed, target)  # type: ignore[misc]  # of the FoldedDecoder it is mixed into
        rows = samples.rows
        raw = self.out_of_fold_[rows]
        self.calibrator_ = Calibrator.fit(self.calibration, raw, target)
        self.out_of_fold_calibrated_ = np.full(len(self.out_of_fold_), np.nan)
        for fold in np.unique(folds):
            inside = folds == fold
            other = Calibrator.fit(self.calibration, raw[~inside], target[~inside])
            self.out_of_fold_calibrated_[rows[inside]] = other(raw[inside])


class NumberTarget:
    """What decoders of a continuous target say; mixed into a `FoldedDecoder`."""

    _categorical = False
    n_folds: int

    def predict(
        self,
        X: NDArray[np.floating[Any]] | EdgeStore,
        *,
        sites: ArrayLike | None = None,
        covariates: pd.DataFrame | None = None,
        groups: ArrayLike | None = None,
    ) -> Float64:
        """Mean prediction, shape (n_scans,); arguments as of `LassoEnsemble.predict_proba`."""
        return self._mean_output(X, sites, covariates, groups)  # type: ignore[attr-defined, no-any-return]  # of the FoldedDecoder it is mixed into

    def _encode(self, y: ArrayLike, samples: Samples) -> Float64:
        return continuous_target(y, samples)

    def _strata(self, target: Float64) -> NDArray[np.int64]:
        return bins(target, self.n_folds)

    def _output(self, scores: Float64) -> Float64:
        return scores


def continuous_target(y: ArrayLike, samples: Samples) -> Float64:
    """A continuous target of the training samples, finite and varying.

    Raises
    ------
    DecodeError
        If it is constant or has missing values.
    """
    try:
        values = np.asarray(_values(y, samples), np.float64)
    except (TypeError, ValueError) as error:
        raise DecodeError(f"expected a target of numbers, found {error}; recode it") from error
    missing = int(np.sum(~np.isfinite(values)))
    if missing:
        raise DecodeError(
            f"expected a finite target, found NaN or infinity in {missing} scans; leave them out"
        )
    if np.ptp(values) == 0.0:
        raise DecodeError(f"expected a target that varies, found {values[0]:g} for all; check it")
    return values


def _values(y: ArrayLike, samples: Samples) -> NDArray[Any]:
    """The training samples' entries of a target with one entry a scan."""
    if y is None:
        raise DecodeError("This estimator requires y to be passed, but the target y is None")
    n_scans = samples.X.shape[0]
    found = np.asarray(y)
    if found.ndim == 2 and found.shape[1] == 1:
        found = column_or_1d(found, warn=True)
    if found.shape != (n_scans,):
        raise DecodeError(
            f"expected a target for each of {n_scans} scans, found shape {found.shape}; give y in"
            " the order of the rows of X"
        )
    found = found[samples.rows]
    if found.dtype.kind in "OUS":
        missing = sum(v is None or v != v for v in found.tolist())
        if missing:
            raise DecodeError(
                f"expected the target of every scan, found {missing} missing; leave them out"
            )
        if found.dtype.kind == "O" and all(isinstance(v, str) for v in found.tolist()):
            found = found.astype(str)
    elif found.dtype.kind == "f" and not np.isfinite(found).all():
        raise DecodeError(
            f"expected a finite target, found NaN or infinity in {int(np.sum(~np.isfinite(found)))}"
            " scans; leave them out"
        )
    return found
