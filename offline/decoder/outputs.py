"""What a decoder says of people it never saw: within the sites it knows, and at a site left out.

Any estimator with scikit-learn's `fit` and `predict_proba` (or `decision_function`, or `predict`
for a continuous target) can be judged; decoders of this package bring folds of their own. In
either case a harmonizer is fitted inside each training set alone, all scans of a person are on
one side, and traveling scans are on neither: they may only teach the harmonizer.

A site that is left out is unknown to a harmonizer fitted on the others. What happens to its scans
is therefore a choice that is named in the result: `UnseenSite`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from offline.decoder.folded import FoldedDecoder
from offline.decoder.folds import bins, deal
from offline.decoder.infold import fit_harmonizer, harmonize, require_trained_sites
from offline.decoder.null import permuted
from offline.decoder.samples import Samples
from offline.errors import DecodeError, HarmonizeError

if TYPE_CHECKING:
    from offline.blocks import Executor

__all__ = [
    "N_FOLDS",
    "Task",
    "UnseenSite",
    "left_out_sites",
    "out_of_fold",
    "permuted_run",
    "require_unseen_site",
]

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


def out_of_fold(
    task: Task, executor: Executor | None = None, y: Float64 | None = None
) -> tuple[Float64, Any]:
    """Output for each scan from models that never saw the person.

    Parameters
    ----------
    task : Task
    executor : Executor or None
        Runs the folds; None runs them here.
    y : ndarray of float64, shape (n_scans,), or None
        Another target than the task's own (a permuted one).

    Returns
    -------
    tuple
        Outputs, shape (n_scans,): probability of the positive class, or prediction; NaN for
        traveling scans. And the fitted decoder, where it is one of this package, else None.
    """
    target = task.y if y is None else y
    if isinstance(task.estimator, FoldedDecoder):
        decoder = _fit_own(task, task.samples.rows, target, task.harmonizer, executor)
        return np.asarray(decoder.out_of_fold_, np.float64), decoder
    folds = task.folds()
    if task.harmonizer is not None:
        require_trained_sites(task.samples, folds)
    work = partial(_fold, task, target, folds)
    numbers = np.unique(folds).tolist()
    results = executor.map(work, numbers, label="folds") if executor else map(work, numbers)
    outputs = np.full(len(target), np.nan)
    for fold, found in zip(numbers, results, strict=True):
        outputs[task.samples.rows[folds == fold]] = found
    return outputs, None


def left_out_sites(
    task: Task, executor: Executor | None = None, checkpoint: Path | None = None
) -> tuple[Float64, dict[str, str]]:
    """Output for each scan from a decoder trained on the other sites' other people alone.

    The harmonizer is fitted on the other sites' people (and traveling scans there).

    Parameters
    ----------
    task : Task
    executor : Executor or None
        Runs the sites; None runs them here.
    checkpoint : Path or None
        Folder where finished sites are kept.

    Returns
    -------
    tuple
        Outputs, shape (n_scans,), NaN for traveling scans and sites that could not be judged; and
        by site, what was done with its scans, or why it could not be judged.
    """
    sites = sorted({str(site) for site in task.sites[task.samples.rows]})
    work = partial(_left_out, task)
    results = (
        executor.map(work, sites, label="sites left out", checkpoint=checkpoint)
        if executor
        else map(work, sites)
    )
    outputs, told = np.full(len(task.y), np.nan), {}
    for site, found in zip(sites, results, strict=True):
        told[site] = found["told"]
        outputs[_rows_at(task, site)] = found["outputs"]
    return outputs, told


def permuted_run(task: Task, permutation: int) -> dict[str, Any]:
    """The whole evaluation once more, on a target that tells nothing.

    Parameters
    ----------
    task : Task
    permutation : int
        Its number: the target, folds and draws depend on it and the task's seed alone.

    Returns
    -------
    dict
        `y` and `outputs`, shape (n_scans,), and `largest`, the largest selection count of an
        edge (-1 where the estimator counts none).
    """
    samples, rows = task.samples, task.samples.rows
    rng = np.random.default_rng(np.random.SeedSequence(task.seed, spawn_key=(permutation,)))
    y = np.array(task.y)
    y[rows] = permuted(y[rows], samples.people[rows], task.sites[rows], rng)
    own = int(rng.integers(2**31))
    estimator = clone(task.estimator)
    if isinstance(estimator, FoldedDecoder):
        estimator.set_params(random_state=own)
    outputs, decoder = out_of_fold(replace(task, estimator=estimator, seed=own), y=y)
    largest = -1 if decoder is None else int(decoder.selection_counts_.max())
    return {"y": y, "outputs": outputs, "largest": largest}


def _rows_at(task: Task, site: str) -> Ints:
    rows = task.samples.rows
    return np.asarray(rows[task.sites[rows].astype(str) == site])


def _fold(task: Task, target: Float64, folds: Ints, fold: int) -> Float64:
    samples = task.samples
    inside, outside = samples.rows[folds != fold], samples.rows[folds == fold]
    X, held_out = samples.read(inside), samples.read(outside)
    if task.harmonizer is not None:
        fitted = fit_harmonizer(task.harmonizer, samples, inside, X)
        X = harmonize(fitted, X, task.sites[inside], samples.covariates_of(inside))
        held_out = harmonize(fitted, held_out, task.sites[outside], samples.covariates_of(outside))
    model = clone(task.estimator).fit(X, _labels(task, target[inside]))
    return _output(task, model, held_out)


def _labels(task: Task, y: Float64) -> NDArray[Any]:
    return y.astype(np.int64) if task.categorical else y


def _output(task: Task, model: Any, X: Floats, **known: Any) -> Float64:
    """Probability of the positive class, or a prediction, shape (n_scans,)."""
    if not task.categorical:
        return np.asarray(model.predict(X, **known), np.float64)
    if hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(X, **known)[:, 1], np.float64)
    # a distance from the boundary is no probability, but its side of .5 is right
    from scipy.special import expit

    return np.asarray(expit(model.decision_function(X, **known)), np.float64)


def _fit_own(
    task: Task, rows: Ints, target: Float64, harmonizer: Any, executor: Executor | None
) -> Any:
    """A decoder of this package, fitted on all scans."""
    samples = task.samples
    travels = np.zeros(len(target), bool)
    travels[samples.travelers] = True
    names = np.array(samples.names, object)[samples.people]
    decoder = clone(task.estimator).set_params(harmonizer=harmonizer)
    return decoder.fit(
        samples.X,
        _labels(task, np.where(travels, target[rows[0]], target)),
        sites=task.sites,
        groups=names,
        covariates=samples.covariates,
        traveling=travels,
        executor=executor,
    )


def _left_out(task: Task, site: str) -> dict[str, Any]:
    """Outputs for one site, and what was done with its scans."""
    samples = task.samples
    judged = _rows_at(task, site)
    # people who moved are not trained with at their other sites either
    rows = samples.rows[~np.isin(samples.people[samples.rows], samples.people[judged])]
    nothing = np.full(len(judged), np.nan)
    if not len(rows):
        return {"outputs": nothing, "told": "not judged: nobody was scanned elsewhere alone"}
    known = {}
    if getattr(task.estimator, "within_person", False):
        known["groups"] = samples.people[judged]
    try:
        X, test, told = _harmonized_apart(task, rows, judged)
        model = _fit_apart(task, rows, X)
        return {"outputs": _output(task, model, test, **known), "told": told}
    except (DecodeError, HarmonizeError) as error:
        return {"outputs": nothing, "told": f"not judged: {error}"}


def _harmonized_apart(task: Task, rows: Ints, judged: Ints) -> tuple[Floats, Floats, str]:
    """Edges of the other sites and of the site left out, and what was done with the latter."""
    samples = task.samples
    X, test = samples.read(rows), samples.read(judged)
    if task.harmonizer is None:
        return X, test, "as measured"
    if len({str(site) for site in task.sites[rows]}) < 2:
        return X, test, "as measured: one other site, which has nothing to be harmonized with"
    site = str(task.sites[judged[0]])
    at_site = task.sites[samples.travelers].astype(str) == site
    elsewhere = Samples(
        samples.X,
        rows,
        samples.travelers[~at_site],
        samples.people,
        samples.names,
        samples.sites,
        samples.covariates,
    )
    fitted = fit_harmonizer(task.harmonizer, elsewhere, rows, X)
    X = harmonize(fitted, X, task.sites[rows], samples.covariates_of(rows))
    told = "as measured: the harmonizer never saw this site"
    if task.unseen_site != "unharmonized":
        told = _add_site(task, fitted, judged, samples.travelers[at_site])
        test = harmonize(fitted, test, task.sites[judged], samples.covariates_of(judged))
    return X, test, told


def require_unseen_site(task: Task) -> None:
    """Refuse a way of judging sites left out that this harmonizer or cohort has not.

    Raises
    ------
    DecodeError
        Saying what is missing.
    """
    if task.harmonizer is None or task.unseen_site == "unharmonized":
        return
    name = type(task.harmonizer).__name__
    if not hasattr(task.harmonizer, task.unseen_site):
        raise DecodeError(
            f"expected a harmonizer that sites can be added to by {task.unseen_site}, found"
            f" {name}; judge sites left out unharmonized"
        )
    if task.unseen_site == "extend" and not len(task.samples.travelers):
        raise DecodeError(
            "expected traveling scans to extend the harmonizer by, found none; judge sites left"
            " out unharmonized"
        )


def _add_site(task: Task, fitted: Any, judged: Ints, travelers: Ints) -> str:
    """Let a fitted harmonizer know the site that is judged; what was done is returned."""
    samples = task.samples
    if task.unseen_site == "extend":
        if not hasattr(fitted, "extend") or not len(travelers):
            raise DecodeError(
                "expected traveling scans at the site left out and a harmonizer that can be"
                f" extended by them, found {len(travelers)} and {type(fitted).__name__}; judge it"
                " unharmonized"
            )
        subjects = [f"T{number}" for number in samples.people[travelers]]
        fitted.extend(samples.read(travelers), task.sites[travelers], subjects)
        return f"harmonized by {len(set(subjects))} traveling subjects, no label used"
    controls = judged[task.y[judged] == 0.0] if task.categorical else judged
    if not hasattr(fitted, "reference_controls") or len(controls) < 2:
        raise DecodeError(
            "expected controls at the site left out and a harmonizer that can be extended by"
            f" them, found {len(controls)} and {type(fitted).__name__}; judge it unharmonized"
        )
    known: dict[str, Any] = {}
    if "covariates" in signature(fitted.reference_controls).parameters:
        known["covariates"] = samples.covariates_of(controls)
    try:
        fitted.reference_controls(samples.read(controls), task.sites[controls], **known)
    except HarmonizeError as error:
        raise DecodeError(str(error)) from error
    kind = "controls, whose diagnosis is thereby used" if task.categorical else "people"
    return f"TRANSDUCTIVE: harmonized by its own {len(controls)} {kind}"


def _fit_apart(task: Task, rows: Ints, X: Floats) -> Any:
    """The estimator on some scans whose edges are harmonized already."""
    samples, y = task.samples, task.y[rows]
    if task.categorical and len(np.unique(y)) < 2:
        raise DecodeError("expected both classes at the other sites, found one")
    model = clone(task.estimator)
    if not isinstance(model, FoldedDecoder):
        return model.fit(X, _labels(task, y))
    model.set_params(harmonizer=None)
    known = {"sites": task.sites[rows], "groups": samples.people[rows]}
    return model.fit(X, _labels(task, y), traveling=np.zeros(len(rows), bool), **known)
