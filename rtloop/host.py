"""The loop's own machine: steps of its clock, room on its disk."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

__all__ = ["HostWatch"]

CLOCK_STEP_S = 0.1
SPACE_CHECK_S = 10.0
SPACE_WARNING_VOLUMES = 200
"""The operator is warned when the disk holds fewer further volumes than this."""


class HostWatch:
    """Says what has happened to clock and disk since the last look.

    Parameters
    ----------
    folder : Path
        Where the record is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offset_s = _offset_s()
        self._space_at = 0.0

    def look(self, volume_bytes: int) -> list[tuple[str, str, str]]:
        """Kind, reason and action of each fault found.

        Parameters
        ----------
        volume_bytes : int
            Size of one volume; 0 while none has come.
        """
        now = time.monotonic()
        found = self._clock()
        if volume_bytes and now >= self._space_at:
            self._space_at = now + SPACE_CHECK_S
            found += self._space(volume_bytes)
        return found

    def _clock(self) -> list[tuple[str, str, str]]:
        offset_s = _offset_s()
        step_s, self._offset_s = offset_s - self._offset_s, offset_s
        if abs(step_s) <= CLOCK_STEP_S:
            return []
        return [("clock step", f"host clock moved by {step_s:+.3f} s", "scanner time leads")]

    def _space(self, volume_bytes: int) -> list[tuple[str, str, str]]:
        free = shutil.disk_usage(self._folder).free
        # The log holds every volume once more until it is checkpointed.
        if free >= 2 * SPACE_WARNING_VOLUMES * volume_bytes:
            return []
        return [("disk nearly full", f"{free / 1e6:.0f} MB free", "operator warned")]


def _offset_s() -> float:
    """Host clock less monotonic clock; being set aside between the two is no step of the clock."""
    offsets_s = []
    for _ in range(3):
        before_s = time.monotonic()
        offsets_s.append(time.time() - before_s)
        if time.monotonic() - before_s < CLOCK_STEP_S / 10:
            return offsets_s[-1]
    return min(offsets_s)
