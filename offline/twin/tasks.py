"""Tasks as a network sees them: stimulus channels over time, and what the person did.

A run is cut into segments of `n_steps` steps of `step_s`. A segment begins with a trial's onset
and holds every following trial whose response window ends within it; the next one begins with
the first trial that did not fit, so that no response is cut in two. With the published 262 steps
of 80 ms (Takahashi et al. 2026, BME Frontiers 7:0231) a block of six matching trials is one
segment. `n_segments, n_steps, n_channels` is the order of every array over time.

A channel is on, 1, from the onset of a trial whose columns have the channel's values until
`stimulus_s` later, or until the next trial begins. Channels of several tasks are put side by
side: a network that does both sees which task it is by which channels ever move.

`MATCHING` and `STROOP` are the published tasks; `TaskSpec` describes others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.errors import TaskError
from offline.twin.stimulus import choices_of, inputs_of
from offline.twin.taskspec import MATCHING, STROOP, TaskSpec
from offline.twin.trials import Trials

__all__ = ["MATCHING", "N_STEPS", "STEP_S", "STROOP", "Bold", "Segments", "TaskSpec", "encode"]

STEP_S = 0.08
N_STEPS = 262
"""20.96 s, as published."""

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]
Run = tuple[str, str, str]
"""Participant, task as the trial table calls it, run."""


@dataclass(frozen=True)
class Bold:
    """BOLD of named regions in one run.

    Attributes
    ----------
    series : ndarray, shape (n_volumes, n_regions)
        NaN where a volume is censored.
    tr_s : float
        Repetition time.
    start_s : float
        Time of the first volume on the clock of the trials' onsets.
    """

    series: Float32
    tr_s: float
    start_s: float = 0.0


@dataclass(frozen=True)
class Segments:
    """Network inputs and what the person did, cut into segments.

    Attributes
    ----------
    inputs : ndarray of float32, shape (n_segments, n_steps, n_channels)
        0 or 1.
    channels : tuple of str
        `task: channel`.
    choices : tuple of tuple of str
        Of each task; actions are numbered in these orders.
    tasks, people, runs : tuple of str
        Names that `task`, `person` and `run` count in.
    task, person, run : ndarray of int64, shape (n_segments,)
    start_s : ndarray of float64, shape (n_segments,)
        Time of step 0 from the start of the run.
    trial : ndarray of int64, shape (n_segments, n_slots)
        Number of the trial within its run; -1 where a segment has fewer trials.
    row : ndarray of int64, shape (n_segments, n_slots)
        Its row in the trial table; -1 as above.
    onset_step : ndarray of int64, shape (n_segments, n_slots)
        First step at which its stimulus is on; -1 as above.
    rt_s : ndarray of float64, shape (n_segments, n_slots)
        NaN where missed, anticipated, or no trial.
    missed, correct : ndarray of bool, shape (n_segments, n_slots)
        Both false where anticipated or no trial.
    condition : ndarray of int64, shape (n_segments, n_slots)
        Place in `conditions`; -1 where no trial.
    conditions : tuple of str
    answer, choice : ndarray of int64, shape (n_segments, n_slots)
        The right action and the one taken; -1 where not known, not taken, or no trial.
    bold : ndarray of float32, shape (n_segments, n_volumes, n_regions), or None
        NaN outside the run and where its run has no BOLD.
    bold_s : ndarray of float64, shape (n_segments, n_volumes), or None
        Times of the volumes from step 0.
    regions : tuple of str
    step_s : float
    """

    inputs: Float32
    channels: tuple[str, ...]
    choices: tuple[tuple[str, ...], ...]
    tasks: tuple[str, ...]
    people: tuple[str, ...]
    runs: tuple[str, ...]
    task: Ints
    person: Ints
    run: Ints
    start_s: Float64
    trial: Ints
    row: Ints
    onset_step: Ints
    rt_s: Float64
    missed: NDArray[np.bool_]
    correct: NDArray[np.bool_]
    condition: Ints
    conditions: tuple[str, ...]
    answer: Ints
    choice: Ints
    bold: Float32 | None
    bold_s: Float64 | None
    regions: tuple[str, ...]
    step_s: float

    @property
    def n_actions(self) -> int:
        """Choices of the task that has most."""
        return max(map(len, self.choices))


def encode(
    trials: Trials,
    tasks: Sequence[TaskSpec] = (MATCHING, STROOP),
    n_steps: int = N_STEPS,
    step_s: float = STEP_S,
    bold: Mapping[Run, Bold] | None = None,
    regions: Sequence[str] = (),
) -> Segments:
    """Turn trials into network inputs and targets.

    Parameters
    ----------
    trials : Trials
        Of tasks among `tasks`.
    tasks : sequence of TaskSpec
        In the order in which their channels are put side by side.
    n_steps : int
        Length of a segment.
    step_s : float
        Length of a step.
    bold : mapping of (participant, task, run) to Bold, or None
        Task is the trial table's name. Runs without an entry have NaN.
    regions : sequence of str
        Names of the columns of every `Bold.series`.

    Returns
    -------
    Segments
        In the order of runs in the table, then of time.

    Raises
    ------
    TaskError
        If a task is not among `tasks`, a stimulus or choice is none the task has, a segment is
        shorter than a response window, or BOLD runs differ in TR or regions.
    """
    table = trials.table
    if table.empty:
        raise TaskError("expected trials, found none; check who and which task was kept")
    which = _task_numbers(table["task"], tasks)
    cut = _Cut.of(table, tasks, which, n_steps, step_s)
    run_names, run_numbers = _numbered(table["run"])
    conditions, condition = _numbered(_conditions(table, tasks, which))
    answer, choice = choices_of(table, tasks, which)
    inputs, channels = inputs_of(
        table, tasks, which, cut.segment, cut.step, cut.runs, (len(cut.first), n_steps), step_s
    )
    volumes, volume_s = _bold(table, cut.first, cut.start_s, n_steps * step_s, bold, regions)
    return Segments(
        inputs=inputs,
        channels=channels,
        choices=tuple(spec.choices for spec in tasks),
        tasks=tuple(spec.name for spec in tasks),
        people=trials.people,
        runs=run_names,
        task=which[cut.first],
        person=pd.Index(trials.people)
        .get_indexer(table["participant"])[cut.first]
        .astype(np.int64),
        run=run_numbers[cut.first],
        start_s=cut.start_s,
        trial=cut.slots(table["trial"].to_numpy(np.int64), -1),
        row=cut.slots(np.arange(len(table)), -1),
        onset_step=cut.slots(cut.step, -1),
        rt_s=cut.slots(table["rt_s"].to_numpy(float), np.nan),
        missed=cut.slots(table["missed"].to_numpy(bool), False),
        correct=cut.slots(table["correct"].to_numpy(bool), False),
        condition=cut.slots(condition, -1),
        conditions=conditions,
        answer=cut.slots(answer, -1),
        choice=cut.slots(choice, -1),
        bold=volumes,
        bold_s=volume_s,
        regions=tuple(regions) if bold else (),
        step_s=step_s,
    )


@dataclass(frozen=True)
class _Cut:
    """Where each trial of a table lies: its segment, slot and step there, and its run.

    `first` are the rows that begin a segment, `start_s` their onsets.
    """

    segment: Ints
    slot: Ints
    step: Ints
    runs: Ints
    first: Ints
    start_s: Float64

    @classmethod
    def of(
        cls,
        table: pd.DataFrame,
        tasks: Sequence[TaskSpec],
        which: Ints,
        n_steps: int,
        step_s: float,
    ) -> _Cut:
        for spec in tasks:
            if spec.response_window_s > n_steps * step_s:
                raise TaskError(
                    f"expected segments longer than the response window of {spec.name},"
                    f" {spec.response_window_s:g} s, found {n_steps * step_s:g} s; use more steps"
                )
        window_s = np.array([spec.response_window_s for spec in tasks])[which]
        keys = pd.MultiIndex.from_frame(table[["participant", "task", "run"]])
        runs, onset_s = pd.factorize(keys)[0], table["onset_s"].to_numpy()
        segment, slot = _cut(runs, onset_s, window_s, n_steps * step_s)
        first = np.flatnonzero(slot == 0)
        start_s = onset_s[first]
        step = np.round((onset_s - start_s[segment]) / step_s).astype(np.int64)
        return cls(segment, slot, step, runs, first, start_s)

    def slots(self, values: NDArray[Any], empty: float) -> NDArray[Any]:
        """Values of trials as (n_segments, n_slots), `empty` where a segment has fewer trials."""
        out = np.full((len(self.first), int(self.slot.max()) + 1), empty, values.dtype)
        out[self.segment, self.slot] = values
        return out


def _numbered(values: pd.Series) -> tuple[tuple[str, ...], Ints]:
    numbers, names = pd.factorize(values, sort=True)
    return tuple(map(str, names)), numbers.astype(np.int64)


def _task_numbers(names: pd.Series, tasks: Sequence[TaskSpec]) -> Ints:
    numbers: dict[str, int] = {}
    for name in names.unique():
        found = [k for k, spec in enumerate(tasks) if spec.names(name)]
        if not found:
            known = ", ".join(spec.name for spec in tasks) or "none"
            raise TaskError(
                f"expected trials of the tasks {known}, found task {name!r}; describe it in a TOML"
                " file, or leave its trials out"
            )
        numbers[name] = found[0]
    out: Ints = names.map(numbers).to_numpy(np.int64)
    return out


def _cut(runs: Ints, onset_s: Float64, window_s: Float64, length_s: float) -> tuple[Ints, Ints]:
    """Segment of each trial, and its slot there."""
    segment = np.empty(len(runs), np.int64)
    slot = np.empty(len(runs), np.int64)
    number, place, begin_s = -1, 0, 0.0
    for k, (run, at_s) in enumerate(zip(runs.tolist(), onset_s.tolist(), strict=True)):
        new_run = k == 0 or run != runs[k - 1]
        # half a nanosecond: 18 s and 2.96 s are no exact sum in binary
        if new_run or at_s - begin_s + window_s[k] > length_s + 5e-10:
            number, place, begin_s = number + 1, 0, at_s
        segment[k], slot[k] = number, place
        place += 1
    return segment, slot


def _conditions(table: pd.DataFrame, tasks: Sequence[TaskSpec], which: Ints) -> pd.Series:
    out = table["condition"].copy()
    for k, spec in enumerate(tasks):
        own = which == k
        out[own] = spec.name + " " + spec.condition_of(table["condition"][own])
    return out


def _bold(
    table: pd.DataFrame,
    first: Ints,
    start_s: Float64,
    length_s: float,
    bold: Mapping[Run, Bold] | None,
    regions: Sequence[str],
) -> tuple[Float32 | None, Float64 | None]:
    """Volumes acquired while each segment lasts, and their times from its first step."""
    if not bold:
        return None, None
    repeats = {run.tr_s for run in bold.values()}
    widths = {run.series.shape[1] for run in bold.values()} | {len(regions)}
    if len(repeats) > 1 or len(widths) > 1:
        raise TaskError(
            f"expected one TR and {len(regions)} named regions in every BOLD run, found TR"
            f" {sorted(repeats)} s and {sorted(widths)} regions; take runs of one protocol"
        )
    tr_s = repeats.pop()
    n_volumes = int(np.floor(length_s / tr_s)) + 1
    out = np.full((len(first), n_volumes, len(regions)), np.nan, np.float32)
    times = np.full((len(first), n_volumes), np.nan)
    keys = list(
        zip(*(table[c].to_numpy()[first] for c in ("participant", "task", "run")), strict=True)
    )
    for at, key in enumerate(keys):
        run = bold.get(key)
        if run is None:
            continue
        begin = int(np.ceil((start_s[at] - run.start_s) / tr_s - 1e-9))
        volume = begin + np.arange(n_volumes)
        at_s = run.start_s + volume * tr_s - start_s[at]
        inside = (volume >= 0) & (volume < len(run.series)) & (at_s < length_s)
        out[at, inside] = run.series[volume[inside]]
        times[at, inside] = at_s[inside]
    return out, times
