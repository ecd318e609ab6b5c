"""Files in any order in, complete volumes out: the one door through which scanner files come.

The caller (gateway, `fcnef read`, tests) adds each file when it believes it to be closed, adds it
again while the answer is `Unfinished`, and asks `pending` which volumes still lack slices, so
that it can give them up at a deadline. Only slices of unfinished volumes are kept in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from rtloop.errors import ConfigError
from rtloop.readers.binding import ScannerConfig
from rtloop.readers.dicom import DicomFile, parse
from rtloop.readers.forms import dicom_form
from rtloop.readers.nifti import NIFTI_SUFFIXES, image_volumes, parse_image
from rtloop.readers.numbered import numbered_name
from rtloop.readers.outcome import (
    Complete,
    NotOfThisRun,
    NotYetWhole,
    Outcome,
    Refused,
    Repeat,
    Skipped,
    Taken,
    Unfinished,
    Unreadable,
)
from rtloop.readers.parrec import PAIR_SUFFIXES, pair_piece, pair_series
from rtloop.readers.piece import Piece, build_volume
from rtloop.readers.series import index_name
from rtloop.readers.tags import TOP
from rtloop.volume import Volume

__all__ = ["MAX_PENDING_VOLUMES", "Assembler"]

MAX_PENDING_VOLUMES = 1024
"""More unfinished volumes than this are not kept: the oldest is given up. A series written slice
by slice has all its volumes unfinished until its last slice."""

Slot = tuple[str, int]
"""A volume's identity: attempt and index."""


@dataclass
class _Attempt:
    """What is remembered of a series: never voxels."""

    done: set[int] = field(default_factory=set)
    given_up: set[int] = field(default_factory=set)
    shape: tuple[int, int, int] | None = None


class Assembler:
    """Turns scanner files into volumes.

    Parameters
    ----------
    binding : ScannerConfig
        Which series belong to the run.
    secret : bytes
        Key of the hashes that stand for series, 1 to 64 bytes.

    Raises
    ------
    ConfigError
        If the secret is empty or too long.
    """

    def __init__(self, binding: ScannerConfig, secret: bytes) -> None:
        if not 1 <= len(secret) <= 64:
            raise ConfigError(
                f"secret for series hashes: expected 1 to 64 bytes, found {len(secret)}; "
                "make a new one"
            )
        self._binding = binding
        self._secret = secret
        tag = binding.index_element
        self._wanted = TOP if tag is None else TOP.with_public(tag, index_name(binding) or "")
        self._attempts: dict[str, _Attempt] = {}
        self._slices: dict[Slot, dict[int, Piece]] = {}
        self._pairs: dict[Slot, dict[str, Path]] = {}

    def add(self, path: Path, received_s: float) -> Outcome:
        """Take one file.

        Parameters
        ----------
        path : Path
            A file that is believed to be closed.
        received_s : float
            Host clock, Unix seconds; a volume carries its last file's.

        Returns
        -------
        Taken, Complete, Skipped, Unfinished, Refused or Repeat
            What became of it, see `outcome`.
        """
        name = path.name.lower()
        try:
            if name.endswith(PAIR_SUFFIXES):
                return self._add_pair(path, received_s)
            source = path.read_bytes()
            if name.endswith(NIFTI_SUFFIXES):
                return self._add_image(path, source, received_s)
            return self._add_dicom(parse(source, self._wanted), received_s)
        except NotOfThisRun as error:
            return Skipped(str(error))
        except NotYetWhole as error:
            return Unfinished(str(error))
        except Unreadable as error:
            return Refused(str(error))
        except OSError as error:
            # renamed, or held by the writer: it may be there or free at the next try
            return Unfinished(f"cannot be opened ({error.strerror})")

    def pending(self) -> list[tuple[str, int, int, int]]:
        """Unfinished volumes as (attempt, index, pieces at hand, pieces wanted), oldest first."""
        waiting = [
            (*slot, len(parts), next(iter(parts.values())).place.n_parts)
            for slot, parts in self._slices.items()
        ]
        return waiting + [(*slot, len(pair), 2) for slot, pair in self._pairs.items()]

    def abandon(self, attempt: str, index: int) -> None:
        """Give an unfinished volume up; slices of it that still come are refused."""
        self._slices.pop((attempt, index), None)
        self._pairs.pop((attempt, index), None)
        self._known(attempt).given_up.add(index)

    def attempt_of(self, key: str) -> str:
        """Keyed hash that stands for a series: 16 hexadecimal digits."""
        return blake2b(
            key.encode("utf-8", "surrogateescape"), digest_size=8, key=self._secret
        ).hexdigest()

    def _known(self, attempt: str) -> _Attempt:
        return self._attempts.setdefault(attempt, _Attempt())

    def _add_dicom(self, file: DicomFile, received_s: float) -> Outcome:
        form = dicom_form(file)
        attempt: str | None = None
        index: int | None = None
        try:
            series = form.series(file.elements)
            attempt = self.attempt_of(series.key)
            reason = self._binding.why_not(series)
            if reason is not None:
                return Skipped(reason, attempt)
            place = form.place(file.elements, self._binding)
            index = place.index
            closed = self._closed((attempt, index))
            return closed or self._add_piece(form.piece(file, series, place), attempt, received_s)
        except NotOfThisRun as error:
            return Skipped(str(error), attempt)
        except Unreadable as error:
            return Refused(str(error), attempt, index)

    def _add_pair(self, path: Path, received_s: float) -> Outcome:
        key, index = numbered_name(path, PAIR_SUFFIXES, self._binding)
        slot = (self.attempt_of(key), index)
        closed = self._closed(slot)
        if closed is not None:
            return closed
        pair = self._pairs.setdefault(slot, {})
        pair[path.suffix.lower()] = path
        if len(pair) < len(PAIR_SUFFIXES):
            return Taken(*slot)
        text, stored = pair[".par"].read_bytes(), pair[".rec"].read_bytes()
        try:
            series = pair_series(text, key)
            reason = self._binding.why_not(series)
            if reason is None:
                piece = pair_piece(text, stored, series, index, self._binding)
        except NotOfThisRun as error:
            reason = str(error)
        except Unreadable as error:
            del self._pairs[slot]
            return Refused(str(error), *slot)
        del self._pairs[slot]
        if reason is not None:
            return Skipped(reason, slot[0])
        return self._add_piece(piece, slot[0], received_s)

    def _add_image(self, path: Path, source: bytes, received_s: float) -> Outcome:
        key, index = numbered_name(path, NIFTI_SUFFIXES, self._binding)
        slot = (self.attempt_of(key), index)
        closed = self._closed(slot)
        if closed is not None:
            return closed
        try:
            image = parse_image(source, key)
            if image.n_volumes > 1:
                return Skipped("a 4-D image; a folder of 3-D images is read, one per volume")
            reason = self._binding.why_not(image.series)
            if reason is not None:
                return Skipped(reason, slot[0])
            (volume,) = image_volumes(image, *slot, received_s, self._binding)
        except Unreadable as error:
            return Refused(str(error), *slot)
        return self._finish(volume)

    def _add_piece(self, piece: Piece, attempt: str, received_s: float) -> Outcome:
        slot = (attempt, piece.place.index)
        parts = self._slices.setdefault(slot, {})
        parts[piece.place.part] = piece
        if len(parts) < piece.place.n_parts:
            if len(self._slices) > MAX_PENDING_VOLUMES:
                self.abandon(*next(iter(self._slices)))
            return Taken(*slot)
        del self._slices[slot]
        try:
            volume = build_volume(list(parts.values()), attempt, received_s, self._binding)
        except Unreadable as error:
            return Refused(str(error), *slot)
        return self._finish(volume)

    def _finish(self, volume: Volume) -> Outcome:
        """Close a volume, unless its shape is not that of the series' first one."""
        known = self._known(volume.attempt)
        if known.shape not in (None, volume.shape):
            reason = f"shape {volume.shape}; expected {known.shape} as in the series so far"
            return Refused(reason, volume.attempt, volume.index)
        known.shape = volume.shape
        known.done.add(volume.index)
        return Complete(volume)

    def _closed(self, slot: Slot) -> Outcome | None:
        """The answer to a file of a volume that nothing more is wanted of; None if it is."""
        known = self._known(slot[0])
        if slot[1] in known.done:
            return Repeat(*slot)
        if slot[1] in known.given_up:
            return Refused("the volume was given up at its deadline", *slot)
        return None
