"""When a file is tried, when again, and when it is given up: on a clock the test moves."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from rtloop.gateway.tries import LONGEST_PAUSE_S, MOST_GIVEN_UP, SETTLE_S, Tries
from rtloop.gateway.watch import Arrival

WAIT_S = 2.0


def arrival(path: Path, *, sure: bool = True, modified_ns: int | None = None) -> Arrival:
    return Arrival(str(path), 1000.0, sure, modified_ns)


def test_a_closed_file_is_tried_at_once_and_a_growing_one_is_not(tmp_path: Path) -> None:
    closed, growing = tmp_path / "closed", tmp_path / "growing"
    closed.write_bytes(b"x")
    growing.write_bytes(b"x")
    tries = Tries(WAIT_S)
    tries.add(arrival(growing, sure=False), now_s=0.0)
    tries.add(arrival(closed), now_s=0.0)
    one = tries.take(0.0)
    assert one is not None
    assert one.path == str(closed)
    tries.done(one)
    now_s = 0.0
    for size in (2, 3, 4):
        assert tries.take(now_s) is None
        growing.write_bytes(b"x" * size)
        now_s += SETTLE_S
    assert tries.take(now_s) is None
    assert tries.due_s() is not None
    one = tries.take(now_s + 2 * SETTLE_S)
    assert one is not None
    assert one.path == str(growing)


def test_a_burst_keeps_its_order(tmp_path: Path) -> None:
    tries = Tries(WAIT_S)
    paths = [tmp_path / str(number) for number in (5, 3, 9, 1)]
    for path in paths:
        path.write_bytes(b"x")
        tries.add(arrival(path), now_s=0.0)
    taken = []
    while (one := tries.take(0.0)) is not None:
        tries.done(one)
        taken.append(one.path)
    assert taken == [str(path) for path in paths]
    assert tries.due_s() is None


def test_pauses_grow_and_a_file_that_does_not_grow_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "stuck"
    path.write_bytes(b"x")
    tries = Tries(WAIT_S)
    tries.add(arrival(path), now_s=0.0)
    times = []
    now_s = 0.0
    while True:
        one = tries.take(now_s)
        assert one is not None
        times.append(now_s)
        if not tries.again(one, now_s):
            break
        due_s = tries.due_s()
        assert due_s is not None
        now_s = due_s
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses == pytest.approx(sorted(pauses))
    assert pauses[:2] == pytest.approx([SETTLE_S, 2 * SETTLE_S])
    assert max(pauses) == pytest.approx(LONGEST_PAUSE_S)
    assert WAIT_S < times[-1] <= WAIT_S + LONGEST_PAUSE_S + 1e-9
    for _ in range(10):
        now_s += LONGEST_PAUSE_S
        assert tries.take(now_s) is None, "read again though it did not change"
    path.write_bytes(b"xy")
    taken = []
    for _ in range(10):
        now_s += LONGEST_PAUSE_S
        if (one := tries.take(now_s)) is not None:
            taken.append(one)
            assert tries.again(one, now_s), "given up twice"
    assert len(taken) == 1, "read once, for its one change"


def test_the_number_of_given_up_files_is_bounded(tmp_path: Path) -> None:
    tries = Tries(WAIT_S)
    for number in range(2 * MOST_GIVEN_UP):
        path = tmp_path / str(number)
        path.write_bytes(b"x")
        tries.add(arrival(path), now_s=0.0)
    now_s, n_given_up = 0.0, 0
    while now_s < 3 * WAIT_S:
        while (one := tries.take(now_s)) is not None:
            n_given_up += not tries.again(one, now_s)
        now_s += 0.5 * LONGEST_PAUSE_S
    assert n_given_up == 2 * MOST_GIVEN_UP
    assert len(tries) == MOST_GIVEN_UP


def test_growth_prolongs_the_wait_and_a_close_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "slow"
    tries = Tries(WAIT_S)
    path.write_bytes(b"x")
    tries.add(arrival(path, sure=False), now_s=0.0)
    now_s, size = 0.0, 1
    while now_s < 3 * WAIT_S:
        one = tries.take(now_s)
        if one is not None:
            assert tries.again(one, now_s), "given up while it grew"
        size += 1
        path.write_bytes(b"x" * size)
        now_s += 0.4 * WAIT_S
    tries.add(arrival(path), now_s=now_s)
    one = tries.take(now_s)
    assert one is not None, "its close was seen"
    assert one.sure


def test_a_file_that_was_read_is_not_read_again_unless_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "1"
    path.write_bytes(b"x")
    tries = Tries(WAIT_S)
    tries.add(arrival(path), now_s=0.0)
    one = tries.take(0.0)
    assert one is not None
    assert not tries.is_done(str(path))
    tries.done(one)
    tries.add(arrival(path), now_s=1.0)
    assert tries.take(2.0) is None
    path.write_bytes(b"xy")
    tries.add(arrival(path), now_s=3.0)
    assert tries.take(3.0) is not None
    assert tries.is_done(str(path))


def test_a_file_that_vanished_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "1"
    path.write_bytes(b"x")
    tries = Tries(WAIT_S)
    tries.add(arrival(path), now_s=0.0)
    assert tries.busy(0.0)
    os.unlink(path)
    assert tries.take(1.0) is None
    assert not tries.busy(1.0)
    assert tries.due_s() is None


def test_a_file_of_before_the_watch_is_tried_at_once(tmp_path: Path) -> None:
    path = tmp_path / "1"
    path.write_bytes(b"x")
    tries = Tries(WAIT_S)
    tries.add(arrival(path, modified_ns=1, sure=False), now_s=0.0)
    one = tries.take(0.0)
    assert one is not None
    assert tries.again(one, 0.0)
    assert not tries.busy(0.0)
