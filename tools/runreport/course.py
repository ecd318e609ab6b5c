"""A record as arrays over scanner time: what figures and tables are made from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtloop.errors import RecordError
from rtloop.events import Step
from rtloop.journal import Attempt, Record
from rtloop.plan import Plan

__all__ = ["Course", "Trial", "load"]

Array = NDArray[np.float64]

TABLES = ("fault", "shown", "command", "trigger_pulse", "message", "times")


@dataclass(frozen=True, slots=True)
class Trial:
    """A block trial's score, known after volume `index`."""

    index: int
    score: float
    standard_error: float


@dataclass(frozen=True)
class Course:
    """One attempt over scanner time; volume `i` is row `i`, nan where there is nothing.

    Attributes
    ----------
    about : dict
        What the record says of the run.
    plan : Plan
        The run's plan.
    attempts : list of Attempt
        All attempts of the record; the last one is shown.
    status, scene : list of str
        What became of each volume and what the screen showed after it; "" where nothing was heard.
    trials : list of Trial
        Scores of a block timeline's trials, in order.
    score, standard_error, feedback, fd_mm, weight : ndarray, shape (n_volumes,)
        Raw score (Fisher z) with its standard error, shown value 0..100, FD, weight.
    parameters : ndarray, shape (n_volumes, 6)
        Motion, mm and rad.
    correlations : ndarray, shape (n_volumes, n_edges)
        Pearson r of the circuits' edges.
    latency_ms : ndarray
        File or message complete -> feedback published, per volume that came.
    flip_ms : ndarray
        Published -> flip, per message that was shown.
    tables : dict of str to list of dict
        Rows of the record's `TABLES`, those of all its attempts.
    """

    about: dict[str, Any]
    plan: Plan
    attempts: list[Attempt]
    status: list[str]
    scene: list[str]
    trials: list[Trial]
    score: Array
    standard_error: Array
    feedback: Array
    fd_mm: Array
    weight: Array
    parameters: Array
    correlations: Array
    latency_ms: Array
    flip_ms: Array
    tables: dict[str, list[dict[str, Any]]]

    @property
    def time_s(self) -> Array:
        """Scanner time at the end of each volume, s."""
        return np.asarray((np.arange(len(self.status)) + 1) * self.plan.tr_s, np.float64)

    @property
    def values_shown(self) -> int:
        """Feedback values that reached the participant's screen."""
        return sum(r["status"] == "shown" and r["value"] is not None for r in self.tables["shown"])

    @property
    def edge_labels(self) -> list[str]:
        return [f"{e.a} – {e.b}" for e in (*self.plan.edges, *self.plan.sham_edges)]


def load(path: Path) -> Course:
    """Read the last attempt of a record.

    Raises
    ------
    RecordError
        If the file is no record, or no volume came in its run.
    """
    with Record.open(path) as record:
        about = record.about()
        plan = Plan.model_validate(about["plan"])
        attempts = record.attempts()
        if not attempts:
            raise RecordError(
                f"record {path}: expected a run with volumes, found none; nothing can be reported"
            )
        steps = [recorded.step for recorded in record.events(attempts[-1])]
        tables = {name: record.rows(name) for name in TABLES}
    columns = _columns(plan, steps)
    return Course(
        about=about,
        plan=plan,
        attempts=attempts,
        latency_ms=_latencies_ms(tables["times"]),
        flip_ms=_flips_ms(tables),
        tables=tables,
        **columns,
    )


def _columns(plan: Plan, steps: Iterable[Step]) -> dict[str, Any]:
    n, n_edges = plan.n_volumes, len(plan.edges) + len(plan.sham_edges)
    status, scene = [""] * n, [""] * n
    trials = []
    score, error, feedback, fd_mm, weight = np.full((5, n), math.nan)
    parameters, correlations = np.full((n, 6), math.nan), np.full((n, n_edges), math.nan)
    for step in steps:
        for index in step.missing:
            status[index] = "missing"
        if step.trial_score is not None:
            ended = step.trial_score
            trials.append(Trial(step.index, ended.value, ended.standard_error))
        i = step.index
        if not 0 <= i < n or step.status in {"late", "duplicate", "ignored", "none", "missing"}:
            continue
        status[i], scene[i] = step.status, step.screen.scene
        score[i], error[i] = step.scores[0].value, step.scores[0].standard_error
        fd_mm[i], weight[i] = step.fd_mm, step.weight
        if step.screen.scene in ("feedback", "hold", "score") and step.screen.value is not None:
            feedback[i] = step.screen.value
        if step.observation is not None:
            parameters[i] = step.observation.parameters
        if len(step.correlations):
            correlations[i] = step.correlations
    return {
        "status": status,
        "scene": scene,
        "trials": trials,
        "score": score,
        "standard_error": error,
        "feedback": feedback,
        "fd_mm": fd_mm,
        "weight": weight,
        "parameters": parameters,
        "correlations": correlations,
    }


def _latencies_ms(rows: list[dict[str, Any]]) -> Array:
    known = [row for row in rows if row["received_s"] is not None]
    return np.array([1e3 * (row["published_s"] - row["received_s"]) for row in known])


def _flips_ms(tables: dict[str, list[dict[str, Any]]]) -> Array:
    published_s = {row["id"]: row["published_s"] for row in tables["message"]}
    return np.array(
        [
            1e3 * (row["flip_s"] - published_s[row["message"]])
            for row in tables["shown"]
            if row["status"] == "shown" and row["message"] in published_s
        ]
    )
