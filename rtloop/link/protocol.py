"""What both ends of the volume stream agree on: its pace, and what happens beside items.

The conversation: a source says `Hello`; the engine answers `Welcome` with what it holds; items
follow in order, at most `CREDIT` of them uncommitted; each commit is answered with `Ack`. The
engine knows best what it lacks and asks for it (`Resend`) when a number is skipped, when a frame
arrives damaged, or when a heartbeat says that more was sent than came. So nothing hangs on a
single message: each can be lost, doubled or late, and what is committed stays the truth.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ASK_S",
    "CREDIT",
    "HEARTBEAT_S",
    "LOST_S",
    "MAX_DAMAGED",
    "SILENCE_S",
    "Malformed",
    "PeerBack",
    "PeerLost",
    "SourceRefused",
    "peer_name",
]

CREDIT = 8
"""Items in flight: sent and not yet committed."""

HEARTBEAT_S = 1.0
"""Longest silence of a side that has nothing to say; also the pace of repeated `Hello`s."""

SILENCE_S = 1.5
"""A source that hears nothing for this long says `Hello` again: one heartbeat and some patience."""

LOST_S = 3.0
"""Silence after which the other side counts as lost."""

ASK_S = 0.25
"""Pace at which the engine asks again for what it lacks."""

MAX_DAMAGED = 3
"""An item that arrived damaged this often is replaced by a note that it was refused."""


def peer_name(source: str, epoch: str) -> str:
    """What a source's connection is called: another process of the same name has another one."""
    return f"{source}/{epoch}"


@dataclass(frozen=True, slots=True)
class Malformed:
    """A message that is none. With `epoch` and `seq`, it held this place of the stream: it is
    delivered in its turn, counts as refused, and is acknowledged like an item."""

    reason: str
    source: str
    epoch: str | None = None
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class PeerLost:
    """Nothing heard for `LOST_S`."""

    source: str
    epoch: str


@dataclass(frozen=True, slots=True)
class PeerBack:
    """A lost peer speaks again, or was started anew (then `epoch` is another)."""

    source: str
    epoch: str


@dataclass(frozen=True, slots=True)
class SourceRefused:
    """A second source knocked while the first is connected; told once per source and epoch."""

    source: str
    reason: str
