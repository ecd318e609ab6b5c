"""Events and steps as the record's rows, and back.

What can be read back is what was written; anything else is a damaged record, said in one line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

from rtloop.errors import RecordError
from rtloop.events import Deadline, Event, Operator, Step, Unseen, decode
from rtloop.volume import Volume

__all__ = [
    "MESSAGE_COLUMNS",
    "STEP_COLUMNS",
    "Recorded",
    "describe",
    "event_of",
    "sound",
    "step_columns",
]

STEP_COLUMNS = (
    *("volume_index", "status", "reasons", "weight", "fd_mm", "raw_score", "standard_error"),
    *("scene", "feedback", "trial"),
)
"""What a step's row repeats of its body for people, queries and reports."""

MESSAGE_COLUMNS = ("scene", "value", "trial")
"""What the display was sent."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event of the record with the step it led to.

    `columns` are the step's in clear, `message` what the display was sent; None where nothing was.
    """

    n: int
    kind: str
    index: int
    header: dict[str, Any]
    body: bytes
    columns: tuple[Any, ...] = ()
    message: tuple[Any, ...] | None = None

    @property
    def step(self) -> Step:
        """The step.

        Raises
        ------
        RecordError
            If its bytes are damaged.
        """
        with sound(f"event {self.n}"):
            return decode(self.body)

    def contradiction(self) -> str:
        """Which column says something else than the step; empty if all agree."""
        step = self.step
        wanted = step_columns(step)
        for name, value, found in zip(STEP_COLUMNS, wanted, self.columns, strict=True):
            if value != found:
                return f"{name} says {found!r}, its step {value!r}"
        if self.message is not None:
            sent = (step.screen.scene, step.screen.value, step.screen.trial)
            for name, value, found in zip(MESSAGE_COLUMNS, sent, self.message, strict=True):
                if value != found:
                    return f"the message's {name} says {found!r}, its step {value!r}"
        return ""


def step_columns(step: Step) -> tuple[Any, ...]:
    """A step's `STEP_COLUMNS`; None for nan, which SQLite does not keep."""
    score = step.trial_score or step.scores[0]
    values = (
        *(step.index, step.status, "; ".join(step.reasons), step.weight, step.fd_mm),
        *(score.value, score.standard_error, step.screen.scene, step.screen.value, step.trial),
    )
    return tuple(None if isinstance(v, float) and math.isnan(v) else v for v in values)


def describe(event: Event) -> tuple[str, dict[str, Any]]:
    """Kind and header of an event; a volume's voxels are kept elsewhere."""
    if isinstance(event, Volume):
        return "volume", {
            "attempt": event.attempt,
            "index": event.index,
            "shape": list(event.shape),
            "dtype": event.data.dtype.name,
            "affine": np.ascontiguousarray(event.affine, dtype="<f8").tobytes(),
            "tr_s": event.tr_s,
            "received_s": event.received_s,
            "acquired_s": event.acquired_s,
            "slice_times_s": event.slice_times_s and list(event.slice_times_s),
            "slice_axis": event.slice_axis,
            "n_volumes": event.n_volumes,
            "protocol": event.protocol,
        }
    if isinstance(event, Operator):
        return "operator", {"action": event.action}
    if isinstance(event, Unseen):
        return "unseen", {"reason": event.reason}
    return type(event).__name__.lower(), {}


def event_of(recorded: Recorded, voxels: bytes | None) -> Event:
    """The event of a row.

    Raises
    ------
    RecordError
        If it is damaged: header, or a volume's voxels, are missing or cut.
    """
    with sound(f"event {recorded.n}"):
        match recorded.kind:
            case "deadline":
                return Deadline(recorded.index)
            case "operator":
                return Operator(recorded.header["action"])
            case "unseen":
                return Unseen(recorded.index, recorded.header["reason"])
            case "volume":
                return _volume(recorded, voxels or b"")
        raise ValueError(f"an event of kind {recorded.kind!r}")


@contextmanager
def sound(what: str) -> Iterator[None]:
    """Whatever stored bytes do that cannot be understood is a damaged record."""
    try:
        yield
    except RecordError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, msgpack.UnpackException) as error:
        raise RecordError(
            f"record: {what}: expected what was written, found {type(error).__name__}: {error}; "
            "the file is damaged: take a copy of it from a backup"
        ) from error


def _volume(recorded: Recorded, voxels: bytes) -> Volume:
    entries = dict(recorded.header)
    shape, dtype = entries.pop("shape"), np.dtype(entries.pop("dtype"))
    wanted = int(np.prod(shape)) * dtype.itemsize
    if len(voxels) != wanted:
        raise RecordError(
            f"record: event {recorded.n}: expected {wanted} bytes of voxels, found {len(voxels)}; "
            "the file is damaged"
        )
    slice_times_s = entries.pop("slice_times_s")
    return Volume(
        **{
            **entries,
            # A copy: kernels take arrays that may be written, as those from the stream are.
            "data": np.frombuffer(bytearray(voxels), dtype).reshape(shape, order="F"),
            "affine": np.frombuffer(entries["affine"], "<f8").reshape(4, 4),
            "slice_times_s": slice_times_s and tuple(slice_times_s),
        }
    )
