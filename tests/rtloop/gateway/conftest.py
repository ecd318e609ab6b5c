"""What the gateway's tests share: waiting with a deadline, and no threads left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

DEADLINE_S = 20.0
Until = Callable[[Callable[[], object], str], None]


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    until_s = time.monotonic() + 5.0
    while (left := set(threading.enumerate()) - before) and time.monotonic() < until_s:
        time.sleep(0.01)
    assert not left, f"threads left behind: {left}"


@pytest.fixture
def until() -> Until:
    """Wait for a condition; fail with what it is when the deadline is over."""

    def wait(condition: Callable[[], object], what: str) -> None:
        end_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end_s, f"waited {DEADLINE_S} s for: {what}"
            time.sleep(0.002)

    return wait
