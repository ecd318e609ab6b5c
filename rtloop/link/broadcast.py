"""Broadcast and reports: what the engine tells everybody, and what anybody tells the engine.

Feedback and telemetry go out from a `Broadcaster` each to any number of `Listener`s; a slow one
loses messages, never time of the engine. `Reporter`s send to one `ReportSink`; they queue while
the engine is away. Nothing here is acknowledged: see `Reporter` for what can be lost.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import zmq

from rtloop.errors import WireError
from rtloop.link.endpoint import Allowed, Bound, Connected, Options, Wakeable, has_input, wait
from rtloop.link.keys import Keys
from rtloop.link.protocol import Malformed
from rtloop.wire import (
    MAX_HEADER_BYTES,
    MAX_MESSAGE_BYTES,
    Command,
    Feedback,
    Shown,
    Telemetry,
    Trigger,
    pack,
    unpack,
)

__all__ = ["Broadcaster", "Listener", "ReportSink", "Reporter"]

BROADCAST_QUEUE = 64
"""Messages queued for a slow listener; further ones are dropped for it alone."""

LISTENER_QUEUE = 1000
REPORT_QUEUE = 100_000
"""Reports (about 100 bytes each) kept while the engine is away: hours of a display's."""

LINGER_S = 0.5
"""Time that `Reporter.close` gives the last reports, so that the last flip is on record."""

Report = Shown | Trigger | Command


class Broadcaster:
    """Tells every listener; a slow one loses messages, and none can hold the engine up.

    Parameters
    ----------
    bind : str
        Endpoint to bind. Feedback and telemetry each have their own.
    keys : Keys, Path, str or None
        The engine's key pair or its file; None only on this machine.
    allow : iterable of bytes, str or Path, or None
        Public keys of the listeners, in Z85 or as .pub files.
    context : zmq.Context or None
        Only for inproc endpoints.

    Raises
    ------
    LinkError
        If the endpoint cannot be bound, or not without keys.
    """

    def __init__(
        self,
        bind: str,
        keys: Keys | Path | str | None = None,
        allow: Allowed | None = None,
        *,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        options: Options = {zmq.SNDHWM: BROADCAST_QUEUE, zmq.MAXMSGSIZE: MAX_HEADER_BYTES}
        self._bound = Bound(zmq.PUB, bind, keys, allow, options, context)

    @property
    def endpoint(self) -> str:
        """Where it is bound, the port in digits."""
        return self._bound.endpoint

    def publish(self, message: Feedback | Telemetry) -> None:
        """Send to whoever listens; never waits.

        Raises
        ------
        WireError
            If a field is outside its bounds.
        """
        self._bound.socket.send(pack(message), zmq.NOBLOCK)

    def close(self) -> None:
        """Unbind at once."""
        self._bound.close()


class Listener:
    """Hears one broadcast.

    Parameters
    ----------
    endpoint : str
        Where the `Broadcaster` is bound.
    newest_only : bool
        Keep only the newest message unread (a display), not the last 1000 (a console).
    keys : Keys, Path, str or None
        This program's key pair or its file; None only on this machine.
    server_key : bytes, str, Path or None
        The engine's public key; None if `keys` names it, or both sides use the same key file.
    context : zmq.Context or None
        Only for inproc endpoints.
    """

    def __init__(
        self,
        endpoint: str,
        newest_only: bool = False,
        keys: Keys | Path | str | None = None,
        *,
        server_key: bytes | str | Path | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        options: Options = {
            zmq.MAXMSGSIZE: MAX_MESSAGE_BYTES,
            zmq.RCVHWM: LISTENER_QUEUE,
            zmq.CONFLATE: int(newest_only),
            zmq.SUBSCRIBE: b"",
        }
        self._link = Connected(zmq.SUB, endpoint, keys, server_key, options, context)

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """For waiting only."""
        return self._link.socket

    @property
    def trouble(self) -> str:
        """Why the engine does not let this listener in, in one line; "" if nothing is known."""
        return self._link.trouble

    def receive(
        self, timeout_s: float, wake: Iterable[Wakeable | int] = ()
    ) -> Feedback | Telemetry | None:
        """The next message (or the newest); None if there is none in time, or `wake` has input.

        Raises
        ------
        WireError
            If what came is no message of a broadcast: the other side is another release.
        """
        frame = _next_frame(self._link, timeout_s, wake)
        if frame is None:
            return None
        message = unpack(frame)
        if not isinstance(message, Feedback | Telemetry):
            raise WireError(
                f"{self._link.endpoint}: expected feedback or telemetry, found "
                f"{type(message).__name__}; correct the endpoint"
            )
        return message

    def close(self) -> None:
        """Disconnect at once."""
        self._link.close(linger_s=0.0)


class ReportSink:
    """Where the engine hears displays, trigger boxes and operators.

    Parameters
    ----------
    bind : str
        Endpoint to bind.
    keys : Keys, Path, str or None
        The engine's key pair or its file; None only on this machine.
    allow : iterable of bytes, str or Path, or None
        Public keys of the reporters, in Z85 or as .pub files.
    context : zmq.Context or None
        Only for inproc endpoints.

    Raises
    ------
    LinkError
        If the endpoint cannot be bound, or not without keys.
    """

    def __init__(
        self,
        bind: str,
        keys: Keys | Path | str | None = None,
        allow: Allowed | None = None,
        *,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        options: Options = {zmq.RCVHWM: LISTENER_QUEUE, zmq.MAXMSGSIZE: MAX_HEADER_BYTES}
        self._bound = Bound(zmq.PULL, bind, keys, allow, options, context)

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """For waiting only."""
        return self._bound.socket

    @property
    def endpoint(self) -> str:
        """Where it is bound, the port in digits."""
        return self._bound.endpoint

    def receive(
        self, timeout_s: float, wake: Iterable[Wakeable | int] = ()
    ) -> Report | Malformed | None:
        """The next report; None if there is none in time, or `wake` has input."""
        if not has_input(self.socket):
            wait([self.socket], wake, timeout_s)
            if not has_input(self.socket):
                return None
        frames = self.socket.recv_multipart(zmq.NOBLOCK)
        try:
            report = unpack(frames[0])
        except WireError as error:
            return Malformed(str(error), "report")
        if len(frames) > 1 or not isinstance(report, Shown | Trigger | Command):
            return Malformed(f"message {type(report).__name__}: expected a report", "report")
        return report

    def close(self) -> None:
        """Unbind at once; unread reports are dropped."""
        self._bound.close()


class Reporter:
    """A display's, trigger box's or console's way to tell the engine.

    Reports queue while the engine is away and follow when it is back. Lost is what was already on
    its way to an engine that died before reading it, and what is not sent `LINGER_S` after `close`.

    Parameters
    ----------
    endpoint : str
        Where the `ReportSink` is bound.
    keys : Keys, Path, str or None
        This program's key pair or its file; None only on this machine.
    server_key : bytes, str, Path or None
        The engine's public key; None if `keys` names it, or both sides use the same key file.
    context : zmq.Context or None
        Only for inproc endpoints.
    """

    def __init__(
        self,
        endpoint: str,
        keys: Keys | Path | str | None = None,
        *,
        server_key: bytes | str | Path | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        options: Options = {zmq.SNDHWM: REPORT_QUEUE}
        self._link = Connected(zmq.PUSH, endpoint, keys, server_key, options, context)

    @property
    def trouble(self) -> str:
        """Why the engine does not let this reporter in, in one line; "" if nothing is known."""
        return self._link.trouble

    def send(self, report: Report) -> bool:
        """Queue a report and go on; False if the queue is full and the report was dropped.

        Raises
        ------
        WireError
            If a field is outside its bounds.
        """
        self._link.attend(time.monotonic())
        try:
            self._link.socket.send(pack(report), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def close(self, linger_s: float = LINGER_S) -> None:
        """Disconnect once everything is sent, at the latest after `linger_s`."""
        self._link.close(linger_s)


def _next_frame(link: Connected, timeout_s: float, wake: Iterable[Wakeable | int]) -> bytes | None:
    """The next message that arrives at a listener in time, joined if it came in parts."""
    deadline_s = time.monotonic() + timeout_s
    woken = False
    while True:
        now = time.monotonic()
        link.attend(now)
        if has_input(link.socket):
            return b"".join(link.socket.recv_multipart(zmq.NOBLOCK))
        if woken or now >= deadline_s:
            return None
        woken = wait(link.sockets, wake, min(deadline_s, link.due_s()) - now)
