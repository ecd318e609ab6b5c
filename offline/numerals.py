"""Numbers as people read them in reports, on the console and in figures."""

from __future__ import annotations

import math

__all__ = ["DASH", "MINUS", "counted", "interval", "number", "percent", "probability"]

DASH = "–"
"""Where there is no number."""

MINUS = "−"


def number(value: float, digits: int = 2, *, signed: bool = False) -> str:
    """A number with its digits after the point, a true minus and no sign at zero.

    Examples
    --------
    >>> number(-0.123), number(-0.001), number(float("nan")), number(0.5, 1, signed=True)
    ('−0.12', '0.00', '–', '+0.5')
    """
    if not math.isfinite(value):
        return DASH
    rounded = round(value, digits) + 0.0  # and -0.0 becomes 0.0
    text = f"{rounded:,.{digits}f}".replace("-", MINUS)
    return f"+{text}" if signed and rounded > 0.0 else text


def interval(low: float, high: float, digits: int = 2) -> str:
    """Both ends of an interval, such as "0.42 to 0.63"; a dash where there is none."""
    if not math.isfinite(low):
        return DASH
    return f"{number(low, digits)} to {number(high, digits)}"


def counted(n: int, one: str, many: str = "") -> str:
    """How many of what, in the number that goes with it.

    Examples
    --------
    >>> counted(1, "permutation"), counted(2000, "scan"), counted(2, "person", "people")
    ('1 permutation', '2,000 scans', '2 people')
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def percent(share: float) -> str:
    """A share in whole per cent, its sign never alone on a line.

    Examples
    --------
    >>> percent(0.334)
    '33\\xa0%'
    """
    return f"{number(100.0 * share, 0)}\N{NO-BREAK SPACE}%"


def probability(p: float) -> str:
    """A p, with the more digits the smaller it is.

    Examples
    --------
    >>> probability(0.0476), probability(0.5), probability(0.0002)
    ('0.048', '0.50', '0.0002')
    """
    return f"{p:.1g}" if p < 0.001 else number(p, 3 if p < 0.1 else 2)
