"""Broadcast and reports over real sockets: the newest wins, and nobody holds the engine up."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import psutil
import pytest
import zmq

from rtloop.errors import LinkError, WireError
from rtloop.link import Broadcaster, Listener, Malformed, Reporter, ReportSink
from rtloop.wire import Command, Feedback, Heartbeat, Shown, Telemetry, Trigger, pack
from tests.rtloop.links import LOOPBACK, tidy, until

__all__ = ["tidy"]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def feedback(number: int) -> Feedback:
    return Feedback(number, "attempt", number, "feedback", 50.0, "", None, 1.7e9, None)


def subscribed(broadcaster: Broadcaster, *listeners: Listener) -> None:
    """Publish until everybody hears it; a subscription takes its time."""
    heard: set[Listener] = set()

    def turn() -> None:
        broadcaster.publish(feedback(0))
        heard.update(listener for listener in listeners if listener.receive(0.01))

    until(lambda: len(heard) == len(listeners), turn)


def drained(listener: Listener) -> list[Any]:
    messages = []
    while (message := listener.receive(0.1)) is not None:
        messages.append(message)
    return messages


def test_everybody_hears_everything_in_order(stack: ExitStack) -> None:
    broadcaster = stack.enter_context(closing(Broadcaster(LOOPBACK)))
    listeners = [stack.enter_context(closing(Listener(broadcaster.endpoint))) for _ in range(2)]
    subscribed(broadcaster, *listeners)
    for number in range(1, 11):
        broadcaster.publish(feedback(number))
    broadcaster.publish(Telemetry("step", {"r": [0.5] * 500}))
    for listener in listeners:
        messages = [message for message in drained(listener) if message != feedback(0)]
        assert messages == [
            *(feedback(number) for number in range(1, 11)),
            Telemetry("step", {"r": [0.5] * 500}),
        ]


def test_a_display_hears_the_newest_only(stack: ExitStack) -> None:
    broadcaster = stack.enter_context(closing(Broadcaster(LOOPBACK)))
    display = stack.enter_context(closing(Listener(broadcaster.endpoint, newest_only=True)))
    console = stack.enter_context(closing(Listener(broadcaster.endpoint)))
    subscribed(broadcaster, display, console)
    for number in range(1, 11):
        broadcaster.publish(feedback(number))
    # Once the console has the last one, the display's copy has had its time too.
    assert drained(console)[-1] == feedback(10)
    assert drained(display) == [feedback(10)]


def test_a_stuck_listener_holds_nobody_up(stack: ExitStack) -> None:
    broadcaster = stack.enter_context(closing(Broadcaster(LOOPBACK)))
    context: zmq.Context[Any] = zmq.Context()
    stack.callback(context.term)
    stuck = context.socket(zmq.SUB)
    stack.callback(stuck.close)
    stuck.setsockopt(zmq.RCVHWM, 1)
    stuck.setsockopt(zmq.RCVBUF, 4096)
    stuck.subscribe(b"")
    stuck.connect(broadcaster.endpoint)
    display = stack.enter_context(closing(Listener(broadcaster.endpoint, newest_only=True)))
    subscribed(broadcaster, display)
    assert stuck.poll(1000)
    message = Telemetry("step", {"r": [0.5] * 65_536})
    for _ in range(50):
        broadcaster.publish(message)
    before = psutil.Process().memory_info().rss
    # 150 MB, far more than any buffer on the way takes: neither time nor memory pays for it.
    for _ in range(300):
        broadcaster.publish(message)
    assert psutil.Process().memory_info().rss - before < 50e6
    broadcaster.publish(feedback(99))
    newest: list[Any] = []

    def turn() -> None:
        broadcaster.publish(feedback(99))
        newest.append(display.receive(0.01))

    until(lambda: feedback(99) in newest, turn)


def test_a_listener_outlives_its_engine(stack: ExitStack) -> None:
    broadcaster = stack.enter_context(closing(Broadcaster(LOOPBACK)))
    endpoint = broadcaster.endpoint
    display = stack.enter_context(closing(Listener(endpoint, newest_only=True)))
    subscribed(broadcaster, display)
    broadcaster.close()
    while display.receive(0.0):
        pass
    again = stack.enter_context(closing(Broadcaster(endpoint)))
    subscribed(again, display)


def test_a_wait_for_nothing_ends_in_time_or_when_woken(stack: ExitStack) -> None:
    broadcaster = stack.enter_context(closing(Broadcaster(LOOPBACK)))
    reports = stack.enter_context(closing(ReportSink(LOOPBACK)))
    listener = stack.enter_context(closing(Listener(broadcaster.endpoint)))
    assert listener.receive(0.05) is None
    assert reports.receive(0.05) is None
    readable, writable = os.pipe()
    stack.callback(os.close, readable)
    stack.callback(os.close, writable)
    os.write(writable, b"x")
    assert listener.receive(60.0, wake=[readable]) is None
    assert reports.receive(60.0, wake=[readable]) is None


def test_what_is_no_broadcast_is_refused(stack: ExitStack) -> None:
    context: zmq.Context[Any] = zmq.Context()
    stack.callback(context.term)
    pub = context.socket(zmq.PUB)
    stack.callback(pub.close, 0)
    port = pub.bind_to_random_port("tcp://127.0.0.1")
    listener = stack.enter_context(closing(Listener(f"tcp://127.0.0.1:{port}")))
    for frame in (b"noise", pack(Heartbeat("e"))):

        def turn(frame: bytes = frame) -> None:
            pub.send(frame)
            listener.receive(0.01)

        with pytest.raises(WireError) as caught:
            until(lambda: False, turn)
        assert "\n" not in str(caught.value)


def test_reports_arrive_from_everybody(stack: ExitStack) -> None:
    reports = stack.enter_context(closing(ReportSink(LOOPBACK)))
    display, console = (stack.enter_context(closing(Reporter(reports.endpoint))) for _ in range(2))
    shown = Shown(1, "attempt", "feedback", 50.0, 1.7e9)
    assert display.send(shown)
    assert display.send(Trigger(1, 1.7e9, "serial"))
    assert console.send(Command("stop", "operator", "", 1.7e9))
    found = [reports.receive(2.0) for _ in range(3)]
    assert found.index(shown) < found.index(Trigger(1, 1.7e9, "serial"))
    assert Command("stop", "operator", "", 1.7e9) in found


def test_reports_wait_for_an_engine_that_is_away(stack: ExitStack) -> None:
    sink = ReportSink(LOOPBACK)
    endpoint = sink.endpoint
    sink.close()
    reporter = stack.enter_context(closing(Reporter(endpoint)))
    sent = [Shown(n, "attempt", "feedback", 50.0, 1.7e9) for n in range(2000)]
    assert all(reporter.send(shown) for shown in sent)
    sink = stack.enter_context(closing(ReportSink(endpoint)))
    assert [sink.receive(2.0) for _ in sent] == sent


def test_the_last_reports_leave_before_a_reporter_closes(stack: ExitStack) -> None:
    sink = stack.enter_context(closing(ReportSink(LOOPBACK)))
    reporter = Reporter(sink.endpoint)
    reporter.send(Trigger(1, 1.7e9, "serial"))
    reporter.close()
    assert sink.receive(2.0) == Trigger(1, 1.7e9, "serial")


def test_a_reporter_never_waits_and_says_when_it_drops(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtloop.link.broadcast.REPORT_QUEUE", 10)
    sink = ReportSink(LOOPBACK)
    endpoint = sink.endpoint
    sink.close()
    reporter = stack.enter_context(closing(Reporter(endpoint)))
    taken = [reporter.send(Trigger(n, 1.7e9, "serial")) for n in range(1, 21)]
    assert taken == [True] * 10 + [False] * 10
    reporter.close(linger_s=0.0)


def test_malformed_reports_are_told_and_harmless(stack: ExitStack) -> None:
    sink = stack.enter_context(closing(ReportSink(LOOPBACK)))
    context: zmq.Context[Any] = zmq.Context()
    stack.callback(context.term)
    push = context.socket(zmq.PUSH)
    stack.callback(push.close, 0)
    push.connect(sink.endpoint)
    push.send(b"noise")
    push.send(pack(Heartbeat("e")))
    push.send_multipart([pack(Trigger(1, 1.7e9, "x")), b"more"])
    push.send(pack(Trigger(2, 1.7e9, "x")))
    found = [sink.receive(2.0) for _ in range(4)]
    assert [type(event) for event in found] == [Malformed, Malformed, Malformed, Trigger]


@pytest.mark.parametrize("open_one", [Broadcaster, ReportSink])
def test_a_port_in_use_is_named(stack: ExitStack, open_one: Any) -> None:
    first = stack.enter_context(closing(open_one(LOOPBACK)))
    with pytest.raises(LinkError, match=f"{first.endpoint}.*in use"):
        open_one(first.endpoint)


def test_without_keys_there_is_no_thread(stack: ExitStack) -> None:
    before = threading.active_count()
    for open_one in (Broadcaster, ReportSink):
        stack.enter_context(closing(open_one(LOOPBACK)))
    assert threading.active_count() == before
