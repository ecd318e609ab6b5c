"""The gateway: a scanner's files or DICOM objects in, the acknowledged volume stream out.

One thread reads files, keeps the order and serves the stream; it sleeps on the stream's socket
and the inbox that the folder watch and the DICOM entrance write to. Only `Volume` and `Note`
leave.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType

from rtloop.errors import ConfigError
from rtloop.gateway.backlog import Backlog
from rtloop.gateway.config import GatewayConfig, read_secret
from rtloop.gateway.inbox import Inbox
from rtloop.gateway.intake import Intake
from rtloop.gateway.series import Publisher
from rtloop.gateway.spool import Ledger, Spool
from rtloop.gateway.storage import StorageService
from rtloop.gateway.watch import Arrival, FolderWatch
from rtloop.link import StreamSource
from rtloop.readers import Assembler, ScannerConfig
from rtloop.volume import Volume
from rtloop.wire import Note

__all__ = ["Gateway", "main"]

LONGEST_SLEEP_S = 0.25
"""How late the end of the parent process is noticed, at most."""
MOST_UNACKNOWLEDGED = 32
"""Items kept in memory for an engine that is slow or away; further files wait on disk."""
LAST_WORDS_S = 0.2
"""Time given to the stream at the end; what is not acknowledged by then is sent after a restart."""


def say(line: str) -> None:
    """One line for whoever started the gateway."""
    print(f"gateway: {line}", file=sys.stderr, flush=True)


class Gateway:
    """Wires the parts and runs them.

    Parameters
    ----------
    config : GatewayConfig
        What it is told.
    say : callable
        Takes lines for the person in front of it.

    Raises
    ------
    ConfigError, KeyFileError, LinkError
        If a folder, file or address is not as configured.
    """

    def __init__(self, config: GatewayConfig, say: Callable[[str], None] = say) -> None:
        self._config = config
        self._say = say
        secret = read_secret(Path(config.secret))
        binding = ScannerConfig.load(Path(config.scanner)) if config.scanner else ScannerConfig()
        self._assembler = Assembler(binding, secret)
        self._spool = Spool(Path(config.spool)) if config.listen and config.spool else None
        self._ledger = Ledger()
        self._publisher = Publisher(self._send, self._drop, config.gap_wait_s)
        self._folder = self._watched_folder()
        self._inbox: Inbox[list[Arrival] | str] = Inbox()
        self._link = StreamSource(config.engine, keys=config.keys, source=config.source)
        self._trouble = ""

    def wake(self) -> None:
        """End the current sleep, so that a stop is noticed at once; from any thread or handler."""
        self._inbox.put([])

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set (and `wake` called, or a quarter of a second has passed)."""
        watch = FolderWatch(self._folder, self._inbox.put, self._config.rescan_s)
        entrance = self._entrance()
        try:
            watch.start()
            if entrance is not None:
                entrance.start()
            self._meet_engine(stop)
            intake = self._intake()
            while not stop.is_set():
                self._turn(intake, watch)
        finally:
            if entrance is not None:
                entrance.close()
            watch.close()
            self._end_stream()
            self._inbox.close()

    def _watched_folder(self) -> str:
        if self._spool is not None:
            return os.path.abspath(self._spool.folder)
        folder = os.path.abspath(self._config.watch or "")
        if not os.path.isdir(folder):
            raise ConfigError(
                f"watch {folder}: expected the folder the scanner exports into, found none; "
                "mount or make it first"
            )
        return folder

    def _entrance(self) -> StorageService | None:
        if self._spool is None:
            return None
        address, callers = self._config.address, self._config.allowed_callers
        if not address.loopback:
            self._say(
                f"{self._config.listen} can be reached by other machines, and DICOM neither "
                f"encrypts nor authenticates: stores are taken from whoever says {callers}"
            )
        return StorageService(
            address, self._spool, self._config.ae_title, callers, self._inbox.put
        )

    def _meet_engine(self, stop: threading.Event) -> None:
        """Wait for the engine's welcome: it tells what the record holds already."""
        self._say(f"{self._folder} is watched; waiting for the engine at {self._config.engine}")
        while not self._link.connected and not stop.is_set():
            self._sleep(LONGEST_SLEEP_S)
        if self._link.connected:
            self._say("the engine is there")

    def _intake(self) -> Intake:
        on_record = self._link.committed
        self._publisher.resume(on_record)
        # What lies in a spool was promised to the scanner: all of it is sent.
        backlog = None if self._spool is not None else Backlog(set(on_record))
        return Intake(self._assembler, self._publisher, backlog, self._config.unfinished_wait_s)

    def _turn(self, intake: Intake, watch: FolderWatch) -> None:
        """Take in what was found, read at most one file, serve the stream."""
        now_s = time.monotonic()
        for found in self._inbox.take():
            if isinstance(found, str):
                self._tell_trouble(found)
            else:
                intake.arrived(found, now_s)
        if watch.trouble != self._trouble:
            self._trouble = watch.trouble
            if self._trouble:
                self._tell_trouble(f"the watched folder cannot be listed: {self._trouble}")
        room = self._link.unacknowledged < MOST_UNACKNOWLEDGED
        worked = room and intake.work(now_s)
        intake.tick(now_s)
        due_s = intake.due_s() if room else None
        pause_s = LONGEST_SLEEP_S if due_s is None else due_s - now_s
        self._sleep(0.0 if worked else min(max(pause_s, 0.0), LONGEST_SLEEP_S))
        self._drop(self._ledger.settled(self._link.unacknowledged))

    def _tell_trouble(self, reason: str) -> None:
        self._say(reason)
        self._publisher.refuse(None, None, reason, ())

    def _sleep(self, timeout_s: float) -> None:
        """Serve the stream until it is served, something was found, or the time is over."""
        self._link.poll(timeout_s, self._inbox)

    def _send(self, item: Volume | Note, files: tuple[str, ...]) -> None:
        self._link.send(item)
        self._ledger.sent(files)

    def _drop(self, files: Iterable[str]) -> None:
        """Files are needed no more: those of the spool are removed, others are not ours."""
        if self._spool is not None:
            self._spool.discard(files)

    def _end_stream(self) -> None:
        self._link.drain(LAST_WORDS_S)
        self._drop(self._ledger.settled(self._link.unacknowledged))
        self._link.close()


def main(config: GatewayConfig) -> int:
    """Run a gateway as a process of its own until SIGTERM, SIGINT or its parent's end.

    Parameters
    ----------
    config : GatewayConfig
        What it is told.

    Returns
    -------
    int
        Exit status, 0.
    """
    gateway = Gateway(config)
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()
        gateway.wake()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    parent = os.getppid() if config.parent_pid is None else config.parent_pid
    guard = threading.Thread(
        target=_follow, args=(parent, stop, gateway), name="parent-guard", daemon=True
    )
    if parent:
        guard.start()
    gateway.run(stop)
    return 0


def _follow(parent: int, stop: threading.Event, gateway: Gateway) -> None:
    """End the gateway with the process that started it.

    Polled, because Linux's death signal is tied to the thread that forked, which may end first.
    """
    while not stop.wait(LONGEST_SLEEP_S):
        if os.getppid() != parent:
            stop.set()
            gateway.wake()
