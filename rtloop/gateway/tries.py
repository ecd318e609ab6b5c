"""When which file is tried: at once when its close was seen, else when it has stopped growing.

A file that the reader calls unfinished is tried again after growing pauses. One that has not grown
for a while is given up: it is read again only if it changes, which needs no event to be seen.
Nothing here reads a file's contents.
"""

from __future__ import annotations

import heapq
import itertools
import os
from collections import deque
from dataclasses import dataclass

from rtloop.gateway.watch import Arrival

__all__ = ["Tries", "Try"]

SETTLE_S = 0.01
"""A file without a close event must stay as it is for this long before it is tried."""
LONGEST_PAUSE_S = 0.5
MOST_GIVEN_UP = 64
"""Given-up files that are still looked at; the oldest is forgotten for a new one."""

Signature = tuple[int, int]


@dataclass(slots=True, eq=False)
class Try:
    """A file on its way to being read.

    Attributes
    ----------
    path : str
        The file.
    existing : bool
        Whether it lay there before the watch began.
    sure : bool
        Whether an event said that it is closed.
    seen_s : float
        Unix time of the event or look that told of it, seconds.
    due_s : float
        When to try it next, monotonic seconds.
    pause_s : float
        Pause after the next unsuccessful look, seconds.
    grown_s : float
        When it was last seen to grow, monotonic seconds.
    signature : (int, int) or None
        Size (bytes) and time stamp (ns) at the last look.
    tried : (int, int) or None
        The same at the last try.
    given_up : bool
        Whether it has had its time.
    """

    path: str
    existing: bool
    sure: bool
    seen_s: float
    due_s: float
    grown_s: float
    pause_s: float = SETTLE_S
    signature: Signature | None = None
    tried: Signature | None = None
    given_up: bool = False


class Tries:
    """Files that wait for their next try; those that are equally due keep their order.

    Parameters
    ----------
    unfinished_wait_s : float
        How long a file may stay as it is without being complete, seconds.
    """

    def __init__(self, unfinished_wait_s: float) -> None:
        self._wait_s = unfinished_wait_s
        self._waiting: dict[str, Try] = {}
        self._heap: list[tuple[float, int, Try]] = []
        self._count = itertools.count()
        self._done: dict[str, Signature | None] = {}
        self._given_up: deque[Try] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def busy(self, now_s: float) -> bool:
        """Whether files wait to be read that could be read now."""
        return bool(self._heap) and self._heap[0][0] <= now_s

    def add(self, arrival: Arrival, *, now_s: float) -> None:
        """Take up a file that was seen; monotonic time `now_s`."""
        known = self._waiting.get(arrival.path)
        if known is not None:
            if arrival.sure:
                known.sure, known.seen_s, known.grown_s = True, arrival.seen_s, now_s
                self._push(known, now_s)
            return
        if arrival.path in self._done and self._done[arrival.path] == _signature(arrival.path):
            return
        existing = arrival.modified_ns is not None
        one = Try(arrival.path, existing, arrival.sure, arrival.seen_s, now_s, now_s)
        self._waiting[arrival.path] = one
        self._push(one, now_s)

    def take(self, now_s: float) -> Try | None:
        """The next file that should be read now; None if there is none.

        It must be handed back by `done` or `again`.
        """
        while self._heap and self._heap[0][0] <= now_s:
            _, _, one = heapq.heappop(self._heap)
            if self._waiting.get(one.path) is not one or one.due_s > now_s:
                continue
            one.due_s = float("inf")
            if self._ripe(one, now_s):
                return one
        return None

    def due_s(self) -> float | None:
        """When `take` has something next, monotonic seconds; None if nothing waits."""
        return self._heap[0][0] if self._heap else None

    def again(self, one: Try, now_s: float) -> bool:
        """It was unfinished: try later. False, once, if it has had its time."""
        one.existing = one.sure = False
        expired = now_s - one.grown_s > self._wait_s and not one.given_up
        if expired:
            one.given_up = True
            self._given_up.append(one)
            if len(self._given_up) > MOST_GIVEN_UP:
                self._forget(self._given_up[0])
        self._later(one, now_s)
        return not expired

    def done(self, one: Try) -> None:
        """It needs no further try, unless it changes."""
        self._forget(one)
        self._done[one.path] = one.signature

    def is_done(self, path: str) -> bool:
        """Whether this file was done with before."""
        return path in self._done

    def _forget(self, one: Try) -> None:
        self._waiting.pop(one.path, None)
        if one.given_up:
            self._given_up.remove(one)

    def _ripe(self, one: Try, now_s: float) -> bool:
        """Whether the file is to be read now; if not, it is looked at again later."""
        signature = _signature(one.path)
        if signature is None:  # gone: renamed or removed while it waited
            self._forget(one)
            return False
        before, one.signature = one.signature, signature
        # The time stamp counts, too: some copying programs give a file its full size at once.
        if before != signature:
            one.grown_s, one.pause_s = now_s, SETTLE_S
        ripe = one.sure or one.existing or before == signature
        if ripe and not (one.given_up and signature == one.tried):
            one.tried = signature
            return True
        self._later(one, now_s)
        return False

    def _later(self, one: Try, now_s: float) -> None:
        self._push(one, now_s + one.pause_s)
        one.pause_s = min(2.0 * one.pause_s, LONGEST_PAUSE_S)

    def _push(self, one: Try, due_s: float) -> None:
        one.due_s = due_s
        heapq.heappush(self._heap, (due_s, next(self._count), one))


def _signature(path: str) -> Signature | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
