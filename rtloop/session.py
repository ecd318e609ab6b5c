"""A session's processes: checked before, started, watched, restarted, stopped in order.

`fcnef run` is this supervisor. It owns no socket and no volume: when it dies, its children see
it and stop, and a new `fcnef run` on the same file goes on where the record ends.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from rtloop import attempts
from rtloop.config import RunEntry, SessionConfig
from rtloop.console import ConsoleConfig
from rtloop.errors import ConfigError, DisplayError, LinkError, RecordError
from rtloop.link.endpoint import is_local
from rtloop.plan import AtlasRois, Plan
from rtloop.readers.binding import ScannerConfig

__all__ = ["Child", "Supervisor", "next_run", "preflight", "run_session"]

log = logging.getLogger("fcnef.session")

TICK_S = 0.1
MAX_RESTARTS = 5
RESTART_WINDOW_S = 60.0
STOP_PATIENCE_S = 3.0
BYTES_PER_VOXEL = 2
SPACE_RESERVE_BYTES = 500_000_000


def next_run(session: SessionConfig, name: str | None = None) -> RunEntry:
    """The run that is asked for, or the first one without a complete record.

    Raises
    ------
    ConfigError
        If the name is unknown, or every run is complete.
    """
    if name is not None:
        for run in session.runs:
            if run.name == name:
                return run
        known = ", ".join(run.name for run in session.runs)
        raise ConfigError(f"run {name!r}: expected one of {known}; correct the name")
    for run in session.runs:
        if not attempts.is_complete(session.record_path(run)):
            return run
    raise ConfigError(f"session {session.name}: expected an unfinished run, found all complete")


def preflight(session: SessionConfig, entry: RunEntry) -> Plan:
    """Everything that can be wrong before the first volume, found before it.

    Raises
    ------
    FcnefError
        One line: what was expected, what was found, what to do.
    """
    plan = attempts.load_plan(session, entry)
    if isinstance(plan.rois, AtlasRois):
        plan.rois.locate(session.resolve(session.for_run(entry).plan).parent)
    if session.source.scanner is not None:
        ScannerConfig.load(session.resolve(session.source.scanner))
    if session.source.kind == "folder":
        _check_watched(session)
    _check_record(session, entry)
    if session.network.console is not None:
        ConsoleConfig.read(json.dumps(_console_settings(session, entry)))
    _check_ports(session)
    if session.display.enabled:
        _check_display(session, plan)
    return plan


def _check_watched(session: SessionConfig) -> None:
    if session.source.watch is None:
        raise ConfigError("source.watch: expected the scanner's export folder, found none; name it")
    folder = session.resolve(session.source.watch)
    if not folder.is_dir():
        raise ConfigError(f"source.watch: expected a folder, found none at {folder}; mount it")


def _check_record(session: SessionConfig, entry: RunEntry) -> None:
    folder = session.record_path(entry).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".fcnef-probe"
        probe.write_bytes(b"fcnef")
        probe.unlink()
    except OSError as error:
        raise RecordError(
            f"records {folder}: expected a writable folder, found: {error.strerror}; "
            "change its rights or name another"
        ) from error
    free = shutil.disk_usage(folder).free
    if free < SPACE_RESERVE_BYTES:
        raise RecordError(
            f"records {folder}: expected {SPACE_RESERVE_BYTES / 1e6:.0f} MB free, found "
            f"{free / 1e6:.0f} MB; make room"
        )


def _check_ports(session: SessionConfig) -> None:
    network = session.network
    for endpoint in (network.volumes, network.feedback, network.telemetry, network.reports):
        _check_port(endpoint)
    if network.console is not None:
        _check_port(f"tcp://{network.console}")


def _check_port(endpoint: str) -> None:
    if not endpoint.startswith("tcp://"):
        return
    is_local(endpoint)  # raises on what is no address at all
    if endpoint.endswith(":*"):
        raise LinkError(f"{endpoint}: expected a port that others can be told, found *; name one")
    parts = urlsplit(endpoint)
    family = socket.AF_INET6 if ":" in (parts.hostname or "") else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((parts.hostname or "127.0.0.1", parts.port or 0))
        except OSError as error:
            raise LinkError(
                f"{endpoint}: expected a free port, found: {error.strerror}; "
                "stop what uses it or name another under [network]"
            ) from error


def _check_display(session: SessionConfig, plan: Plan) -> None:
    if importlib.util.find_spec("psychopy") is None:
        raise DisplayError(
            "display: expected PsychoPy, found none; install fcnef[stimuli] or set "
            "display.enabled = false"
        )
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        raise DisplayError(
            "display: expected a screen, found no DISPLAY; start under a desktop or `xvfb-run`, "
            "or set display.enabled = false"
        )
    # The display's own words on its options; it opens no window for that.
    asked = [*_display_command(session, plan), "--print-config"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise DisplayError(" ".join(answer.stderr.split()) or "display: its options are refused")


@dataclass
class Child:
    """A program that is kept running.

    Attributes
    ----------
    name : str
        What it is called in messages.
    command : list of str
        How it is started.
    vital : bool
        Whether its giving up ends the run.
    """

    name: str
    command: list[str]
    vital: bool = True
    process: subprocess.Popen[bytes] | None = None
    starts: deque[float] = field(default_factory=deque)
    n_restarts: int = 0

    def start(self) -> None:
        self.starts.append(time.monotonic())
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL)

    @property
    def status(self) -> int | None:
        """Exit status, None while it runs."""
        return None if self.process is None else self.process.poll()

    def may_restart(self) -> bool:
        now = time.monotonic()
        while self.starts and now - self.starts[0] > RESTART_WINDOW_S:
            self.starts.popleft()
        return len(self.starts) < MAX_RESTARTS

    def stop(self) -> None:
        """End it: politely, then surely."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Supervisor:
    """Starts the children of one run and keeps them alive until the engine says it is over.

    Parameters
    ----------
    engine : Child
        Its exit status is the run's.
    others : list of Child
        Gateway, display, console.
    notice : Path
        JSON file that tells the process id of each child while the run lasts.
    is_over : callable
        Whether the record says that the run has ended: an engine that dies after that did its
        work.
    """

    def __init__(
        self,
        engine: Child,
        others: list[Child],
        notice: Path,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self._engine = engine
        self._others = others
        self._notice = notice
        self._is_over = is_over
        self._stopping = False
        self._ending = False

    def request_stop(self) -> None:
        """End the run as stopped; safe from a signal handler."""
        self._stopping = True

    def run(self) -> int:
        """Exit status of the run: the engine's own."""
        try:
            self._engine.start()
            for child in self._others:
                child.start()
            self._tell()
            while (status := self._tick()) is None:
                time.sleep(TICK_S)
        finally:
            for child in reversed(self._others):
                child.stop()
            self._engine.stop()
            self._notice.unlink(missing_ok=True)
        return status

    def _tick(self) -> int | None:
        if self._stopping:
            self._stopping, self._ending = False, True
            if self._engine.process is not None and self._engine.status is None:
                self._engine.process.terminate()
        status = self._engine.status
        if status in (0, 2):
            return status
        if status is not None and self._is_over():
            return 0
        if self._ending:
            # Ctrl-C reaches the others as well: who ends now is not started again.
            return None if status is None else 1
        if status is not None and not self._revive(self._engine, status):
            return 1
        for child in self._others:
            code = child.status
            if code is not None and not self._revive(child, code) and child.vital:
                return 2 if code == 2 else 1
        return None

    def _revive(self, child: Child, status: int) -> bool:
        """Start a dead child again; False if that is hopeless."""
        if status == 2 or not child.may_restart():
            if child.process is not None:
                print(f"fcnef: {child.name} gave up (exit status {status})", file=sys.stderr)
                child.process = None
            return False
        child.n_restarts += 1
        print(f"fcnef: {child.name} died (exit status {status}), restarted", file=sys.stderr)
        child.start()
        self._tell()
        return True

    def _tell(self) -> None:
        children = [self._engine, *self._others]
        ids = {child.name: child.process.pid for child in children if child.process is not None}
        self._notice.write_text(json.dumps(ids) + "\n", encoding="utf-8")


def run_session(path: Path, run: str | None = None) -> int:
    """Run the next run (or the named one) of a session file until it is over.

    Returns
    -------
    int
        0 when the run is over, 1 when a program could not be kept alive, 2 on a user's mistake.
    """
    session = SessionConfig.load(path)
    entry = next_run(session, run)
    plan = preflight(session, entry)
    supervisor = Supervisor(
        _engine_child(path, entry),
        _other_children(session, entry, plan),
        session.record_path(entry).with_suffix(".processes.json"),
        partial(attempts.is_over, session.record_path(entry), time.time()),
    )

    def stop(number: int, frame: FrameType | None) -> None:
        supervisor.request_stop()

    before = [(number, signal.signal(number, stop)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        return supervisor.run()
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _engine_child(path: Path, entry: RunEntry) -> Child:
    command = [sys.executable, "-m", "rtloop.process", str(path), entry.name, str(os.getpid())]
    return Child("engine", command)


def _other_children(session: SessionConfig, entry: RunEntry, plan: Plan) -> list[Child]:
    children = []
    if session.source.kind != "stream":
        children.append(_gateway_child(session, entry))
    if session.display.enabled:
        children.append(_display_child(session, plan))
    if session.network.console is not None:
        children.append(_console_child(session, entry))
    return children


def _gateway_child(session: SessionConfig, entry: RunEntry) -> Child:
    source = session.source
    entrance = (
        {"watch": str(session.resolve(source.watch or "."))}
        if source.kind == "folder"
        else {"listen": source.listen, "allowed_callers": list(source.allowed_callers)}
    )
    settings = {
        **entrance,
        "engine": session.network.volumes,
        "scanner": source.scanner and str(session.resolve(source.scanner)),
        "spool": str(session.resolve(source.spool or f"{session.records}/spool")),
        "secret": str(session.resolve(source.secret or f"{session.records}/attempts.secret")),
        "keys": session.network.keys and str(session.resolve(session.network.keys)),
        "elsewhere": attempts.recorded_elsewhere(session, entry),
        "parent_pid": os.getpid(),
    }
    path = session.resolve(session.records) / "gateway.json"
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return Child("gateway", [sys.executable, "-m", "rtloop.gateway", str(path)])


def _display_child(session: SessionConfig, plan: Plan) -> Child:
    return Child("display", _display_command(session, plan), vital=False)


def _display_command(session: SessionConfig, plan: Plan) -> list[str]:
    settings = {
        "silence_s": max(5.0, 3.0 * plan.tr_s),
        "parent_pid": os.getpid(),
        "feedback": session.network.feedback,
        "reports": session.network.reports,
        "keys": session.network.keys and str(session.resolve(session.network.keys)),
        **session.display.options,
    }
    return [sys.executable, "-m", "stimuli.display", "--config", json.dumps(settings)]


def _console_child(session: SessionConfig, entry: RunEntry) -> Child:
    settings = json.dumps(_console_settings(session, entry))
    return Child("console", [sys.executable, "-m", "rtloop.console", settings], vital=False)


def _console_settings(session: SessionConfig, entry: RunEntry) -> dict[str, object]:
    network = session.network
    return {
        "run": f"{session.name} · {entry.name}",
        "telemetry": network.telemetry,
        "reports": network.reports,
        "page": network.console,
        "keys": network.keys and str(session.resolve(network.keys)),
        "parent_pid": os.getpid(),
    }
