"""What readers say of files becomes what the stream carries: volumes in order, and notes.

Series are opened, closed and, if not of this run, named once. Nothing of a file but its volume
leaves: reasons are freed of path and file name, which often hold a name or number of the person.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from rtloop.gateway.order import Order
from rtloop.volume import Volume
from rtloop.wire import Note

__all__ = ["Publisher", "without_names"]

GAP_WAIT_TR = 0.5
"""Share of a TR for which a volume is held for its predecessors, by default."""
MOST_NAMELESS_NOTES = 50
"""Files without a series (a protocol's PDF, a log) are told of this often, no more."""
SHORTEST_NAME = 3

Send = Callable[[Volume | Note, tuple[str, ...]], None]
Kind = Literal["refused", "duplicate", "skipped", "series_opened", "series_closed"]


@dataclass(frozen=True, slots=True)
class _Parcel:
    """A complete volume and the files it was made of."""

    volume: Volume
    files: tuple[str, ...]


class Publisher:
    """Sends volumes in order and notes of everything else.

    Parameters
    ----------
    send : callable
        Takes an item for the stream and the files it was made of.
    drop : callable
        Takes files that nothing is sent for.
    gap_wait_s : float or None
        How long a volume is held for its predecessors, seconds; None for half its TR.
    """

    def __init__(
        self, send: Send, drop: Callable[[Iterable[str]], None], gap_wait_s: float | None
    ) -> None:
        self._send = send
        self._drop = drop
        self._gap_wait_s = gap_wait_s
        self._order: Order[_Parcel] = Order()
        self._announced: dict[str, int | None] = {}
        self._closed: set[str] = set()
        self._skipped: set[str] = set()
        self._refused: set[tuple[str, int]] = set()
        self._repeated: set[tuple[str, int]] = set()
        self._nameless = 0
        self.current: str | None = None
        """The attempt that was opened last; None before the first."""

    @property
    def ended(self) -> set[str]:
        """Series that were closed, or may have ended as far as their headers tell."""
        return self._closed | {name for name, count in self._announced.items() if count is None}

    def resume(self, committed: Mapping[str, Iterable[tuple[int, int]]]) -> None:
        """Send nothing that the record holds already."""
        for attempt, ranges in committed.items():
            self._order.seed(attempt, ranges)

    def knows(self, attempt: str, index: int) -> bool:
        """Whether this volume was sent, is held, or is on record."""
        return self._order.knows(attempt, index)

    def begun(self, attempt: str, index: int) -> None:
        """Part of a volume has come: its series is open."""
        if not self.knows(attempt, index):
            self._open(attempt, None)

    def volume(self, volume: Volume, files: tuple[str, ...], *, now_s: float) -> None:
        """A volume is complete; monotonic time `now_s`."""
        attempt, index = volume.attempt, volume.index
        if self.knows(attempt, index):
            self._drop(files)
            return
        self._open(attempt, volume.n_volumes)
        wait_s = GAP_WAIT_TR * volume.tr_s if self._gap_wait_s is None else self._gap_wait_s
        parcel = _Parcel(volume, files)
        self._send_all(self._order.offer(attempt, index, parcel, now_s=now_s, wait_s=wait_s))
        self._close_if_complete(attempt)

    def repeat(self, attempt: str, index: int, files: tuple[str, ...]) -> None:
        """Another file held a volume that is known: said once, however many files it has."""
        if (attempt, index) in self._repeated:
            self._drop(files)
            return
        self._repeated.add((attempt, index))
        self._note("duplicate", attempt, index, "the volume came again", files)

    def skip(self, attempt: str | None, reason: str, files: tuple[str, ...]) -> None:
        """Files are not of this run: said once per series."""
        key = attempt or reason
        if key in self._skipped or (attempt is None and self._nameless >= MOST_NAMELESS_NOTES):
            self._drop(files)
            return
        self._skipped.add(key)
        self._nameless += attempt is None
        self._note("skipped", attempt, None, reason, files)

    def refuse(
        self, attempt: str | None, index: int | None, reason: str, files: tuple[str, ...]
    ) -> None:
        """A file or slice set will give no volume: said, and not waited for."""
        if attempt is None or index is None:
            self._note("refused", attempt, index, reason, files)
        elif self.knows(attempt, index) or (attempt, index) in self._refused:
            self._drop(files)
        else:
            self._refused.add((attempt, index))
            self._open(attempt, None)
            self._note("refused", attempt, index, reason, files)
            self._send_all(self._order.give_up(attempt, index))

    def release(self, now_s: float) -> None:
        """Send what has been held for long enough."""
        self._send_all(self._order.due(now_s))

    def deadline_s(self) -> float | None:
        """When `release` has something to send, monotonic seconds; None if nothing is held."""
        return self._order.deadline_s()

    def _open(self, attempt: str, n_volumes: int | None) -> None:
        if attempt in self._announced:
            if n_volumes is not None:
                self._announced[attempt] = n_volumes
            return
        if self.current is not None:
            self._close(self.current)
        self._announced[attempt] = n_volumes
        self.current = attempt
        on_record = self._order.gone(attempt)
        reason = f"resumed: {on_record} volumes on record" if on_record else "first of its files"
        self._note("series_opened", attempt, None, reason)

    def _close_if_complete(self, attempt: str) -> None:
        announced = self._announced[attempt]
        if announced is not None and self._order.gone(attempt) >= announced:
            self._close(attempt)

    def _close(self, attempt: str) -> None:
        """Send what is held of a series, and that it has ended, once."""
        if attempt in self._closed:
            return
        self._closed.add(attempt)
        self._send_all(self._order.flush(attempt))
        announced, gone = self._announced[attempt], self._order.gone(attempt)
        if announced is None:
            reason = f"ended or aborted: {gone} volumes, their number was not announced"
        elif gone >= announced:
            reason = f"complete: {gone} of {announced} volumes"
        elif self._order.knows(attempt, announced - 1):
            reason = f"complete but for some: {gone} of {announced} volumes"
        else:
            reason = f"aborted: {gone} of {announced} volumes"
        self._note("series_closed", attempt, None, reason)

    def _send_all(self, parcels: list[_Parcel]) -> None:
        for parcel in parcels:
            self._send(parcel.volume, parcel.files)

    def _note(
        self,
        kind: Kind,
        attempt: str | None,
        index: int | None,
        reason: str,
        files: tuple[str, ...] = (),
    ) -> None:
        clean = without_names(reason, files)
        self._send(Note(kind, attempt, index, clean, time.time()), files)


def without_names(reason: str, files: Iterable[str]) -> str:
    """A reason without path, folder and name of the files it is about.

    Examples
    --------
    >>> without_names("cannot read /export/DOE/i1.dcm: DOE ends", ["/export/DOE/i1.dcm"])
    'cannot read a file: a file ends'
    """
    for path in files:
        folder, name = os.path.split(path)
        pieces = {path, folder, name, os.path.splitext(name)[0], os.path.basename(folder)}
        for piece in sorted(pieces, key=len, reverse=True):
            if len(piece) >= SHORTEST_NAME:
                reason = re.sub(rf"(?<!\w){re.escape(piece)}(?!\w)", "a file", reason)
    return reason
