"""The participant's screen as the engine's process sees it: what was sent, what was flipped."""

from __future__ import annotations

import time

from rtloop.events import Screen
from rtloop.link import Broadcaster
from rtloop.wire import Feedback

__all__ = ["Stage"]

REPEAT_S = 0.25
"""The newest feedback is sent again at this pace until its flip is reported."""


class Stage:
    """Sends feedback and repeats the newest until a display has flipped it.

    Parameters
    ----------
    broadcaster : Broadcaster
        The feedback endpoint.
    last_id : int
        Number of the last message on record; numbering goes on after it.
    """

    def __init__(self, broadcaster: Broadcaster, last_id: int) -> None:
        self._broadcaster = broadcaster
        self._id = last_id
        self._newest: Feedback | None = None
        self._repeat_at = 0.0
        self.is_shown = True

    def show(self, screen: Screen, attempt: str, index: int) -> Feedback:
        """Send a new message; it replaces all older ones."""
        now_s = time.time()
        self._id += 1
        feedback = Feedback(
            id=self._id,
            attempt=attempt,
            index=index,
            scene=screen.scene,
            value=screen.value,
            text=screen.text,
            trial=screen.trial,
            published_s=now_s,
            expires_s=None if screen.valid_for_s is None else now_s + screen.valid_for_s,
        )
        self._broadcaster.publish(feedback)
        self._newest, self.is_shown = feedback, False
        self._repeat_at = time.monotonic() + REPEAT_S
        return feedback

    def repeat(self) -> None:
        """Send the newest again if it is time to, it is not flipped yet, and still holds."""
        if self._newest is None or self.is_shown or time.monotonic() < self._repeat_at:
            return
        self._repeat_at = time.monotonic() + REPEAT_S
        expires_s = self._newest.expires_s
        if expires_s is None or expires_s > time.time():
            self._broadcaster.publish(self._newest)

    def flipped(self, id: int) -> None:
        """A display reports the flip of message `id`."""
        if self._newest is not None and id >= self._newest.id:
            self.is_shown = True
