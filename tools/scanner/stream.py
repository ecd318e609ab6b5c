"""Volumes sent over ZeroMQ: the simulated scanner in the gateway's place.

What a gateway would say of a broken or foreign file is sent as a note, so that the engine sees
the same stream as behind a real one. A repeated volume is sent again whole: the gateway would
hold it back, but the engine has to bear it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from rtloop.errors import LinkError
from rtloop.volume import Volume
from rtloop.wire import Note
from tools.faults import Delivery
from tools.scanner.series import Series

__all__ = ["IN_FLIGHT", "StreamOut"]

IN_FLIGHT = 8
"""Without a pace, no more than this many items wait for the engine."""

PATIENCE_S = 30.0

CONNECT_POLL_S = 0.2

Item = Volume | Note


class Link(Protocol):
    """The part of `rtloop.link.StreamSource` that is used."""

    @property
    def unacknowledged(self) -> int:
        """Items that the engine has not committed."""

    @property
    def connected(self) -> bool:
        """Whether the engine has welcomed this source."""

    @property
    def trouble(self) -> str:
        """Why it has not; empty if nothing is known."""

    def send(self, item: Item, /) -> object:
        """Give an item its place in the stream."""

    def poll(self, timeout_s: float) -> object:
        """Let the link work for so long at most."""

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything is committed; False if it is not in time."""


class StreamOut:
    """The stream as the scanner's outlet.

    Parameters
    ----------
    link : StreamSource
        Open, in the caller's thread.
    now_s : callable
        Host clock, Unix seconds.
    patience_s : float
        How long to wait for the engine: at the start to be there, at the end to have committed
        everything.
    """

    def __init__(
        self, link: Link, now_s: Callable[[], float] = time.time, patience_s: float = PATIENCE_S
    ) -> None:
        self._link, self._now_s, self._patience_s = link, now_s, patience_s
        self._open: str | None = None
        self._attempt = -1

    def check(self, series: Series, deliveries: list[Delivery]) -> None:
        """Nothing: the stream can carry every fault."""

    def start(self) -> None:
        """Wait for the engine: a scan is not begun without one.

        Raises
        ------
        LinkError
            If there is none in time, or it refuses this source.
        """
        until_s = time.monotonic() + self._patience_s
        while not self._link.connected and time.monotonic() < until_s:
            self._link.poll(CONNECT_POLL_S)
        if not self._link.connected:
            raise LinkError(
                f"stream: expected an engine that listens within {self._patience_s:g} s, found "
                f"{self._link.trouble or 'none'}; start `fcnef run` or check the endpoint"
            )

    def prepare(self, series: Series, delivery: Delivery) -> Item | None:
        """What is sent for a delivery; its time stamp is set when it goes."""
        attempt, now_s = series.attempt_name(delivery.attempt), self._now_s()
        match delivery.part:
            case "first":
                return None
            case "cut":
                reason = f"file cut short at {delivery.keep:.0%} of its length"
                return Note("refused", attempt, delivery.index, reason, now_s)
            case "foreign":
                reason = "a file of another series: field map"
                return Note("skipped", f"{attempt}-foreign", None, reason, now_s)
            case _:
                return series.volume(delivery)

    def deliver(self, series: Series, delivery: Delivery, item: Item | None) -> None:
        """Send it."""
        if item is None:
            return
        if delivery.attempt > self._attempt:
            self._say_open(series.attempt_name(delivery.attempt))
            self._attempt = delivery.attempt
        self._link.send(replace(item, received_s=self._now_s()))
        self._link.poll(0.0)

    def idle(self, seconds: float) -> None:
        """Keep the link alive until the next delivery."""
        self._link.poll(seconds)

    def is_ready(self) -> bool:
        """Whether the engine keeps up."""
        return self._link.unacknowledged < IN_FLIGHT

    def finish(self, series: Series, complete: bool) -> None:
        """Close the series and wait for the engine.

        Raises
        ------
        LinkError
            If the engine does not commit everything in time.
        """
        reason = "complete" if complete else "aborted"
        if self._open is not None:
            self._link.send(Note("series_closed", self._open, None, reason, self._now_s()))
        if not self._link.drain(self._patience_s):
            raise LinkError(
                f"stream: expected the engine to commit everything within {self._patience_s:g} s, "
                f"found {self._link.unacknowledged} items open; see whether it runs"
            )

    def _say_open(self, attempt: str) -> None:
        if self._open is not None:
            self._link.send(Note("series_closed", self._open, None, "aborted", self._now_s()))
        self._open = attempt
        self._link.send(Note("series_opened", attempt, None, "first volume", self._now_s()))
