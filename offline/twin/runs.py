"""Runs of a study that are judged: whose halves are there, and who is told by whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.twin.study import Study
from offline.twin.tables import RunData, run_data
from offline.twin.train import deal_people
from offline.twin.twin import Twin

__all__ = ["FEWEST_PEOPLE", "Run", "runs_of"]

N_FOLDS = 5
FEWEST_PEOPLE = 20


@dataclass(frozen=True)
class Run:
    """One run of one task: rows of the study that have both halves, and their folds.

    Attributes
    ----------
    task, run : str
    data : RunData
    rows : ndarray of int64, shape (n_people,)
        Of the study.
    folds : ndarray of int64, shape (n_people,)
    here : ndarray of bool, shape (n_people, n_segments, n_slots)
        Trials of this run.
    early : ndarray of bool, shape (n_people, n_segments, n_slots)
        Those of its first half.
    all_new : bool
        Whether nobody here is among the twin's training people: baselines then learn from fewer
        people than the twin did.
    """

    task: str
    run: str
    data: RunData
    rows: NDArray[np.int64]
    folds: NDArray[np.int64]
    here: NDArray[np.bool_]
    early: NDArray[np.bool_]
    all_new: bool = False

    def held_out(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Places among these people: who is learned from, and who is told."""
        for fold in np.unique(self.folds):
            yield np.flatnonzero(self.folds != fold), np.flatnonzero(self.folds == fold)

    @property
    def late(self) -> NDArray[np.bool_]:
        """Trials of this run's later half."""
        return np.asarray(self.here & ~self.early)


def runs_of(study: Study, twin: Twin | None, seed: int) -> Iterator[Run]:
    """Runs with enough people, with the twin's folds, or folds of their own."""
    names = study.examples.people
    if twin is None:
        folds = deal_people(study.sites, len(names), N_FOLDS, seed)
    else:
        # people who are new to the twin are told by all members: a fold of their own
        folds = twin.folds_of(names)
    for (task, number), code in study.runs.items():
        data = run_data(study.trials.of(task, number), study.spec(task))
        if len(data.people) < FEWEST_PEOPLE:
            continue
        rows = np.array([names.index(name) for name in data.people], np.int64)
        own = study.examples.of(rows)
        here = (own.run == code)[:, :, None] & (own.onset >= 0)
        early = here & (own.trial <= np.flatnonzero(data.early).max())
        of_run = folds[rows]
        all_new = bool((of_run < 0).all())
        if len(np.unique(of_run)) < 2:
            of_run = deal_people(None, len(rows), N_FOLDS, seed)
        yield Run(task, number, data, rows, of_run, here, early, all_new)
