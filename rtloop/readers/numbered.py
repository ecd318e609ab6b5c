"""Volumes whose only index is the number that ends their file's name (NIfTI, PAR/REC).

`run_0007.nii.gz` is volume 7 of the series `run_` in its folder, whatever came before it. An
aborted and restarted series is another one only if it has another stem or folder.
"""

from __future__ import annotations

import re
from pathlib import Path

from rtloop.readers.binding import ScannerConfig
from rtloop.readers.outcome import NotOfThisRun, Unreadable

__all__ = ["numbered_name"]


def numbered_name(path: Path, suffixes: tuple[str, ...], binding: ScannerConfig) -> tuple[str, int]:
    """Series key and volume index of a file, by its name alone.

    Parameters
    ----------
    path : Path
        The file.
    suffixes : tuple of str
        Endings to take off first, lower case, longest first.
    binding : ScannerConfig
        `first_index` is the number of the first volume, 0 unless set.

    Returns
    -------
    (str, int)
        Folder with stem, and index.

    Raises
    ------
    NotOfThisRun
        If the name does not end in a number.
    Unreadable
        If the number is below the first one.

    Examples
    --------
    >>> numbered_name(Path("/scans/run1_0007.nii.gz"), (".nii.gz", ".nii"), ScannerConfig())
    ('/scans/run1_', 7)
    """
    stem = path.name
    for suffix in suffixes:
        if stem.lower().endswith(suffix):
            stem = stem[: -len(suffix)]
            break
    number = re.search(r"\d+$", stem)
    if number is None:
        raise NotOfThisRun("the file's name does not end in a volume number")
    first = binding.first_index or 0
    index = int(number[0]) - first
    if index < 0:
        raise Unreadable(f"file number {int(number[0])}: expected {first} or more; see first_index")
    return str(path.absolute().parent / stem[: number.start()]), index
