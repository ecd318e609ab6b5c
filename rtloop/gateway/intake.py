"""From files seen to volumes and notes: which are tried, and what the readers' answers mean.

Files that lay there before the watch began are read only if they belong to the series under way:
the one whose files still come, or whose newest file is recent, or which the record holds.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rtloop.gateway.backlog import Backlog
from rtloop.gateway.series import Publisher
from rtloop.gateway.tries import Tries, Try
from rtloop.gateway.watch import Arrival
from rtloop.readers.outcome import Complete, Outcome, Refused, Repeat, Skipped, Taken, Unfinished

__all__ = ["Intake", "Reads"]

OF_BEFORE = "a series of before the watch began"
OF_ANOTHER_RUN = "a series that another run has recorded"


class Reads(Protocol):
    """What the intake needs of `rtloop.readers.Assembler`."""

    def add(self, path: Path, received_s: float) -> Outcome: ...

    def abandon(self, attempt: str, index: int) -> object: ...


@dataclass(slots=True)
class _Set:
    """Files of a volume that comes in slices, and when it last made progress (monotonic s)."""

    progress_s: float
    files: list[str] = field(default_factory=list)


class Intake:
    """Tries files and hands what they hold to a publisher.

    Parameters
    ----------
    assembler : Reads
        Makes volumes of files.
    publisher : Publisher
        Where volumes and notes go.
    backlog : Backlog or None
        Picks among the files of before the watch; None takes them all (a spool's files were
        promised to the scanner).
    unfinished_wait_s : float
        How long an incomplete file or slice set may make no progress, seconds.
    elsewhere : collection of str
        Attempts that other runs have recorded: nothing of theirs is sent.
    """

    def __init__(
        self,
        assembler: Reads,
        publisher: Publisher,
        backlog: Backlog | None,
        unfinished_wait_s: float,
        elsewhere: Collection[str] = (),
    ) -> None:
        self._assembler = assembler
        self._publisher = publisher
        self._backlog = backlog
        self._wait_s = unfinished_wait_s
        self._elsewhere = elsewhere
        self._tries = Tries(unfinished_wait_s)
        self._sets: dict[tuple[str, int], _Set] = {}

    def arrived(self, arrivals: list[Arrival], now_s: float) -> None:
        """Take up files that were seen; monotonic time `now_s`."""
        for arrival in arrivals:
            if self._backlog is not None and arrival.modified_ns is not None:
                self._backlog.add(arrival)
            else:
                self._tries.add(arrival, now_s=now_s)

    def work(self, now_s: float) -> bool:
        """Read at most one file; returns whether there was one to read."""
        if self._backlog is not None and self._backlog.due(self._publisher.current):
            self._catch_up(self._backlog, now_s)
        one = self._tries.take(now_s)
        if one is not None:
            self._read(one, now_s)
        return one is not None

    def tick(self, now_s: float) -> None:
        """Do what is due by the clock: held volumes, slice sets without progress."""
        # What they wait for may be among the files that wait to be read.
        if self._tries.busy(now_s):
            return
        self._publisher.release(now_s)
        for key in [k for k, s in self._sets.items() if now_s - s.progress_s > self._wait_s]:
            self._abandon(*key)

    def due_s(self) -> float | None:
        """When `work` or `tick` has something to do next, monotonic seconds; None if nothing."""
        times = [self._tries.due_s(), self._publisher.deadline_s()]
        times += [one.progress_s + self._wait_s for one in self._sets.values()]
        return min((due for due in times if due is not None), default=None)

    def _catch_up(self, backlog: Backlog, now_s: float) -> None:
        """Queue the files of before the watch that may belong to the series under way."""
        burst = backlog.take()
        if self._publisher.current is None:
            # The newest file that is of this run tells which series is under way.
            while burst and backlog.under_way is None:
                self._probe(burst.pop(), backlog, now_s)
        for arrival in burst:
            self._tries.add(arrival, now_s=now_s)

    def _probe(self, arrival: Arrival, backlog: Backlog, now_s: float) -> None:
        outcome = self._outcome(arrival.path, time.time())
        match outcome:
            case Complete(volume):
                last = volume.n_volumes is not None and volume.index >= volume.n_volumes - 1
                backlog.found(volume.attempt, finished=last)
            case Taken(attempt, _):
                backlog.found(attempt, finished=False)
        if isinstance(outcome, Unfinished):
            self._tries.add(arrival._replace(modified_ns=None), now_s=now_s)
        else:
            self._handle(outcome, arrival.path, existing=True, now_s=now_s)

    def _read(self, one: Try, now_s: float) -> None:
        again = self._tries.is_done(one.path)
        outcome = self._outcome(one.path, one.seen_s if one.sure else time.time())
        if isinstance(outcome, Unfinished):
            if not self._tries.again(one, now_s):
                self._publisher.refuse(None, None, outcome.reason, (one.path,))
            return
        self._tries.done(one)
        if again and isinstance(outcome, Repeat):
            return  # the same file, touched: no other one came with this volume
        self._handle(outcome, one.path, existing=one.existing, now_s=now_s)

    def _outcome(self, path: str, received_s: float) -> Outcome:
        try:
            return self._assembler.add(Path(path), received_s)
        except OSError as error:
            return Unfinished(f"cannot be read: {error.strerror or type(error).__name__}")

    def _handle(self, outcome: Outcome, path: str, *, existing: bool, now_s: float) -> None:
        publisher = self._publisher
        if isinstance(outcome, Unfinished):
            return
        attempt = outcome.volume.attempt if isinstance(outcome, Complete) else outcome.attempt
        reason = "" if attempt is None else self._why_not(attempt, existing)
        match outcome:
            case Skipped(of_reader):
                publisher.skip(attempt, of_reader, (path,))
            case Repeat(attempt, index) if reason != OF_ANOTHER_RUN:
                publisher.repeat(attempt, index, (path,))
            case Complete(volume):
                files = (*self._files(volume.attempt, volume.index), path)
                if reason:
                    publisher.skip(attempt, reason, files)
                else:
                    publisher.volume(volume, files, now_s=now_s)
            case _ if reason:
                publisher.skip(attempt, reason, (path,))
            case Taken(attempt, index):
                publisher.begun(attempt, index)
                parts = self._sets.setdefault((attempt, index), _Set(now_s))
                parts.progress_s = now_s
                parts.files.append(path)
            case Refused(of_reader, attempt, index):
                publisher.refuse(attempt, index, of_reader, (path,))

    def _why_not(self, attempt: str, existing: bool) -> str:
        """Why a series' files are not sent; empty if they are."""
        if attempt in self._elsewhere:
            return OF_ANOTHER_RUN
        if self._backlog is None or not existing:
            return ""
        wanted = attempt == self._publisher.current or self._backlog.wants(attempt)
        return "" if wanted else OF_BEFORE

    def _files(self, attempt: str, index: int) -> list[str]:
        parts = self._sets.pop((attempt, index), None)
        return parts.files if parts is not None else []

    def _abandon(self, attempt: str, index: int) -> None:
        """A slice set has made no progress for too long."""
        self._assembler.abandon(attempt, index)
        files = tuple(self._files(attempt, index))
        reason = f"incomplete: {len(files)} of the volume's files came, no more"
        self._publisher.refuse(attempt, index, reason, files)
