"""What the tests of `rtloop.link` share: volumes, a clock that can be put forward, tidiness."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from rtloop.link import StreamSink, StreamSource
from rtloop.volume import Volume
from rtloop.wire import NoteItem, VolumeItem

LOOPBACK = "tcp://127.0.0.1:*"
PATIENCE_S = 10.0
TIDY_S = 3.0


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    """Every thread and file descriptor that a test opened is closed when it ends."""
    n_threads, n_open = threading.active_count(), len(os.listdir("/proc/self/fd"))
    yield
    # ZeroMQ closes its sockets' descriptors in a thread of its own, a moment later.
    until = time.monotonic() + TIDY_S
    while _left(n_threads, n_open) and time.monotonic() < until:
        time.sleep(0.02)
    assert not _left(n_threads, n_open)


def _left(n_threads: int, n_open: int) -> bool:
    """Whether there are more threads or descriptors than there were."""
    return threading.active_count() > n_threads or len(os.listdir("/proc/self/fd")) > n_open


class Clock:
    """Monotonic time that can be put forward."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


def volume(index: int, shape: tuple[int, int, int] = (4, 3, 2)) -> Volume:
    data = np.full(shape, index, np.int16, order="F")
    return Volume("attempt", index, data, np.eye(4), 2.0, 1.7e9)


def until(done: Callable[[], bool], *turns: Callable[[], object]) -> None:
    """Let both ends have their turns, in one thread, until something is so."""
    give_up = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < give_up, "waited in vain"
        for turn in turns:
            turn()


class Engine:
    """An owner of a sink: commits what it gets and acknowledges it, and survives its process."""

    def __init__(self) -> None:
        self.places: list[tuple[str, int]] = []
        self.indices: list[int] = []
        self.events: list[object] = []

    def acknowledged(self, epoch: str) -> int:
        return max((seq for name, seq in self.places if name == epoch), default=-1)

    def committed(self) -> dict[str, list[tuple[int, int]]]:
        return {"attempt": [(index, index) for index in sorted(self.indices)]}

    def sink(self, bind: str, **options: object) -> StreamSink:
        return StreamSink(
            bind,
            acknowledged=self.acknowledged,
            committed=self.committed,
            **options,  # type: ignore[arg-type]
        )

    def turn(self, sink: StreamSink, acknowledge: bool = True, timeout_s: float = 0.002) -> None:
        event = sink.receive(timeout_s)
        if event is None:
            return
        self.events.append(event)
        if getattr(event, "seq", None) is None:
            return
        assert isinstance(event, VolumeItem | NoteItem) or hasattr(event, "reason")
        self.places.append((event.epoch, event.seq))  # type: ignore[union-attr]
        if isinstance(event, VolumeItem):
            assert (event.volume.data == event.volume.index).all()
            self.indices.append(event.volume.index)
        if acknowledge:
            sink.acknowledge(event.epoch, event.seq)  # type: ignore[union-attr]


def meet(sink: StreamSink, source: StreamSource) -> None:
    """Wait until both ends know each other."""
    until(lambda: source.connected, lambda: sink.receive(0.002), lambda: source.poll(0.002))
