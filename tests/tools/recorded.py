"""Small run records made by the real engine and record, as the loop makes them, in no time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rtloop import attempts
from rtloop.config import EngineConfig, RunEntry, SessionConfig
from rtloop.events import Event
from rtloop.journal import Outcome, Record, Times
from rtloop.plan import Plan
from rtloop.volume import Volume
from rtloop.wire import Feedback, Shown
from tests.rtloop.simulated import series, small_config, small_plan

__all__ = ["FLIP_S", "LATENCY_S", "rest_plan", "session_for", "write_record"]

LATENCY_S = 0.004
"""Volume complete -> feedback published, on record."""

FLIP_S = 0.016
"""Feedback published -> flip, on record."""


def session_for(folder: Path, config: EngineConfig | None = None) -> SessionConfig:
    """A session whose files lie in `folder`."""
    return SessionConfig(
        name="test",
        plan="plan.json",
        runs=(RunEntry(name="run"),),
        engine=config or small_config(),
        folder=folder,
    )


def rest_plan(**changes: object) -> Plan:
    """The small plan's target, scored through a rest without feedback."""
    rest = {"timeline": {"kind": "continuous", "rest_s": 60.0}, "control": {"arm": "none"}}
    return small_plan(**{**rest, **changes})


def write_record(
    path: Path,
    plan: Plan | None = None,
    events: Iterable[Event] | None = None,
    config: EngineConfig | None = None,
    outcome: Outcome | None = "complete",
) -> Path:
    """Record a run: events through the engine, every value shown, every lost volume a fault.

    Parameters
    ----------
    path : Path
        Record to make.
    plan : Plan, optional
        The small plan if not given.
    events : iterable of Event, optional
        The small series if not given; the first one is a volume.
    config : EngineConfig, optional
        The small settings if not given.
    outcome : str or None
        How the attempt ends; None leaves it open.
    """
    plan = plan or small_plan()
    session = session_for(path.parent, config)
    running: attempts.Running | None = None
    with Record.create(path, attempts.about(session, session.runs[0], plan)) as record:
        for count, event in enumerate(series() if events is None else events, 1):
            if running is None:
                assert isinstance(event, Volume)
                running = attempts.begin(session, plan, record, event, 0.0)
            _take(record, running, event, count)
        if running is not None and outcome is not None:
            with record.transaction():
                record.close_attempt(running.attempt, 1e3, outcome)
    return path


def _take(record: Record, running: attempts.Running, event: Event, count: int) -> None:
    step = running.engine.step(event)
    now_s = float(count)
    published_s = now_s + LATENCY_S
    screen, name = step.screen, running.attempt.name
    message = Feedback(
        count, name, step.index, screen.scene, screen.value, "", screen.trial, published_s, None
    )
    with record.transaction():
        n = record.add_event(running.attempt, event, step, Times(None, now_s, now_s, published_s))
        record.add_message(message, n)
        record.add_shown(Shown(count, name, screen.scene, screen.value, published_s + FLIP_S))
        for index in step.missing:
            record.add_fault(
                now_s, "missing", "never arrived in time", "weight 0, feedback holds", name, index
            )
