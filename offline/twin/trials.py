"""Trial tables, parsed in one place: BIDS events, or the joined table of a public data set.

Whatever is not a plain answer is marked here, once, and the trial stays in the table:

- **missed**: no response time. It is never a wrong answer, although tables score it 0.
- **anticipated**: a response earlier than `ANTICIPATION_S` after the onset, before it too
  (negative). Nobody reads a stimulus that fast, so the press says nothing about it: neither its
  time nor its correctness is used, and it is counted.
- **late**: a response after the task's next stimulus could have come is kept as published.
- Trials are numbered from 0 in the order of their onsets; trials of one onset go by `order`, or
  keep the order of the file. A trial that is listed twice is an error: two tables of one run are
  not one run.
- Who, task, run, trial type and onset are never missing, and whether an answer was right is 0 or
  1: what cannot be so is refused with its row and column, never read as something else.

Directions of phase encoding are part of the task's name in some data sets (`stroopAP`); here they
are the run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.errors import TaskError
from offline.twin.cells import COLUMNS, Cells, read_table

__all__ = ["ANTICIPATION_S", "COLUMNS", "Trials", "read_events", "read_trials"]

ANTICIPATION_S = 0.15
"""A response that comes sooner after the stimulus is not a response to it."""

MAX_GAP_S = 60.0
"""Median time between onsets of a run beyond which they are no seconds."""

MAX_ONSET_S = 86400.0
"""A day: a later onset is the time of a clock, not that since the run began."""

RUN = ["participant", "task", "run"]
EVENTS = re.compile(
    r"sub-(?P<participant>[^_]+)(_ses-(?P<session>[^_]+))?_task-(?P<task>[^_]+)"
    r"(_dir-(?P<dir>[^_]+))?(_run-(?P<run>[^_]+))?_events\.tsv(\.gz)?$"
)
DIRECTED = re.compile(r"(?P<task>.*[a-z0-9])(?P<run>AP|PA|LR|RL)$")


@dataclass(frozen=True)
class Trials:
    """Trials of people, tasks and runs.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a trial, runs one after another, trials of a run in order of onset. Columns:
        `participant` (without `sub-`), `task`, `run` (str); `trial` (int, from 0 in each run);
        `onset_s`, `duration_s` (float, from the start of the run); `condition` (str);
        `raw_rt_s` (as published, NaN if missed); `rt_s` (NaN if missed or anticipated);
        `missed`, `anticipated`, `correct` (bool; `correct` false where missed or anticipated).
        Further columns of the file follow as text, NaN where missing; one that has a name of ours
        is left out.
    """

    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.table)

    @property
    def people(self) -> tuple[str, ...]:
        """Everyone with a trial, in order of appearance."""
        return tuple(self.table["participant"].unique())

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Trials whose response time counts, shape (n_trials,): correct, not anticipated."""
        usable: NDArray[np.bool_] = (self.table["correct"] & self.table["rt_s"].notna()).to_numpy()
        return usable

    def of(self, task: str | None = None, run: str | None = None) -> Trials:
        """Those of one task, or one run of it."""
        keep = np.ones(len(self.table), bool)
        for column, value in (("task", task), ("run", run)):
            if value is not None:
                keep &= (self.table[column] == value).to_numpy()
        return Trials(self.table[keep].reset_index(drop=True))

    def only(self, people: Iterable[str]) -> Trials:
        """Those of some people."""
        keep = self.table["participant"].isin(set(people))
        return Trials(self.table[keep].reset_index(drop=True))

    def in_order(self) -> Trials:
        """By participant, task and run; run 10 comes after run 9."""
        place = {run: k for k, run in enumerate(sorted(set(_runs(self.table)), key=_natural))}
        order = np.argsort([place[run] for run in _runs(self.table)], kind="stable")
        return Trials(self.table.iloc[order].reset_index(drop=True))

    def grid(
        self, column: str, people: Sequence[str] | None = None
    ) -> NDArray[np.float64] | NDArray[np.object_]:
        """One column of one run of one task as a matrix.

        Parameters
        ----------
        column : str
            Of the table; numbers and truths become float64.
        people : sequence of str or None
            Rows, in this order; None for `self.people`. A person without the run has missing
            values only.

        Returns
        -------
        ndarray, shape (n_people, n_trials)
            NaN (text: "") where a person has fewer trials.

        Raises
        ------
        TaskError
            If the trials are of more than one run: choose one with `of`.
        """
        runs = self.table[["task", "run"]].drop_duplicates()
        if len(runs) > 1:
            raise TaskError(
                f"expected trials of one run, found {len(runs)} runs; choose one with Trials.of"
            )
        names = list(self.people if people is None else people)
        n_trials = int(self.table["trial"].max()) + 1 if len(self.table) else 0
        row = self.table["participant"].map({name: k for k, name in enumerate(names)}).to_numpy()
        known = ~pd.isna(row)
        at = (row[known].astype(int), self.table["trial"].to_numpy()[known])
        values = self.table[column].to_numpy()[known]
        if self.table[column].dtype.kind in "fib":
            out = np.full((len(names), n_trials), np.nan)
            out[at] = values.astype(float)
            return out
        text = np.full((len(names), n_trials), "", object)
        text[at] = values
        return text


def read_trials(
    source: str | Path | pd.DataFrame,
    columns: Mapping[str, str] | None = None,
) -> Trials:
    """Read a table of trials of many people.

    Parameters
    ----------
    source : str, Path or pandas.DataFrame
        `.tsv` or `.tsv.gz` with a header; missing values are `n/a`. A DataFrame holds text.
    columns : mapping of str to str or None
        For columns with other names than in `COLUMNS`: ours to theirs.

    Returns
    -------
    Trials
        Checked, in order.

    Raises
    ------
    TaskError
        If the file is no table, a needed column or cell is missing, a value is no finite number,
        onsets are no seconds, a trial is listed twice, or a trial without response is scored as
        correct, one with a response not at all.
    """
    where = "trials" if isinstance(source, pd.DataFrame) else str(source)
    raw = source if isinstance(source, pd.DataFrame) else read_table(Path(source))
    return Trials(_checked(Cells.of(raw, columns or {}, where)))


def read_events(
    files: Iterable[str | Path],
    tasks: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> Trials:
    """Read BIDS events of several people and runs.

    Parameters
    ----------
    files : iterable of path
        `sub-*_task-*_events.tsv`; who, what and which run follow from the names.
    tasks : sequence of str or None
        Tasks to keep (a direction at the end of the name is the run); None for all.
    columns : mapping of str to str or None
        As for `read_trials`.

    Raises
    ------
    TaskError
        If a name is not BIDS, there is no file, or a table is wrong.
    """
    parts = []
    for path in map(Path, files):
        names = _names(path)
        if tasks is not None and names["task"] not in tasks:
            continue
        parts.append(_checked(Cells.of(read_table(path), columns or {}, str(path), names)))
    if not parts:
        raise TaskError("expected events files (sub-*_task-*_events.tsv), found none; name some")
    table = pd.concat(parts, ignore_index=True)
    _require_once(table, "events")
    return Trials(table)


def _names(path: Path) -> dict[str, str]:
    found = EVENTS.match(path.name)
    if found is None:
        raise TaskError(
            f"{path.name}: expected a name like sub-01_task-stroop_run-1_events.tsv; rename it"
        )
    task, run = found["task"], found["run"] or "1"
    if directed := DIRECTED.match(task):
        task, run = directed["task"], directed["run"]
    elif found["dir"]:
        run = found["dir"]
    if found["session"]:
        run = f"{found['session']}-{run}"
    return {"participant": found["participant"], "task": task, "run": run}


def _checked(cells: Cells) -> pd.DataFrame:
    text, where = cells.text, cells.where
    known = _answers(cells)
    others = [name for name in text.columns if name not in COLUMNS and name not in known]
    table = pd.concat([known, text[others]], axis=1)
    # without a number of their own, trials of one onset stay in the order of the file
    order = pd.Series(0.0, text.index)
    if "order" in text:
        order = cells.numbers("order")
        cells.refuse(order.isna(), "order", "a number")
        _require_once(table.assign(order=order), where, "order")
    first = {run: k for k, run in enumerate(dict.fromkeys(_runs(table)))}
    place = [first[run] for run in _runs(table)]
    table = table.iloc[np.lexsort((order, table["onset_s"], place))].reset_index(drop=True)
    table["trial"] = table.groupby(RUN, sort=False).cumcount()
    _require_seconds(table, where)
    _require_one_table(table, where)
    return table


def _answers(cells: Cells) -> pd.DataFrame:
    """The columns of `Trials.table` that every table has, in the order of the file."""
    text = cells.text
    for column, expected in (
        ("participant", "a participant"), ("task", "a task"), ("run", "a run"),
        ("condition", "a trial type"), ("onset_s", "an onset"),
    ):  # fmt: skip
        if column in text:
            cells.refuse(text[column].isna(), column, expected)
    onset_s, responded, correct = map(cells.numbers, ("onset_s", "response_s", "correct"))
    missed = responded.isna()
    anticipated = responded < ANTICIPATION_S
    right = correct == 1.0
    cells.refuse(right & missed, "response_s", "a response time where the answer is right")
    cells.refuse(correct.notna() & ~correct.isin((0.0, 1.0)), "correct", "0 or 1")
    # whether an anticipation was right is not used, and need not be known
    unscored = correct.isna() & ~missed & ~anticipated
    cells.refuse(unscored, "correct", "0 or 1 where there is a response time")
    return pd.DataFrame(
        {
            "participant": text["participant"],
            "task": text["task"],
            "run": text["run"] if "run" in text else pd.Series("1", text.index),
            "trial": 0,
            "onset_s": onset_s,
            "duration_s": cells.numbers("duration_s") if "duration_s" in text else np.nan,
            "condition": text["condition"],
            "raw_rt_s": responded,
            "rt_s": responded.mask(anticipated),
            "missed": missed,
            "anticipated": anticipated,
            "correct": right & ~anticipated,
        }
    )


def _runs(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    return list(zip(table["participant"], table["task"], table["run"], strict=True))


def _natural(run: tuple[str, str, str]) -> tuple[str, str, list[str | int]]:
    parts = re.split(r"(\d+)", run[2])
    return run[0], run[1], [int(part) if k % 2 else part for k, part in enumerate(parts)]


def _require_seconds(table: pd.DataFrame, where: str) -> None:
    """Of trials in order: onsets are seconds since the run began."""
    gap_s = table.groupby(RUN, sort=False)["onset_s"].diff()
    median_s = gap_s.groupby([table[name] for name in RUN], sort=False).median()
    if (slow := median_s > MAX_GAP_S).any():
        person, task, run = median_s.index[slow][0]
        raise TaskError(
            f"{where}: expected onsets in seconds, found a median of {median_s[slow].iloc[0]:g}"
            f" between those of sub-{person}, task {task}, run {run}; divide milliseconds by 1000"
        )
    if (late := table["onset_s"].abs() > MAX_ONSET_S).any():
        row = table[late].iloc[0]
        raise TaskError(
            f"{where}: expected onsets in seconds from the start of the run, found"
            f" {row['onset_s']:g} of sub-{row['participant']}, task {row['task']}, run"
            f" {row['run']}; subtract the time of its start"
        )


def _require_one_table(table: pd.DataFrame, where: str) -> None:
    """Of trials in order: no run is two tables, whole or in part."""
    onsets = table.groupby(RUN, sort=False)["onset_s"]
    # nobody answers two stimuli that come so close; a run that stalled has a few such
    close = (onsets.diff() < ANTICIPATION_S) | (onsets.diff(-1) > -ANTICIPATION_S)
    share = close.groupby([table[name] for name in RUN], sort=False).mean()
    if (twice := share > 0.5).any():
        person, task, run = share.index[twice][0]
        raise TaskError(
            f"{where}: expected every trial once, found most onsets of sub-{person}, task {task},"
            f" run {run} twice; leave one of the two tables out, or tell runs apart in a column run"
        )
    # the same press to two trials is no press
    answered = table[~table["missed"]]
    again = answered.duplicated([*RUN, "onset_s", "raw_rt_s"], keep=False)
    if again.any():
        _require_once(answered[again].assign(trial=answered["trial"].min()), where)


def _require_once(table: pd.DataFrame, where: str, place: str = "trial") -> None:
    again = table.duplicated([*RUN, place])
    if again.any():
        row = table[again].iloc[0]
        raise TaskError(
            f"{where}: expected every trial once, found trial {int(row[place])} of"
            f" sub-{row['participant']}, task {row['task']}, run {row['run']} again; leave one of"
            " the two tables out"
        )
