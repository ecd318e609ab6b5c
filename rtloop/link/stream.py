"""The volume stream over ZeroMQ: `StreamSink` at the engine, `StreamSource` at the scanner's side.

Both are driven by one thread, their owner's, and keep nothing running behind its back: heartbeats
are sent and noticed inside `receive` and `poll`, which therefore have to be called regularly.
The protocol itself is in `source` and `sink`; here are the sockets and the clock.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import zmq

from rtloop.errors import WireError
from rtloop.link.endpoint import Allowed, Bound, Connected, Options, Wakeable, has_input, wait
from rtloop.link.keys import Keys
from rtloop.link.protocol import CREDIT, PeerBack, PeerLost, peer_name
from rtloop.link.sink import Event, SinkState
from rtloop.link.source import SourceState
from rtloop.volume import Volume
from rtloop.wire import (
    MAX_HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    Hello,
    Item,
    Message,
    Note,
    NoteItem,
    VolumeItem,
    decode,
    encode,
)

__all__ = ["StreamSink", "StreamSource"]

QUEUE = 256
"""Messages ZeroMQ may queue per connection: credits bound volumes, this bounds everything else."""

MAX_FRAMES = 3
"""Frames kept of one message; no sound one has more than two."""


class StreamSink:
    """The engine's end of the stream: items in order, each once, acknowledged after their commit.

    Parameters
    ----------
    bind : str
        Endpoint to bind, fixed so that sources find it again after a restart.
    keys : Keys, Path, str or None
        The engine's key pair or its file; None only on this machine.
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
        keys: Keys | Path | str | None = None,
        allow: Allowed | None = None,
        acknowledged: Callable[[str], int] | None = None,
        committed: Callable[[], dict[str, list[tuple[int, int]]]] | None = None,
        *,
        credit: int = CREDIT,
        clock: Callable[[], float] = time.monotonic,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        self._clock = clock
        self._state = SinkState(acknowledged or (lambda _: -1), committed or dict, credit)
        options: Options = {
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

    def receive(self, timeout_s: float, wake: Iterable[Wakeable | int] = ()) -> Event | None:
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

    def _take_in(self) -> None:
        """Take in what has arrived before silence is judged: a busy owner is no lost peer."""
        for name, *frames in _arrived(self.socket):
            peer, now = bytes(name).decode("utf-8", "replace"), self._clock()
            try:
                message = decode(frames)
            except WireError as error:
                self._state.damaged(peer, error, now)
            else:
                self._state.receive(peer, message, now)

    def _send_out(self) -> None:
        for peer, message in self._state.tick(self._clock()):
            try:
                self.socket.send_multipart([peer.encode(), *encode(message)], zmq.NOBLOCK)
            except zmq.ZMQError as error:
                # The peer is gone, or does not listen; it will ask again.
                if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                    raise


class StreamSource:
    """The scanner's end of the stream: numbers what is sent and keeps it until it is committed.

    Parameters
    ----------
    endpoint : str
        Where the engine's `StreamSink` is bound.
    keys : Keys, Path, str or None
        This program's key pair or its file; None only on this machine.
    source : str
        Name of this source, 1 to 64 characters; the engine talks to one at a time.
    epoch : str or None
        Name of this stream; None for a new random one.
    server_key : bytes, str, Path or None
        The engine's public key; None if `keys` names it, or both sides use the same key file.
    clock : callable, () -> float
        Monotonic seconds.
    context : zmq.Context or None
        Only for inproc endpoints.

    Raises
    ------
    LinkError
        If the endpoint is none, or not to be used without keys.
    """

    def __init__(
        self,
        endpoint: str,
        keys: Keys | Path | str | None = None,
        source: str = "gateway",
        epoch: str | None = None,
        *,
        server_key: bytes | str | Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        encode(Hello(source, epoch or "-"))
        self._clock = clock
        self._state = SourceState(source, epoch or secrets.token_hex(8))
        self._frames: dict[int, tuple[Item, list[bytes | memoryview]]] = {}
        options: Options = {
            zmq.ROUTING_ID: peer_name(source, self._state.epoch).encode(),
            # Nothing is queued for a connection that is not there: a new one begins with a hello.
            zmq.IMMEDIATE: 1,
            zmq.MAXMSGSIZE: MAX_HEADER_BYTES,
            zmq.RCVHWM: QUEUE,
            zmq.SNDHWM: QUEUE,
        }
        self._link = Connected(zmq.DEALER, endpoint, keys, server_key, options, context)

    @property
    def epoch(self) -> str:
        """Name of this stream."""
        return self._state.epoch

    @property
    def acknowledged(self) -> int:
        """Last `seq` that the engine has committed; -1 for none."""
        return self._state.acknowledged

    @property
    def unacknowledged(self) -> int:
        """How many items are kept here because the engine has not committed them."""
        return self._state.unacknowledged

    @property
    def committed(self) -> dict[str, list[tuple[int, int]]]:
        """Volume indices on the engine's record per attempt, when it last welcomed this source."""
        return self._state.committed

    @property
    def connected(self) -> bool:
        """Whether the engine has welcomed this source and was heard within the last 3 s."""
        return self._state.connected

    @property
    def outdated(self) -> bool:
        """Whether the engine writes a record without this stream's beginning: start a new one."""
        return self._state.outdated

    @property
    def trouble(self) -> str:
        """Why the engine does not talk to this source, in one line; "" if nothing is known."""
        return self._state.refused or self._link.trouble

    def send(self, content: Volume | Note) -> int:
        """Give a volume or note its place in the stream and send it as soon as it may be.

        Never waits. The volume's array is not copied: leave it as it is until it is acknowledged.

        Returns
        -------
        int
            Its `seq`.

        Raises
        ------
        WireError
            If it cannot be sent, ever; it gets no place then. Send a note that says so.
        """
        item = self._state.preview(content)
        self._frames[item.seq] = item, encode(item)
        self._state.append(item)
        self._send_out()
        return item.seq

    def poll(
        self, timeout_s: float, wake: Iterable[Wakeable | int] = ()
    ) -> PeerLost | PeerBack | None:
        """Listen, repeat, keep the connection alive; returns early when there is news.

        Parameters
        ----------
        timeout_s : float
            How long to wait, seconds; 0 to look only.
        wake : iterable
            Other endpoints or file descriptors; input at one of them ends the wait.

        Returns
        -------
        PeerLost, PeerBack or None
            Whether the engine was lost or found since the last call. None also when items were
            acknowledged, or at the end of the wait.
        """
        before = self.connected, self.acknowledged
        deadline_s = self._clock() + timeout_s
        woken = False
        while True:
            self._take_in()
            self._send_out()
            if self.connected != before[0]:
                event = PeerBack if self.connected else PeerLost
                return event(self._state.source, self.epoch)
            now = self._clock()
            if woken or now >= deadline_s or self.acknowledged != before[1]:
                return None
            until_s = min(deadline_s, self._state.due_s(), self._link.due_s())
            woken = wait(self._link.sockets, wake, until_s - now)

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything sent is committed; False if that is not so in time."""
        deadline_s = self._clock() + timeout_s
        while self.unacknowledged and (left_s := deadline_s - self._clock()) > 0:
            self.poll(left_s)
        return not self.unacknowledged

    def close(self) -> None:
        """Disconnect at once; what is not committed is the owner's to keep."""
        self._link.close(linger_s=0.0)

    def _take_in(self) -> None:
        if self._link.attend(self._clock()):
            self._state.link_up()
        for frames in _arrived(self._link.socket):
            try:
                message = decode(frames)
            except WireError:
                # Whatever it was, the next message of the engine says where it stands.
                continue
            self._state.receive(message, self._clock())

    def _send_out(self) -> None:
        for message in self._state.tick(self._clock()):
            try:
                self._link.socket.send_multipart(self._encoded(message), zmq.NOBLOCK)
            except zmq.Again:
                # No connection: the next one begins with a hello, and goes on from there.
                break
        for seq in [seq for seq in self._frames if seq <= self.acknowledged]:
            del self._frames[seq]

    def _encoded(self, message: Message) -> list[bytes | memoryview]:
        if isinstance(message, VolumeItem | NoteItem):
            item, frames = self._frames.get(message.seq, (None, []))
            return frames if item is message else encode(message)
        return encode(message)


def _arrived(socket: zmq.Socket[bytes]) -> Iterator[list[memoryview]]:
    """Messages that wait at a socket, frame by frame, without a copy; a bounded number."""
    for _ in range(QUEUE):
        if not has_input(socket):
            return
        frames: list[memoryview] = []
        more = True
        while more:
            frame = socket.recv(zmq.NOBLOCK, copy=False)
            more = frame.more
            if len(frames) <= MAX_FRAMES:
                frames.append(frame.buffer)
        yield frames
