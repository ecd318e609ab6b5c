"""The volume stream over ZeroMQ: `StreamSink` at the engine, `StreamSource` at the scanner's side.

Both are driven by one thread, their owner's, and keep nothing running behind its back: heartbeats
are sent and noticed inside `receive` and `poll`, which therefore have to be called regularly.
The protocol itself is in `source` and `sink`; here are the sockets and the clock.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import zmq

from rtloop.errors import LinkError, WireError
from rtloop.link.endpoint import Allowed, Bound, Connected, Wakeable, wait
from rtloop.link.keys import Keys
from rtloop.link.protocol import CREDIT, PeerBack, PeerLost
from rtloop.link.sink import Event, SinkState
from rtloop.link.source import SourceState
from rtloop.volume import Volume
from rtloop.wire import MAX_PAYLOAD_BYTES, Message, Note, decode, encode

__all__ = ["StreamSink", "StreamSource"]

QUEUE = 256
"""Messages ZeroMQ may queue per connection: credits bound volumes, this bounds everything else."""

MAX_FRAMES = 3
"""Frames kept of one message; no sound one has more than two."""

MAX_NAME_BYTES = 64


class StreamSink:
    """The engine's end of the stream: items in order, each once, acknowledged after their commit.

    Parameters
    ----------
    bind : str
        Endpoint to bind, fixed so that sources find it again after a restart.
    keys : Keys or None
        The engine's key pair; None only on this machine.
    allow : iterable of bytes, str or Path, or None
        Public keys of the sources, in Z85 or as .pub files.
    acknowledged : callable, str -> int, or None
        Last committed `seq` of an epoch on record, -1 for none; None: nothing is on record.
    committed : callable, () -> dict of str to list of (int, int), or None
        Volume indices on record per attempt, as inclusive ranges; None: nothing is on record.
    credit : int
        Items a source may send ahead of their commit.
    clock : callable, () -> float
        Monotonic seconds.
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
        keys: Keys | None = None,
        allow: Allowed | None = None,
        acknowledged: Callable[[str], int] | None = None,
        committed: Callable[[], dict[str, list[tuple[int, int]]]] | None = None,
        *,
        credit: int = CREDIT,
        clock: Callable[[], float] = time.monotonic,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        self._clock = clock
        self._state = SinkState(acknowledged or (lambda epoch: -1), committed or dict, credit)
        options = {
            zmq.ROUTER_MANDATORY: 1,
            zmq.ROUTER_HANDOVER: 1,
            zmq.MAXMSGSIZE: MAX_PAYLOAD_BYTES,
            zmq.RCVHWM: QUEUE,
            zmq.SNDHWM: QUEUE,
        }
        self._bound = Bound(zmq.ROUTER, bind, keys, allow, options, context)

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """For waiting only."""
        return self._bound.socket

    @property
    def endpoint(self) -> str:
        """Where it is bound, the port in digits."""
        return self._bound.endpoint

    @property
    def connected(self) -> bool:
        """Whether a source is connected and was heard within the last 3 s."""
        return self._state.connected

    def receive(
        self, timeout_s: float, wake: Iterable[Wakeable | int] = ()
    ) -> Event | None:
        """The next event, in stream order; None if there is none in time.

        Parameters
        ----------
        timeout_s : float
            How long to wait, seconds; 0 to look only.
        wake : iterable
            Other endpoints (or file descriptors); input at one of them ends the wait too.

        Returns
        -------
        VolumeItem, NoteItem, Malformed, PeerLost, PeerBack, SourceRefused or None
            Items, and `Malformed` ones with a `seq`, want an `acknowledge`.
        """
        deadline_s = self._clock() + timeout_s
        woken = False
        while True:
            self._take_in()
            self._send_out()
            event = self._state.next_event()
            now = self._clock()
            if event is not None or woken or now >= deadline_s:
                return event
            woken = wait([self.socket], wake, min(deadline_s, self._state.due_s()) - now)

    def acknowledge(self, epoch: str, seq: int) -> None:
        """Tell the source that everything up to `seq` is committed.

        Raises
        ------
        ValueError
            If it was never delivered.
        """
        self._state.acknowledge(epoch, seq)
        self._send_out()

    def close(self) -> None:
        """Unbind; the source notices and keeps what is not acknowledged."""
        self._bound.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _take_in(self) -> None:
        """Everything that has arrived, before silence is judged: a busy owner is not a lost peer."""
        while self.socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            name, *frames = _parts(self.socket)
            source, now = name.decode("utf-8", "replace")[:MAX_NAME_BYTES], self._clock()
            try:
                message = decode(frames)
            except WireError as error:
                self._state.damaged(source, error, now)
            else:
                self._state.receive(source, message, now)

    def _send_out(self) -> None:
        for source, message in self._state.tick(self._clock()):
            try:
                self.socket.send_multipart([source.encode(), *encode(message)], zmq.NOBLOCK)
            except zmq.ZMQError as error:
                # The peer is gone, or does not listen; it will ask again.
                if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                    raise
