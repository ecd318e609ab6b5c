"""What the participant is shown: sources of feedback behind one interface.

Both circuits of a plan are computed in every arm; the arm decides only which value reaches the
screen. Nothing else of the loop knows the arm.
"""

from __future__ import annotations

from typing import Protocol

from rtloop.plan import Control

__all__ = ["Arm", "NoFeedback", "Real", "select_arm"]


class Arm(Protocol):
    """A source of feedback: given the value of the trained circuit, what is shown."""

    def shown(self, value: float | None) -> float | None:
        """Feedback 0..100 for the screen; None shows no value."""
        ...


class Real:
    """The trained circuit's own feedback."""

    def shown(self, value: float | None) -> float | None:
        return value


class NoFeedback:
    """Same timeline, no value: for calibration and transfer runs."""

    def shown(self, value: float | None) -> float | None:
        return None


def select_arm(control: Control) -> Arm:
    """The source of feedback a plan asks for."""
    return Real() if control.arm == "real" else NoFeedback()
