"""In which order complete volumes leave the gateway: by index, each once, none waited for long.

A volume whose predecessors have not all left is held until they have, or until its own wait is
over; then everything up to it goes. A straggler that completes afterwards leaves at once: the
engine, not the gateway, calls it late. The object reads no clock and no file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["Order"]

Item = TypeVar("Item")


@dataclass(slots=True)
class _Held(Generic[Item]):
    item: Item
    until_s: float


@dataclass(slots=True)
class _Series(Generic[Item]):
    """One attempt: every index below `next` has left or is no longer waited for."""

    next: int = 0
    gone: set[int] = field(default_factory=set)
    absent: set[int] = field(default_factory=set)
    held: dict[int, _Held[Item]] = field(default_factory=dict)

    def advance(self) -> list[Item]:
        """Let go what directly follows what has gone."""
        leaving: list[Item] = []
        while True:
            if self.next in self.held:
                leaving.append(self.release(self.next))
            elif self.next not in self.gone and self.next not in self.absent:
                return leaving
            self.next += 1

    def release(self, index: int) -> Item:
        self.gone.add(index)
        return self.held.pop(index).item

    def let_go(self, last: int) -> list[Item]:
        """Everything held up to index `last`, and what directly follows it."""
        leaving = [self.release(index) for index in sorted(self.held) if index <= last]
        self.next = max(self.next, last + 1)
        return leaving + self.advance()


class Order(Generic[Item]):
    """Holds complete volumes back until their predecessors have left; see the module's text."""

    def __init__(self) -> None:
        self._series: dict[str, _Series[Item]] = {}

    def seed(self, attempt: str, ranges: Iterable[tuple[int, int]]) -> None:
        """Count volumes as gone that the record already holds.

        Parameters
        ----------
        attempt : str
            The series.
        ranges : iterable of (int, int)
            First and last index of each run of recorded volumes. Gaps between them are no
            longer waited for.
        """
        series = self._series.setdefault(attempt, _Series())
        for first, last in ranges:
            series.gone.update(range(first, last + 1))
            series.next = max(series.next, last + 1)

    def knows(self, attempt: str, index: int) -> bool:
        """Whether this volume has left already or is being held."""
        series = self._series.get(attempt)
        return series is not None and (index in series.gone or index in series.held)

    def offer(
        self, attempt: str, index: int, item: Item, *, now_s: float, wait_s: float
    ) -> list[Item]:
        """Take in a complete volume.

        Parameters
        ----------
        attempt, index : str, int
            Its identity.
        item : Item
            What leaves for it.
        now_s, wait_s : float
            The clock, and how long this volume may be held for its predecessors, seconds.

        Returns
        -------
        list of Item
            What leaves now, in order; empty if it is held or was here before.
        """
        if self.knows(attempt, index):
            return []
        series = self._series.setdefault(attempt, _Series())
        if index < series.next:
            series.gone.add(index)
            return [item]
        series.held[index] = _Held(item, now_s + wait_s)
        return series.advance()

    def give_up(self, attempt: str, index: int) -> list[Item]:
        """Stop waiting for a volume that was refused; returns what leaves because of it."""
        series = self._series.setdefault(attempt, _Series())
        series.absent.add(index)
        return series.advance()

    def due(self, now_s: float) -> list[Item]:
        """What leaves because its wait, or that of a later volume, is over."""
        leaving: list[Item] = []
        for series in self._series.values():
            over = [index for index, held in series.held.items() if held.until_s <= now_s]
            if over:
                leaving += series.let_go(max(over))
        return leaving

    def flush(self, attempt: str) -> list[Item]:
        """Everything held of a series that has ended, in order."""
        series = self._series.get(attempt)
        return series.let_go(max(series.held)) if series and series.held else []

    def deadline_s(self) -> float | None:
        """When `due` has something to say next; None while nothing is held."""
        waits = [held.until_s for series in self._series.values() for held in series.held.values()]
        return min(waits, default=None)

    def gone(self, attempt: str) -> int:
        """How many volumes of a series have left or are on record."""
        series = self._series.get(attempt)
        return len(series.gone) if series else 0
