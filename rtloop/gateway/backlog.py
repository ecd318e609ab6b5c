"""Files that lay in the folder before the watch began: which of them belong to a series under way.

A scanner's folder holds earlier runs, too. Only the newest burst of files is considered: going
back from the newest file until two neighbours' time stamps lie too far apart for one series. The
time stamps are compared with each other, since a file server's clock need not agree with ours.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from rtloop.gateway.watch import Arrival

__all__ = ["Backlog"]

LONGEST_PAUSE_NS = 60 * 1_000_000_000
"""Files of one series follow each other within this time."""


class Backlog:
    """Files of before the watch, until it is known what is under way.

    Parameters
    ----------
    on_record : collection of str
        Attempts that the engine's record holds volumes of: these go on, whatever their age.
    past : collection of str
        Attempts that ended in an earlier record: these are over.
    """

    def __init__(self, on_record: Collection[str] = (), past: Collection[str] = ()) -> None:
        self._on_record = on_record
        self._past = past
        self._arrivals: list[Arrival] = []
        self._newest_ns = 0
        self.under_way: str | None = None
        """The series the newest file belongs to, once found (it may be finished)."""
        self._finished = False

    def add(self, arrival: Arrival) -> None:
        self._arrivals.append(arrival)
        self._newest_ns = max(self._newest_ns, _modified_ns(arrival))

    def due(self, current: str | None) -> bool:
        """Whether the files should be read: a series is known to be under way, or may be."""
        if not self._arrivals:
            return False
        return current is not None or bool(self._on_record) or self._recent()

    def take(self) -> list[Arrival]:
        """The newest burst, oldest first; the rest is forgotten."""
        self._arrivals.sort(key=_modified_ns)
        burst = self._arrivals[-1:]
        for earlier in reversed(self._arrivals[:-1]):
            if _modified_ns(burst[-1]) - _modified_ns(earlier) > LONGEST_PAUSE_NS:
                break
            burst.append(earlier)
        self._arrivals = []
        return burst[::-1]

    def found(self, attempt: str, *, finished: bool) -> None:
        """The newest file is of this series; `finished`: it is the series' last volume."""
        self.under_way = attempt
        self._finished = finished

    def wants(self, attempt: str) -> bool:
        """Whether files of this series are to be sent."""
        if attempt in self._on_record:
            return True
        return attempt == self.under_way and attempt not in self._past and not self._finished

    def _recent(self) -> bool:
        return abs(time.time_ns() - self._newest_ns) < LONGEST_PAUSE_NS


def _modified_ns(arrival: Arrival) -> int:
    return arrival.modified_ns or 0
