"""Pulses counted against volume indices: silent when both agree, one line when they part."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtloop.pulses import PulseCount

TR_S = 1.0
ARRIVAL_S = 1.3
"""After a volume's own pulse: its acquisition, and 0.3 s on the way."""


def play(
    count: PulseCount,
    n: int,
    n_before: int = 0,
    lost: Iterable[int] = (),
    twice: Iterable[int] = (),
    missing: Iterable[int] = (),
    arrival_s: float = ARRIVAL_S,
) -> list[tuple[int, str]]:
    """A run: pulses and volumes by their times; what is said, with the volume it is said at."""
    happenings: list[tuple[float, str, int]] = []
    heard = 0
    for k in range(n + n_before + 2):
        for _ in range(0 if k in lost else 2 if k in twice else 1):
            heard += 1
            happenings.append((k * TR_S, "pulse", heard))
    happenings += [
        ((index + n_before) * TR_S + arrival_s, "volume", index)
        for index in range(n)
        if index not in missing
    ]
    said = []
    for time_s, kind, number in sorted(happenings):
        if kind == "pulse":
            count.pulse(number, time_s)
        elif line := count.volume(number, time_s):
            said.append((number, line))
    return said


def counter(n_before: int = 0, whole: bool = True) -> PulseCount:
    return PulseCount(TR_S, n_before, 0.5, whole)


@pytest.mark.parametrize("n_before", [0, 3])
def test_a_run_in_step_says_nothing(n_before: int) -> None:
    assert play(counter(n_before), 50, n_before) == []


def test_missing_volumes_are_no_missing_pulses() -> None:
    assert play(counter(), 50, missing=(0, 7, 8, 9, 20)) == []


def test_a_lost_pulse_is_told_once_where_it_was_lost() -> None:
    said = play(counter(), 50, lost=[20])
    # volumes 20, 21 and 22 are off; that of volume 22 is known when volume 23 comes
    assert [index for index, _ in said] == [23]
    assert "expected pulse 23 at the beginning of volume 22, found 1 pulses lost" in said[0][1]


def test_a_pulse_that_nobody_gave_is_told_once() -> None:
    said = play(counter(), 50, twice=[10])
    # both came at the beginning of volume 10: the first is its own
    assert [index for index, _ in said] == [14]
    assert "1 pulses too many" in said[0][1]


def test_a_pulse_lost_and_one_made_up_agree_again() -> None:
    said = play(counter(), 50, lost=[10], twice=[30])
    assert [index for index, _ in said] == [13, 33]
    assert said[1][1] == "pulses and volumes agree again at volume 32"


def test_late_files_are_no_missing_pulses() -> None:
    count, said = counter(), []
    for index in range(50):
        count.pulse(index + 1, index * TR_S)
        late_s = 3.0 if index in (10, 20, 21) else 0.0
        said.append(count.volume(index, index * TR_S + ARRIVAL_S + late_s))
    assert said == [""] * 50


def test_a_wrong_number_of_pulses_beforehand_is_told() -> None:
    said = play(counter(n_before=0), 50, n_before=4)
    assert len(said) == 1
    assert "triggers_before_first_volume" in said[0][1]
    assert "too many" in said[0][1]
    said = play(counter(n_before=4), 50, n_before=0)
    assert len(said) == 1
    assert "lost or not read" in said[0][1]


def test_without_pulses_nothing_is_said() -> None:
    count = counter()
    assert [count.volume(index, index + ARRIVAL_S) for index in range(30)] == [""] * 30


def test_after_a_restart_only_changes_are_told() -> None:
    assert play(counter(whole=False), 50, n_before=4) == []
    assert len(play(counter(whole=False), 50, n_before=4, lost=[30])) == 1


def test_another_display_counts_anew() -> None:
    count = counter()
    assert play(count, 20) == []
    # it starts at volume 20 and counts from 1
    said = []
    for index in range(20, 40):
        count.pulse(index - 19, index * TR_S)
        said.append(count.volume(index, index * TR_S + ARRIVAL_S))
    assert said == [""] * 20


def test_another_attempt_counts_its_volumes_anew() -> None:
    count = counter()
    assert play(count, 20) == []
    count.begin()
    said = []
    for k in range(20):
        count.pulse(23 + k, (40 + k) * TR_S)
        said.append(count.volume(k, (40 + k) * TR_S + ARRIVAL_S))
    assert said == [""] * 20


@given(
    lost=st.integers(5, 40),
    n_before=st.integers(0, 3),
    missing=st.sets(st.integers(0, 48), max_size=10),
    arrival_s=st.floats(1.0, 1.49),
)
def test_a_lost_pulse_is_never_overlooked(
    lost: int, n_before: int, missing: set[int], arrival_s: float
) -> None:
    assert play(counter(n_before), 50, n_before, missing=missing, arrival_s=arrival_s) == []
    ((index, line),) = play(
        counter(n_before), 50, n_before, lost=[lost + n_before], arrival_s=arrival_s
    )
    assert index == lost + 3
    assert "1 pulses lost or not read" in line
