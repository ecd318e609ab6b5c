"""Outputs looked at before the work begins: what cannot be written is said at once.

Folders that are missing are made. That a file can be made in a folder is tried, since rights alone
do not tell of a disk that is read-only or full.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from rtloop.errors import FcnefError

__all__ = ["OutputError", "require_file", "require_folder"]


class OutputError(FcnefError, OSError):
    """Raised when an output cannot be written where it is asked for."""


def require_folder(out: str | Path) -> Path:
    """Make the folder an output goes to, and see that files can be made in it.

    Parameters
    ----------
    out : str or Path
        The folder; one that is there may hold files.

    Raises
    ------
    OutputError
        If it is a file, or may not be made or written.
    """
    return _writable(Path(out), "a folder to write in")


def require_file(out: str | Path) -> Path:
    """Make the folder of an output file, and see that the file can be written.

    Parameters
    ----------
    out : str or Path
        The file, with its suffix; one that is there stays as it is.

    Raises
    ------
    OutputError
        If it has no name, is a folder, or may not be written.
    """
    path = Path(out)
    if path.name in ("", ".."):
        raise _refusal(out, "a file to write", "no name of a file")
    try:
        there = path.exists()
    except OSError as error:  # such as a name that is too long
        raise _refusal(out, "a file to write", error.strerror) from error
    if path.is_dir():
        raise _refusal(out, "a file to write", "a folder")
    if there and not os.access(path, os.W_OK):
        raise _refusal(out, "a file to write", "one that may not be written")
    # what is no plain file, such as /dev/null, is written to where it is
    if not there or path.is_file():
        _writable(path.parent, f"a folder to write {path.name} in")
    return path


def _writable(folder: Path, expected: str) -> Path:
    """The folder, made if need be, in which a file was made and removed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        found = "a file" if isinstance(error, FileExistsError) else error.strerror
        raise _refusal(folder, expected, found) from error
    return folder


def _refusal(out: str | Path, expected: str, found: str | None) -> OutputError:
    return OutputError(f"output {out}: expected {expected}, found {found}; name another")
