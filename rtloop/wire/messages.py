"""What fcnef's programs say to each other, as plain dataclasses.

Three conversations use them (see `rtloop.link`): the acknowledged volume stream, the broadcast
of feedback and telemetry, and the reports that displays and operators send back to the engine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from rtloop.volume import Volume

__all__ = [
    "Ack",
    "Command",
    "Feedback",
    "Heartbeat",
    "Hello",
    "Item",
    "Message",
    "Note",
    "NoteItem",
    "Refused",
    "Resend",
    "Scene",
    "Shown",
    "Telemetry",
    "Trigger",
    "VolumeItem",
    "Welcome",
]

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
    """Sent by both sides once a second when there is nothing else to say.

    `epoch` is the stream the speaker believes itself in ("": none, please say `Hello`). `seq` is,
    from a source, the last item it sent; from the engine, the last one committed. Either side so
    learns what got lost when a connection broke; -1 for none.
    """

    epoch: str
    seq: int = -1


# --- the volume stream: engine -> source -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Welcome:
    """Answer to `Hello`: what the record already holds, and how many items may be in flight.

    `acknowledged` is the last `seq` of that epoch which is committed, -1 for none. `committed`
    maps each attempt to the volume indices on record as inclusive ranges, so that a source with
    a new epoch (a restarted gateway) sends only what is missing. `received` is the last `seq`
    that the engine holds, committed or not: the source goes on after it.
    """

    epoch: str
    acknowledged: int
    credit: int
    committed: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    received: int = -1


@dataclass(frozen=True, slots=True)
class Ack:
    """Everything up to and including `seq` of `epoch` is committed to the record."""

    epoch: str
    seq: int


@dataclass(frozen=True, slots=True)
class Resend:
    """The engine wants `seq` and everything after it again.

    `damaged` says what was wrong with a message that arrived unreadable; it is empty where the
    item just did not arrive.
    """

    epoch: str
    seq: int
    damaged: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The engine does not talk to this source, and why: another one is already connected."""

    epoch: str
    reason: str


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


Item = VolumeItem | NoteItem
"""What a place in the stream holds."""

Message = (
    Hello
    | VolumeItem
    | NoteItem
    | Heartbeat
    | Welcome
    | Ack
    | Resend
    | Refused
    | Feedback
    | Telemetry
    | Shown
    | Trigger
    | Command
)
"""Everything that travels."""
