"""Trial tables, parsed in one place: BIDS events, or the joined table of a public data set.

Whatever is not a plain answer is marked here, once, and the trial stays in the table:

- **missed**: no response time. It is never a wrong answer, although tables score it 0.
- **anticipated**: a response earlier than `ANTICIPATION_S` after the onset, before it too
  (negative). Nobody reads a stimulus that fast, so the press says nothing about it: neither its
  time nor its correctness is used, and it is counted.
- **late**: a response after the task's next stimulus could have come is kept as published.
- Trials are numbered from 0 in the order of their onsets; trials of one onset keep the order of
  the file. A trial that is listed twice is an error: two tables of one run are not one run.

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

__all__ = ["ANTICIPATION_S", "COLUMNS", "Trials", "read_events", "read_trials"]

ANTICIPATION_S = 0.15
"""A response that comes sooner after the stimulus is not a response to it."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "participant": ("participant_id", "subject"),
    "task": (),
    "run": (),
    "order": ("trial_index",),
    "onset_s": ("onset",),
    "duration_s": ("duration",),
    "condition": ("trial_type",),
    "response_s": ("response_time_s", "response_time"),
    "correct": ("accuracy_binarized", "accuracy"),
}
"""Column of a trial table: the names it may have in a file, the first one found is taken."""

NEEDED = ("participant", "task", "onset_s", "condition", "response_s", "correct")
MISSING = ("n/a", "N/A", "NaN", "nan", "")
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
        Further columns of the file follow as text, NaN where missing.
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
        If the file is no table, a needed column is missing, a value is no number, a trial is
        listed twice, or a trial without response is scored as correct.
    """
    where = "trials" if isinstance(source, pd.DataFrame) else str(source)
    raw = source if isinstance(source, pd.DataFrame) else _read(Path(source))
    return Trials(_checked(_renamed(raw, columns or {}, where), where))


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
        raw = _renamed(_read(path), columns or {}, str(path), given=names)
        parts.append(_checked(raw.assign(**names), str(path)))
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


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise TaskError(
            f"{path}: expected a table of trials with a header, found {reason}; check the file"
        ) from error


def _renamed(
    raw: pd.DataFrame, columns: Mapping[str, str], where: str, given: Iterable[str] = ()
) -> pd.DataFrame:
    """The table with our names for known columns."""
    theirs = {}
    for ours, others in COLUMNS.items():
        names = (columns[ours],) if ours in columns else (ours, *others)
        found = next((name for name in names if name in raw.columns), None)
        if found is not None:
            theirs[found] = ours
        elif ours in NEEDED and ours not in given:
            raise TaskError(
                f"{where}: expected a column {' or '.join(names)}, found"
                f" {', '.join(map(str, raw.columns)) or 'none'}; add it, or say which it is"
            )
    return raw.rename(columns=theirs)


def _checked(raw: pd.DataFrame, where: str) -> pd.DataFrame:
    text = raw.astype(str).map(str.strip).mask(lambda cells: cells.isin(MISSING))
    numbers = {name: _numbers(text, name, where) for name in ("onset_s", "response_s", "correct")}
    responded = numbers["response_s"]
    missed = responded.isna()
    anticipated = responded < ANTICIPATION_S
    right = numbers["correct"] > 0.5
    _refuse(right & missed, where, "a response time where the answer is right", "n/a")
    _refuse(numbers["onset_s"].isna(), where, "an onset", "n/a")
    if "duration_s" in text.columns:
        duration = _numbers(text, "duration_s", where)
    else:
        duration = pd.Series(np.nan, text.index)
    run = text["run"] if "run" in text.columns else pd.Series("1", text.index)
    known = pd.DataFrame(
        {
            "participant": text["participant"].str.removeprefix("sub-"),
            "task": text["task"],
            "run": run,
            "trial": 0,
            "onset_s": numbers["onset_s"],
            "duration_s": duration,
            "condition": text["condition"],
            "raw_rt_s": responded,
            "rt_s": responded.mask(anticipated),
            "missed": missed,
            "anticipated": anticipated,
            "correct": right & ~anticipated,
        }
    )
    others = [name for name in text.columns if name not in COLUMNS]
    table = pd.concat([known, text[others]], axis=1)
    if "order" in text.columns:
        table["order"] = _numbers(text, "order", where)
        _require_once(table, where, "order")
        table = table.drop(columns="order")
    # stable: trials of one onset stay in the order of the file
    first = {run: k for k, run in enumerate(dict.fromkeys(_runs(table)))}
    place = [first[run] for run in _runs(table)]
    table = table.iloc[np.lexsort((table["onset_s"].to_numpy(), place))].reset_index(drop=True)
    table["trial"] = table.groupby(["participant", "task", "run"], sort=False).cumcount()
    # onsets may repeat (a run that stalled has such); the same press to two trials may not
    answered = table[~table["missed"]]
    again = answered.duplicated(["participant", "task", "run", "onset_s", "raw_rt_s"], keep=False)
    if again.any():
        _require_once(answered[again].assign(trial=answered["trial"].min()), where)
    return table


def _runs(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    return list(zip(table["participant"], table["task"], table["run"], strict=True))


def _numbers(text: pd.DataFrame, column: str, where: str) -> pd.Series:
    values = pd.to_numeric(text[column], errors="coerce")
    wrong = values.isna() & text[column].notna()
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise TaskError(
            f"{where}: row {at + 2}, column {column}: expected a number or n/a, found"
            f" {text[column].iloc[at]!r}; correct the table"
        )
    return values.astype(float)


def _refuse(wrong: pd.Series, where: str, expected: str, found: str) -> None:
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise TaskError(
            f"{where}: row {at + 2}: expected {expected}, found {found}; correct the table"
        )


def _require_once(table: pd.DataFrame, where: str, place: str = "trial") -> None:
    again = table.duplicated(["participant", "task", "run", place])
    if again.any():
        row = table[again].iloc[0]
        raise TaskError(
            f"{where}: expected every trial once, found trial {int(row[place])} of"
            f" sub-{row['participant']}, task {row['task']}, run {row['run']} again; leave one of"
            " the two tables out"
        )
