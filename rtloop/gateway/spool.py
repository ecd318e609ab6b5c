"""Received DICOM objects on disk, from before they are answered until the engine has them.

An object is written under a temporary name, synced, renamed, and the folder synced, before the
sender hears of success: from then on it survives any death of the gateway. Names are numbers in
order of arrival and say nothing of the person.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from rtloop.errors import ConfigError

__all__ = ["Ledger", "Spool"]

RESERVE_BYTES = 256 * 1024 * 1024
"""Space that must stay free: a record on the same disk must not die of a full spool."""
_SUFFIX = ".dcm"


class Spool:
    """A private folder of received objects.

    Parameters
    ----------
    folder : Path
        Made if it does not exist; its mode is set to 0700.
    reserve_bytes : int or None
        Free space below which nothing more is taken, bytes; None for `RESERVE_BYTES`.

    Raises
    ------
    ConfigError
        If the folder cannot be made or written.
    """

    def __init__(self, folder: Path, reserve_bytes: int | None = None) -> None:
        self.folder = folder
        self._reserve_bytes = RESERVE_BYTES if reserve_bytes is None else reserve_bytes
        self._lock = threading.Lock()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            for leftover in folder.glob(".*.part"):
                leftover.unlink()
            numbers = [int(path.stem) for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdigit()]
        except OSError as error:
            raise ConfigError(
                f"spool {folder}: expected a folder of one's own, found {error.strerror}; "
                "name another"
            ) from error
        self._next = max(numbers, default=0) + 1

    def put(self, body: bytes) -> Path:
        """Keep one object; on return it is on disk for good.

        Raises
        ------
        OSError
            If it is not (`errno.ENOSPC` where space is short); nothing of it is left then.
        """
        free = shutil.disk_usage(self.folder).free
        if free - len(body) < self._reserve_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with self._lock:
            name = f"{self._next:010d}{_SUFFIX}"
            self._next += 1
        path = self.folder / name
        part = self.folder / f".{name}.part"
        try:
            _write_synced(part, body)
            part.rename(path)
            _sync_folder(self.folder)
        except OSError:
            _remove([part, path])
            raise
        return path

    def discard(self, paths: Iterable[str]) -> None:
        """Remove objects that are needed no more."""
        _remove(Path(path) for path in paths)


class Ledger:
    """Which files belong to which item of the stream, until the item is acknowledged.

    Items are acknowledged in the order they were sent, so their number alone tells which.
    """

    def __init__(self) -> None:
        self._items: deque[tuple[str, ...]] = deque()

    @property
    def unsettled(self) -> int:
        """How many items were sent and not yet settled."""
        return len(self._items)

    def sent(self, files: Iterable[str]) -> None:
        """An item made of these files (maybe none) was handed to the stream."""
        self._items.append(tuple(files))

    def settled(self, unacknowledged: int) -> list[str]:
        """Files of items that have been acknowledged since the last call."""
        done: list[str] = []
        while len(self._items) > unacknowledged:
            done += self._items.popleft()
        return done


def _write_synced(path: Path, body: bytes) -> None:
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(body)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut; Windows offers nothing to this end."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
