"""The fields of every message and the bounds of each: the wire's contract in one table."""

from __future__ import annotations

from typing import get_args

from rtloop.volume import WIRE_DTYPES
from rtloop.wire.fields import (
    MAX_INDEX,
    Check,
    affine,
    choice,
    integer,
    number,
    optional,
    plain_table,
    ranges,
    sequence,
    text,
)
from rtloop.wire.messages import (
    Ack,
    Command,
    Feedback,
    Heartbeat,
    Hello,
    NoteItem,
    Refused,
    Resend,
    Scene,
    Shown,
    Telemetry,
    Trigger,
    VolumeItem,
    Welcome,
)

__all__ = ["NAMES", "PLACE", "SCHEMAS"]

_MAX_SEQ = 2**53
"""Counts beyond this lose digits in a program that keeps them as floats, such as a browser."""

PLACE: dict[str, Check] = {"epoch": text(64, 1), "seq": integer(0, _MAX_SEQ)}
"""Where an item belongs in the stream."""

_LAST = integer(-1, _MAX_SEQ)
_TIME_S = number(0.0, 1e11)
_INDEX = integer(0, MAX_INDEX)
_VALUE = optional(number(0.0, 100.0))

_VOLUME: dict[str, Check] = {
    **PLACE,
    "attempt": text(128, 1),
    "index": _INDEX,
    "dtype": choice(*WIRE_DTYPES),
    "shape": sequence(integer(1, 1024), 3, 3),
    "affine": affine,
    "tr_s": number(0.0, 60.0, above=True),
    "received_s": _TIME_S,
    "acquired_s": optional(number(0.0, 2 * 86400.0)),
    "slice_times_s": optional(sequence(number(-60.0, 60.0), 1024)),
    "slice_axis": integer(0, 2),
    "n_volumes": optional(integer(1, MAX_INDEX + 1)),
    "protocol": optional(plain_table()),
    "crc": integer(0, 2**32 - 1),
}
_NOTE: dict[str, Check] = {
    **PLACE,
    "kind": choice("refused", "duplicate", "skipped", "series_opened", "series_closed"),
    "attempt": optional(text(128, 1)),
    "index": optional(_INDEX),
    "reason": text(4096),
    "received_s": _TIME_S,
}
SCHEMAS: dict[str, tuple[type, dict[str, Check]]] = {
    "volume": (VolumeItem, _VOLUME),
    "note": (NoteItem, _NOTE),
    "hello": (Hello, {"source": text(64, 1), "epoch": text(64, 1)}),
    "heartbeat": (Heartbeat, {"epoch": text(64), "seq": _LAST}),
    "welcome": (
        Welcome,
        {
            "epoch": text(64, 1),
            "acknowledged": _LAST,
            "credit": integer(1, 64),
            "committed": ranges,
            "received": _LAST,
        },
    ),
    "ack": (Ack, PLACE),
    "resend": (Resend, {**PLACE, "damaged": text(4096)}),
    "refused": (Refused, {"epoch": text(64), "reason": text(4096)}),
    "feedback": (
        Feedback,
        {
            "id": integer(0, _MAX_SEQ),
            "attempt": text(128),
            "index": integer(-1, MAX_INDEX),
            "scene": choice(*get_args(Scene)),
            "value": _VALUE,
            "text": text(4096),
            "trial": optional(integer(0, MAX_INDEX)),
            "published_s": _TIME_S,
            "expires_s": optional(_TIME_S),
        },
    ),
    "telemetry": (Telemetry, {"kind": text(64, 1), "body": plain_table(dense=True)}),
    "shown": (
        Shown,
        {
            "id": integer(0, _MAX_SEQ),
            "attempt": text(128),
            "scene": choice(*get_args(Scene)),
            "value": _VALUE,
            "flip_s": _TIME_S,
            "status": choice("shown", "expired", "failed"),
        },
    ),
    "trigger": (
        Trigger,
        {"count": integer(1, 10**7), "time_s": _TIME_S, "source": text(64)},
    ),
    "command": (
        Command,
        {
            "action": choice("stop", "pause", "resume", "note"),
            "by": choice("operator", "participant", "supervisor"),
            "text": text(4096),
            "time_s": _TIME_S,
        },
    ),
}
NAMES = {cls: name for name, (cls, _) in SCHEMAS.items()}
"""What each message is called on the wire."""
