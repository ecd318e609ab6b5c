"""Files written into an export folder the way the vendor's scanner writes them.

Siemens and NIfTI converters write under a temporary name and rename; GE, Philips and PAR/REC
exports grow under their final name, slice file by slice file. Whoever watches the folder has to
tell a complete file from one that has only appeared.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rtloop.errors import ConfigError
from tools.faults import Delivery
from tools.scanner.recording import Form
from tools.scanner.series import File, Series

__all__ = ["CHUNK_BYTES", "ExportFolder", "Manner"]

Manner = Literal["rename", "chunks"]

MANNERS: dict[Form, Manner] = {
    "siemens": "rename",
    "xa": "rename",
    "ge": "chunks",
    "philips": "chunks",
    "parrec": "chunks",
    "nifti": "rename",
    "nifti4d": "rename",
}

CHUNK_BYTES = 64 * 1024
TEMPORARY = ".tmp"


@dataclass(slots=True)
class ExportFolder:
    """Where a simulated scanner exports to.

    Attributes
    ----------
    folder : Path
        Made if it does not exist.
    manner : {"rename", "chunks"} or None
        How files come into being; None for the vendor's own way.
    written : list of Path
        Every file that was begun, in order.
    """

    folder: Path
    manner: Manner | None = None
    written: list[Path] = field(default_factory=list)
    _rests: dict[tuple[int, int], tuple[Path, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{self.folder}: expected a folder that can be made, found {error.strerror}; "
                "choose another"
            ) from error

    def check(self, series: Series, deliveries: list[Delivery]) -> None:
        """Refuse what this kind of file cannot show.

        Raises
        ------
        ConfigError
            For NaN in integer formats.
        """
        can_be_nan = series.form in ("nifti", "nifti4d")
        wanted = next((one for one in deliveries if one.change == "nan"), None)
        if wanted is not None and not can_be_nan:
            raise ConfigError(
                f"fault nan at volume {wanted.index}: expected a format with real numbers, found "
                f"{series.form} files of integers; play it over the stream or as NIfTI"
            )

    def start(self) -> None:
        """Nothing: a folder is always there."""

    def prepare(self, series: Series, delivery: Delivery) -> list[File]:
        """The files of a delivery; nothing to make for the rest of a begun one."""
        return [] if delivery.part == "rest" else series.files(delivery)

    def deliver(self, series: Series, delivery: Delivery, files: list[File]) -> None:
        """Write a delivery's files.

        Raises
        ------
        ConfigError
            If the folder cannot be written.
        """
        try:
            if delivery.part == "rest":
                path, rest = self._rests.pop((delivery.attempt, delivery.index))
                _append(path, rest)
                return
            for file in files[:-1]:
                self._write(series.form, file)
            if delivery.part in ("first", "cut"):
                self._begin(delivery, files[-1])
            else:
                self._write(series.form, files[-1])
        except OSError as error:
            raise ConfigError(
                f"{self.folder}: expected a folder that can be written, found {error.strerror}; "
                "make room or choose another"
            ) from error

    def idle(self, seconds: float) -> None:
        """Let time pass until the next delivery."""
        time.sleep(seconds)

    def is_ready(self) -> bool:
        """A disk takes the next file at once."""
        return True

    def finish(self, series: Series, complete: bool) -> None:
        """Nothing: an export folder is not told that a series ends."""

    def _write(self, form: Form, file: File) -> None:
        path = self.folder / file.name
        self.written.append(path)
        if (self.manner or MANNERS[form]) == "rename":
            temporary = path.with_name(path.name + TEMPORARY)
            temporary.write_bytes(file.body)
            os.replace(temporary, path)
            return
        with path.open("wb", buffering=0) as stream:
            for start in range(0, len(file.body), CHUNK_BYTES):
                stream.write(file.body[start : start + CHUNK_BYTES])

    def _begin(self, delivery: Delivery, file: File) -> None:
        """The first part of a file, under its final name."""
        size = max(1, min(len(file.body) - 1, round(len(file.body) * delivery.keep)))
        path = self.folder / file.name
        self.written.append(path)
        path.write_bytes(file.body[:size])
        if delivery.part == "first":
            self._rests[delivery.attempt, delivery.index] = (path, file.body[size:])


def _append(path: Path, body: bytes) -> None:
    with path.open("ab") as stream:
        stream.write(body)
