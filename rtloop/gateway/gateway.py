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
            if entrance is not None:
                entrance.start()
            watch.start()
            if self._meet_engine(stop):
                intake = self._intake()
                while not stop.is_set():
                    self._turn(intake, watch)
        finally:
            if entrance is not None:
                entrance.close()
            watch.close()
            self._link.drain(LAST_WORDS_S)
            self._link.close()
            self._drop(self._ledger.settled(self._link.unacknowledged))
            self._inbox.close()
