"""What all decoders share: folds of people, harmonization inside them, outputs out of fold.

A decoder deals people to folds. For each fold a harmonizer and one or more linear models are
trained on everyone else and applied to the people left out; those outputs are `out_of_fold_`.
The fitted decoder keeps all models of all folds: new people get the mean of their outputs, and
people known from training (`groups` given) the mean over models that never saw them.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted, validate_data

from offline.decoder.folds import deal
from offline.decoder.infold import (
    centred_within_people,
    harmonize,
    harmonized,
    require_trained_sites,
)
from offline.decoder.leakage import refuse_determined_target
from offline.decoder.models import Models, TrainingFold
from offline.decoder.parameters import require_parameters
from offline.decoder.samples import Samples, columns_of, covariate_table
from offline.errors import AtlasError, DecodeError
from offline.store import EdgeStore, read_block

if TYPE_CHECKING:
    import pandas as pd

    from offline.blocks import Executor

__all__ = ["FoldedDecoder", "person_key"]

Floats = NDArray[np.floating[Any]]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class _FoldResult:
    models: Models
    harmonizer: Any
    held_out: Float64


class FoldedDecoder(BaseEstimator, ABC):
    """Base of the decoders; each says how it encodes a target and trains a fold's models."""

    n_folds: int
    harmonizer: Any
    within_person: bool
    random_state: int | None

    def fit(
        self,
        X: Floats | EdgeStore,
        y: ArrayLike,
        *,
        sites: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        covariates: pd.DataFrame | None = None,
        traveling: ArrayLike | None = None,
        executor: Executor | None = None,
    ) -> Self:
        """Train the models of all folds.

        Parameters
        ----------
        X : ndarray or EdgeStore, shape (n_scans, n_edges)
            Fisher z, finite.
        y : array_like, shape (n_scans,)
            Target; not looked at for traveling scans.
        sites : array_like, shape (n_scans,), or None
            Site of each scan. Folds are even over sites where given.
        groups : array_like, shape (n_scans,), or None
            Person of each scan; None: everyone was scanned once.
        covariates : pandas.DataFrame or None
            What the harmonizer shall keep, one row a scan. May not tell the target.
        traveling : array_like of bool, shape (n_scans,), or None
            Traveling scans: given to harmonizers that are fitted with them, and never trained or
            judged on. None if nobody travels; people seen at several sites are then refused.
        executor : offline.blocks.Executor or None
            Runs the folds; None runs them here, one by one. Results do not depend on it.

        Returns
        -------
        self

        Raises
        ------
        DecodeError
            If a parameter is not one, or the scans, the target or the folds do not allow training.
        LeakageError
            If covariates tell the target, or traveling scans are among the training samples.
        """
        require_parameters(self.get_params(deep=False))
        X = self._edges(X, reset=True)
        name = getattr(y, "name", None)
        samples = Samples.of(X, sites, groups, covariates, traveling)
        target = self._encode(y, samples)
        if samples.covariates is not None and self.harmonizer is not None:
            known = samples.covariates_of(samples.rows)
            assert known is not None
            refuse_determined_target(known, target, self._categorical, name)
        entropy = self._entropy()
        folds = self._folds(samples, target, entropy)
        if self.harmonizer is not None:
            require_trained_sites(samples, folds)
        work = partial(_fit_fold, clone(self), samples, target, folds, entropy)
        results: Iterable[_FoldResult] = (
            map(work, range(self.n_folds))
            if executor is None
            else executor.map(work, range(self.n_folds), label="folds")
        )
        self._keep(list(results), samples, folds, entropy, target)
        return self

    # --- what each decoder says ----------------------------------------------------------------

    _categorical: bool

    @abstractmethod
    def _encode(self, y: ArrayLike, samples: Samples) -> Float64:
        """The target of the training samples as numbers, checked."""

    @abstractmethod
    def _strata(self, target: Float64) -> Ints:
        """What folds are to be even over."""

    @abstractmethod
    def _train(self, fold: TrainingFold) -> Models:
        """Models of one fold."""

    @abstractmethod
    def _output(self, scores: Float64) -> Float64:
        """Output of each model from its linear scores."""

    # --- applying ------------------------------------------------------------------------------

    def _mean_output(
        self,
        X: Floats | EdgeStore,
        sites: ArrayLike | None,
        covariates: pd.DataFrame | None,
        groups: ArrayLike | None,
    ) -> Float64:
        """Mean output over all models, or over those that never saw the person."""
        check_is_fitted(self)
        edges = _finite(read_block(self._edges(X, reset=False), slice(None)))
        n_scans = len(edges)
        sites = columns_of("sites", sites, n_scans)
        people = columns_of("groups", groups, n_scans)
        covariates = covariate_table(covariates, n_scans)
        if people is None and self.within_person:
            raise DecodeError("expected `groups` to compare scans within people; give them")
        left_out = self._folds_left_out(people, n_scans)
        total, weight = np.zeros(n_scans), np.zeros(n_scans)
        for fold, models in enumerate(self.models_):
            rows = np.flatnonzero((left_out < 0) | (left_out == fold))
            if not len(rows):
                continue
            part = edges[rows]
            if self.harmonizers_[fold] is not None:
                where = None if sites is None else sites[rows]
                table = None if covariates is None else covariates.iloc[rows]
                part = harmonize(self.harmonizers_[fold], part, where, table)
            if self.within_person:
                assert people is not None
                part = centred_within_people(part, people[rows])
            outputs = self._output(models.scores(part))
            total[rows] += outputs.sum(axis=0)
            weight[rows] += len(outputs)
        return np.asarray(total / weight)

    def _folds_left_out(self, people: NDArray[Any] | None, n_scans: int) -> Ints:
        """The fold whose models never saw each scan's person; -1 for strangers."""
        if people is None:
            return np.full(n_scans, -1)
        known = dict(zip(self.people_.tolist(), self.person_folds_.tolist(), strict=True))
        return np.array([known.get(person_key(name), -1) for name in people.tolist()])

    # --- how fitting goes ----------------------------------------------------------------------

    def _edges(self, X: Any, reset: bool) -> Floats | EdgeStore:
        """`X` as an array of floats or a store, of the atlas that was trained with."""
        if isinstance(X, EdgeStore):
            if reset:
                self.n_features_in_ = X.shape[1]
                self.atlas_digest_: str | None = X.atlas.digest
                return X
            if self.atlas_digest_ not in (None, X.atlas.digest):
                raise AtlasError(
                    f"expected edges of the atlas {str(self.atlas_digest_)[:12]} that the decoder"
                    f" was trained with, found {X.atlas.digest[:12]} ({X.atlas.name}); take the"
                    " same atlas"
                )
            if X.shape[1] != self.n_features_in_:
                raise AtlasError(
                    f"expected {self.n_features_in_} edges, found {X.shape[1]}; take the same atlas"
                )
            return X
        if reset:
            self.atlas_digest_ = None
        return np.asarray(
            validate_data(
                self, X, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite=False
            )
        )

    def _entropy(self) -> int:
        if self.random_state is None:
            return int(np.random.default_rng().integers(2**63 - 1))
        return int(self.random_state)

    def _folds(self, samples: Samples, target: Float64, entropy: int) -> Ints:
        """Outer fold of each training sample."""
        rows = samples.rows
        numbers = None
        if samples.sites is not None:
            # as text: sites may be of mixed types, and their order must not depend on hashing
            numbers = np.unique(samples.sites[rows].astype(str), return_inverse=True)[1]
        rng = np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(0,)))
        return deal(samples.people[rows], self._strata(target), self.n_folds, rng, numbers)

    def _keep(
        self,
        results: list[_FoldResult],
        samples: Samples,
        folds: Ints,
        entropy: int,
        target: Float64,
    ) -> None:
        """Learned attributes from the folds' results."""
        self.seed_ = entropy
        self.models_ = [result.models for result in results]
        self.harmonizers_ = [result.harmonizer for result in results]
        n_scans = samples.X.shape[0]
        self.folds_ = np.full(n_scans, -1, np.int64)
        self.folds_[samples.rows] = folds
        self.out_of_fold_ = np.full(n_scans, np.nan)
        for fold, result in enumerate(results):
            self.out_of_fold_[samples.rows[folds == fold]] = result.held_out
        numbers, first = np.unique(samples.people[samples.rows], return_index=True)
        self.people_ = np.array([person_key(samples.names[k]) for k in numbers])
        self.person_folds_ = folds[first]
        self.notes_ = _notes(samples, target, self._categorical)
        self._gather()

    def _gather(self) -> None:
        """Attributes that are views of all models together."""
        self.coef_ = sparse.csr_array(sparse.vstack([models.coef for models in self.models_]))
        self.intercept_ = np.concatenate([models.intercept for models in self.models_])
        selected = sum(models.selected for models in self.models_)
        self.selection_counts_ = np.asarray(selected.toarray().ravel(), np.int64)
        for name in self.models_[0].details:
            values = np.concatenate([models.details[name] for models in self.models_])
            setattr(self, f"{name}_", values)

    def save(self, path: str | Path) -> None:
        """Write the fitted decoder: safetensors with a JSON header, harmonizers beside it."""
        from offline.decoder.files import save_decoder

        check_is_fitted(self)
        save_decoder(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a decoder that `save` wrote.

        Raises
        ------
        DecodeError
            If the file holds something else, or another kind of decoder.
        """
        from offline.decoder.files import load_decoder

        found = load_decoder(path)
        if not isinstance(found, cls):
            raise DecodeError(
                f"{path}: expected a {cls.__name__}, found a {type(found).__name__}; load that"
            )
        return found


def person_key(name: Any) -> str:
    """What a fitted decoder knows a person by: a digest, so that its file names nobody."""
    return hashlib.sha256(f"fcnef person {name}".encode()).hexdigest()[:24]


def _finite(edges: Floats) -> Floats:
    """Edges to be applied to, none missing."""
    # a sum is finite unless something in it is not
    if not np.isfinite(edges.sum()) and not np.isfinite(edges).all():
        bad = ~np.isfinite(edges)
        raise DecodeError(
            "expected every edge of every scan to be finite, found NaN or infinity in"
            f" {int(bad.any(axis=0).sum())} edges of {int(bad.any(axis=1).sum())} scans; leave"
            " out those scans"
        )
    return edges


def _fit_fold(
    decoder: FoldedDecoder, samples: Samples, target: Float64, folds: Ints, entropy: int, fold: int
) -> _FoldResult:
    """Train on everyone else, then look at the people left out."""
    inside, outside = samples.rows[folds != fold], samples.rows[folds == fold]
    X, held_out, harmonizer = harmonized(decoder.harmonizer, samples, inside, outside)
    if decoder.within_person:
        X = centred_within_people(X, samples.people[inside])
        held_out = centred_within_people(held_out, samples.people[outside])
    models = decoder._train(
        TrainingFold(X, target[folds != fold], samples.people[inside], (entropy, fold + 1))
    )
    outputs = decoder._output(models.scores(held_out))
    return _FoldResult(models, harmonizer, outputs.sum(axis=0) / len(outputs))


def _notes(samples: Samples, target: Float64, categorical: bool) -> tuple[str, ...]:
    """What a reader of the results has to know about the sample."""
    notes = []
    if samples.sites is not None:
        sites = samples.sites[samples.rows]
        single = sorted(
            {str(s) for s in sites.tolist() if categorical and np.ptp(target[sites == s]) == 0.0}
        )
        if single:
            notes.append(
                f"{len(single)} site(s) with one class only ({', '.join(single)}): there the class"
                " cannot be told from the site"
            )
    else:
        notes.append("sites were not given: folds are not balanced over them")
    if len(samples.travelers):
        notes.append(f"{len(samples.travelers)} traveling scans, in no fold")
    return tuple(notes)
