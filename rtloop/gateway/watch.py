"""Tells of files in a watched folder: events at once, and a bounded rescan for what has no events.

Network shares deliver no events for what other machines write, so the looked-at folders (see
`tree`) are listed every `rescan_s` as well; the two ways know of each other's findings. The
thread only names files: whether one is complete is tried elsewhere.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import watchfiles

from rtloop.gateway.inotify import FileEvent, Inotify
from rtloop.gateway.tree import FolderTree, is_temporary

__all__ = ["Arrival", "FolderWatch", "Watchfiles", "events_for"]

SCAN_SHARE = 0.05
"""At most this share of the time is spent listing folders, however slow the share is."""
STEP_MS = 2
"""watchfiles gathers changes for this long; its smallest, 1, keeps 2 % of a core busy."""
WATCHFILES_WAIT_MS = 100


class Arrival(NamedTuple):
    """A file was seen.

    `seen_s`: Unix time, seconds. `sure`: an event said that it is closed; otherwise it may still
    be growing. `modified_ns`: its time stamp if it lay there before the watch began, None if it
    is new.
    """

    path: str
    seen_s: float
    sure: bool
    modified_ns: int | None


class Watchfiles:
    """The portable events: changes below a folder, files or folders, closed or not."""

    def __init__(self, root: str) -> None:
        self._stop = threading.Event()
        self._changes: Iterator[set[tuple[watchfiles.Change, str]]] = watchfiles.watch(
            root,
            watch_filter=None,
            debounce=STEP_MS,
            step=STEP_MS,
            rust_timeout=WATCHFILES_WAIT_MS,
            yield_on_timeout=True,
            stop_event=self._stop,
            raise_interrupt=False,
            # Polling would walk the whole tree; the rescans do what it is for.
            force_polling=False,
            ignore_permission_denied=True,
        )

    def watch(self, folders: list[str]) -> None:
        """Nothing to do: all folders below the root are watched."""

    def wait(self, timeout_s: float) -> list[FileEvent] | None:
        """Changes since the last call, after `WATCHFILES_WAIT_MS` at the latest."""
        changes = next(self._changes, set())
        present = (path for change, path in changes if change is not watchfiles.Change.deleted)
        return [FileEvent(path, sure=False, folder=os.path.isdir(path)) for path in present]

    def wake(self) -> None:
        self._stop.set()

    def close(self) -> None:
        self._changes = iter(())


def events_for(root: str) -> Inotify | Watchfiles:
    """The quickest source of events this system has."""
    try:
        return Inotify()
    except OSError:
        return Watchfiles(root)


class FolderWatch:
    """A thread that calls `arrived` for every file seen in a folder.

    Parameters
    ----------
    root : str
        The watched folder, absolute.
    arrived : callable
        Called in the thread with the `Arrival`s of one look, in order.
    rescan_s : float
        Time between two rescans, seconds.
    events : Inotify or Watchfiles or None
        Where events come from; None takes `events_for(root)`.
    """

    def __init__(
        self,
        root: str,
        arrived: Callable[[list[Arrival]], None],
        rescan_s: float,
        events: Inotify | Watchfiles | None = None,
    ) -> None:
        self._root = root
        self._arrived = arrived
        self._rescan_s = rescan_s
        self._tree = FolderTree(root)
        self._events = events or events_for(root)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="folder-watch", daemon=True)
        self.ready = threading.Event()
        """Set after the first look: what comes from then on is new."""
        self.trouble = ""
        """Why the watched folder cannot be listed at present; empty if it can."""

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs; it ends by itself only through a fault in this program."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop the thread and wait for its end (it may be inside a slow listing: 1 s at most)."""
        self._stop.set()
        self._events.wake()
        self._thread.join(timeout=1.0)
        if not self._thread.is_alive():
            self._events.close()

    def _run(self) -> None:
        rescan_at_s = self._rescan()
        self.ready.set()
        while not self._stop.is_set():
            events = self._events.wait(rescan_at_s - time.monotonic())
            look_now = events is None or self._tell(events)
            if look_now or time.monotonic() >= rescan_at_s:
                rescan_at_s = self._rescan()

    def _rescan(self) -> float:
        """One bounded look; returns when the next is due (`time.monotonic`)."""
        begun_s = time.monotonic()
        # Watched before listed: a file that comes in between is seen twice rather than never.
        self._events.watch(self._tree.folders)
        known = set(self._tree.folders)
        try:
            found = self._tree.scan()
            self.trouble = ""
        except OSError as error:
            found = []
            self.trouble = error.strerror or type(error).__name__
        if found:
            seen_s = time.time()
            self._arrived([Arrival(one.path, seen_s, False, one.modified_ns) for one in found])
        ended_s = time.monotonic()
        if set(self._tree.folders) - known:
            return ended_s  # these are not watched yet: look again at once
        return ended_s + max(self._rescan_s, (ended_s - begun_s) / SCAN_SHARE)

    def _tell(self, events: list[FileEvent]) -> bool:
        """Report the files of events; returns whether a folder is new and should be listed."""
        arrivals: list[Arrival] = []
        seen_s = time.time()
        look_now = False
        for event in events:
            if is_temporary(os.path.basename(event.path)):
                continue
            if event.folder:
                look_now |= self._tree.adopt(event.path, fresh=True)
            elif self._tree.saw(event.path):
                arrivals.append(Arrival(event.path, seen_s, event.sure, None))
            else:
                look_now |= self._tree.adopt(os.path.dirname(event.path), fresh=False)
        if arrivals:
            self._arrived(arrivals)
        return look_now
