"""Findings of other threads for the one that waits on sockets: a queue with a descriptor."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from typing import Generic, TypeVar

__all__ = ["Inbox"]

Item = TypeVar("Item")


class Inbox(Generic[Item]):
    """A queue whose `fileno` becomes readable when something lies in it."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)

    def fileno(self) -> int:
        return self._read.fileno()

    def put(self, item: Item) -> None:
        """Add an item, from any thread."""
        self._items.append(item)
        # A full buffer wakes the reader as well as one more byte would; a closed one has none.
        with contextlib.suppress(OSError):
            self._write.send(b"x")

    def take(self) -> list[Item]:
        """All items there are, oldest first; never waits."""
        with contextlib.suppress(BlockingIOError):
            while self._read.recv(4096):
                pass
        return [self._items.popleft() for _ in range(len(self._items))]

    def close(self) -> None:
        self._read.close()
        self._write.close()
