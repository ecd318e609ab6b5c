"""One writer of a cohort at a time, by a lock that ends with the process that holds it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from offline.errors import CohortError

__all__ = ["LOCK", "held"]

LOCK = ".lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a cohort's folder, made if it is not there, for the duration of a block.

    Raises
    ------
    CohortError
        If another build or withdrawal holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("ab") as file:
        try:
            _lock(file.fileno())
        except (BlockingIOError, PermissionError) as error:
            raise CohortError(
                f"cohort {folder}: expected nobody else to write it, found a build or withdrawal"
                " under way; wait until it ends"
            ) from error
        yield


def _lock(file: int) -> None:
    """Take a file at once, or raise; closing it lets go."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
