"""The volume stream as its source sees it: pure state, no socket, no clock.

Whoever owns a `SourceState` hands it what arrived and asks `tick` what to send. An item stays in
memory until the engine has committed it; whatever happens in between, it is sent again.
"""

from __future__ import annotations

import math
from collections import deque

from rtloop.link.protocol import HEARTBEAT_S, LOST_S, MAX_DAMAGED, SILENCE_S
from rtloop.volume import Volume
from rtloop.wire import (
    Ack,
    Heartbeat,
    Hello,
    Item,
    Message,
    Note,
    NoteItem,
    Refused,
    Resend,
    VolumeItem,
    Welcome,
)

__all__ = ["SourceState"]


class SourceState:
    """Numbers items, keeps them until they are committed, sends them within the engine's credit.

    Parameters
    ----------
    source : str
        Name of this source; the engine talks to one at a time.
    epoch : str
        Name of this stream; a program that starts anew and counts from 0 again takes a new one.

    Attributes
    ----------
    acknowledged : int
        Last item that the engine has committed; -1 for none.
    committed : dict of str to list of (int, int)
        Volume indices on the engine's record per attempt, as of the last welcome.
    connected : bool
        Whether the engine has welcomed this source and was heard within `LOST_S`.
    refused : str
        Why the engine does not talk to this source; "" where it does. The owner clears it.
    """

    def __init__(self, source: str, epoch: str) -> None:
        self.source = source
        self.epoch = epoch
        self.acknowledged = -1
        self.committed: dict[str, list[tuple[int, int]]] = {}
        self.connected = False
        self.refused = ""
        self.outdated = False
        self._items: deque[Item] = deque()
        self._next = 0
        self._credit = 0
        self._greeted = False
        self._heard_s = -math.inf
        self._spoke_s = -math.inf
        self._hello_s = -math.inf
        self._damaged = (-1, 0)

    @property
    def next_seq(self) -> int:
        """Number that the next item gets."""
        return self.acknowledged + 1 + len(self._items)

    @property
    def unacknowledged(self) -> int:
        """How many items are kept."""
        return len(self._items)

    @property
    def in_flight(self) -> int:
        """How many items were sent and are not committed."""
        return max(0, self._next - 1 - self.acknowledged)

    def preview(self, content: Volume | Note) -> Item:
        """`content` with the place it would get, to find out whether it can be sent at all."""
        if isinstance(content, Volume):
            return VolumeItem(self.epoch, self.next_seq, content)
        return NoteItem(self.epoch, self.next_seq, content)

    def append(self, item: Item) -> None:
        """Take up an item just made by `preview`; `tick` sends it in its turn."""
        self._items.append(item)

    def link_up(self) -> None:
        """A connection was made: whatever was under way on the last one is gone."""
        self._greeted = False
        self._hello_s = -math.inf

    def receive(self, message: Message, now: float) -> None:
        """Take in what the engine says; what does not belong to this epoch is old news."""
        match message:
            case Welcome(epoch=self.epoch):
                self._hear(now)
                self._take_welcome(message)
            case Ack(epoch=self.epoch, seq=seq) | Heartbeat(epoch=self.epoch, seq=seq):
                self._hear(now)
                self._drop_through(seq)
            case Resend(epoch=self.epoch, seq=seq, damaged=damaged):
                self._hear(now)
                self._send_again(seq, damaged)
            case Refused(epoch=self.epoch, reason=reason):
                self.refused = reason
                self._greeted = self.connected = False
            case Heartbeat() if self._greeted:
                # The engine speaks, but not with us: it was started anew.
                self.link_up()

    def tick(self, now: float) -> list[Message]:
        """What to send now. Also notices that the engine has fallen silent."""
        if now - self._heard_s >= LOST_S:
            self.connected = False
        if now - self._heard_s >= SILENCE_S:
            self._greeted = False
        if not self._greeted:
            if now - self._hello_s < HEARTBEAT_S:
                return []
            self._hello_s = now
            return [Hello(self.source, self.epoch)]
        messages: list[Message] = []
        while self._next < self.next_seq and self.in_flight < self._credit:
            messages.append(self._items[self._next - self.acknowledged - 1])
            self._next += 1
        if not messages and now - self._spoke_s >= HEARTBEAT_S:
            messages.append(Heartbeat(self.epoch, self._next - 1))
        if messages:
            self._spoke_s = now
        return messages

    def due_s(self) -> float:
        """When `tick` has to be called at the latest, if nothing arrives before."""
        if not self._greeted:
            return self._hello_s + HEARTBEAT_S
        return min(self._spoke_s + HEARTBEAT_S, self._heard_s + SILENCE_S)

    def _hear(self, now: float) -> None:
        self._heard_s = now
        self.connected |= self._greeted

    def _take_welcome(self, welcome: Welcome) -> None:
        if max(welcome.acknowledged, welcome.received) >= self.next_seq:
            self.refused = (
                f"stream {self.epoch}: expected at most {self.next_seq} items at the engine, found "
                f"{max(welcome.acknowledged, welcome.received) + 1}; start it with a new epoch"
            )
            return
        if welcome.acknowledged < self.acknowledged:
            # Those items are no longer here to be sent again: this engine writes another record.
            self.outdated = True
            self.refused = (
                f"stream {self.epoch}: expected an engine whose record holds its first "
                f"{self.acknowledged + 1} items, found {welcome.acknowledged + 1}; "
                "start it with a new epoch"
            )
            return
        self._drop_through(welcome.acknowledged)
        self._credit = welcome.credit
        self.committed = welcome.committed
        self.connected = True
        self.refused = ""
        if not self._greeted:
            self._greeted = True
            self._next = max(self.acknowledged, welcome.received) + 1

    def _drop_through(self, seq: int) -> None:
        while self._items and self.acknowledged < seq:
            self._items.popleft()
            self.acknowledged += 1
        self._next = max(self._next, self.acknowledged + 1)

    def _send_again(self, seq: int, damaged: str) -> None:
        if not self.acknowledged < seq < self._next:
            return
        self._next = seq
        if not damaged:
            return
        n_damaged = self._damaged[1] + 1 if self._damaged[0] == seq else 1
        self._damaged = (seq, n_damaged)
        if n_damaged >= MAX_DAMAGED:
            self._replace(seq, damaged)

    def _replace(self, seq: int, damaged: str) -> None:
        """Put a note in the place of an item that cannot be carried, so that others can pass."""
        item = self._items[seq - self.acknowledged - 1]
        lost = item.volume if isinstance(item, VolumeItem) else item.note
        reason = f"arrived damaged {MAX_DAMAGED} times, given up: {damaged[:200]}"
        note = Note("refused", lost.attempt, lost.index, reason, lost.received_s)
        self._items[seq - self.acknowledged - 1] = NoteItem(self.epoch, seq, note)
