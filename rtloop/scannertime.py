"""Is scanner time what it is taken for: volume index against clock and against pulses.

The loop tells every volume and pulse; what does not fit comes back as (kind, reason) and is put on
record. Nothing is corrected: scanner time leads. No clock is read here.
"""

from __future__ import annotations

from collections.abc import Iterator

from rtloop.clock import ClockFit
from rtloop.pulses import PulseCount
from rtloop.volume import Volume
from rtloop.wire import Trigger

__all__ = ["ScannerTime"]

EMULATED = "emulated"
"""Source of pulses that no scanner gave: they say nothing of it."""


class ScannerTime:
    """Both watches of one run.

    Parameters
    ----------
    tr_s : float
        Repetition time, s.
    n_before : int
        Pulses before the first exported volume's own.
    delay_s : float
        Longest usual time from the end of an acquisition to the volume's arrival, s.
    whole : bool
        Whether the run begins now, and every pulse of it will be heard.
    """

    def __init__(self, tr_s: float, n_before: int, delay_s: float, whole: bool) -> None:
        self._tr_s = tr_s
        self._clock = ClockFit(tr_s)
        self._pulses = PulseCount(tr_s, n_before, delay_s, whole)
        self._begun = not whole

    def begin(self) -> None:
        """An attempt begins: volumes count from 0."""
        self._clock = ClockFit(self._tr_s)
        if self._begun:
            self._pulses.begin()
        self._begun = True

    def pulse(self, trigger: Trigger) -> None:
        """A pulse was heard."""
        if trigger.source != EMULATED:
            self._pulses.pulse(trigger.count, trigger.time_s)

    def volume(self, volume: Volume) -> Iterator[tuple[str, str]]:
        """A volume came in its turn; what is wrong with its times, by kind.

        The gateway saw when it was complete; whether the scanner tells its own time depends on
        the scanner.
        """
        if volume.acquired_s is not None:
            for reason in self._clock.update(volume.index, volume.acquired_s, volume.received_s):
                yield "clock", reason
        if reason := self._pulses.volume(volume.index, volume.received_s):
            yield "triggers", reason
