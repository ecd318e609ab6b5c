"""What is due on the participant's screen at the next flip, and what has to be reported of it.

The newest feedback replaces all older ones; one whose time is over is never drawn; silence of the
loop turns into a sign of hold and then into the calm empty screen; a stop is neutral at once and
stays so. No window, no socket and no clock in here: times are handed in, host clock, Unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rtloop.wire import Feedback, Scene, Shown
from stimuli.scenes import Picture, clamped

__all__ = ["REPORT_AGAIN_S", "Screenplay"]

Status = Literal["shown", "expired", "failed"]

REPORT_AGAIN_S = 1.0
"""A message still repeated this long after its flip was reported: the report was lost (with the
engine that received it), and is sent once more, the same as before."""

PATIENT: frozenset[Scene] = frozenset({"wait", "neutral", "end"})
"""Scenes that promise nothing more to come: silence changes nothing in them."""

AFTER_STOP: frozenset[Scene] = frozenset({"neutral", "end"})
"""Scenes of the stopped run that may still be shown."""


@dataclass(slots=True)
class Received:
    """The newest message and what became of it."""

    message: Feedback
    received_s: float
    report: Shown | None = None
    reported_s: float = 0.0


class Screenplay:
    """Decides what is drawn; the display asks `due` before each flip and tells `flipped` after.

    Parameters
    ----------
    silence_s : float or None
        After this long without a message the screen says that it is old, after twice as long it
        is neutral; None keeps it for ever.
    """

    def __init__(self, silence_s: float | None = 5.0) -> None:
        self._silence_s = silence_s
        self._newest: Received | None = None
        self._last_value: float | None = None
        self._stopped_attempt: str | None = None
        self._reports: list[Shown] = []
        self._notes: list[str] = []
        self._silent = ""

    def take(self, message: Feedback, now_s: float) -> None:
        """A message has come; older ones than the newest are ignored."""
        if self._is_refused(message):
            return
        newest = self._newest
        if newest is not None and _is_repeat(message, newest.message):
            newest.received_s = now_s
            if newest.report is not None and now_s - newest.reported_s > REPORT_AGAIN_S:
                self._reports.append(newest.report)
                newest.reported_s = now_s
            return
        if newest is not None and _is_older(message, newest.message):
            return
        if newest is not None and message.attempt != newest.message.attempt:
            self._last_value = None
        self._stopped_attempt = None
        self._newest = Received(message, now_s)

    def stop(self) -> None:
        """The participant wants out: neutral from the next flip on, until another attempt."""
        self._stopped_attempt = self._newest.message.attempt if self._newest else ""

    @property
    def stopped(self) -> bool:
        return self._stopped_attempt is not None

    @property
    def pending(self) -> bool:
        """Whether the newest message still waits for its first flip."""
        return self._newest is not None and self._newest.report is None and not self.stopped

    @property
    def started(self) -> bool:
        """Whether the loop has shown more than its waiting screen."""
        return self._newest is not None and self._newest.message.scene not in PATIENT

    def due(self, flip_s: float) -> Picture:
        """What to draw for a flip expected at `flip_s`."""
        newest = self._newest
        if self.stopped:
            return Picture("neutral")
        if newest is None:
            return Picture("wait")
        message = newest.message
        if message.expires_s is not None and message.expires_s < flip_s:
            if newest.report is None:
                self._report(newest, message.scene, message.value, flip_s, "expired")
            return Picture("neutral")
        silent = self._silence(newest, flip_s)
        if silent == "neutral":
            return Picture("neutral")
        return self._picture(message, old=silent == "hold")

    def flipped(self, picture: Picture, flip_s: float) -> None:
        """`picture`, the answer of `due`, reached the screen at `flip_s`."""
        newest = self._newest
        if picture.scene in ("feedback", "hold") and picture.value is not None:
            self._last_value = picture.value
        if newest is None or newest.report is not None or self.stopped:
            return
        if picture.scene == "neutral" and newest.message.scene != "neutral":
            return
        self._report(newest, picture.scene, picture.value, flip_s, "shown")

    def failed(self, flip_s: float) -> None:
        """The window was lost before the newest message was shown."""
        newest = self._newest
        if newest is not None and newest.report is None:
            self._report(newest, newest.message.scene, newest.message.value, flip_s, "failed")

    def take_reports(self) -> list[Shown]:
        """Reports to send, in order."""
        reports, self._reports = self._reports, []
        return reports

    def take_notes(self) -> list[str]:
        """Lines for the record about what the display decided by itself."""
        notes, self._notes = self._notes, []
        return notes

    def _is_refused(self, message: Feedback) -> bool:
        """After a stop, whatever the loop had still in flight."""
        same = message.attempt == self._stopped_attempt
        return self.stopped and same and message.scene not in AFTER_STOP

    def _picture(self, message: Feedback, old: bool) -> Picture:
        value = clamped(message.value)
        if message.scene == "hold" and value is None:
            value = self._last_value
        if message.scene == "feedback" and value is None:
            # No score yet is a fact to be seen, not a disc of size 0.
            return Picture("hold", None, message.text, old=True)
        return Picture(message.scene, value, message.text, old=old or message.scene == "hold")

    def _silence(self, newest: Received, flip_s: float) -> str:
        quiet_s = flip_s - newest.received_s
        if self._silence_s is None or newest.message.scene in PATIENT:
            silent = ""
        elif quiet_s > 2 * self._silence_s:
            silent = "neutral"
        else:
            silent = "hold" if quiet_s > self._silence_s else ""
        if silent and silent != self._silent:
            self._notes.append(f"display: no message for {quiet_s:.1f} s, screen set to {silent}")
        if self._silent and not silent:
            self._notes.append("display: messages again")
        self._silent = silent
        return silent

    def _report(
        self, newest: Received, scene: Scene, value: float | None, flip_s: float, status: Status
    ) -> None:
        message = newest.message
        newest.report = Shown(
            id=message.id,
            attempt=message.attempt,
            scene=scene,
            value=clamped(value),
            flip_s=flip_s,
            status=status,
        )
        newest.reported_s = flip_s
        self._reports.append(newest.report)


def _is_repeat(message: Feedback, newest: Feedback) -> bool:
    """Whether it is the same message, sent again. Not by equality: nan equals nothing."""
    same = message.attempt == newest.attempt and message.id == newest.id
    return same and message.published_s == newest.published_s


def _is_older(message: Feedback, newest: Feedback) -> bool:
    """Whether a message of the same attempt was overtaken on its way.

    An id alone does not tell: a restarted engine uses again the ids it had not yet recorded.
    """
    same = message.attempt == newest.attempt
    return same and message.id < newest.id and message.published_s < newest.published_s
