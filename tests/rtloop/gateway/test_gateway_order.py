"""The gateway's order against a simple model: each volume once, in order unless late, none lost."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rtloop.gateway.order import Order

WAIT_S = 1.0
Key = tuple[str, int]

attempts = st.sampled_from(["a", "b"])
indices = st.integers(0, 12)


class OrderMachine(RuleBasedStateMachine):
    """Model: what was offered, what may still come before it, and until when it may be held."""

    @initialize(recorded=st.sets(indices, max_size=6))
    def begin(self, recorded: set[int]) -> None:
        self.order: Order[Key] = Order()
        self.now_s = 0.0
        self.recorded = {("a", index) for index in recorded}
        self.offered: dict[Key, float] = {}
        self.left: list[Key] = []
        self.order.seed("a", [(index, index) for index in sorted(recorded)])

    def take(self, leaving: list[Key]) -> None:
        for key in leaving:
            assert key in self.offered, "left without having come"
            assert key not in self.left, "left twice"
            self.left.append(key)

    def beyond(self, key: Key) -> bool:
        """Whether a successor of this volume has left or is on record."""
        return any(k[0] == key[0] and k[1] > key[1] for k in {*self.left, *self.recorded})

    @rule(attempt=attempts, index=indices)
    def offer(self, attempt: str, index: int) -> None:
        key = (attempt, index)
        known = key in self.offered or key in self.recorded
        assert self.order.knows(attempt, index) == known
        late = self.beyond(key)
        before = len(self.left)
        if not known:
            self.offered[key] = self.now_s
        self.take(self.order.offer(attempt, index, key, now_s=self.now_s, wait_s=WAIT_S))
        if known:
            assert len(self.left) == before, "a repeated volume let something go"
        elif late:
            assert self.left[before:] == [key], "a straggler leaves at once and alone"
        else:
            assert self.left[before:] == sorted(self.left[before:])

    @rule(attempt=attempts, index=indices)
    def refuse(self, attempt: str, index: int) -> None:
        before = len(self.left)
        self.take(self.order.give_up(attempt, index))
        assert self.left[before:] == sorted(self.left[before:])

    @rule(step_s=st.floats(0.1, 2.0))
    def wait(self, step_s: float) -> None:
        self.now_s += step_s
        before = len(self.left)
        self.take(self.order.due(self.now_s))
        for name in ("a", "b"):
            mine = [key for key in self.left[before:] if key[0] == name]
            assert mine == sorted(mine)

    @rule(attempt=attempts)
    def end_of_series(self, attempt: str) -> None:
        before = len(self.left)
        self.take(self.order.flush(attempt))
        assert self.left[before:] == sorted(self.left[before:])
        assert not self.waiting(attempt)

    @precondition(lambda self: hasattr(self, "order"))
    @invariant()
    def none_held_too_long(self) -> None:
        held = [self.offered[key] + WAIT_S for key in self.waiting()]
        assert self.order.deadline_s() == min(held, default=None)

    @precondition(lambda self: hasattr(self, "order"))
    @invariant()
    def none_held_without_reason(self) -> None:
        for name, index in self.waiting():
            known = {k[1] for k in {*self.left, *self.recorded} if k[0] == name}
            assert not set(range(index)) <= known, "held though all before it has left"

    def waiting(self, attempt: str | None = None) -> list[Key]:
        return [key for key in self.offered if key not in self.left and attempt in (None, key[0])]

    def teardown(self) -> None:
        if hasattr(self, "order"):
            self.take(self.order.due(self.now_s + WAIT_S))
            assert sorted(self.left) == sorted(self.offered)


OrderMachine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestOrder = OrderMachine.TestCase


@given(st.permutations(range(15)))
def test_any_arrival_order_within_the_wait_leaves_sorted(arrival: list[int]) -> None:
    order: Order[int] = Order()
    left: list[int] = []
    for index in arrival:
        left += order.offer("a", index, index, now_s=0.0, wait_s=1.0)
    assert left == list(range(15))


def test_a_gap_is_waited_for_once_and_the_straggler_still_leaves() -> None:
    order: Order[int] = Order()
    assert order.offer("a", 0, 0, now_s=0.0, wait_s=0.5) == [0]
    assert order.offer("a", 2, 2, now_s=1.0, wait_s=0.5) == []
    assert order.due(1.4) == []
    assert order.due(1.5) == [2]
    assert order.offer("a", 3, 3, now_s=2.0, wait_s=0.5) == [3]
    assert order.offer("a", 1, 1, now_s=2.1, wait_s=0.5) == [1]
    assert order.gone("a") == 4


def test_what_was_refused_is_not_waited_for() -> None:
    order: Order[int] = Order()
    assert order.offer("a", 1, 1, now_s=0.0, wait_s=0.5) == []
    assert order.give_up("a", 0) == [1]
    assert order.give_up("a", 2) == []
    assert order.offer("a", 3, 3, now_s=0.0, wait_s=0.5) == [3]


def test_a_run_that_was_joined_midway_goes_on_where_the_record_ends() -> None:
    order: Order[int] = Order()
    order.seed("a", [(30, 39), (41, 44)])
    assert order.knows("a", 35)
    assert not order.knows("a", 40)
    assert order.offer("a", 45, 45, now_s=0.0, wait_s=0.5) == [45]
    assert order.offer("a", 35, 35, now_s=0.0, wait_s=0.5) == []
