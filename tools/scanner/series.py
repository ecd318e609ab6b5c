"""What a simulated scanner plays: any series, and a recorded one (see `simulated` for the other).

Every series answers the same two questions, as the device would: what is volume i as data, for
the stream, and what are its files, for the export folder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
from pydicom.uid import generate_uid

from rtloop.errors import ConfigError
from rtloop.readers import ScannerConfig, read_series
from rtloop.volume import Volume
from tools.faults import Delivery
from tools.scanner.edit import (
    FOREIGN_NAME,
    FOREIGN_NUMBER,
    Edit,
    edited_dicom,
    edited_image,
    edited_pair,
)
from tools.scanner.recording import Form, Recording

__all__ = ["File", "RecordedSeries", "Series", "dicom_name", "numbered_attempt", "with_fault"]

_nibabel: Any = nib  # has no types


@dataclass(frozen=True, slots=True)
class File:
    """One file as the scanner writes it."""

    name: str
    body: bytes


class Series(Protocol):
    """A series that can be played.

    `form` is how the vendor writes it, `n_volumes` how many there are, `tr_s` their pace.
    """

    form: Form
    n_volumes: int
    tr_s: float

    def volume(self, delivery: Delivery) -> Volume:
        """The volume of a delivery, faults in its content included."""

    def files(self, delivery: Delivery) -> list[File]:
        """Its files, in the order they are written."""

    def attempt_name(self, attempt: int) -> str:
        """How the stream calls this attempt."""


class RecordedSeries:
    """Files of a real scan, played as often as asked.

    Parameters
    ----------
    path : Path or str
        Folder, or 4-D NIfTI file.
    tr_s : float or None
        Repetition time; None for what the files say.
    n_volumes : int or None
        Volumes to play; None for all.
    repeat : int
        How often the series is played in a row, counting on.

    Raises
    ------
    ConfigError
        If there is no series, too few volumes, or no repetition time.
    """

    def __init__(
        self,
        path: Path | str,
        tr_s: float | None = None,
        n_volumes: int | None = None,
        repeat: int = 1,
    ) -> None:
        self._path, self._recording = Path(path), Recording.open(path)
        self._repeats = repeat > 1
        self.form = self._recording.form
        available = self._recording.n_volumes * repeat
        self.n_volumes = available if n_volumes is None else n_volumes
        if self.n_volumes > available:
            raise ConfigError(
                f"{path}: expected {n_volumes} volumes, found {self._recording.n_volumes} "
                f"played {repeat} times; ask for fewer or for more repetitions"
            )
        found_s = tr_s or self._recording.tr_s
        if found_s is None:
            raise ConfigError(
                f"{path}: expected a repetition time in the files, found none; give it with --tr"
            )
        self.tr_s = found_s
        self._volumes: list[Volume] = []
        self._whole: Any = None

    def attempt_name(self, attempt: int) -> str:
        return numbered_attempt(self._read()[0].attempt, attempt)

    def volume(self, delivery: Delivery) -> Volume:
        n = self._recording.n_volumes
        volume = self._read()[delivery.index % n]
        acquired_s = volume.acquired_s
        if acquired_s is not None:
            acquired_s = (acquired_s + delivery.index // n * n * self.tr_s) % 86400
        return with_fault(
            replace(
                volume,
                attempt=self.attempt_name(delivery.attempt),
                index=delivery.index,
                tr_s=self.tr_s,
                acquired_s=acquired_s,
                n_volumes=self.n_volumes,
            ),
            delivery,
        )

    def files(self, delivery: Delivery) -> list[File]:
        n = self._recording.n_volumes
        laps, place = divmod(delivery.index, n)
        foreign = delivery.copy if delivery.part == "foreign" else None
        edit = Edit(
            volumes=laps * n,
            instances=laps * self._recording.span,
            seconds=laps * n * self.tr_s,
            announced=self.n_volumes if self._repeats else None,
            attempt=delivery.attempt,
            foreign=foreign,
            change=delivery.change,
            shift_mm=delivery.shift_mm,
        )
        if self.form in ("nifti", "nifti4d", "parrec"):
            return self._numbered(delivery, place, edit)
        names = _dicom_names(self._recording, delivery, place)
        bodies = (path.read_bytes() for path in self._recording.volumes[place])
        return [
            File(name, edited_dicom(body, edit) if edit.is_needed else body)
            for name, body in zip(names, bodies, strict=True)
        ]

    def _read(self) -> list[Volume]:
        """All volumes, by the loop's readers; read when first asked for."""
        if not self._volumes:
            self._volumes = read_series(self._path, ScannerConfig(tr_s=self.tr_s))
            found, wanted = len(self._volumes), self._recording.n_volumes
            if found != wanted:
                raise ConfigError(
                    f"{self._path}: expected {wanted} whole volumes, found {found}; "
                    "see `fcnef read` for what is wrong with the others"
                )
        return self._volumes

    def _numbered(self, delivery: Delivery, place: int, edit: Edit) -> list[File]:
        """Files whose index is in their name: NIfTI images, PAR/REC pairs."""
        prefix = "Dump-" if self.form == "parrec" else "vol_"
        prefix = f"run{delivery.attempt + 1}_" if delivery.attempt else prefix
        stem = f"{prefix}{delivery.index:04d}"
        if delivery.part == "foreign":
            # Such files say nothing of their series: only a name without a number tells it.
            stem = f"{FOREIGN_NAME}_{delivery.index:04d}_{delivery.copy}_phase"
        if self.form == "nifti4d":
            return [File(f"{stem}.nii", edited_image(self._slice(place), edit))]
        paths = self._recording.volumes[place]
        if self.form == "nifti":
            body = edited_image(paths[0].read_bytes(), edit)
            return [File(f"{stem}.nii{'.gz' if body[:2] == bytes([31, 139]) else ''}", body)]
        text, binary = edited_pair(paths[0].read_bytes(), paths[1].read_bytes(), edit)
        return [File(f"{stem}.par", text), File(f"{stem}.rec", binary)]

    def _slice(self, place: int) -> bytes:
        """One volume of a 4-D image as an image of its own, values as stored."""
        if self._whole is None:
            image = _nibabel.load(self._path)
            self._whole = _nibabel.Nifti1Image(
                np.asarray(image.dataobj.get_unscaled()), image.affine, image.header
            )
            self._scaling = image.dataobj.slope, image.dataobj.inter
        one = self._whole.slicer[..., place]
        one.header.set_slope_inter(*self._scaling)
        one.header.set_xyzt_units("mm", "sec")
        one.header["pixdim"][4] = self.tr_s
        return bytes(one.to_bytes())


def numbered_attempt(first: str, attempt: int) -> str:
    """Name of an attempt: the first one's, counted on."""
    return f"{first}-{attempt}" if attempt else first


def with_fault(volume: Volume, delivery: Delivery) -> Volume:
    """The volume with the delivery's fault in its content."""
    match delivery.change:
        case "nan":
            data = np.full(volume.shape, np.nan, dtype=np.float32, order="F")
            return replace(volume, data=data)
        case "wrong_shape":
            return replace(volume, data=np.asfortranarray(volume.data[:, : volume.shape[1] // 2]))
        case "wrong_affine":
            affine = volume.affine.copy()
            affine[2, 3] += delivery.shift_mm
            return replace(volume, affine=affine)
        case _:
            return volume


def _dicom_names(recording: Recording, delivery: Delivery, place: int) -> list[str]:
    """Names of a volume's files, numbered through the series as the vendor does."""
    foreign = delivery.part == "foreign"
    number = recording.number + delivery.attempt + FOREIGN_NUMBER * foreign
    n_files = len(recording.volumes[place])
    volume = delivery.index + (delivery.copy if foreign else 0)
    copy = 0 if foreign else delivery.copy
    return [
        dicom_name(recording.form, number, volume + 1, volume * n_files + k + 1, copy)
        for k in range(n_files)
    ]


def dicom_name(form: Form, series: int, volume: int, file: int, copy: int) -> str:
    """A file's name in the vendor's manner; a repeated file has a name of its own."""
    again = f"_{copy}" if copy else ""
    match form:
        case "ge":
            return f"i{series}{copy}{file:06d}.MRDC.{file}"
        case "philips":
            return f"{series}_{file:04d}{again}.dcm"
        case "xa":
            uid = generate_uid(entropy_srcs=[f"{series} {volume} {copy}"])
            return f"{volume:04d}_{uid}.dcm"
        case _:
            return f"001_{series:06d}_{volume:06d}{again}.dcm"
