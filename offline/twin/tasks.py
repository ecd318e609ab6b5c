"""Tasks as a network sees them: stimulus channels over time, and what the person did.

A run is cut into segments of `n_steps` steps of `step_s`. A segment begins with a trial's onset
and holds every following trial whose response window ends within it; the next one begins with
the first trial that did not fit, so that no response is cut in two. With the published 262 steps
of 80 ms (Takahashi et al. 2026, BME Frontiers 7:0231) a block of six matching trials is one
segment. `n_segments, n_steps, n_channels` is the order of every array over time.

A channel is on, 1, from the onset of a trial whose columns have the channel's values until
`stimulus_s` later, or until the next trial begins. Channels of several tasks are put side by
side: a network that does both sees which task it is by which channels ever move.

`MATCHING` and `STROOP` are the published tasks; another is a TOML file of the same entries:

    name = "flanker"
    choices = ["left", "right"]
    response_window_s = 1.8
    stimulus_s = 1.0
    answer = "target"            # column that names the right choice
    response = "response"        # column that names the choice made
    [channels]
    "target left" = { target = "left" }
    "target right" = { target = "right" }
    "flankers incongruent" = { trial_type = ["incongruent"] }
    [conditions]                 # trial types that are one condition
    incongruent = "incongruent"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, model_validator

from offline.errors import TaskError
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


class TaskSpec(BaseModel):
    """What a task shows and which choices it offers.

    `aliases` are other names of the task in trial tables. An answer later than
    `response_window_s` after the onset is beyond what a segment is sure to hold. `channels` give
    for each channel the columns and values that switch it on; `condition` stands for
    `trial_type`. `answer` and `response` name the columns of the right choice and of the choice
    made, where the table has them; without a recorded response, a wrong choice is known only
    where there are two.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Annotated[str, Field(min_length=1)]
    aliases: tuple[str, ...] = ()
    choices: Annotated[tuple[str, ...], Field(min_length=2)]
    response_window_s: PositiveFloat
    stimulus_s: PositiveFloat
    channels: dict[str, dict[str, str | tuple[str, ...]]]
    conditions: dict[str, str] = {}
    answer: str | None = None
    response: str | None = None

    @model_validator(mode="after")
    def _sound(self) -> TaskSpec:
        if len(set(self.choices)) < len(self.choices):
            raise ValueError("each choice once")
        if not self.channels or not all(self.channels.values()):
            raise ValueError("at least one channel, each with a column and its values")
        return self

    @property
    def chance(self) -> float:
        """Share of right answers by guessing."""
        return 1.0 / len(self.choices)

    @classmethod
    def load(cls, path: str | Path) -> TaskSpec:
        """Read a task from TOML.

        Raises
        ------
        TaskError
            If it cannot be read or has a wrong entry; all are named.
        """
        try:
            return cls.model_validate(tomllib.loads(Path(path).read_text(encoding="utf-8")))
        except OSError as error:
            raise TaskError(f"task {path}: expected a file, found {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            raise TaskError(f"task {path}: expected TOML, found {error}; correct it") from error
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, entry['loc'])) or 'task'}: {entry['msg']}"
                for entry in error.errors()
            )
            raise TaskError(f"task {path}: {wrong}; correct it") from error

    def names(self, task: str) -> bool:
        """Whether a trial table's task is this one."""
        return task == self.name or task in self.aliases

    def condition_of(self, trial_types: pd.Series) -> pd.Series:
        """Condition of each trial; a trial type without one is its own."""
        return trial_types.map(lambda kind: self.conditions.get(kind, kind))


MATCHING = TaskSpec(
    name="matching",
    aliases=("hammer", "faces"),
    choices=("left", "right"),
    response_window_s=2.0,
    stimulus_s=1.9,
    channels={
        "face": {"condition": "face"},
        "shape": {"condition": "shape"},
        "match left": {"answer": "left"},
        "match right": {"answer": "right"},
    },
    answer="answer",
    response="response",
)
"""Faces and shapes: which of two lower pictures is the upper one (Hariri et al. 2002,
doi:10.1006/nimg.2002.1179). The public table does not tell the side: those channels stay 0."""

STROOP = TaskSpec(
    name="stroop",
    choices=("red", "green", "blue"),
    response_window_s=2.25,
    stimulus_s=2.0,
    channels={
        **{f"word {colour}": {"stimulus_text": colour} for colour in ("red", "green", "blue")},
        **{f"ink {colour}": {"stimulus_color": colour} for colour in ("red", "green", "blue")},
    },
    conditions={
        **{f"con{k}": "congruent" for k in (1, 2, 3)},
        **{f"inc{k}": "incongruent" for k in range(1, 7)},
    },
    answer="stimulus_color",
    response="response",
)
"""Colour of a word that names the same or another colour (Stroop 1935, doi:10.1037/h0054651)."""


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

    def action_steps(self) -> Float32:
        """Choices over time: 1 at the step of the response in the channel of the choice made.

        Returns
        -------
        ndarray of float32, shape (n_segments, n_steps, n_actions)
            A response whose choice is not known leaves no mark.
        """
        out = np.zeros((*self.inputs.shape[:2], self.n_actions), np.float32)
        segment, slot = np.nonzero((self.choice >= 0) & np.isfinite(self.rt_s))
        step = self.onset_step[segment, slot] + np.floor(
            self.rt_s[segment, slot] / self.step_s
        ).astype(np.int64)
        inside = step < out.shape[1]
        out[segment[inside], step[inside], self.choice[segment, slot][inside]] = 1.0
        return out


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
    for spec in tasks:
        if spec.response_window_s > n_steps * step_s:
            raise TaskError(
                f"expected segments longer than the response window of {spec.name},"
                f" {spec.response_window_s:g} s, found {n_steps * step_s:g} s; use more steps"
            )
    window_s = np.array([spec.response_window_s for spec in tasks])[which]
    runs = pd.factorize(_run_keys(table))[0]
    onset_s = table["onset_s"].to_numpy()
    segment, slot = _cut(runs, onset_s, window_s, n_steps * step_s)
    first = np.flatnonzero(slot == 0)
    start_s = onset_s[first]
    step = np.round((onset_s - start_s[segment]) / step_s).astype(np.int64)

    def slots(values: NDArray, empty: float) -> NDArray:
        out = np.full((len(first), int(slot.max()) + 1), empty, values.dtype)
        out[segment, slot] = values
        return out

    people = trials.people
    run_names, run_numbers = _numbered(table["run"])
    conditions, condition = _numbered(_conditions(table, tasks, which))
    answer, choice = _choices(table, tasks, which)
    inputs, channels = _inputs(
        table, tasks, which, segment, step, runs, (len(first), n_steps), step_s
    )
    volumes, volume_s = _bold(table, first, start_s, n_steps * step_s, bold, regions)
    return Segments(
        inputs=inputs,
        channels=channels,
        choices=tuple(spec.choices for spec in tasks),
        tasks=tuple(spec.name for spec in tasks),
        people=people,
        runs=run_names,
        task=which[first],
        person=pd.Index(people).get_indexer(table["participant"])[first].astype(np.int64),
        run=run_numbers[first],
        start_s=start_s,
        trial=slots(table["trial"].to_numpy(np.int64), -1),
        row=slots(np.arange(len(table)), -1),
        onset_step=slots(step, -1),
        rt_s=slots(table["rt_s"].to_numpy(float), np.nan),
        missed=slots(table["missed"].to_numpy(bool), False),
        correct=slots(table["correct"].to_numpy(bool), False),
        condition=slots(condition, -1),
        conditions=conditions,
        answer=slots(answer, -1),
        choice=slots(choice, -1),
        bold=volumes,
        bold_s=volume_s,
        regions=tuple(regions) if bold else (),
        step_s=step_s,
    )


def _run_keys(table: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(table[["participant", "task", "run"]])


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
    return names.map(numbers).to_numpy(np.int64)


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


def _choices(table: pd.DataFrame, tasks: Sequence[TaskSpec], which: Ints) -> tuple[Ints, Ints]:
    """The right action and the one taken of each trial; -1 where not known or not taken."""
    answer = np.full(len(table), -1, np.int64)
    choice = np.full(len(table), -1, np.int64)
    taken = ~(table["missed"] | table["anticipated"]).to_numpy()
    correct = table["correct"].to_numpy(bool)
    for k, spec in enumerate(tasks):
        own = which == k
        right = _place(table, spec, spec.answer, own)
        made = _place(table, spec, spec.response, own)
        answer[own] = right[own]
        inferred = np.where(correct, right, -1)
        if len(spec.choices) == 2:
            inferred = np.where(~correct & (right >= 0), 1 - right, inferred)
        choice[own] = np.where(taken, np.where(made >= 0, made, inferred), -1)[own]
    return answer, choice


def _place(table: pd.DataFrame, spec: TaskSpec, column: str | None, own: NDArray) -> Ints:
    """Choice that a column names, -1 where it names none or there is no such column."""
    if column is None or column not in table.columns:
        return np.full(len(table), -1, np.int64)
    place = pd.Index(spec.choices).get_indexer(table[column])
    strange = own & (place < 0) & table[column].notna().to_numpy()
    if strange.any():
        raise TaskError(
            f"task {spec.name}, column {column}: expected one of {', '.join(spec.choices)}, found"
            f" {table[column].to_numpy()[strange][0]!r}; correct the table or the task's choices"
        )
    return place.astype(np.int64)


def _inputs(
    table: pd.DataFrame,
    tasks: Sequence[TaskSpec],
    which: Ints,
    segment: Ints,
    step: Ints,
    runs: Ints,
    shape: tuple[int, int],
    step_s: float,
) -> tuple[Float32, tuple[str, ...]]:
    names = [f"{spec.name}: {channel}" for spec in tasks for channel in spec.channels]
    rises = np.zeros((shape[0], shape[1] + 1, len(names)), np.float32)
    shown_s = np.array([spec.stimulus_s for spec in tasks])[which]
    end = step + np.maximum(1, np.round(shown_s / step_s)).astype(np.int64)
    same = (np.diff(segment, append=-1) == 0) & (np.diff(runs, append=-1) == 0)
    end = np.where(same, np.minimum(end, np.roll(step, -1)), end)
    end = np.minimum(end, shape[1])
    column = 0
    for k, spec in enumerate(tasks):
        own = which == k
        seen = np.zeros(len(table), bool)
        for values in spec.channels.values():
            on = own & _matches(table, values)
            np.add.at(rises, (segment[on], step[on], column), 1.0)
            np.add.at(rises, (segment[on], end[on], column), -1.0)
            seen |= on
            column += 1
        if (own & ~seen).any():
            row = table[own & ~seen].iloc[0]
            raise TaskError(
                f"task {spec.name}: expected a stimulus that a channel shows, found trial"
                f" {row['trial']} of sub-{row['participant']} (trial type {row['condition']!r})"
                " that none does; correct the table or the task's channels"
            )
    return np.cumsum(rises, axis=1)[:, :-1], tuple(names)


def _matches(table: pd.DataFrame, values: Mapping[str, str | tuple[str, ...]]) -> NDArray[np.bool_]:
    on = np.ones(len(table), bool)
    for column, wanted in values.items():
        column = "condition" if column == "trial_type" else column
        if column not in table.columns:
            return np.zeros(len(table), bool)
        allowed = (wanted,) if isinstance(wanted, str) else wanted
        on &= table[column].isin(allowed).to_numpy()
    return on


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
