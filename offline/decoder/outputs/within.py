"""Outputs out of fold, at sites that are known: on the target, and on permuted ones."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from offline.decoder.folded import FoldedDecoder
from offline.decoder.infold import harmonized, require_trained_sites
from offline.decoder.null import permuted
from offline.decoder.outputs.task import Task

if TYPE_CHECKING:
    from offline.blocks import Executor

__all__ = ["out_of_fold", "permuted_run"]

Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]


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


def _fold(task: Task, target: Float64, folds: Ints, fold: int) -> Float64:
    """Outputs for one fold's scans from a model of the others."""
    samples = task.samples
    inside, outside = samples.rows[folds != fold], samples.rows[folds == fold]
    X, held_out, _ = harmonized(task.harmonizer, samples, inside, outside)
    model = clone(task.estimator).fit(X, task.labels(target[inside]))
    return task.output(model, held_out)


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
        task.labels(np.where(travels, target[rows[0]], target)),
        sites=task.sites,
        groups=names,
        covariates=samples.covariates,
        traveling=travels,
        executor=executor,
    )
