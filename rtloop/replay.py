"""Recomputing a record: every step again, compared bit by bit, or scored another way.

On a machine with the record's own fingerprint a replay has to be bit-identical. Elsewhere the
largest difference in raw score is told, and one above `TOLERANCE` fails.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rtloop import attempts
from rtloop.config import EngineConfig, SessionConfig
from rtloop.events import Event, Step, Unseen, encode
from rtloop.fingerprint import fingerprint
from rtloop.journal import Attempt, Record, Recorded, Times
from rtloop.plan import Plan
from rtloop.rows import sound
from rtloop.volume import Volume

__all__ = ["TOLERANCE", "Start", "Verdict", "rescore", "verify"]

TOLERANCE = 1e-6
"""Largest accepted difference in raw score on a machine with another fingerprint."""

Start = Literal["volumes", "rois"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a replay found.

    `difference` says where the first step differs, empty if none does; `largest` is the largest
    difference in raw score (infinite where one side has a score and the other has none).
    """

    n_events: int
    n_scores: int
    same_machine: bool
    difference: str
    largest: float

    @property
    def identical(self) -> bool:
        return not self.difference

    @property
    def acceptable(self) -> bool:
        return self.identical or (not self.same_machine and self.largest <= TOLERANCE)


def verify(
    path: Path, start: Start = "volumes", progress: Callable[[int], None] = lambda _: None
) -> Verdict:
    """Compute every step of a record again and compare.

    Parameters
    ----------
    path : Path
        The run's record.
    start : {"volumes", "rois"}
        Where to begin: at the images, or at the recorded motion and ROI signals.
    progress : callable
        Called with the number of events done.

    Raises
    ------
    RecordError
        If the record cannot be read or is damaged.
    """
    n_events, n_scores, difference, largest = 0, 0, "", 0.0
    with Record.open(path) as record:
        with sound("about"):
            same = record.about()["fingerprint"]["digest"] == fingerprint()["digest"]
        for recorded, step in _steps(record, start):
            n_events += 1
            n_scores += math.isfinite(step.scores[0].value)
            if encode(step) != recorded.body:
                largest = max(largest, _distance(step, recorded.step))
                difference = difference or _describe(step, recorded)
            elif contradiction := recorded.contradiction():
                # No other machine's arithmetic explains a record that contradicts itself.
                place = f"event {recorded.n} (volume {recorded.index})"
                difference, largest = difference or f"{place}: {contradiction}", math.inf
            if difference and same:
                break
            progress(n_events)
    return Verdict(n_events, n_scores, same, difference, largest)


def rescore(
    path: Path,
    session: SessionConfig,
    out: Path,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Score the volumes of a record with another plan or settings, into a new record.

    Returns
    -------
    int
        Number of events scored.

    Raises
    ------
    FcnefError
        If the record is damaged, the new one exists already, or the plan does not fit its
        volumes; no new record is left then.
    """
    plan = Plan.load(session.resolve(session.plan))
    done = 0
    with Record.open(path) as old:
        new = Record.create(out, _about_rescored(old, plan, session))
        try:
            with new:
                for attempt in old.attempts():
                    for _ in _rescore_attempt(old, new, attempt, plan, session):
                        done += 1
                        progress(done)
        except BaseException:
            # Half a record would look like a short run.
            for ending in ("", "-wal", "-shm"):
                out.with_name(out.name + ending).unlink(missing_ok=True)
            raise
    return done


def _about_rescored(old: Record, plan: Plan, session: SessionConfig) -> dict[str, Any]:
    before = old.about()
    about = {
        **before,
        "plan": plan.model_dump(mode="json"),
        "plan_digest": plan.digest,
        "engine": session.engine.model_dump(mode="json"),
        "fingerprint": fingerprint(),
        "run": "rescored",
        "rescored_from": {name: before.get(name) for name in ("run", "plan_digest")},
    }
    about.pop("schema_version")
    return about


def _rescore_attempt(
    old: Record, new: Record, attempt: Attempt, plan: Plan, session: SessionConfig
) -> Iterator[Step]:
    running: attempts.Running | None = None
    for recorded in old.events(attempt):
        event = _event(old, recorded, "volumes")
        if running is None:
            if not isinstance(event, Volume):
                continue
            running = attempts.begin(session, plan, new, event, time.time())
        step = running.engine.step(event)
        now_s = time.time()
        with new.transaction():
            new.add_event(running.attempt, event, step, Times(None, None, now_s, now_s))
        yield step
    if running is not None and attempt.outcome is not None:
        with new.transaction():
            new.close_attempt(running.attempt, time.time(), attempt.outcome)


def _steps(record: Record, start: Start) -> Iterator[tuple[Recorded, Step]]:
    with sound("about"):
        about = record.about()
        plan = Plan.model_validate(about["plan"])
        config = EngineConfig.model_validate(about["engine"])
    for attempt in record.attempts():
        engine = attempts.recorded_engine(plan, config, record, attempt)
        for recorded in record.events(attempt):
            yield recorded, engine.step(_event(record, recorded, start))


def _event(record: Record, recorded: Recorded, start: Start) -> Event:
    if start == "rois":
        return attempts.substitute(recorded)
    if recorded.kind == "volume" and recorded.step.status == "duplicate":
        return Unseen(recorded.index, "duplicate")
    return record.event(recorded)


def _distance(new: Step, old: Step) -> float:
    largest = 0.0
    for a, b in zip(new.scores, old.scores, strict=True):
        if math.isnan(a.value) and math.isnan(b.value):
            continue
        gap = abs(a.value - b.value)
        largest = max(largest, math.inf if math.isnan(gap) else gap)
    return largest


def _describe(step: Step, recorded: Recorded) -> str:
    old = recorded.step
    names = [
        name
        for name in ("index", "status", "observation", "weight", "correlations", "scores", "screen")
        if encode(getattr(step, name)) != encode(getattr(old, name))
    ]
    return (
        f"event {recorded.n} (volume {recorded.index}): {', '.join(names) or 'details'} differ; "
        f"raw score {step.scores[0].value:.17g}, recorded {old.scores[0].value:.17g}"
    )
