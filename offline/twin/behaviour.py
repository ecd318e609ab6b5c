"""Who is usable, what each person did in a few numbers, and how reliably that can be told.

Whoever is left out is listed, with the reason and the numbers, in one table; nothing is dropped
without a line in it. The primary outcome is the mean response time of correct trials: a person's
Stroop interference is far less reliable.

Accuracy is counted among the trials that were answered (misses are judged apart). A run whose
accuracy does not exceed guessing, by a one-sided exact binomial test, is no measurement of the
task: keys swapped, instructions missed, asleep.

Response times have no unit in a table. A single run whose answers come after the task's response
window is left out; where most runs of a task are such, the table has another unit, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from offline.errors import TaskError
from offline.twin.tasks import MATCHING, STROOP, TaskSpec
from offline.twin.trials import ANTICIPATION_S, Trials

__all__ = [
    "Inclusion",
    "first_correct",
    "include",
    "odd_even_reliability",
    "spearman_brown",
    "summarise",
]

ALPHA = 0.05
MAX_MISSED = 0.5
MIN_USABLE = 20
"""Correct trials with a response time that a run needs: half of what the first half offers."""

MAX_NEGATIVE = 0.05
"""Share of answers before their stimulus above which a run's clock is not to be trusted."""

LATEST = 10.0
"""Response windows after which an answer is none, whatever the others of its run are."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Inclusion:
    """Trials of usable runs, and everything that was left out.

    Attributes
    ----------
    trials : Trials
        Of runs that were kept.
    table : pandas.DataFrame
        One row a reason: `participant`, `task`, `run` (n/a for a person), `left_out` ("person",
        "run" or "trials"), `reason`, `found`.
    """

    trials: Trials
    table: pd.DataFrame


def include(
    trials: Trials,
    tasks: Sequence[TaskSpec] = (MATCHING, STROOP),
    people: Iterable[str] | None = None,
    alpha: float = ALPHA,
    max_missed: float = MAX_MISSED,
    min_usable: int = MIN_USABLE,
) -> Inclusion:
    """Keep usable runs; list everyone and everything that is not.

    Parameters
    ----------
    trials : Trials
    tasks : sequence of TaskSpec
        Say what guessing would reach, and until when answers are expected.
    people : iterable of str or None
        Everyone of the study, with or without `sub-`, to list those without behaviour.
    alpha : float
        Level of the binomial test against guessing.
    max_missed : float
        Largest share of missed trials.
    min_usable : int
        Fewest correct trials with a response time.

    Raises
    ------
    TaskError
        If a person is named twice, a task is not among `tasks`, or most runs of one are answered
        after its response window.
    """
    _require_seconds(trials, tasks)
    lines: list[dict[str, str]] = []
    if people is not None:
        names = [str(name).removeprefix("sub-") for name in people]
        twice = pd.Index(names)[pd.Index(names).duplicated()]
        if len(twice):
            raise TaskError(
                f"expected everyone once, found participant {twice[0]} again; correct the table"
            )
        known = set(trials.people)
        lines += [
            _line(name, "n/a", "n/a", "person", "no behaviour", "no trials")
            for name in names
            if name not in known
        ]
    kept = []
    for (person, task, run), rows in trials.table.groupby(
        ["participant", "task", "run"], sort=False
    ):
        where = (str(person), str(task), str(run))
        lines += _dropped_trials(rows, where)
        reason = _reason(rows, _spec(str(task), tasks), alpha, max_missed, min_usable)
        if reason is None:
            kept.append(rows.index)
        else:
            lines.append(_line(*where, "run", *reason))
    places = np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)
    usable = Trials(trials.table.loc[places].reset_index(drop=True))
    left = set(usable.people)
    lines += [
        _line(name, "n/a", "n/a", "person", "no usable run", "see the runs")
        for name in trials.people
        if name not in left
    ]
    columns = ["participant", "task", "run", "left_out", "reason", "found"]
    return Inclusion(usable, pd.DataFrame(lines, columns=columns))


def summarise(trials: Trials) -> pd.DataFrame:
    """Numbers of each person and run.

    Returns
    -------
    pandas.DataFrame
        One row a run: `participant`, `task`, `run`, `n_trials`, `n_missed`, `n_anticipated`,
        `n_wrong`, `accuracy` (of all trials, as published), and mean response times of correct
        trials, s: `mean_s`, `first_s` and `second_s` (halves in trial order), `odd_s`, `even_s`,
        `sd_s` (between trials). NaN where there is no correct trial.
    """
    table = trials.table
    keys = ["participant", "task", "run"]
    rt_s = table["rt_s"].where(table["correct"])
    last = table.groupby(keys, sort=False)["trial"].transform("max")
    early = table["trial"] <= last // 2
    odd = table["trial"] % 2 == 0
    frame = pd.DataFrame(
        {
            **{key: table[key] for key in keys},
            "missed": table["missed"],
            "anticipated": table["anticipated"],
            "wrong": ~table["correct"] & ~table["missed"] & ~table["anticipated"],
            "correct": table["correct"],
            "mean_s": rt_s,
            "first_s": rt_s.where(early),
            "second_s": rt_s.where(~early),
            "odd_s": rt_s.where(odd),
            "even_s": rt_s.where(~odd),
        }
    )
    runs = frame.groupby(keys, sort=False)
    out = runs[["missed", "anticipated", "wrong"]].sum().astype(int).add_prefix("n_")
    out.insert(0, "n_trials", runs.size())
    out["accuracy"] = runs["correct"].mean()
    times = ["mean_s", "first_s", "second_s", "odd_s", "even_s"]
    out[times] = runs[times].mean()
    out["sd_s"] = runs["mean_s"].std()
    return out.reset_index()


def first_correct(rt_s: Float64, k: int) -> Float64:
    """Keep the first `k` response times of each person.

    Parameters
    ----------
    rt_s : ndarray of float64, shape (n_people, n_trials)
        NaN where a trial gives none.
    k : int
        From 0.

    Returns
    -------
    ndarray of float64, shape (n_people, n_trials)
        All others NaN.

    Examples
    --------
    >>> first_correct(np.array([[np.nan, 0.7, 0.8, 0.9]]), 2).tolist()
    [[nan, 0.7, 0.8, nan]]
    """
    there = np.isfinite(rt_s)
    return np.where(there & (np.cumsum(there, axis=1) <= k), rt_s, np.nan)


def odd_even_reliability(odd: Float64, even: Float64) -> float:
    """Reliability of the mean of all trials, from means of odd and of even ones, each (n_people,).

    Correlation of the halves, stepped up (Spearman 1910, Brown 1910). People without one of the
    halves are left out.
    """
    both = np.isfinite(odd) & np.isfinite(even)
    if both.sum() < 3:
        return float("nan")
    return spearman_brown(float(np.corrcoef(odd[both], even[both])[0, 1]))


def spearman_brown(r: float, length: float = 2.0) -> float:
    """Reliability of a test `length` times as long, doi:10.1111/j.2044-8295.1910.tb00207.x.

    Examples
    --------
    >>> spearman_brown(0.5)
    0.6666666666666666
    """
    return length * r / (1.0 + (length - 1.0) * r)


def _spec(task: str, tasks: Sequence[TaskSpec]) -> TaskSpec:
    for spec in tasks:
        if spec.names(task):
            return spec
    known = ", ".join(spec.name for spec in tasks) or "none"
    raise TaskError(
        f"expected trials of the tasks {known}, found task {task!r}; describe it, or leave it out"
    )


def _dropped_trials(rows: pd.DataFrame, where: tuple[str, str, str]) -> list[dict[str, str]]:
    negative = int((rows["raw_rt_s"] < 0).sum())
    early = int(rows["anticipated"].sum()) - negative
    lines = []
    if negative:
        found = f"{negative} of {len(rows)} trials"
        lines.append(_line(*where, "trials", "negative response time", found))
    if early:
        found = f"{early} of {len(rows)} trials"
        lines.append(_line(*where, "trials", "anticipation", found))
    return lines


def _reason(
    rows: pd.DataFrame, spec: TaskSpec, alpha: float, max_missed: float, min_usable: int
) -> tuple[str, str] | None:
    """Why a run is not usable, and what was found; None if it is."""
    n, n_missed = len(rows), int(rows["missed"].sum())
    if n_missed == n:
        return "all trials missed", f"{n_missed} of {n}"
    if (impossible := _impossible_times(rows, spec)) is not None:
        return impossible
    if n_missed > max_missed * n:
        return "too many missed", f"{n_missed} of {n}"
    n_answered = int((~rows["missed"] & ~rows["anticipated"]).sum())
    n_right = int(rows["correct"].sum())
    test = stats.binomtest(n_right, max(n_answered, 1), spec.chance, alternative="greater")
    if test.pvalue > alpha:
        found = f"{n_right} of {n_answered} answers, chance {spec.chance:.3g}"
        return "accuracy not above chance", f"{found}, p {test.pvalue:.2g}"
    rt_s = rows["rt_s"][rows["correct"]].dropna()
    if len(rt_s) < min_usable:
        return "too few correct trials", f"{len(rt_s)}"
    if len(rt_s) > 1 and rt_s.nunique() == 1:
        return "response times all equal", f"{rt_s.iloc[0]:g} s in {len(rt_s)} correct trials"
    return None


def _impossible_times(rows: pd.DataFrame, spec: TaskSpec) -> tuple[str, str] | None:
    """Before the stimulus too often, or so late that they are of another unit or clock."""
    answered_s = rows["raw_rt_s"].dropna()
    negative = int((answered_s < 0).sum())
    if negative > MAX_NEGATIVE * len(answered_s):
        return "negative response times", f"{negative} of {len(answered_s)} answers"
    window_s = spec.response_window_s
    if answered_s.median() > window_s:
        found = f"median {answered_s.median():g} s, window {window_s:g} s"
        return "response times beyond the window", found
    late = int((answered_s > LATEST * window_s).sum())
    if late:
        found = f"{late} of {len(answered_s)} answers after {LATEST * window_s:g} s"
        return "response times beyond the window", found
    return None


def _require_seconds(trials: Trials, tasks: Sequence[TaskSpec]) -> None:
    """Answers of most runs of a task come within its response window."""
    answered = trials.table[~trials.table["missed"]]
    medians = answered.groupby(["task", "participant", "run"], sort=False)["raw_rt_s"].median()
    for task, medians_s in medians.groupby("task", sort=False):
        window_s = _spec(str(task), tasks).response_window_s
        if 2 * int((medians_s > window_s).sum()) <= len(medians_s):
            continue
        found = medians_s.median()
        milliseconds = ANTICIPATION_S < found / 1000.0 <= window_s
        advice = "correct them, or response_window_s of the task"
        raise TaskError(
            f"task {task}: expected response times in seconds, within {window_s:g} s of the"
            f" onset, found a median of {found:g};"
            f" {'divide by 1000' if milliseconds else advice}"
        )


def _line(
    participant: str, task: str, run: str, left_out: str, reason: str, found: str
) -> dict[str, str]:
    return {
        "participant": participant,
        "task": task,
        "run": run,
        "left_out": left_out,
        "reason": reason,
        "found": found,
    }
