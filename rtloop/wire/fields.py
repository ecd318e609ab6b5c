"""What a field of a message may hold: small checks, each made by a factory with its bounds.

A check takes a raw value and returns it as the plain Python value a message carries, or raises
`Unfit` saying what was expected. The same checks guard both doors: what is sent and what arrives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = [
    "MAX_ENTRIES",
    "MAX_INDEX",
    "MAX_LIST",
    "Check",
    "Unfit",
    "affine",
    "choice",
    "integer",
    "number",
    "optional",
    "plain_table",
    "ranges",
    "sequence",
    "text",
]

Check = Callable[[Any], Any]

MAX_DEPTH = 6
MAX_ENTRIES = 1024
MAX_INDEX = 1_000_000
MAX_LIST = 4096
"""msgpack allocates a list when it reads its announced length, so lists are kept short."""

MAX_PLAIN_TEXT = 16_384
MIN_RELATIVE_VOLUME = 1e-6
"""A voxel's volume over the product of its edge lengths; below, the affine counts as singular."""


class Unfit(ValueError):
    """Raised when a value is outside its field's bounds; the message says what was expected."""

    def __init__(self, expected: str, value: Any) -> None:
        super().__init__(f"expected {expected}, found {_shown(value)}")


def text(limit: int, least: int = 0) -> Check:
    """Text of `least` to `limit` characters."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or not least <= len(value) <= limit:
            raise Unfit(f"text of {least} to {limit} characters", value)
        # File names may hold bytes that are no text; they arrive escaped.
        return value.encode("utf-8", "backslashreplace").decode()

    return check


def integer(low: int, high: int) -> Check:
    """A whole number from `low` to `high`, both included."""

    def check(value: Any) -> int:
        if isinstance(value, np.integer):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise Unfit(f"a whole number from {low} to {high}", value)
        return value

    return check


def number(low: float, high: float, *, above: bool = False) -> Check:
    """A finite number from `low` (excluded if `above`) to `high`."""

    def check(value: Any) -> float:
        if isinstance(value, np.integer | np.floating):
            value = value.item()
        real = isinstance(value, int | float) and not isinstance(value, bool)
        # A nan fails the comparison.
        if not real or not low <= value <= high or (above and value == low):
            raise Unfit(f"a number {'above' if above else 'from'} {low:g} to {high:g}", value)
        return float(value)

    return check


def optional(check: Check) -> Check:
    """None, or what `check` admits."""

    def check_optional(value: Any) -> Any:
        return None if value is None else check(value)

    return check_optional


def choice(*values: str) -> Check:
    """One of the given words."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in values:
            raise Unfit(f"one of {', '.join(values)}", value)
        return value

    return check


def sequence(check: Check, limit: int, least: int = 0) -> Check:
    """A tuple (a list on the wire) of `least` to `limit` values which `check` admits."""

    def check_sequence(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or not least <= len(value) <= limit:
            raise Unfit(f"a list of {least} to {limit} values", value)
        return tuple(check(element) for element in value)

    return check_sequence


def affine(value: Any) -> tuple[float, ...]:
    """The 16 finite numbers of a non-singular affine, row by row (mm)."""
    entries: tuple[float, ...] = sequence(number(-1e6, 1e6), 16, 16)(value)
    if entries[12:] != (0.0, 0.0, 0.0, 1.0):
        raise Unfit("an affine whose last row is 0 0 0 1", value)
    (a, b, c), (d, e, f), (g, h, i) = entries[0:3], entries[4:7], entries[8:11]
    volume_mm3 = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    edges_mm = math.hypot(a, d, g) * math.hypot(b, e, h) * math.hypot(c, f, i)
    if not abs(volume_mm3) > MIN_RELATIVE_VOLUME * edges_mm:
        raise Unfit("a non-singular affine", value)
    return entries


def ranges(value: Any) -> dict[str, list[tuple[int, int]]]:
    """Inclusive ranges of volume indices, per attempt."""
    if not isinstance(value, dict) or len(value) > MAX_ENTRIES:
        raise Unfit(f"a table of at most {MAX_ENTRIES} attempts", value)
    name = text(128, 1)
    pair = sequence(integer(0, MAX_INDEX), 2, 2)
    pairs = sequence(pair, MAX_LIST)
    known = {name(attempt): list(pairs(entries)) for attempt, entries in value.items()}
    if any(low > high for entries in known.values() for low, high in entries):
        raise Unfit("ranges (first, last) in order", value)
    return known


def plain_table(*, dense: bool = False) -> Check:
    """A table of plain data: numbers (nan included), text, truth values, lists, tables, None.

    Lists of floats may be longer than `MAX_LIST` where they are `dense`, that is travel as bytes.
    """

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Unfit("a table of plain data", value)
        table: dict[str, Any] = _plain(value, dense, MAX_DEPTH)
        return table

    return check


def _plain(value: Any, dense: bool, depth: int) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, str):
        return text(MAX_PLAIN_TEXT)(value)
    if isinstance(value, list | tuple) and depth > 0:
        # Long lists are floats (one per edge), for which this is fifty times faster.
        if (dense or len(value) <= MAX_LIST) and set(map(type, value)) == {float}:
            return list(value)
        if len(value) <= MAX_LIST:
            return [_plain(element, dense, depth - 1) for element in value]
    if isinstance(value, dict) and depth > 0 and len(value) <= MAX_ENTRIES:
        name = text(256)
        return {name(key): _plain(element, dense, depth - 1) for key, element in value.items()}
    raise Unfit("plain data: numbers, text, lists and tables of them, not too deep", value)


def _shown(value: Any) -> str:
    """A value as an error message may show it: numbers as they are, never text (privacy)."""
    if value is None or isinstance(value, bool | float):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if abs(value) < 2**64 else "a huge whole number"
    if isinstance(value, str | bytes | list | tuple | dict):
        return f"a {type(value).__name__} of length {len(value)}"
    return f"a {type(value).__name__}"
