"""Which folders are looked at, and which of their files are new: bounded scans, no whole-tree walk.

Scanners export into the watched folder itself or into a new sub-folder for every session or
series. Looked at are: the watched folder, sub-folders that came into being since, those in which
files were found, and at each level the few newest, down to a bounded depth. A look lists names
only; sizes and times are asked for new sub-folders and for files that lay there before the watch.
"""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["FolderTree", "Found", "is_temporary"]

DEPTH = 3
"""Levels of sub-folders below the watched folder (session, study and series folders)."""
BREADTH = 3
"""How many of the newest sub-folders of a folder are looked at."""
MOST_FOLDERS = 64
NEWEST_EVERY = 16
"""Every so many scans, the times of all sub-folders of looked-at folders are asked for again."""

TEMPORARY_ENDINGS = (
    ".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".download", ".swp",
    ".lock", ".inprogress", ".incomplete", "~",
)  # fmt: skip
TEMPORARY_STARTS = (".", "~", "#")


class Found(NamedTuple):
    """A file that a scan saw for the first time.

    `modified_ns` is its time stamp if it lay there before the watch began (file server's clock,
    nanoseconds), None if it is new.
    """

    path: str
    modified_ns: int | None


@dataclass(slots=True)
class _Folder:
    """One folder that is looked at. `fresh`: it came into being while its parent was watched."""

    level: int
    fresh: bool
    used: int
    scanned: bool = False
    names: set[str] = field(default_factory=set)
    subfolders: set[str] = field(default_factory=set)


def is_temporary(name: str) -> bool:
    """Whether a file name is one that copying programs use until a file is complete."""
    return name.startswith(TEMPORARY_STARTS) or name.lower().endswith(TEMPORARY_ENDINGS)


class FolderTree:
    """The folders that are looked at, and the names seen in them.

    Parameters
    ----------
    root : str
        The watched folder.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._scans = 0
        self._folders = {root: _Folder(level=0, fresh=False, used=0)}

    @property
    def folders(self) -> list[str]:
        """Folders that are looked at, the watched folder first."""
        return list(self._folders)

    def saw(self, path: str) -> bool:
        """An event told of this file: the next scan need not. False if its folder is unknown."""
        folder = self._folders.get(os.path.dirname(path))
        if folder is None:
            return False
        folder.names.add(os.path.basename(path))
        folder.used = self._scans
        return True

    def adopt(self, path: str, *, fresh: bool) -> bool:
        """Look at a sub-folder that an event told of.

        Parameters
        ----------
        path : str
            The sub-folder.
        fresh : bool
            Whether it has just come into being, so that all its files are new.

        Returns
        -------
        bool
            Whether it is looked at from now on and was not before.
        """
        parent = self._folders.get(os.path.dirname(path))
        if parent is None or parent.level >= DEPTH or path in self._folders:
            return False
        if is_temporary(os.path.basename(path)):
            return False
        parent.subfolders.add(os.path.basename(path))
        self._folders[path] = _Folder(parent.level + 1, fresh, self._scans)
        self._drop_oldest()
        return path in self._folders

    def scan(self) -> list[Found]:
        """List every looked-at folder, and those that are found on the way.

        Returns
        -------
        list of Found
            Files not seen before, folder by folder, names in order (numbers as numbers).

        Raises
        ------
        OSError
            If the watched folder itself cannot be listed.
        """
        found: list[Found] = []
        renew = self._scans % NEWEST_EVERY == 0
        self._scans += 1
        waiting = list(self._folders)
        for path in waiting:
            if path in self._folders:
                waiting += self._scan_one(path, renew, found)
        return found

    def _scan_one(self, path: str, renew: bool, found: list[Found]) -> list[str]:
        """Files of one folder into `found`; returns sub-folders looked at from now on."""
        try:
            with os.scandir(path) as entries:
                files, subfolders = _listed(entries)
        except OSError:
            if path == self._root:
                raise
            del self._folders[path]
            return []
        folder = self._folders[path]
        new = [name for name in files if name not in folder.names]
        before = not folder.scanned and not folder.fresh
        found += _found(path, new, before)
        if new:
            folder.used = self._scans
        adopted = self._new_subfolders(path, folder, subfolders, renew)
        folder.names = set(files)
        folder.subfolders = {entry.name for entry in subfolders}
        folder.scanned = True
        return adopted

    def _new_subfolders(
        self, path: str, folder: _Folder, entries: list[os.DirEntry[str]], renew: bool
    ) -> list[str]:
        if folder.level >= DEPTH:
            return []
        fresh = folder.scanned or folder.fresh
        adopted = [
            (entry.path, True) for entry in entries if fresh and entry.name not in folder.subfolders
        ]
        if renew or not folder.scanned:
            newest = heapq.nlargest(BREADTH, entries, key=_modified_ns)
            adopted += [(entry.path, False) for entry in newest]
        taken = []
        for subfolder, is_fresh in adopted:
            if subfolder not in self._folders:
                self._folders[subfolder] = _Folder(folder.level + 1, is_fresh, self._scans)
                taken.append(subfolder)
        self._drop_oldest()
        return taken

    def _drop_oldest(self) -> None:
        """Keep the number of folders bounded: those unused for longest go first."""
        surplus = len(self._folders) - MOST_FOLDERS
        if surplus > 0:
            others = [path for path in self._folders if path != self._root]
            for path in heapq.nsmallest(surplus, others, key=lambda p: self._folders[p].used):
                del self._folders[path]


def _listed(entries: Iterable[os.DirEntry[str]]) -> tuple[list[str], list[os.DirEntry[str]]]:
    """Names of complete-looking files, and sub-folders."""
    files: list[str] = []
    subfolders: list[os.DirEntry[str]] = []
    for entry in entries:
        if is_temporary(entry.name):
            continue
        # Links are not followed: a loop of links would make the tree endless.
        if entry.is_dir(follow_symlinks=False):
            subfolders.append(entry)
        elif entry.is_file():
            files.append(entry.name)
    return files, subfolders


def _found(folder: str, names: list[str], before: bool) -> list[Found]:
    paths = [os.path.join(folder, name) for name in sorted(names, key=_by_number)]
    if not before:
        return [Found(path, None) for path in paths]
    return [Found(path, _time_of(path)) for path in paths]


def _by_number(name: str) -> list[str | int]:
    """Sort key that takes digits as numbers: `i2.dcm` before `i10.dcm`."""
    parts = re.split(r"(\d+)", name)  # text and digits in turn, text first
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def _time_of(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _modified_ns(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_mtime_ns
    except OSError:
        return 0
