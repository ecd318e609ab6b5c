"""Numbers as people read them."""

from __future__ import annotations

import doctest

import pytest

from offline import numerals
from offline.numerals import counted, interval, number


def test_examples() -> None:
    assert doctest.testmod(numerals).failed == 0


@pytest.mark.parametrize(
    ("value", "options", "text"),
    [
        (-0.004, {}, "0.00"),
        (-0.005001, {}, "−0.01"),
        (0.0, {"signed": True}, "0.00"),
        (-1234.5, {"digits": 1}, "−1,234.5"),
        (float("inf"), {}, "–"),
    ],
)
def test_a_number(value: float, options: dict[str, int], text: str) -> None:
    assert number(value, **options) == text  # type: ignore[arg-type]


def test_an_interval_and_a_count() -> None:
    assert interval(-0.5, 0.25, 1) == "−0.5 to 0.2"
    assert interval(float("nan"), 0.3) == "–"
    assert counted(0, "edge") == "0 edges"
