"""What became of one file: the answers of `Assembler.add`, and how a form reader says no.

A form reader (siemens, ge, philips, nifti) returns a piece of a volume or raises one of the three
errors below; the assembler turns them into answers. Reasons leave the gateway in notes, so they
name entries and expectations, never a header's free text nor a path.
"""

from __future__ import annotations

from dataclasses import dataclass

from rtloop.errors import ReaderError
from rtloop.volume import Volume

__all__ = [
    "Complete",
    "NotOfThisRun",
    "NotYetWhole",
    "Outcome",
    "Refused",
    "Repeat",
    "Skipped",
    "Taken",
    "Unfinished",
    "Unreadable",
]


@dataclass(frozen=True, slots=True)
class Taken:
    """The file is part of a volume that is not complete yet."""

    attempt: str
    index: int


@dataclass(frozen=True, slots=True)
class Complete:
    """The file completed this volume."""

    volume: Volume


@dataclass(frozen=True, slots=True)
class Skipped:
    """The file is not of this run; `attempt` is its series where it has one."""

    reason: str
    attempt: str | None = None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The file ends too early and may still be being written: add it again, until a deadline."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The file is of this run but will never give a volume; counts as missing."""

    reason: str
    attempt: str | None = None
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Repeat:
    """This volume was completed before by another file, or by this one."""

    attempt: str
    index: int


Outcome = Taken | Complete | Skipped | Unfinished | Refused | Repeat


class NotOfThisRun(ReaderError):
    """Raised by a form reader for a file that the run does not want."""


class NotYetWhole(ReaderError):
    """Raised by a form reader for a file that ends before its content does."""


class Unreadable(ReaderError):
    """Raised by a form reader for a file that is whole and yet gives no volume."""
