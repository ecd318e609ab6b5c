"""Sockets, clock and record around the pure `Engine`.

For every event the order is fixed: step, broadcast, commit, acknowledge. Feedback never waits
for the disk, and nothing is acknowledged that is not on it. After a restart the engine is built
again from the record and continues with the same bits.
"""

from __future__ import annotations

import contextlib
import os
import time

from rtloop import attempts
from rtloop.attempts import Running
from rtloop.config import SessionConfig
from rtloop.errors import ConfigError, PlanError, RecordError, RoiError
from rtloop.events import Deadline, Event, Operator, Screen, Step
from rtloop.host import HostWatch
from rtloop.journal import Outcome, Record, Times
from rtloop.link import (
    Broadcaster,
    Malformed,
    PeerBack,
    PeerLost,
    ReportSink,
    SourceRefused,
    StreamSink,
    load_keys,
)
from rtloop.plan import Plan
from rtloop.scannertime import ScannerTime
from rtloop.stage import Stage
from rtloop.telemetry import ready_body, step_body, volume_faults
from rtloop.volume import Volume
from rtloop.wire import Command, Note, NoteItem, Shown, Telemetry, Trigger, VolumeItem

__all__ = ["Loop"]

POLL_S = 0.05
NEUTRAL = Screen("neutral", None, "", None, None)
FAREWELL_S = 1.5
"""How long the end screen is repeated for before the process leaves."""

LAST_WORDS_S = 0.3
"""How long a source is heard after the run's end: it says that its series is closed."""

INTRODUCE_S = 1.0
NOTE_ACTIONS = {
    "refused": "not used; the volume counts as missing",
    "duplicate": "ignored",
    "skipped": "not of this run",
    "series_opened": "followed",
    "series_closed": "closed",
}
"""What was done about what a source told, by the kind of its note."""

RESUME_S = 10.0
"""After a restart, the source is given this long beyond its usual time to send what it kept."""

TRAILING_MISSING = 3
"""A run whose last volumes are missing counts as complete up to this many of them."""


class Loop:
    """One run: volumes in, feedback out, everything on record.

    Parameters
    ----------
    session : SessionConfig
        Endpoints, engine settings, source.
    plan : Plan
        The run's plan.
    record : Record
        Opened for writing by this process alone.
    parent : int or None
        Process with whose end the loop leaves; None for the one that started it.
    """

    def __init__(
        self, session: SessionConfig, plan: Plan, record: Record, parent: int | None = None
    ) -> None:
        self._session = session
        self._plan = plan
        self._record = record
        self._network = session.network
        keys = load_keys(session.resolve(self._network.keys)) if self._network.keys else None
        allow = self._network.allow
        with contextlib.ExitStack() as undo:
            self._stream = undo.enter_context(
                contextlib.closing(
                    StreamSink(
                        self._network.volumes, keys, allow, record.acknowledged, record.committed
                    )
                )
            )
            self._feedback, self._telemetry = (
                undo.enter_context(contextlib.closing(Broadcaster(endpoint, keys, allow)))
                for endpoint in (self._network.feedback, self._network.telemetry)
            )
            self._reports = undo.enter_context(
                contextlib.closing(ReportSink(self._network.reports, keys, allow))
            )
            self._sockets = undo.pop_all()
        self._running: Running | None = None
        self._closed_attempts = {attempt.name for attempt in record.attempts() if attempt.outcome}
        self._scanner_time = ScannerTime(
            plan.tr_s,
            attempts.scanner_of(session).triggers_before_first_volume,
            session.source.latency_p99_s,
            whole=not record.attempts(),
        )
        self._patience_s = 2 * plan.tr_s + session.source.latency_p99_s
        self._stage = Stage(self._feedback, record.last_message())
        self._deadline_at: float | None = None
        self._give_up_at: float | None = None
        self._host = HostWatch(record.path.parent)
        self._introduce_at = 0.0
        self._volume_bytes = 0
        self._stopping = False
        self._parent = os.getppid() if parent is None else parent
        self._finished = False

    def close(self) -> None:
        self._sockets.close()

    def request_stop(self) -> None:
        """Ask the loop to close the run as stopped; safe from a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Serve until the run is over.

        Raises
        ------
        RecordError
            If the record cannot be written any more; the screen is neutral then.
        """
        try:
            self._serve()
        except RecordError:
            # Better no feedback than feedback nobody can account for.
            self._stage.show(NEUTRAL, "", -1)
            raise

    def _serve(self) -> None:
        self._recover()
        while not self._finished:
            self._introduce()
            idle = not self._receive(POLL_S)
            self._hear()
            self._watch_time(idle)
            self._watch_host()
            self._stage.repeat()
            if self._stopping:
                self._act(Command("stop", "supervisor", "asked to end", time.time()))
            if os.getppid() != self._parent:
                self._leave_open()
                return
        self._say_farewell()

    # --- volumes --------------------------------------------------------------------------

    def _receive(self, timeout_s: float) -> bool:
        """Take what the source says next; whether it said anything."""
        item = self._stream.receive(timeout_s, (self._reports,))
        match item:
            case VolumeItem(epoch, seq, volume):
                self._take_volume(volume, (epoch, seq))
            case NoteItem(epoch, seq, note):
                self._take_note(note, (epoch, seq))
            case Malformed():
                self._take_malformed(item)
            case PeerLost(source):
                self._fault("source lost", f"no word from {source}", "waiting, display holds")
            case PeerBack(source):
                self._fault("source back", f"{source} speaks again", "stream resumed")
            case SourceRefused(source, reason):
                self._fault("source refused", f"{source}: {reason}", "ignored")
        return item is not None

    def _take_volume(self, volume: Volume, place: tuple[str, int]) -> None:
        arrived_s = time.time()
        if self._finished and volume.attempt not in self._closed_attempts:
            return  # of another series: not acknowledged, it may be the next run's
        if volume.attempt in self._closed_attempts:
            reason = "volume of an attempt that is closed"
            self._set_aside(volume, place, "late", reason, "recorded, not used")
            return
        if self._running is None or self._running.attempt.name != volume.attempt:
            try:
                self._begin(volume)
            except (ConfigError, PlanError, RoiError) as error:
                if not self._record.attempts():
                    raise
                self._pass_by(volume, place, str(error))
                return
        self._expect_after(volume.index)
        self._check_time(volume)
        self._take(volume, arrived_s, place)

    def _take_note(self, note: Note, place: tuple[str, int]) -> None:
        with self._record.transaction():
            self._record.add_note(note, NOTE_ACTIONS[note.kind])
            self._record.acknowledge(*place)
        self._stream.acknowledge(*place)
        body = {"kind": note.kind, "reason": note.reason, "action": NOTE_ACTIONS[note.kind]}
        self._tell("fault", {**body, "index": note.index})

    def _take_malformed(self, item: Malformed) -> None:
        action = "refused; counts as missing"
        with self._record.transaction():
            self._record.add_fault(time.time(), "malformed", item.reason, action)
            if item.epoch is not None and item.seq is not None:
                self._record.acknowledge(item.epoch, item.seq)
        if item.epoch is not None and item.seq is not None:
            self._stream.acknowledge(item.epoch, item.seq)
        self._tell("fault", {"kind": "malformed", "reason": item.reason, "action": action})

    def _pass_by(self, volume: Volume, place: tuple[str, int], reason: str) -> None:
        """A series that does not fit, amid a run: the run goes on without it."""
        self._set_aside(volume, place, "foreign", reason, "not used; the run goes on")

    def _set_aside(
        self, volume: Volume, place: tuple[str, int], kind: str, reason: str, action: str
    ) -> None:
        """Record that a volume came and was not used."""
        with self._record.transaction():
            self._record.add_fault(time.time(), kind, reason, action, volume.attempt, volume.index)
            self._record.acknowledge(*place)
        self._stream.acknowledge(*place)
        body = {"kind": kind, "reason": reason, "action": action, "index": volume.index}
        self._tell("fault", body)

    def _begin(self, volume: Volume) -> None:
        """Open a new attempt; the one that ran before it was aborted.

        Raises
        ------
        RoiError, PlanError, ConfigError
            If the volume does not fit the run; nothing has changed then.
        """
        former = self._running.attempt if self._running else None
        now_s = time.time()
        self._running = attempts.begin(
            self._session, self._plan, self._record, volume, now_s, former
        )
        if former is not None:
            self._closed_attempts.add(former.name)
            self._tell("attempt closed", {"name": former.name, "outcome": "aborted"})
        self._scanner_time.begin()
        self._give_up_at = None
        self._volume_bytes = volume.data.nbytes
        self._tell("attempt", {"name": volume.attempt})

    def _take(self, event: Event, arrived_s: float, place: tuple[str, int] | None) -> None:
        """Step, broadcast, commit, acknowledge."""
        assert self._running is not None
        step = self._running.engine.step(event)
        feedback = self._stage.show(step.screen, self._running.attempt.name, step.index)
        acquired_s, received_s = None, None
        if isinstance(event, Volume):
            acquired_s, received_s = event.acquired_s, event.received_s
        times = Times(acquired_s, received_s, arrived_s, feedback.published_s)
        with self._record.transaction():
            n = self._record.add_event(self._running.attempt, event, step, times)
            self._record.add_message(feedback, n)
            self._record_faults(step)
            if place is not None:
                self._record.acknowledge(*place)
        if place is not None:
            self._stream.acknowledge(*place)
        self._tell_step(step, times)
        self._after(step)

    def _after(self, step: Step) -> None:
        assert self._running is not None
        engine = self._running.engine
        if engine.stopped:
            self._finish("stopped")
        elif engine.next_index >= self._plan.n_volumes and step.status != "ignored":
            if self._running.engine.trailing_missing <= TRAILING_MISSING:
                self._finish("complete")
            else:
                self._wait_for_restart()

    def _wait_for_restart(self) -> None:
        wait_s = self._session.source.restart_wait_s
        if self._give_up_at is None:
            self._give_up_at = time.monotonic() + wait_s
            self._fault("series ended early", "no more volumes came", f"waiting {wait_s:g} s")
        self._end_attempt("incomplete")

    def _finish(self, outcome: Outcome) -> None:
        self._end_attempt(outcome)
        self._finished = True

    def _end_attempt(self, outcome: Outcome) -> None:
        if self._running is None:
            return
        with self._record.transaction():
            self._record.close_attempt(self._running.attempt, time.time(), outcome)
        self._closed_attempts.add(self._running.attempt.name)
        self._tell("attempt closed", {"name": self._running.attempt.name, "outcome": outcome})
        self._running = None
        self._deadline_at = None

    def _recover(self) -> None:
        """Continue an attempt that a dead process left open."""
        self._running = attempts.resume(self._session, self._plan, self._record)
        if self._running is None:
            return
        last = self._running.last_step
        self._fault(
            "engine restarted",
            f"the record was left open at volume {self._running.engine.next_index - 1}",
            f"state rebuilt from {self._running.n_events} events",
        )
        self._deadline_at = None
        if last is not None:
            self._show(last.screen, self._running.attempt.name, last.index)

    def _leave_open(self) -> None:
        """The supervisor died: a calm screen, and the attempt stays open to be resumed."""
        self._fault("supervisor lost", "its process ended", "attempt left open to be resumed")
        self._show(NEUTRAL)

    def _say_farewell(self) -> None:
        """The end screen, until a display has flipped it; what the source still says is heard."""
        self._show(Screen("end", None, "", None, None))
        begun = time.monotonic()
        while (since := time.monotonic() - begun) < FAREWELL_S:
            if self._stage.is_shown and since >= LAST_WORDS_S:
                break
            self._receive(POLL_S)
            self._hear()
            self._stage.repeat()

    def _show(self, screen: Screen, attempt: str = "", index: int = -1) -> None:
        """Send what no step led to, and record that it was sent."""
        feedback = self._stage.show(screen, attempt, index)
        with self._record.transaction():
            self._record.add_message(feedback, None)

    # --- what displays and people say -------------------------------------------------------

    def _hear(self) -> None:
        while (report := self._reports.receive(0.0)) is not None:
            match report:
                case Shown():
                    self._stage.flipped(report.id)
                    with self._record.transaction():
                        self._record.add_shown(report)
                    self._tell("shown", {"value": report.value, "scene": report.scene})
                case Trigger():
                    with self._record.transaction():
                        self._record.add_trigger(report)
                    self._scanner_time.pulse(report)
                case Command():
                    self._act(report)
                case Malformed():
                    self._fault("malformed report", report.reason, "ignored")

    def _act(self, command: Command) -> None:
        with self._record.transaction():
            self._record.add_command(command)
        if command.action == "note":
            self._tell("note", {"text": command.text, "by": command.by})
            return
        self._tell("command", {"action": command.action, "by": command.by, "text": command.text})
        if self._running is not None:
            self._take(Operator(command.action), time.time(), None)
        elif command.action == "stop":
            self._finished = True

    # --- time and space -------------------------------------------------------------------

    def _expect_after(self, index: int) -> None:
        """The next volume is due one TR later, and given up another TR and a delay after that."""
        assert self._running is not None
        ahead = max(0, self._running.engine.next_index - 1 - index)
        self._deadline_at = time.monotonic() + self._patience_s + ahead * self._plan.tr_s

    def _watch_time(self, idle: bool) -> None:
        """Give up what is overdue, unless the source had news: what waits there is in time."""
        now = time.monotonic()
        if self._give_up_at is not None and now >= self._give_up_at and self._running is None:
            self._finished = True
        if self._running is None or not idle:
            return
        if self._deadline_at is None and self._stream.connected:
            self._deadline_at = now + RESUME_S + self._patience_s
        if self._deadline_at is None or now < self._deadline_at:
            return
        self._deadline_at += self._plan.tr_s
        self._take(Deadline(self._running.engine.next_index), time.time(), None)

    def _check_time(self, volume: Volume) -> None:
        assert self._running is not None
        if volume.index < self._running.engine.next_index:
            return  # known to come out of its time
        for kind, reason in self._scanner_time.volume(volume):
            self._fault(kind, reason, "recorded; scanner time leads", volume.index)

    def _watch_host(self) -> None:
        for kind, reason, action in self._host.look(self._volume_bytes):
            self._fault(kind, reason, action)

    def _record_faults(self, step: Step) -> None:
        assert self._running is not None
        name, now_s = self._running.attempt.name, time.time()
        for fault in volume_faults(step):
            self._record.add_fault(now_s, fault.kind, fault.reason, fault.action, name, fault.index)

    def _fault(self, kind: str, reason: str, action: str, index: int | None = None) -> None:
        name = self._running.attempt.name if self._running else None
        with self._record.transaction():
            self._record.add_fault(time.time(), kind, reason, action, name, index)
        self._tell("fault", {"kind": kind, "reason": reason, "action": action, "index": index})

    def _introduce(self) -> None:
        """Say what the run is, once in a while: listeners come and go."""
        now = time.monotonic()
        if now < self._introduce_at:
            return
        self._introduce_at = now + INTRODUCE_S
        self._tell("ready", ready_body(self._plan))

    # --- telemetry ------------------------------------------------------------------------

    def _tell(self, kind: str, body: dict[str, object]) -> None:
        self._telemetry.publish(Telemetry(kind, body))

    def _tell_step(self, step: Step, times: Times) -> None:
        latency_ms = None
        if times.received_s is not None:
            latency_ms = 1e3 * (times.published_s - times.received_s)
        blinded = self._plan.control.allocation is not None
        self._tell("step", step_body(step, latency_ms, blinded))
