"""What the page has to know: the newest of everything, and the course of the attempt so far."""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from typing import Any

from rtloop.wire import Telemetry

__all__ = ["CLIENT_QUEUE", "Hub"]

COURSE_LENGTH = 5000
"""Steps kept for pages opened late; longer than any run."""

LOG_LENGTH = 500
CLIENT_QUEUE = 1000
"""Messages a page may fall behind by before it is dropped and has to load anew."""


class Hub:
    """Keeps the course and hands every message to every open page.

    Used by the event loop's thread alone.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._course: deque[dict[str, Any]] = deque(maxlen=COURSE_LENGTH)
        self._log: deque[dict[str, Any]] = deque(maxlen=LOG_LENGTH)
        self._pages: set[asyncio.Queue[str | None]] = set()
        self._about: dict[str, Any] = {}

    def take(self, message: Telemetry, time_s: float) -> None:
        """One message of the engine, heard at host time `time_s`."""
        body = {"kind": message.kind, "time_s": time_s, **plain(message.body)}
        if message.kind == "attempt":
            self._course.clear()
        elif message.kind == "step":
            self._course.append(body)
        elif message.kind == "ready":
            self._about = body
        if message.kind not in ("step", "shown", "ready"):
            self._log.append(body)
        self._send(json.dumps(body))

    def snapshot(self) -> str:
        """Everything a page needs that opens now."""
        return json.dumps(
            {
                "kind": "snapshot",
                "run": self._run,
                "about": self._about,
                "course": list(self._course),
                "log": list(self._log),
            }
        )

    def join(self) -> asyncio.Queue[str | None]:
        """A new page; None in its queue tells it that it fell behind."""
        page: asyncio.Queue[str | None] = asyncio.Queue(CLIENT_QUEUE)
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
