"""What the page has to know: the newest of everything, and the course of the attempt so far."""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from typing import Any

from rtloop.wire import Telemetry

__all__ = ["CLIENT_QUEUE", "Hub", "plain"]

COURSE_LENGTH = 5000
"""Steps kept for pages opened late; longer than any run."""

LOG_LENGTH = 500
CLIENT_QUEUE = 1000
"""Messages a page may fall behind by before it is dropped and has to load anew."""

STATES = ("ready", "shown")
"""Messages of which only the newest counts; all but these and the steps are events to list."""


class Hub:
    """Keeps the course and hands every message to every open page.

    A page gets `{"kind", "time_s", "body"}` as JSON, the time being the host's when it was heard.
    Used by the event loop's thread alone.

    Parameters
    ----------
    run : str
        Title of the page.
    queue_length : int
        Messages a page may fall behind by.
    """

    def __init__(self, run: str, queue_length: int = CLIENT_QUEUE) -> None:
        self._run = run
        self._queue_length = queue_length
        self._course: deque[dict[str, Any]] = deque(maxlen=COURSE_LENGTH)
        self._events: deque[dict[str, Any]] = deque(maxlen=LOG_LENGTH)
        self._newest: dict[str, dict[str, Any]] = {}
        self._pages: set[asyncio.Queue[str | None]] = set()

    def take(self, message: Telemetry, time_s: float) -> None:
        """One message of the engine, heard at host time `time_s`."""
        told = {"kind": message.kind, "time_s": time_s, "body": plain(message.body)}
        if message.kind == "step":
            self._course.append(told)
        elif message.kind in STATES:
            self._newest[message.kind] = told
        else:
            self._events.append(told)
            if message.kind == "attempt":
                self._course.clear()
        self._send(json.dumps(told))

    def snapshot(self, time_s: float) -> str:
        """Everything a page needs that opens at host time `time_s`."""
        return json.dumps(
            {
                "kind": "snapshot",
                "time_s": time_s,
                "body": {
                    "run": self._run,
                    "newest": list(self._newest.values()),
                    "course": list(self._course),
                    "events": list(self._events),
                },
            }
        )

    def join(self) -> asyncio.Queue[str | None]:
        """A new page; None in its queue tells it that it fell behind."""
        page: asyncio.Queue[str | None] = asyncio.Queue(self._queue_length)
        self._pages.add(page)
        return page

    def leave(self, page: asyncio.Queue[str | None]) -> None:
        self._pages.discard(page)

    def _send(self, text: str) -> None:
        for page in list(self._pages):
            try:
                page.put_nowait(text)
            except asyncio.QueueFull:
                self.leave(page)
                page.get_nowait()
                page.put_nowait(None)


def plain(value: Any) -> Any:
    """The value with nan and infinity as None: JSON has neither."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value
