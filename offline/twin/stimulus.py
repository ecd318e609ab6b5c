"""What is on the screen at each step of a segment, and which choice was right and which made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.errors import TaskError
from offline.twin.taskspec import TaskSpec

__all__ = ["choices_of", "inputs_of"]

Float32 = NDArray[np.float32]
Ints = NDArray[np.int64]


def choices_of(table: pd.DataFrame, tasks: Sequence[TaskSpec], which: Ints) -> tuple[Ints, Ints]:
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


def _place(table: pd.DataFrame, spec: TaskSpec, column: str | None, own: NDArray[np.bool_]) -> Ints:
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
    numbers: Ints = place.astype(np.int64)
    return numbers


def inputs_of(
    table: pd.DataFrame,
    tasks: Sequence[TaskSpec],
    which: Ints,
    segment: Ints,
    step: Ints,
    runs: Ints,
    shape: tuple[int, int],
    step_s: float,
) -> tuple[Float32, tuple[str, ...]]:
    """Channels over time, shape (n_segments, n_steps, n_channels), and their names.

    Of each trial: its task `which`, `segment`, `step` within it and run. `shape` is
    (n_segments, n_steps).
    """
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
        _require_known(table, spec, own)
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


def _require_known(table: pd.DataFrame, spec: TaskSpec, own: NDArray[np.bool_]) -> None:
    """Refuse a trial type that no channel shows, where channels tell trial types apart."""
    known: set[str] = set()
    for values in spec.channels.values():
        for column in ("condition", "trial_type"):
            wanted = values.get(column, ())
            known |= {wanted} if isinstance(wanted, str) else set(wanted)
    # where channels name one type alone, every other is the absence of it
    if len(known) < 2:
        return
    known |= set(spec.conditions)
    strange = own & ~table["condition"].isin(known).to_numpy()
    if strange.any():
        row = table[strange].iloc[0]
        raise TaskError(
            f"task {spec.name}: expected a trial type {', '.join(sorted(known))}, found"
            f" {row['condition']!r} in trial {row['trial']} of sub-{row['participant']}; correct"
            " the table, or name it in the task's channels or conditions"
        )
