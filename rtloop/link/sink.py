"""The volume stream as the engine sees it: pure state, no socket, no clock.

Whoever owns a `SinkState` hands it what arrived, takes events from `next_event` in stream order,
and calls `acknowledge` after committing an item. At least once on the wire becomes once here.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from rtloop.errors import WireError
from rtloop.link.protocol import (
    ASK_S,
    CREDIT,
    HEARTBEAT_S,
    LOST_S,
    Malformed,
    PeerBack,
    PeerLost,
    SourceRefused,
    peer_name,
)
from rtloop.wire import (
    Ack,
    Heartbeat,
    Hello,
    Item,
    MalformedItem,
    Message,
    NoteItem,
    Refused,
    Resend,
    VolumeItem,
    Welcome,
)

__all__ = ["Event", "SinkState"]

Event = Item | Malformed | PeerLost | PeerBack | SourceRefused
"""What the owner of a sink gets to see."""

MAX_REMEMBERED = 64
"""Strangers, former epochs and complaints remembered; the oldest is forgotten for a new one."""

COMPLAINT_S = 60.0


@dataclass(slots=True)
class _Session:
    """The one conversation: with whom, and how far it has come.

    `acknowledged` <= `delivered` <= `received`: committed by the owner; handed to the owner;
    arrived without a gap. `missing` is why the next number has to be asked for: None (no need),
    "" (it did not arrive), or what was wrong with what arrived in its place.
    """

    source: str
    epoch: str
    acknowledged: int
    delivered: int
    received: int
    heard_s: float
    spoke_s: float = -math.inf
    asked_s: float = -math.inf
    missing: str | None = None
    lost: bool = False

    @property
    def peer(self) -> str:
        """What its connection is called."""
        return peer_name(self.source, self.epoch)

    @property
    def settled(self) -> bool:
        """Whether the owner has committed everything that came."""
        return self.received == self.acknowledged


class SinkState:
    """Puts one source's items in order, once each, and asks for what is missing.

    A source started anew (same name, new epoch) is welcomed as soon as everything that came of its
    former epoch is committed, so that it is told the whole record and sends nothing twice. A second
    source (another name) is refused while the first is connected, and so is a former epoch: a
    process thought dead.

    Parameters
    ----------
    acknowledged : callable, str -> int
        Last committed `seq` of an epoch on the owner's record; -1 for none.
    committed : callable, () -> dict of str to list of (int, int)
        Volume indices on record per attempt, as inclusive ranges.
    credit : int
        Items that may be in flight.
    """

    def __init__(
        self,
        acknowledged: Callable[[str], int],
        committed: Callable[[], dict[str, list[tuple[int, int]]]],
        credit: int = CREDIT,
    ) -> None:
        self._acknowledged = acknowledged
        self._committed = committed
        self._credit = credit
        self._session: _Session | None = None
        self._waiting: Hello | None = None
        self._events: deque[Event] = deque()
        self._outbox: list[tuple[str, Message]] = []
        self._former: deque[str] = deque(maxlen=MAX_REMEMBERED)
        self._strangers: deque[tuple[str, str]] = deque(maxlen=MAX_REMEMBERED)
        self._told: dict[tuple[str, str], float] = {}

    @property
    def queued(self) -> int:
        """How many items arrived and wait for the owner."""
        return 0 if self._session is None else self._session.received - self._session.delivered

    @property
    def connected(self) -> bool:
        """Whether there is a source, heard within `LOST_S`."""
        return self._session is not None and not self._session.lost

    def receive(self, peer: str, message: Message, now: float) -> None:
        """Take in what comes over the connection called `peer` (see `peer_name`)."""
        if isinstance(message, Hello):
            self._greet(peer, message, now)
        elif isinstance(message, VolumeItem | NoteItem | Heartbeat):
            session = self._hear(peer, message.epoch, now)
            if session is None:
                return
            if isinstance(message, Heartbeat):
                more = message.seq > session.received
                session.missing = (session.missing or "") if more else None
            else:
                self._place(session, message.seq, message)
        else:
            reason = f"message {type(message).__name__}: not for an engine; ignored"
            self._complain(peer, reason, now)

    def damaged(self, peer: str, error: WireError, now: float) -> None:
        """Take note of a message that could not be read.

        If its place in the stream is known it holds that place, so that it blocks nothing. If not,
        it is asked for again.
        """
        if isinstance(error, MalformedItem):
            session = self._hear(peer, error.epoch, now)
            if session is not None:
                malformed = Malformed(str(error), session.source, error.epoch, error.seq)
                self._place(session, error.seq, malformed)
                return
        elif self._session is not None and self._session.peer == peer:
            self._session.missing = str(error)
        self._complain(peer, str(error), now)

    def next_event(self) -> Event | None:
        """The oldest event not yet handed out."""
        if not self._events:
            return None
        event = self._events.popleft()
        if self._session is not None and _is_numbered(event):
            self._session.delivered += 1
        return event

    def acknowledge(self, epoch: str, seq: int) -> None:
        """The owner has committed everything up to `seq`.

        Raises
        ------
        ValueError
            If `seq` was never delivered.
        """
        session = self._session
        if session is None or session.epoch != epoch or seq > session.delivered:
            raise ValueError(f"({epoch}, {seq}) was not delivered, so it cannot be committed")
        if seq > session.acknowledged:
            session.acknowledged = seq
            if self._waiting is None:
                self._outbox.append((session.peer, Ack(epoch, seq)))

    def tick(self, now: float) -> list[tuple[str, Message]]:
        """What to send now, and to whom. Also notices that the source has fallen silent."""
        if self._waiting is not None and (self._session is None or self._session.settled):
            waiting, self._waiting = self._waiting, None
            self._open(waiting, now)
        session = self._session
        if session is not None and self._waiting is None and not session.lost:
            self._watch(session, now)
        outbox, self._outbox = self._outbox, []
        if session is not None and any(peer == session.peer for peer, _ in outbox):
            session.spoke_s = now
        return outbox

    def due_s(self) -> float:
        """When `tick` has to be called at the latest, if nothing arrives before."""
        session = self._session
        if session is None or session.lost or self._waiting is not None:
            return math.inf
        due_s = min(session.spoke_s + HEARTBEAT_S, session.heard_s + LOST_S)
        return min(due_s, session.asked_s + ASK_S) if self._may_ask(session) else due_s

    def _greet(self, peer: str, hello: Hello, now: float) -> None:
        session = self._session
        if peer != peer_name(hello.source, hello.epoch):
            self._complain(peer, "message hello: not its connection's name; ignored", now)
        elif session is None:
            self._open(hello, now)
        elif self._is_former(hello):
            self._refuse(hello, f"{hello.source} was started anew; end this older process")
        elif session.peer == peer:
            self._waiting = None
            self._hear(peer, hello.epoch, now)
            self._welcome(session)
        elif session.source != hello.source and not session.lost:
            reason = f"the engine listens to {session.source}; end it or wait until it is lost"
            self._refuse(hello, reason)
        else:
            self._waiting = hello

    def _is_former(self, hello: Hello) -> bool:
        """Whether the same source has come with a newer epoch since."""
        waiting, session = self._waiting, self._session
        replaced = (
            waiting is not None
            and session is not None
            and waiting.source == session.source == hello.source
            and hello.epoch == session.epoch
        )
        return replaced or hello.epoch in self._former

    def _refuse(self, hello: Hello, reason: str) -> None:
        self._outbox.append((peer_name(hello.source, hello.epoch), Refused(hello.epoch, reason)))
        if (hello.source, hello.epoch) not in self._strangers:
            self._strangers.append((hello.source, hello.epoch))
            self._events.append(SourceRefused(hello.source, reason))

    def _open(self, hello: Hello, now: float) -> None:
        """Begin the conversation with a source, from where the record stands."""
        before = self._session
        last = self._acknowledged(hello.epoch)
        self._session = _Session(hello.source, hello.epoch, last, last, last, now)
        if before is not None:
            self._events.append(PeerBack(hello.source, hello.epoch))
            if before.source == hello.source and before.epoch != hello.epoch:
                self._former.append(before.epoch)
        self._welcome(self._session)

    def _welcome(self, session: _Session) -> None:
        welcome = Welcome(
            session.epoch, session.acknowledged, self._credit, self._committed(), session.received
        )
        self._outbox.append((session.peer, welcome))

    def _hear(self, peer: str, epoch: str, now: float) -> _Session | None:
        """The session that this message belongs to; None, and an answer, if it has none."""
        session = self._session
        if session is None or (session.peer, session.epoch) != (peer, epoch):
            self._outbox.append((peer, Heartbeat("")))
            return None
        session.heard_s = now
        if session.lost:
            session.lost = False
            self._events.append(PeerBack(session.source, epoch))
        return session

    def _place(self, session: _Session, seq: int, event: Item | Malformed) -> None:
        """Queue an item that is next; what came before is known, what comes later is a gap."""
        if seq <= session.received:
            # The source may have missed the acknowledgement.
            if seq <= session.acknowledged:
                ack = Ack(session.epoch, session.acknowledged)
                self._outbox.append((session.peer, ack))
        elif seq > session.received + 1 or seq > session.acknowledged + self._credit:
            session.missing = session.missing or ""
        else:
            session.received = seq
            session.missing = None
            session.asked_s = -math.inf
            self._events.append(event)

    def _watch(self, session: _Session, now: float) -> None:
        if now - session.heard_s >= LOST_S:
            session.lost = True
            self._events.append(PeerLost(session.source, session.epoch))
            return
        if self._may_ask(session) and now - session.asked_s >= ASK_S:
            resend = Resend(session.epoch, session.received + 1, session.missing or "")
            self._outbox.append((session.peer, resend))
            session.asked_s = now
            session.missing = ""
        if not self._outbox and now - session.spoke_s >= HEARTBEAT_S:
            self._outbox.append((session.peer, Heartbeat(session.epoch, session.acknowledged)))

    def _may_ask(self, session: _Session) -> bool:
        within_credit = session.received < session.acknowledged + self._credit
        return session.missing is not None and within_credit

    def _complain(self, peer: str, reason: str, now: float) -> None:
        """Tell the owner; a peer that repeats itself is told of once a minute."""
        told = self._told
        if now - told.get((peer, reason), -math.inf) < COMPLAINT_S:
            return
        told.pop((peer, reason), None)
        if len(told) >= MAX_REMEMBERED:
            del told[next(iter(told))]
        told[peer, reason] = now
        self._events.append(Malformed(reason, peer.rpartition("/")[0] or peer))


def _is_numbered(event: Event) -> bool:
    if isinstance(event, Malformed):
        return event.seq is not None
    return isinstance(event, VolumeItem | NoteItem)
