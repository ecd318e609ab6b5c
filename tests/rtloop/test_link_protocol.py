"""The volume stream's protocol against a simple model: no sockets, no clock, thousands of faults.

The model's world: a scanner whose volumes lie on disk, a gateway that sends what the record lacks,
an engine that commits and acknowledges in its own time, and a network that loses, doubles, damages
and delays, while either side is killed at any moment. Whatever happens, every volume is committed
once, in order.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rtloop.errors import WireError
from rtloop.link import (
    Malformed,
    PeerBack,
    PeerLost,
    SinkState,
    SourceRefused,
    SourceState,
)
from rtloop.volume import Volume
from rtloop.wire import (
    Ack,
    Heartbeat,
    Hello,
    MalformedItem,
    Message,
    NoteItem,
    Refused,
    Resend,
    VolumeItem,
    Welcome,
)

CREDIT = 8
DATA = np.zeros((1, 1, 1), np.int16, order="F")


def volume(index: int) -> Volume:
    return Volume("attempt", index, DATA, np.eye(4), 2.0, 1e9)


def item(epoch: str, seq: int, index: int | None = None) -> VolumeItem:
    return VolumeItem(epoch, seq, volume(seq if index is None else index))


def add(source: SourceState, index: int) -> None:
    source.append(source.preview(volume(index)))


def fresh_sink(credit: int = CREDIT) -> SinkState:
    return SinkState(lambda _: -1, dict, credit)


def greeted_sink(source: str = "gateway", epoch: str = "e") -> SinkState:
    sink = fresh_sink()
    sink.receive(f"{source}/{epoch}", Hello(source, epoch), 0.0)
    sink.tick(0.0)
    return sink


def welcomed_source(received: int = -1, credit: int = CREDIT) -> SourceState:
    source = SourceState("gateway", "e")
    assert source.tick(0.0) == [Hello("gateway", "e")]
    source.receive(Welcome("e", -1, credit, {}, received), 0.0)
    return source


class Record:
    """What the engine has on disk: every place of every epoch, in the order of the commits."""

    def __init__(self) -> None:
        self.places: list[tuple[str, int]] = []
        self.indices: list[int] = []
        self.refused: set[int] = set()

    def acknowledged(self, epoch: str) -> int:
        return max((seq for name, seq in self.places if name == epoch), default=-1)

    def committed(self) -> dict[str, list[tuple[int, int]]]:
        return {"attempt": [(index, index) for index in sorted(self.indices)]}

    def commit(self, event: VolumeItem | NoteItem | Malformed) -> None:
        assert event.epoch is not None
        assert event.seq is not None
        self.places.append((event.epoch, event.seq))
        if isinstance(event, VolumeItem):
            self.indices.append(event.volume.index)


@dataclass(frozen=True)
class Course:
    """How far things go in each round: few of each, and so some stay half done."""

    n_acquired: int
    rounds: int
    n_taken: int
    n_committed: int
    n_acknowledged: int


COURSES = st.builds(
    Course,
    st.integers(0, 12),
    st.integers(0, 4),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 9),
)


class Stream(RuleBasedStateMachine):
    """Both ends, the network between them, and the people who pull its plugs."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.record = Record()
        self.n_epochs = 0
        self.n_acquired = 0
        self.up: deque[tuple[str, Message]] = deque()
        self.down: deque[Message] = deque()
        self.sent_up: list[tuple[str, Message]] = []
        self.place_of: dict[tuple[str, int], int] = {}
        self.start_sink()
        self.start_source()

    def start_sink(self) -> None:
        self.sink = SinkState(self.record.acknowledged, self.record.committed, CREDIT)
        self.delivered: deque[VolumeItem | NoteItem | Malformed] = deque()
        self.unacknowledged: deque[tuple[str, int]] = deque()

    def start_source(self) -> None:
        self.n_epochs += 1
        self.source = SourceState("gateway", f"epoch{self.n_epochs}")
        self.n_sent: int | None = None

    def gateway(self) -> None:
        """What a gateway does: once welcomed, sends what is on disk and not on record."""
        if self.n_sent is None:
            if not self.source.connected:
                return
            self.n_sent = 0
            known = {low for low, _ in self.source.committed.get("attempt", [])}
        else:
            known = set()
        for index in range(self.n_sent, self.n_acquired):
            if index not in known:
                self.place_of[self.source.epoch, self.source.next_seq] = index
                add(self.source, index)
        self.n_sent = self.n_acquired

    def tick(self) -> None:
        self.gateway()
        peer = f"gateway/{self.source.epoch}"
        for message in self.source.tick(self.now):
            self.up.append((peer, message))
            self.sent_up.append((peer, message))
        self.down.extend(m for name, m in self.sink.tick(self.now) if name == peer)

    @rule(course=COURSES)
    def all_goes_well(self, course: Course) -> None:
        """The ordinary course of things; every fault falls into the middle of one."""
        self.n_acquired += course.n_acquired
        for _ in range(course.rounds):
            self.now += 0.3
            self.tick()
            self.carry_up(20)
            self.carry_down(20)
            self.owner_takes(course.n_taken)
            self.owner_commits(course.n_committed)
            self.owner_acknowledges(course.n_acknowledged)
        self.tick()

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.3, 1.1, 3.5]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.tick()

    @rule(n=st.integers(1, 20))
    def carry_up(self, n: int) -> None:
        for _ in range(min(n, len(self.up))):
            self.sink.receive(*self.up.popleft(), self.now)
        self.tick()

    @rule(n=st.integers(1, 20))
    def carry_down(self, n: int) -> None:
        for _ in range(min(n, len(self.down))):
            self.source.receive(self.down.popleft(), self.now)
        self.tick()

    @rule(n=st.integers(1, 10))
    def owner_takes(self, n: int) -> None:
        for _ in range(n):
            event = self.sink.next_event()
            if isinstance(event, VolumeItem | NoteItem) or (
                isinstance(event, Malformed) and event.seq is not None
            ):
                self.delivered.append(event)

    @rule(n=st.integers(1, 10))
    def owner_commits(self, n: int) -> None:
        for _ in range(min(n, len(self.delivered))):
            event = self.delivered.popleft()
            assert event.epoch is not None
            assert event.seq is not None
            if not isinstance(event, VolumeItem):
                self.record.refused.add(self.place_of[event.epoch, event.seq])
            self.record.commit(event)
            self.unacknowledged.append((event.epoch, event.seq))

    @rule(n=st.integers(1, 10))
    def owner_acknowledges(self, n: int) -> None:
        for _ in range(min(n, len(self.unacknowledged))):
            self.sink.acknowledge(*self.unacknowledged.popleft())
        self.tick()

    @rule(course=COURSES, data=st.data())
    def lose_upward(self, course: Course, data: st.DataObject) -> None:
        self.all_goes_well(course)
        if self.up:
            del self.up[data.draw(st.integers(0, len(self.up) - 1))]

    @rule(course=COURSES, data=st.data())
    def lose_downward(self, course: Course, data: st.DataObject) -> None:
        self.all_goes_well(course)
        if self.down:
            del self.down[data.draw(st.integers(0, len(self.down) - 1))]

    @rule(course=COURSES, data=st.data())
    def double_upward(self, course: Course, data: st.DataObject) -> None:
        self.all_goes_well(course)
        if self.up:
            at = data.draw(st.integers(0, len(self.up) - 1))
            self.up.insert(data.draw(st.integers(at, len(self.up))), self.up[at])

    @rule(course=COURSES, data=st.data())
    def repeat_upward(self, course: Course, data: st.DataObject) -> None:
        self.all_goes_well(course)
        if self.sent_up:
            self.up.append(data.draw(st.sampled_from(self.sent_up[-12:])))

    @rule(course=COURSES, data=st.data())
    def double_downward(self, course: Course, data: st.DataObject) -> None:
        self.all_goes_well(course)
        if self.down:
            self.down.append(data.draw(st.sampled_from(list(self.down))))

    @rule(course=COURSES, times=st.integers(1, 4))
    def damage(self, course: Course, times: int) -> None:
        """Something arrives that nobody can read, perhaps again and again."""
        self.all_goes_well(course)
        for _ in range(times):
            if self.up:
                name, _ = self.up.popleft()
                self.sink.damaged(name, WireError("checksum"), self.now)
            self.tick()
            self.carry_down(20)
            self.now += 0.3
            self.tick()

    @rule(course=COURSES)
    def malform(self, course: Course) -> None:
        """A volume arrives whole, and makes no sense."""
        self.all_goes_well(course)
        places = [n for n, (_, m) in enumerate(self.up) if isinstance(m, VolumeItem)]
        if not places:
            return
        self.carry_up(places[0])
        name, message = self.up.popleft()
        if isinstance(message, VolumeItem):
            error = MalformedItem("nan affine", message.epoch, message.seq)
            self.sink.damaged(name, error, self.now)
        self.tick()

    @rule(course=COURSES, noticed=st.booleans())
    def connection_breaks(self, course: Course, noticed: bool) -> None:
        self.all_goes_well(course)
        self.hang_up(noticed)

    @rule(course=COURSES, noticed=st.booleans())
    def engine_dies(self, course: Course, noticed: bool) -> None:
        self.all_goes_well(course)
        self.start_sink()
        self.hang_up(noticed)

    @rule(course=COURSES, read_on=st.booleans())
    def gateway_dies(self, course: Course, read_on: bool) -> None:
        """What it sent last may still be read; what it was told is gone with it."""
        self.all_goes_well(course)
        self.down.clear()
        self.sent_up.clear()
        if not read_on:
            self.up.clear()
        self.start_source()
        self.tick()

    @rule(course=COURSES)
    def stranger_knocks(self, course: Course) -> None:
        self.all_goes_well(course)
        self.sink.receive("stranger/s", Hello("stranger", "s"), self.now)
        self.tick()

    def hang_up(self, noticed: bool) -> None:
        self.up.clear()
        self.down.clear()
        self.sent_up.clear()
        if noticed:
            self.source.link_up()
        self.tick()

    @invariant()
    def credit_is_kept(self) -> None:
        assert self.source.in_flight <= CREDIT
        assert self.sink.queued <= CREDIT

    @invariant()
    def each_place_and_volume_once_in_order(self) -> None:
        for number in range(1, self.n_epochs + 1):
            name = f"epoch{number}"
            seqs = [seq for epoch, seq in self.record.places if epoch == name]
            assert seqs == list(range(len(seqs)))
        assert len(set(self.record.indices)) == len(self.record.indices)
        if not self.record.refused:
            assert self.record.indices == sorted(self.record.indices)

    @invariant()
    def nothing_is_acknowledged_that_is_not_on_record(self) -> None:
        assert self.source.acknowledged <= self.record.acknowledged(self.source.epoch)

    def teardown(self) -> None:
        """Left in peace, the stream delivers whatever is outstanding."""
        for _ in range(80):
            self.now += 0.26
            self.tick()
            self.carry_up(1000)
            self.owner_takes(1000)
            self.owner_commits(1000)
            self.owner_acknowledges(1000)
            self.carry_down(1000)
        self.each_place_and_volume_once_in_order()
        assert self.source.connected
        assert self.source.unacknowledged == 0
        missing = set(range(self.n_acquired)) - set(self.record.indices)
        assert missing <= self.record.refused


Stream.TestCase.settings = settings(max_examples=200, stateful_step_count=25, deadline=None)
TestStream = Stream.TestCase


# --- the source, message by message ------------------------------------------------------------


def test_a_source_says_hello_and_sends_nothing_before_it_is_welcomed() -> None:
    source = SourceState("gateway", "e")
    add(source, 0)
    assert source.tick(0.0) == [Hello("gateway", "e")]
    assert source.tick(0.99) == []
    assert source.tick(1.0) == [Hello("gateway", "e")]
    assert not source.connected
    source.receive(Welcome("e", -1, 8), 1.1)
    assert source.connected
    assert [message.seq for message in source.tick(1.1)] == [0]
    assert source.tick(1.2) == []


def test_credit_is_what_the_welcome_says_and_moves_with_acknowledgements() -> None:
    source = welcomed_source(credit=3)
    for index in range(10):
        add(source, index)
    assert [message.seq for message in source.tick(0.1)] == [0, 1, 2]
    assert source.tick(0.2) == []
    source.receive(Ack("e", 1), 0.3)
    assert [message.seq for message in source.tick(0.3)] == [3, 4]
    assert source.in_flight == 3
    assert source.unacknowledged == 8


def test_a_source_goes_on_after_what_the_engine_holds() -> None:
    source = welcomed_source()
    for index in range(6):
        add(source, index)
    source.tick(0.0)
    source.link_up()
    assert source.tick(0.1) == [Hello("gateway", "e")]
    source.receive(Welcome("e", 1, 8, {}, 3), 0.2)
    assert [message.seq for message in source.tick(0.2)] == [4, 5]
    assert source.acknowledged == 1


def test_a_source_has_a_heartbeat_that_says_how_much_it_sent() -> None:
    source = welcomed_source()
    assert source.tick(0.0) == [Heartbeat("e", -1)]
    add(source, 0)
    source.tick(0.5)
    source.receive(Heartbeat("e", -1), 1.0)
    assert source.tick(1.49) == []
    assert source.tick(1.5) == [Heartbeat("e", 0)]
    assert source.due_s() == 2.5


def test_a_silent_engine_is_greeted_again_and_then_lost() -> None:
    source = welcomed_source()
    source.tick(0.0)
    assert source.tick(1.4) == [Heartbeat("e", -1)]
    assert source.tick(1.5) == [Hello("gateway", "e")]
    assert source.connected
    source.tick(3.0)
    assert not source.connected


def test_an_engine_that_does_not_know_the_source_is_greeted_at_once() -> None:
    source = welcomed_source()
    source.tick(0.0)
    source.receive(Heartbeat(""), 0.1)
    assert source.tick(0.1) == [Hello("gateway", "e")]


def test_messages_for_another_epoch_change_nothing() -> None:
    source = welcomed_source()
    add(source, 0)
    source.tick(0.0)
    for message in (Ack("x", 0), Welcome("x", 0, 8), Resend("x", 0), Refused("x", "no")):
        source.receive(message, 0.1)
    assert source.unacknowledged == 1
    assert source.in_flight == 1
    assert source.refused == ""


def test_an_epoch_that_the_record_knows_better_is_refused_by_its_source() -> None:
    source = SourceState("gateway", "e")
    source.tick(0.0)
    source.receive(Welcome("e", 4, 8), 0.0)
    assert "new epoch" in source.refused
    assert not source.connected


def test_an_engine_with_another_record_is_told_and_nothing_is_sent_into_the_void() -> None:
    """What was acknowledged is no longer here: a record without it can never be filled."""
    source = welcomed_source()
    for index in range(4):
        add(source, index)
    source.tick(0.0)
    source.receive(Ack("e", 2), 0.1)
    source.link_up()
    source.tick(0.2)
    source.receive(Welcome("e", -1, 8), 0.3)
    assert "holds its first 3 items, found 0" in source.refused
    assert [m for m in source.tick(0.4) if isinstance(m, VolumeItem)] == []


def test_an_item_that_arrives_damaged_three_times_becomes_a_note() -> None:
    source = welcomed_source()
    add(source, 0)
    add(source, 1)
    source.tick(0.0)
    source.receive(Resend("e", 0), 0.1)
    for n in range(3):
        assert [type(m) for m in source.tick(0.1 + n / 10)] == [VolumeItem, VolumeItem]
        source.receive(Resend("e", 0, "checksum failed"), 0.1 + n / 10)
    note, after = source.tick(0.5)
    assert isinstance(note, NoteItem)
    assert (note.seq, note.note.kind, note.note.index) == (0, "refused", 0)
    assert "checksum failed" in note.note.reason
    assert isinstance(after, VolumeItem)


# --- the sink, message by message --------------------------------------------------------------


def test_a_sink_greets_with_what_is_on_record() -> None:
    sink = SinkState(lambda _: 6, lambda: {"attempt": [(0, 5)]})
    sink.receive("gateway/e", Hello("gateway", "e"), 0.0)
    expected = Welcome("e", 6, CREDIT, {"attempt": [(0, 5)]}, 6)
    assert sink.tick(0.0) == [("gateway/e", expected)]


def test_nothing_but_a_hello_opens_a_conversation() -> None:
    sink = fresh_sink()
    sink.receive("gateway/e", item("e", 0), 0.0)
    assert sink.tick(0.0) == [("gateway/e", Heartbeat(""))]
    assert sink.next_event() is None


def test_a_gap_is_asked_for_until_it_is_filled() -> None:
    sink = greeted_sink()
    sink.receive("gateway/e", item("e", 0), 0.0)
    sink.receive("gateway/e", item("e", 2), 0.0)
    assert sink.tick(0.0) == [("gateway/e", Resend("e", 1))]
    assert sink.tick(0.2) == []
    assert sink.due_s() == 0.25
    assert sink.tick(0.25) == [("gateway/e", Resend("e", 1))]
    sink.receive("gateway/e", item("e", 1), 0.3)
    sink.receive("gateway/e", Heartbeat("e", 2), 0.3)
    assert sink.tick(0.3) == [("gateway/e", Resend("e", 2))]
    sink.receive("gateway/e", item("e", 2), 0.4)
    assert sink.tick(0.9) == []
    assert [sink.next_event().seq for _ in range(3)] == [0, 1, 2]


def test_a_message_nobody_can_read_is_told_and_asked_for_with_its_reason() -> None:
    sink = greeted_sink()
    sink.damaged("gateway/e", WireError("checksum"), 0.0)
    assert sink.tick(0.0) == [("gateway/e", Resend("e", 0, "checksum"))]
    assert sink.next_event() == Malformed("checksum", "gateway")
    # Asked for again, it just did not come: only a new arrival counts as damaged again.
    assert sink.tick(0.25) == [("gateway/e", Resend("e", 0))]
    # It was no item: the source says that there is nothing more.
    sink.receive("gateway/e", Heartbeat("e", -1), 0.3)
    assert sink.tick(0.6) == []


def test_a_malformed_item_holds_its_place_and_is_acknowledged() -> None:
    sink = greeted_sink()
    sink.damaged("gateway/e", MalformedItem("nan affine", "e", 1), 0.0)
    assert sink.next_event() is None
    sink.receive("gateway/e", item("e", 0), 0.0)
    sink.damaged("gateway/e", MalformedItem("nan affine", "e", 1), 0.0)
    sink.receive("gateway/e", item("e", 2), 0.0)
    events = [sink.next_event() for _ in range(3)]
    assert events[1] == Malformed("nan affine", "gateway", "e", 1)
    assert isinstance(events[2], VolumeItem)
    sink.tick(0.0)
    sink.acknowledge("e", 1)
    assert sink.tick(0.0) == [("gateway/e", Ack("e", 1))]


def test_an_item_beyond_the_credit_is_not_kept() -> None:
    sink = greeted_sink()
    for seq in range(CREDIT + 1):
        sink.receive("gateway/e", item("e", seq), 0.0)
    assert sink.queued == CREDIT
    assert sink.tick(0.0) == []
    sink.next_event()
    sink.acknowledge("e", 0)
    assert sink.tick(0.0) == [("gateway/e", Ack("e", 0)), ("gateway/e", Resend("e", CREDIT))]


def test_a_known_item_is_acknowledged_again_and_not_delivered_again() -> None:
    sink = greeted_sink()
    sink.receive("gateway/e", item("e", 0), 0.0)
    sink.next_event()
    sink.acknowledge("e", 0)
    sink.tick(0.0)
    sink.receive("gateway/e", item("e", 0), 0.1)
    assert sink.tick(0.1) == [("gateway/e", Ack("e", 0))]
    assert sink.next_event() is None


def test_what_was_not_delivered_cannot_be_acknowledged() -> None:
    sink = greeted_sink()
    sink.receive("gateway/e", item("e", 0), 0.0)
    with pytest.raises(ValueError, match="not delivered"):
        sink.acknowledge("e", 0)
    sink.next_event()
    with pytest.raises(ValueError, match="not delivered"):
        sink.acknowledge("other", 0)


def test_a_silent_source_is_lost_after_three_seconds_and_back_with_its_first_word() -> None:
    sink = greeted_sink()
    beats = [now for now in np.arange(0.1, 2.95, 0.1) if sink.tick(now)]
    assert np.allclose(beats, [1.0, 2.0])
    assert sink.next_event() is None
    assert sink.connected
    sink.tick(3.0)
    assert sink.next_event() == PeerLost("gateway", "e")
    assert not sink.connected
    assert sink.due_s() == float("inf")
    sink.receive("gateway/e", item("e", 0), 9.0)
    assert sink.next_event() == PeerBack("gateway", "e")
    assert isinstance(sink.next_event(), VolumeItem)


def test_a_second_source_is_refused_until_the_first_is_lost() -> None:
    sink = greeted_sink()
    for _ in range(2):
        sink.receive("second/s", Hello("second", "s"), 0.5)
    answers = sink.tick(0.5)
    assert [(name, type(message)) for name, message in answers] == [("second/s", Refused)] * 2
    refusal = sink.next_event()
    assert isinstance(refusal, SourceRefused)
    assert "gateway" in refusal.reason
    assert sink.next_event() is None
    sink.tick(3.0)
    sink.receive("second/s", Hello("second", "s"), 3.1)
    assert sink.tick(3.1) == [("second/s", Welcome("s", -1, CREDIT))]
    assert [sink.next_event(), sink.next_event()] == [
        PeerLost("gateway", "e"),
        PeerBack("second", "s"),
    ]


def test_a_restarted_source_is_welcomed_when_all_that_came_before_is_committed() -> None:
    sink = greeted_sink()
    sink.receive("gateway/e", item("e", 0), 0.0)
    sink.receive("gateway/e", item("e", 1), 0.0)
    sink.next_event()
    sink.receive("gateway/f", Hello("gateway", "f"), 0.1)
    sink.acknowledge("e", 0)
    assert sink.tick(0.1) == []
    assert sink.next_event().seq == 1
    sink.acknowledge("e", 1)
    assert sink.tick(0.2) == [("gateway/f", Welcome("f", -1, CREDIT))]
    assert sink.next_event() == PeerBack("gateway", "f")


def test_a_process_thought_dead_is_told_that_it_was_replaced() -> None:
    sink = greeted_sink()
    sink.receive("gateway/e", item("e", 0), 0.0)
    sink.receive("gateway/f", Hello("gateway", "f"), 0.1)
    sink.receive("gateway/e", Hello("gateway", "e"), 0.2)
    assert [type(m) for _, m in sink.tick(0.2)] == [Refused]
    sink.next_event()
    sink.acknowledge("e", 0)
    assert [type(m) for _, m in sink.tick(0.3)] == [Welcome]
    sink.receive("gateway/e", Hello("gateway", "e"), 0.4)
    answers = sink.tick(0.4)
    assert [type(m) for _, m in answers] == [Refused]
    assert answers[0][1].epoch == "e"


def test_a_source_that_repeats_its_nonsense_is_told_of_once_a_minute() -> None:
    sink = fresh_sink()
    for now in (0.0, 1.0, 59.0, 61.0):
        sink.damaged("old/e", WireError("wire version 9"), now)
    events = [sink.next_event() for _ in range(3)]
    assert events == [Malformed("wire version 9", "old")] * 2 + [None]


def test_messages_that_are_not_for_an_engine_are_told() -> None:
    sink = greeted_sink()
    sink.receive("gateway/e", Ack("e", 3), 0.0)
    sink.receive("gateway/e", Hello("someone else", "e"), 0.0)
    assert [type(sink.next_event()) for _ in range(3)] == [Malformed, Malformed, type(None)]
    assert sink.tick(0.0) == []
