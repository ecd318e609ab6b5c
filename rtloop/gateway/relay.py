"""From one folder to one record: reads what the watch finds, sends it, forgets it when committed.

A relay lives as long as the engine keeps to the record it had at the first welcome. When a new
run's engine answers in its place, a fresh relay with a fresh stream takes over (see `gateway`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

from rtloop.errors import WireError
from rtloop.gateway.backlog import Backlog
from rtloop.gateway.config import GatewayConfig
from rtloop.gateway.inbox import Inbox
from rtloop.gateway.intake import Intake
from rtloop.gateway.series import Publisher
from rtloop.gateway.spool import Ledger, Spool
from rtloop.gateway.watch import Arrival, FolderWatch
from rtloop.link import StreamSource
from rtloop.readers import Assembler
from rtloop.volume import Volume
from rtloop.wire import Note

__all__ = ["LONGEST_SLEEP_S", "Findings", "Relay"]

LONGEST_SLEEP_S = 0.25
MOST_UNACKNOWLEDGED = 32
"""Items kept in memory for an engine that is slow or away; further files wait on disk."""
STALL_S = 10.0
"""An engine that is there but commits nothing for so long does not know this stream."""
LAST_WORDS_S = 0.2
"""Time given to the stream at the end; what is not committed by then is sent after a restart."""

Findings = list[Arrival] | str
"""What other threads hand in: files seen, or trouble in one line."""


class Relay:
    """One folder, one stream, one record.

    Parameters
    ----------
    config : GatewayConfig
        Endpoint, keys, waits.
    assembler : Assembler
        Makes volumes of files; a new one per relay.
    folder : str
        The watched folder, absolute.
    spool : Spool or None
        The spool, if `folder` is one.
    inbox : Inbox
        Where findings come in.
    past : collection of str
        Series of former relays that have ended: files of theirs are not sent again.
    say : callable
        Takes lines for the person in front of the gateway.
    """

    def __init__(
        self,
        config: GatewayConfig,
        assembler: Assembler,
        folder: str,
        spool: Spool | None,
        inbox: Inbox[Findings],
        past: Collection[str],
        say: Callable[[str], None],
    ) -> None:
        self._config = config
        self._spool = spool
        self._inbox = inbox
        self._past = past
        self._say = say
        self._assembler = assembler
        self._publisher = Publisher(self._send, self._drop, config.gap_wait_s)
        self._ledger = Ledger()
        self._progress_s = time.monotonic()
        self._said = ""
        self._folder_trouble = ""
        self._link = StreamSource(config.engine, keys=config.keys, source=config.source)
        self._watch = FolderWatch(folder, inbox.put, config.rescan_s)
        self._watch.start()

    @property
    def ended(self) -> set[str]:
        """Series that this relay has seen the end of, as far as can be told."""
        return self._publisher.ended

    def meet(self, stopped: Callable[[], bool]) -> Intake | None:
        """Wait for the engine's welcome, which tells what is on record; None if stopped first."""
        while not self._link.connected:
            if stopped():
                return None
            self._sleep(LONGEST_SLEEP_S)
            self._mind_link()
        on_record = self._link.committed
        self._publisher.resume(on_record)
        # What lies in a spool was promised to the scanner: all of it is sent.
        backlog = Backlog(set(on_record), self._past) if self._spool is None else None
        config = self._config
        return Intake(
            self._assembler, self._publisher, backlog, config.unfinished_wait_s, config.elsewhere
        )

    def turn(self, intake: Intake) -> bool:
        """Take in what was found, read at most one file, serve the stream.

        Returns
        -------
        bool
            False if the engine has turned to another record: this relay is over.
        """
        now_s = time.monotonic()
        for found in self._inbox.take():
            if isinstance(found, str):
                self._tell_engine(found)
            else:
                intake.arrived(found, now_s)
        self._mind_folder()
        self._mind_link()
        room = self._link.unacknowledged < MOST_UNACKNOWLEDGED
        worked = room and intake.work(now_s)
        intake.tick(now_s)
        due_s = intake.due_s() if room else None
        pause_s = LONGEST_SLEEP_S if due_s is None else due_s - now_s
        self._sleep(0.0 if worked else min(max(pause_s, 0.0), LONGEST_SLEEP_S))
        self._settle()
        return not self._other_record()

    def close(self) -> None:
        """Stop watching; give the stream a moment to be committed."""
        self._watch.close()
        self._link.drain(LAST_WORDS_S)
        self._settle()
        self._link.close()

    def _sleep(self, timeout_s: float) -> None:
        """Serve the stream until there is news or the time is over."""
        self._link.poll(timeout_s, (self._inbox.fileno(),))

    def _settle(self) -> None:
        if self._ledger.unsettled > self._link.unacknowledged or not self._ledger.unsettled:
            self._progress_s = time.monotonic()
        self._drop(self._ledger.settled(self._link.unacknowledged))

    def _other_record(self) -> bool:
        """Whether the engine keeps another record than the one this stream was numbered for."""
        stalled = time.monotonic() - self._progress_s > STALL_S
        return self._link.outdated or (self._link.connected and stalled)

    def _mind_folder(self) -> None:
        if not self._watch.alive:
            # Better restarted by the supervisor than deaf.
            raise RuntimeError("the folder watch has ended; its error stands above")
        if self._watch.trouble != self._folder_trouble:
            self._folder_trouble = self._watch.trouble
            if self._folder_trouble:
                self._tell_engine(f"the watched folder cannot be listed: {self._folder_trouble}")

    def _mind_link(self) -> None:
        if self._link.trouble not in ("", self._said):
            self._said = self._link.trouble
            self._say(self._said)

    def _tell_engine(self, reason: str) -> None:
        self._say(reason)
        self._publisher.refuse(None, None, reason, ())

    def _send(self, item: Volume | Note, files: tuple[str, ...]) -> None:
        try:
            self._link.send(item)
        except WireError as error:
            reason = f"cannot be carried: {error}"
            self._link.send(Note("refused", item.attempt, item.index, reason, item.received_s))
        self._ledger.sent(files)

    def _drop(self, files: Iterable[str]) -> None:
        """Files are needed no more: those of the spool are removed, others are not ours."""
        if self._spool is not None:
            self._spool.discard(files)
