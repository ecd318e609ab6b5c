"""The gateway: a scanner's files or DICOM objects in, the acknowledged volume stream out.

One thread reads files, keeps the order and serves the stream; it sleeps on the stream's socket
and on the inbox that the folder watch and the DICOM entrance write to. Only `Volume` and `Note`
leave.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from rtloop.errors import ConfigError
from rtloop.gateway.config import GatewayConfig, read_secret
from rtloop.gateway.inbox import Inbox
from rtloop.gateway.relay import LONGEST_SLEEP_S, Findings, Relay
from rtloop.gateway.spool import Spool
from rtloop.gateway.storage import StorageService
from rtloop.readers import Assembler, ScannerConfig

__all__ = ["Gateway", "main"]

LAST_CHANCE_S = 2.0
"""A gateway whose parent has died and that hangs in a dead share ends itself after this time."""


def say(line: str) -> None:
    """One line for whoever started the gateway."""
    print(f"gateway: {line}", file=sys.stderr, flush=True)


class Gateway:
    """Keeps a relay running, and the DICOM entrance if there is one.

    Parameters
    ----------
    config : GatewayConfig
        What it is told.
    say : callable
        Takes lines for the person in front of it.

    Raises
    ------
    ConfigError, KeyFileError
        If a folder or file is not as configured.
    """

    def __init__(self, config: GatewayConfig, say: Callable[[str], None] = say) -> None:
        self._config = config
        self._say = say
        self._secret = read_secret(Path(config.secret))
        self._binding = (
            ScannerConfig.load(Path(config.scanner)) if config.scanner else ScannerConfig()
        )
        self._spool = Spool(Path(config.spool)) if config.listen and config.spool else None
        self._folder = self._watched_folder()
        self._inbox: Inbox[Findings] = Inbox()

    def wake(self) -> None:
        """End the current sleep, so that a stop is noticed at once; from any thread or handler."""
        self._inbox.put([])

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set (and `wake` called, or a quarter of a second has passed).

        Raises
        ------
        LinkError, KeyFileError
            If an address cannot be had, or not without keys.
        """
        past: set[str] = set()
        with contextlib.ExitStack() as entered:
            entered.callback(self._inbox.close)
            self._open_entrance(entered)
            while not stop.is_set():
                past |= self._serve(stop, past)

    def _serve(self, stop: threading.Event, past: set[str]) -> set[str]:
        """Run one relay to its end; returns the series that ended meanwhile."""
        assembler = Assembler(self._binding, self._secret)
        relay = Relay(
            self._config, assembler, self._folder, self._spool, self._inbox, past, self._say
        )
        with contextlib.closing(relay):
            self._say(f"watches {self._folder}, waits for the engine at {self._config.engine}")
            intake = relay.meet(stop.is_set)
            if intake is not None:
                self._say("the engine is there")
                while not stop.is_set() and relay.turn(intake):
                    pass
        return relay.ended

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

    def _open_entrance(self, entered: contextlib.ExitStack) -> None:
        if self._spool is None:
            return
        address, callers = self._config.address, self._config.allowed_callers
        if not address.loopback:
            self._say(
                f"{self._config.listen} can be reached by other machines, and DICOM neither "
                f"encrypts nor authenticates: whoever says {' or '.join(callers)} may store"
            )
        entrance = StorageService(
            address, self._spool, self._config.ae_title, callers, self._inbox.put
        )
        entered.callback(entrance.close)
        entrance.start()


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
    if parent:
        threading.Thread(
            target=_follow, args=(parent, stop, gateway), name="parent-guard", daemon=True
        ).start()
    gateway.run(stop)
    return 0


def _follow(parent: int, stop: threading.Event, gateway: Gateway) -> None:
    """End the gateway with the process that started it.

    Polled, because Linux's death signal is tied to the thread that forked, which may end first.
    """
    while os.getppid() == parent:
        if stop.wait(LONGEST_SLEEP_S):
            return
    stop.set()
    gateway.wake()
    threading.Event().wait(LAST_CHANCE_S)
    os._exit(1)
