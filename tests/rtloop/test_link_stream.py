"""The volume stream over real sockets: nothing lost, nothing twice, whoever dies and when."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from rtloop.errors import LinkError, WireError
from rtloop.link import (
    Malformed,
    PeerBack,
    PeerLost,
    SourceRefused,
    StreamSink,
    StreamSource,
)
from rtloop.wire import (
    Heartbeat,
    Hello,
    Message,
    Note,
    NoteItem,
    Resend,
    VolumeItem,
    Welcome,
    decode,
    encode,
    pack,
)
from tests.rtloop.links import LOOPBACK, Clock, Engine, meet, tidy, until, volume
from tests.rtloop.test_wire import resealed

__all__ = ["tidy"]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_volumes_and_notes_arrive_in_order_and_are_acknowledged(stack: ExitStack) -> None:
    engine = Engine()
    sink = stack.enter_context(closing(engine.sink(LOOPBACK)))
    source = stack.enter_context(closing(StreamSource(sink.endpoint)))
    places = [source.send(volume(index)) for index in range(20)]
    places.append(source.send(Note("series_closed", "attempt", None, "complete", 1.7e9)))
    assert places == list(range(21))
    assert source.unacknowledged == 21
    until(
        lambda: source.unacknowledged == 0,
        lambda: engine.turn(sink),
        lambda: source.poll(0.002),
    )
    assert engine.places == [(source.epoch, seq) for seq in range(21)]
    assert isinstance(engine.events[-1], NoteItem)
    assert source.acknowledged == 20
    assert source.drain(0.0)


def test_a_large_volume_arrives_bit_by_bit_without_a_copy(stack: ExitStack) -> None:
    sink = stack.enter_context(closing(StreamSink(LOOPBACK)))
    source = stack.enter_context(closing(StreamSource(sink.endpoint)))
    sent = volume(3, (104, 104, 72))
    sent.data[:] = np.random.default_rng(2).integers(-4000, 4000, sent.shape)
    source.send(sent)
    received: list[VolumeItem] = []

    def listen() -> None:
        event = sink.receive(0.002)
        if isinstance(event, VolumeItem):
            received.append(event)

    until(lambda: bool(received), listen, lambda: source.poll(0.002))
    found = received[0].volume
    np.testing.assert_array_equal(found.data, sent.data)
    assert found.data.flags.f_contiguous
    assert found.data.flags.aligned
    assert not found.data.flags.owndata


def test_no_more_is_in_flight_than_the_credit(stack: ExitStack) -> None:
    engine = Engine()
    sink = stack.enter_context(closing(engine.sink(LOOPBACK, credit=3)))
    source = stack.enter_context(closing(StreamSource(sink.endpoint)))
    for index in range(10):
        source.send(volume(index))
    for _ in range(100):
        engine.turn(sink, acknowledge=False)
        source.poll(0.001)
    assert engine.indices == [0, 1, 2]
    sink.acknowledge(source.epoch, 1)
    for _ in range(100):
        engine.turn(sink, acknowledge=False)
        source.poll(0.001)
    assert engine.indices == [0, 1, 2, 3, 4]
    assert source.unacknowledged == 8


@pytest.mark.parametrize("committed_before", [0, 3, 17])
def test_an_engine_killed_at_any_moment_gets_the_rest_and_nothing_twice(
    stack: ExitStack, committed_before: int
) -> None:
    engine = Engine()
    sink = stack.enter_context(closing(engine.sink(LOOPBACK)))
    endpoint = sink.endpoint
    source = stack.enter_context(closing(StreamSource(endpoint)))
    for index in range(20):
        source.send(volume(index))
    until(
        lambda: len(engine.places) >= committed_before,
        lambda: engine.turn(sink, acknowledge=len(engine.places) % 3 != 1),
        lambda: source.poll(0.002),
    )
    meet(sink, source)
    sink.close()
    source.poll(0.05)
    source.send(volume(20))
    sink = stack.enter_context(closing(engine.sink(endpoint)))
    until(
        lambda: source.unacknowledged == 0,
        lambda: engine.turn(sink),
        lambda: source.poll(0.002),
    )
    assert engine.indices == list(range(21))


def test_a_gateway_killed_and_started_anew_sends_what_is_missing(stack: ExitStack) -> None:
    engine = Engine()
    sink = stack.enter_context(closing(engine.sink(LOOPBACK)))
    first = stack.enter_context(closing(StreamSource(sink.endpoint)))
    for index in range(12):
        first.send(volume(index))
    until(
        lambda: len(engine.indices) == 5,
        lambda: engine.turn(sink),
        lambda: first.poll(0.002),
    )
    first.close()
    second = stack.enter_context(closing(StreamSource(sink.endpoint)))
    until(lambda: second.connected, lambda: engine.turn(sink), lambda: second.poll(0.002))
    known = {index for low, high in second.committed["attempt"] for index in range(low, high + 1)}
    assert known == set(engine.indices)
    for index in range(12):
        if index not in known:
            second.send(volume(index))
    until(
        lambda: PeerBack("gateway", second.epoch) in engine.events and not second.unacknowledged,
        lambda: engine.turn(sink),
        lambda: second.poll(0.002),
    )
    assert engine.indices == list(range(12))


def test_a_peer_is_lost_after_three_seconds_and_found_again(stack: ExitStack) -> None:
    sink_clock, source_clock = Clock(), Clock()
    sink = stack.enter_context(closing(StreamSink(LOOPBACK, clock=sink_clock)))
    endpoint = sink.endpoint
    source = stack.enter_context(closing(StreamSource(endpoint, clock=source_clock)))
    assert not source.connected
    news: list[object] = []
    until(lambda: bool(news), lambda: sink.receive(0), lambda: news.append(source.poll(0.01)))
    meet(sink, source)
    # Whatever is on its way arrives before the silence begins.
    sink.receive(0.1)
    sink_clock.ahead_s = 3.1
    assert sink.receive(0.0) == PeerLost("gateway", source.epoch)
    assert not sink.connected
    found: list[object] = []
    until(
        lambda: PeerBack("gateway", source.epoch) in found,
        lambda: source.poll(0.02),
        lambda: found.append(sink.receive(0.02)),
    )
    sink.close()
    source.poll(0.0)
    source_clock.ahead_s = 3.1
    assert source.poll(0.0) == PeerLost("gateway", source.epoch)
    sink = stack.enter_context(closing(StreamSink(endpoint)))
    until(
        lambda: PeerBack("gateway", source.epoch) in news,
        lambda: sink.receive(0.002),
        lambda: news.append(source.poll(0.002)),
    )


def test_a_busy_engine_does_not_take_its_source_for_lost(stack: ExitStack) -> None:
    clock = Clock()
    sink = stack.enter_context(closing(StreamSink(LOOPBACK, clock=clock)))
    source = stack.enter_context(closing(StreamSource(sink.endpoint)))
    meet(sink, source)
    source.send(volume(0))
    source.poll(0.1)
    clock.ahead_s = 60.0
    assert isinstance(sink.receive(0.5), VolumeItem)
    assert sink.connected


def test_a_second_source_is_refused_and_told_why(stack: ExitStack) -> None:
    sink = stack.enter_context(closing(StreamSink(LOOPBACK)))
    first = stack.enter_context(closing(StreamSource(sink.endpoint)))
    meet(sink, first)
    second = stack.enter_context(closing(StreamSource(sink.endpoint, source="scanner")))
    events: list[object] = []
    until(
        lambda: bool(second.trouble),
        lambda: events.append(sink.receive(0.002)),
        lambda: first.poll(0.002),
        lambda: second.poll(0.002),
    )
    assert "gateway" in second.trouble
    assert "\n" not in second.trouble
    assert not second.connected
    assert sum(isinstance(event, SourceRefused) for event in events) == 1


class Stranger:
    """A DEALER that says what it likes."""

    def __init__(self, endpoint: str, name: str = "gateway/e") -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.setsockopt_string(zmq.ROUTING_ID, name)
        self.socket.connect(endpoint)

    def say(self, *frames: bytes) -> None:
        self.socket.send_multipart(frames)

    def close(self) -> None:
        self.socket.close()
        self._context.term()


def events_of(sink: StreamSink, n: int) -> list[Any]:
    found: list[Any] = []
    until(lambda: len(found) >= n, lambda: found.extend(filter(None, [sink.receive(0.1)])))
    return found


def test_a_malformed_item_blocks_nothing(stack: ExitStack) -> None:
    sink = stack.enter_context(closing(StreamSink(LOOPBACK)))
    stranger = stack.enter_context(closing(Stranger(sink.endpoint)))
    header, payload = (bytes(frame) for frame in encode(VolumeItem("e", 0, volume(0))))
    stranger.say(*encode(Hello("gateway", "e")))
    stranger.say(resealed(header, affine=[float("nan")] * 16), payload)
    stranger.say(*(bytes(frame) for frame in encode(VolumeItem("e", 1, volume(1)))))
    malformed, item = events_of(sink, 2)
    assert (type(malformed), malformed.epoch, malformed.seq) == (Malformed, "e", 0)
    assert "affine" in malformed.reason
    assert item.seq == 1
    sink.acknowledge("e", 1)
    answers = [decode([stranger.socket.recv()]) for _ in range(2)]
    assert isinstance(answers[0], Welcome)
    assert answers[1].seq == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([], "1 or 2 frames"),
        ([b"x"], "bytes"),
        ([b"not at all a message"], "checksum"),
        ([bytes(65_537)], "bytes"),
        ([b"1", b"2", b"3", b"4", b"5", b"6"], "1 or 2 frames"),
    ],
    ids=["nothing", "short", "noise", "oversized", "many frames"],
)
def test_noise_is_told_and_harmless(stack: ExitStack, frames: list[bytes], reason: str) -> None:
    engine = Engine()
    sink = stack.enter_context(closing(engine.sink(LOOPBACK)))
    source = stack.enter_context(closing(StreamSource(sink.endpoint)))
    meet(sink, source)
    stranger = stack.enter_context(closing(Stranger(sink.endpoint, "noise/n")))
    stranger.say(*(frames or [b""]))
    source.send(volume(0))
    until(
        lambda: len(engine.events) == 2,
        lambda: engine.turn(sink),
        lambda: source.poll(0.002),
    )
    malformed = next(event for event in engine.events if isinstance(event, Malformed))
    assert (malformed.source, malformed.seq) == ("noise", None)
    assert reason in malformed.reason or frames == []
    assert engine.indices == [0]


def test_a_source_of_another_version_is_named(stack: ExitStack) -> None:
    sink = stack.enter_context(closing(StreamSink(LOOPBACK)))
    stranger = stack.enter_context(closing(Stranger(sink.endpoint)))
    hello = bytes(encode(Hello("gateway", "e"))[0])
    stranger.say(resealed(hello, v=2))
    [malformed] = events_of(sink, 1)
    assert "version" in malformed.reason
    assert msgpack.unpackb(hello[4:])["v"] == 1


def test_a_damaged_volume_is_asked_for_again(stack: ExitStack) -> None:
    sink = stack.enter_context(closing(StreamSink(LOOPBACK)))
    stranger = stack.enter_context(closing(Stranger(sink.endpoint)))
    header, payload = (bytes(frame) for frame in encode(VolumeItem("e", 0, volume(0))))
    stranger.say(*encode(Hello("gateway", "e")))
    stranger.say(header, payload[:-1] + b"\x01")
    [malformed] = events_of(sink, 1)
    assert malformed.seq is None
    stranger.socket.recv()
    resend = decode([stranger.socket.recv()])
    assert resend.seq == 0  # type: ignore[union-attr]
    stranger.say(header, payload)
    assert isinstance(events_of(sink, 1)[0], VolumeItem)


def test_what_can_never_be_sent_gets_no_place(stack: ExitStack) -> None:
    sink = stack.enter_context(closing(StreamSink(LOOPBACK)))
    source = stack.enter_context(closing(StreamSource(sink.endpoint)))
    bad = volume(0)
    bad.affine[0, 0] = np.nan
    with pytest.raises(WireError, match="affine"):
        source.send(bad)
    assert source.send(volume(1)) == 0


def test_a_hung_gateway_does_not_hold_its_successor_up(stack: ExitStack) -> None:
    engine = Engine()
    sink = stack.enter_context(closing(engine.sink(LOOPBACK)))
    hung = stack.enter_context(closing(StreamSource(sink.endpoint)))
    meet(sink, hung)
    successor = stack.enter_context(closing(StreamSource(sink.endpoint)))
    successor.send(volume(0))
    until(
        lambda: engine.indices == [0],
        lambda: engine.turn(sink),
        lambda: successor.poll(0.002),
    )
    until(lambda: bool(hung.trouble), lambda: engine.turn(sink), lambda: hung.poll(0.002))
    assert "started anew" in hung.trouble
    assert not hung.connected


def test_a_new_connection_of_the_same_process_takes_over_from_a_dead_one(
    stack: ExitStack,
) -> None:
    sink = stack.enter_context(closing(StreamSink(LOOPBACK)))
    for _ in range(2):
        # The first is left open, as by a cable that was pulled.
        stranger = stack.enter_context(closing(Stranger(sink.endpoint)))
        stranger.say(*encode(Hello("gateway", "e")))
        until(
            lambda stranger=stranger: bool(stranger.socket.poll(1)),  # type: ignore[misc]
            lambda: sink.receive(0.002),
        )
        assert isinstance(decode([stranger.socket.recv()]), Welcome)


def test_a_source_that_left_before_it_was_answered_is_no_trouble(stack: ExitStack) -> None:
    sink = stack.enter_context(closing(StreamSink(LOOPBACK)))
    stranger = Stranger(sink.endpoint)
    stranger.say(*encode(Heartbeat("e")))
    assert sink.socket.poll(5000)
    stranger.close()
    for _ in range(20):
        assert sink.receive(0.01) is None


class Puppet:
    """A ROUTER in the engine's place that says what it likes."""

    def __init__(self, bind: str = LOOPBACK) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.bind(bind)
        self.endpoint = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def hear(self) -> Message | None:
        """The next message of the source, if one comes at once."""
        if not self.socket.poll(20):
            return None
        self.peer, *frames = self.socket.recv_multipart()
        return decode(frames)

    def hear_all(self, source: StreamSource) -> list[Message]:
        """What the source says until it has nothing more to say."""
        heard: list[Message] = []
        source.poll(0.02)
        while (message := self.hear()) is not None:
            heard.append(message)
            source.poll(0.02)
        return heard

    def say(self, frame: bytes) -> None:
        self.socket.send_multipart([self.peer, frame])

    def close(self) -> None:
        self.socket.close()
        self._context.term()


def test_nothing_queues_while_the_engine_is_away(stack: ExitStack) -> None:
    with closing(Puppet()) as puppet:
        endpoint = puppet.endpoint
    clock = Clock()
    source = stack.enter_context(closing(StreamSource(endpoint, clock=clock)))
    for _ in range(20):
        clock.ahead_s += 1.0
        source.poll(0.0)
    puppet = stack.enter_context(closing(Puppet(endpoint)))
    heard: list[Message] = []
    until(lambda: bool(heard), lambda: heard.extend(puppet.hear_all(source)))
    assert heard == [Hello("gateway", source.epoch)]


def test_noise_from_the_engine_s_side_is_harmless(stack: ExitStack) -> None:
    puppet = stack.enter_context(closing(Puppet()))
    source = stack.enter_context(closing(StreamSource(puppet.endpoint)))
    heard: list[Message] = []
    until(lambda: bool(heard), lambda: heard.extend(puppet.hear_all(source)))
    puppet.say(b"noise")
    puppet.say(pack(Welcome(source.epoch, -1, 8)))
    until(lambda: source.connected, lambda: source.poll(0.01))


def test_an_item_nobody_can_read_leaves_as_a_note_in_the_end(stack: ExitStack) -> None:
    puppet = stack.enter_context(closing(Puppet()))
    source = stack.enter_context(closing(StreamSource(puppet.endpoint)))
    source.send(volume(7))
    heard: list[Message] = []
    until(lambda: bool(heard), lambda: heard.extend(puppet.hear_all(source)))
    puppet.say(pack(Welcome(source.epoch, -1, 8)))
    for _ in range(3):
        until(
            lambda: isinstance(heard[-1], VolumeItem),
            lambda: heard.extend(puppet.hear_all(source)),
        )
        heard.append(Hello("gateway", "asked again"))
        puppet.say(pack(Resend(source.epoch, 0, "checksum failed")))
    until(
        lambda: isinstance(heard[-1], NoteItem),
        lambda: heard.extend(puppet.hear_all(source)),
    )
    note = heard[-1]
    assert isinstance(note, NoteItem)
    assert (note.seq, note.note.kind, note.note.index) == (0, "refused", 7)


def test_a_source_lets_go_of_what_is_committed(stack: ExitStack) -> None:
    engine = Engine()
    sink = stack.enter_context(closing(engine.sink(LOOPBACK)))
    source = stack.enter_context(closing(StreamSource(sink.endpoint)))
    sent = volume(0)
    voxels = weakref.ref(sent.data)
    source.send(sent)
    del sent
    assert voxels() is not None
    until(
        lambda: source.unacknowledged == 0,
        lambda: engine.turn(sink),
        lambda: source.poll(0.002),
    )
    assert voxels() is None


def test_input_elsewhere_ends_the_wait(stack: ExitStack) -> None:
    sink = stack.enter_context(closing(StreamSink(LOOPBACK)))
    source = stack.enter_context(closing(StreamSource(sink.endpoint)))
    other = stack.enter_context(closing(StreamSink(LOOPBACK)))
    stranger = stack.enter_context(closing(Stranger(other.endpoint)))
    stranger.say(b"x")
    assert sink.receive(60.0, wake=[other]) is None
    readable, writable = os.pipe()
    stack.callback(os.close, readable)
    stack.callback(os.close, writable)
    os.write(writable, b"x")
    assert sink.receive(60.0, wake=[readable]) is None
    assert source.poll(60.0, wake=[readable]) is None


def test_drain_says_whether_everything_is_committed(stack: ExitStack) -> None:
    sink = stack.enter_context(closing(StreamSink(LOOPBACK)))
    source = stack.enter_context(closing(StreamSource(sink.endpoint)))
    source.send(volume(0))
    assert not source.drain(0.05)
    assert source.unacknowledged == 1


def test_a_port_in_use_is_named(stack: ExitStack) -> None:
    sink = stack.enter_context(closing(StreamSink(LOOPBACK)))
    with pytest.raises(LinkError, match=f"{sink.endpoint}.*in use") as caught:
        StreamSink(sink.endpoint)
    assert "\n" not in str(caught.value)


def test_a_closed_sink_frees_its_port_at_once() -> None:
    endpoint = LOOPBACK
    for _ in range(5):
        with closing(StreamSink(endpoint)) as sink:
            endpoint = sink.endpoint


def test_inproc_and_ipc_carry_the_stream(stack: ExitStack, tmp_path: object) -> None:
    context: zmq.Context[Any] = zmq.Context()
    stack.callback(context.term)
    engine = Engine()
    for endpoint, shared in (("inproc://volumes", context), (f"ipc://{tmp_path}/s", None)):
        sink = stack.enter_context(closing(engine.sink(endpoint, context=shared)))
        source = stack.enter_context(closing(StreamSource(endpoint, context=shared)))
        source.send(volume(0))

        def take(sink: StreamSink = sink) -> None:
            engine.turn(sink)

        def listen(source: StreamSource = source) -> None:
            source.poll(0.002)

        until(lambda source=source: source.unacknowledged == 0, take, listen)  # type: ignore[misc]
    assert engine.indices == [0, 0]
