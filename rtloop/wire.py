"""Messages between fcnef's programs: msgpack, versioned, size-bounded, validated at the door.

Three conversations use them (see `link`): the acknowledged volume stream, the broadcast of
feedback and telemetry, and the reports that displays and operators send back to the engine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from rtloop.volume import Volume

__all__ = [
    "MAX_HEADER_BYTES",
    "MAX_PAYLOAD_BYTES",
    "WIRE_VERSION",
    "Ack",
    "Command",
    "Feedback",
    "Heartbeat",
    "Hello",
    "Note",
    "NoteItem",
    "Scene",
    "Shown",
    "Telemetry",
    "Trigger",
    "VolumeItem",
    "Welcome",
]

WIRE_VERSION = 1
MAX_HEADER_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024

# --- the volume stream: source (gateway, simulated scanner) -> engine ------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """A source introduces itself, at first contact and after every reconnect."""

    source: str
    epoch: str


@dataclass(frozen=True, slots=True)
class VolumeItem:
    """One volume at place `seq` (from 0, without gaps) of this source's stream `epoch`."""

    epoch: str
    seq: int
    volume: Volume


@dataclass(frozen=True, slots=True)
class Note:
    """What befell at the source and is no volume, told in stream order so that it is recorded.

    `kind` is one of: refused (a file was unreadable or incomplete), duplicate, skipped (a file of
    another series), series_opened, series_closed (complete or aborted, see `reason`).
    """

    kind: Literal["refused", "duplicate", "skipped", "series_opened", "series_closed"]
    attempt: str | None
    index: int | None
    reason: str
    received_s: float


@dataclass(frozen=True, slots=True)
class NoteItem:
    """One note at place `seq` of the stream; acknowledged like a volume."""

    epoch: str
    seq: int
    note: Note


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Sent by both sides once a second when there is nothing else to say."""

    epoch: str


# --- the volume stream: engine -> source -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Welcome:
    """Answer to `Hello`: what the record already holds, and how many items may be in flight.

    `acknowledged` is the last `seq` of that epoch which is committed, -1 for none. `committed`
    maps each attempt to the volume indices on record as inclusive ranges, so that a source with
    a new epoch (a restarted gateway) sends only what is missing.
    """

    epoch: str
    acknowledged: int
    credit: int
    committed: dict[str, list[tuple[int, int]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ack:
    """Everything up to and including `seq` of `epoch` is committed to the record."""

    epoch: str
    seq: int


# --- the broadcast: engine -> displays and consoles ------------------------------------------

Scene = Literal[
    "wait", "rest", "instruction", "fixation", "feedback", "score", "hold", "neutral", "end"
]
"""What the participant sees. wait: before the first trigger; hold: the last feedback stays with
a sign that it is old; score: end-of-block score; neutral: a calm empty screen after a stop."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """What the display shall show now. The newest replaces all older ones.

    `id` counts messages within the record; `value` is 0..100 or None where the scene has none;
    `expires_s` is the host clock (Unix seconds) after which it must not be shown any more.
    """

    id: int
    attempt: str
    index: int
    scene: Scene
    value: float | None
    text: str
    trial: int | None
    published_s: float
    expires_s: float | None


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What consoles draw; `body` is plain data (numbers, strings, lists, dicts)."""

    kind: str
    body: dict[str, Any]


# --- the reports: displays, trigger boxes and operators -> engine ----------------------------


@dataclass(frozen=True, slots=True)
class Shown:
    """A value reached the participant's screen: `flip_s` is the flip, Unix seconds.

    `status` is shown; expired (never drawn, its time was over) or failed (window lost).
    """

    id: int
    attempt: str
    scene: Scene
    value: float | None
    flip_s: float
    status: Literal["shown", "expired", "failed"] = "shown"


@dataclass(frozen=True, slots=True)
class Trigger:
    """One scanner pulse: its number from 1 since the display started, its host time."""

    count: int
    time_s: float
    source: str


@dataclass(frozen=True, slots=True)
class Command:
    """An operator's or participant's act: stop, pause, resume, or a note for the record."""

    action: Literal["stop", "pause", "resume", "note"]
    by: Literal["operator", "participant", "supervisor"]
    text: str
    time_s: float
