"""Scanner pulses against volume indices: both count the same acquisitions.

Volume `index` begins with its own pulse, the one numbered `index + 1` after those that the site's
scanner gives beforehand, and is complete one TR and the site's usual delay later. A count that
does not fit says that a pulse was lost or made up, or that volumes are numbered otherwise than
thought; scanner time stays the volumes'. No clock is read here.
"""

from __future__ import annotations

__all__ = ["PulseCount"]

SLACK = 0.5
"""A volume may be early or late by this share of a TR: half of what one pulse makes."""

N_SURE = 3
"""So many volumes in a row have to be off by as many pulses: files come late at times."""

N_KEPT = 256
"""Pulses remembered: more than come while a volume is on its way."""


class PulseCount:
    """Compares the number of pulses with the volume index, at a cost that does not grow.

    Parameters
    ----------
    tr_s : float
        Repetition time, s.
    n_before : int
        Pulses that come before the first exported volume's own.
    delay_s : float
        Longest usual time from the end of an acquisition to the volume's arrival, s.
    whole : bool
        Whether every pulse since the run's first can have been counted. Where it cannot (after a
        restart) the first comparison is taken as right, and what changes is told.
    """

    def __init__(self, tr_s: float, n_before: int, delay_s: float, whole: bool = True) -> None:
        self._tr_s, self._n_before, self._delay_s = tr_s, n_before, delay_s
        self._shift = 0
        self._open = not whole
        self._times: dict[int, float] = {}
        self._last = 0
        self._waiting: tuple[int, float] | None = None
        self._off = self._told = self._in_a_row = 0

    def pulse(self, count: int, time_s: float) -> None:
        """Pulse number `count` since the display started, at `time_s` (Unix s)."""
        if count <= self._last:
            # another display counts from 1 again, and what came meanwhile was not counted
            self._times.clear()
            self.begin()
        self._times[count] = time_s
        self._last = count
        self._times.pop(count - N_KEPT, None)

    def begin(self) -> None:
        """Volumes or pulses count anew from here, and the others go on."""
        self._waiting, self._open = None, True
        self._off = self._told = self._in_a_row = 0

    def volume(self, index: int, complete_s: float) -> str:
        """Volume `index` was complete at `complete_s` (Unix s).

        Returns
        -------
        str
            What is wrong with the count by the volume *before*, whose pulses have all been
            reported by now; empty if nothing is, or nothing new.
        """
        before, self._waiting = self._waiting, (index, complete_s)
        return self._compare(*before) if before is not None and self._times else ""

    def _compare(self, index: int, complete_s: float) -> str:
        if self._open:
            self._settle(index, complete_s)
            return ""
        off = self._pulses_off(self._own(index), complete_s)
        self._in_a_row = self._in_a_row + 1 if off == self._off else 1
        self._off = off
        if off == self._told or self._in_a_row < N_SURE:
            return ""
        self._told = off
        return self._say(index, off)

    def _settle(self, index: int, complete_s: float) -> None:
        """Take the last pulse that can have begun this volume for its own.

        Nothing is known of the pulses before; from here on both should keep step.
        """
        latest_s = complete_s - (1.0 - SLACK) * self._tr_s
        began = [count for count, time_s in self._times.items() if time_s <= latest_s]
        if began:
            self._shift += max(began) - self._own(index)
            self._open = False

    def _own(self, index: int) -> int:
        """Number that this volume's pulse should have."""
        return self._n_before + index + 1 + self._shift

    def _pulses_off(self, own: int, complete_s: float) -> int:
        """How many pulses too many (or, below 0, too few) were counted up to a volume."""
        if own not in self._times:
            return self._last - own
        late_s = complete_s - self._times[own] - self._tr_s
        if late_s < -SLACK * self._tr_s:
            return round(late_s / self._tr_s)
        if late_s > self._delay_s + SLACK * self._tr_s:
            return max(1, round((late_s - self._delay_s) / self._tr_s))
        return 0

    def _say(self, index: int, off: int) -> str:
        if off == 0:
            return f"pulses and volumes agree again at volume {index}"
        what = f"{abs(off)} pulses {'lost or not read' if off < 0 else 'too many'}"
        return (
            f"expected pulse {self._own(index)} at the beginning of volume {index}, found {what}; "
            "check the trigger box and triggers_before_first_volume in scanner.toml"
        )
