"""Changes to scanner files: counting on in a repetition, a new series, a fault in the content.

A file that needs no change is never touched: it is copied byte for byte.
"""

from __future__ import annotations

import datetime
import gzip
import io
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tools.faults import Change

__all__ = ["FOREIGN_NAME", "FOREIGN_NUMBER", "Edit", "edited_dicom", "edited_image", "edited_pair"]

_nibabel: Any = nib  # has no types

FOREIGN_NAME = "gre_field_mapping"
FOREIGN_NUMBER = 90
CLOCKS = ("AcquisitionTime", "ContentTime", "AcquisitionDateTime")
GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Edit:
    """What becomes of a file.

    Attributes
    ----------
    volumes, instances : int
        By how much volume index and instance number are counted on (a repeated series).
    seconds : float
        By how much its clocks go on.
    announced : int or None
        Number of volumes its header shall announce, where it announces one; None to keep it.
    attempt : int
        How often the series was started anew before; each is a series of its own.
    foreign : int or None
        Which volume of a foreign series it is made to be; None to keep it where it belongs.
    change, shift_mm : Change, float
        Fault in the content.
    """

    volumes: int = 0
    instances: int = 0
    seconds: float = 0.0
    announced: int | None = None
    attempt: int = 0
    foreign: int | None = None
    change: Change = "none"
    shift_mm: float = 0.0

    @property
    def is_needed(self) -> bool:
        return self != Edit()


def edited_dicom(body: bytes, edit: Edit) -> bytes:
    """A DICOM file with a change."""
    dataset = pydicom.dcmread(io.BytesIO(body))
    _count_on(dataset, edit)
    if edit.foreign is not None:
        _make_foreign(dataset, edit.foreign)
    elif edit.attempt:
        key = f"{dataset.SeriesInstanceUID} attempt {edit.attempt}"
        dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[key])
        dataset.SeriesNumber = int(dataset.get("SeriesNumber") or 0) + edit.attempt
    identity = f"{dataset.SOPInstanceUID} {edit}"
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[identity])
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if edit.change == "wrong_shape":
        _halve(dataset)
    elif edit.change == "wrong_affine":
        _shift(dataset, edit.shift_mm)
    stream = io.BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def edited_image(body: bytes, edit: Edit) -> bytes:
    """A 3-D NIfTI image with a fault, uncompressed; its index and series are in its name alone."""
    if edit.change == "none":
        return body
    raw = gzip.decompress(body) if body[:2] == GZIP else body
    image = _nibabel.Nifti1Image.from_bytes(raw)
    data, affine = np.asanyarray(image.dataobj), image.affine.copy()
    if edit.change == "nan":
        data = np.full(data.shape, np.nan, dtype=np.float32)
    elif edit.change == "wrong_shape":
        data = data[:, : data.shape[1] // 2]
    else:
        affine[2, 3] += edit.shift_mm
    header = image.header.copy()
    header.set_data_dtype(data.dtype)
    changed = _nibabel.Nifti1Image(data, affine, header)
    changed.header["pixdim"][4] = image.header["pixdim"][4]
    return bytes(changed.to_bytes())


def edited_pair(text: bytes, binary: bytes, edit: Edit) -> tuple[bytes, bytes]:
    """PAR and REC with a fault; index and series are in their name alone."""
    if edit.change == "none":
        return text, binary
    lines = text.decode("latin-1").split("\n")
    images = [place for place, line in enumerate(lines) if line[:1].isdigit()]
    columns, rows = (int(number) for number in lines[images[0]].split()[9:11])
    for place in images:
        entries = lines[place].split()
        if edit.change == "wrong_shape":
            entries[10] = str(rows // 2)
        else:  # offcentre: ap, fh, rl
            entries[20] = f"{float(entries[20]) + edit.shift_mm:.6f}"
        lines[place] = " ".join(entries)
    if edit.change == "wrong_shape":
        stack = np.frombuffer(binary, dtype="<u2").reshape(-1, rows, columns)
        binary = stack[:, : rows // 2].tobytes()
    return "\n".join(lines).encode("latin-1"), binary


def _count_on(dataset: Dataset, edit: Edit) -> None:
    """A repeated series goes on where it ended: numbers, clocks, announced length."""
    per_volume = "PerFrameFunctionalGroupsSequence" in dataset or "MOSAIC" in dataset.ImageType
    dataset.InstanceNumber = int(dataset.InstanceNumber) + edit.instances
    if per_volume and dataset.get("AcquisitionNumber"):
        dataset.AcquisitionNumber = int(dataset.AcquisitionNumber) + edit.volumes
    if dataset.get("TemporalPositionIdentifier"):
        position = int(dataset.TemporalPositionIdentifier) + edit.volumes
        dataset.TemporalPositionIdentifier = position
    if edit.announced is not None and dataset.get("NumberOfTemporalPositions"):
        dataset.NumberOfTemporalPositions = edit.announced
    _advance_clocks(dataset, edit.seconds)
    for frame in dataset.get("PerFrameFunctionalGroupsSequence") or ():
        for content in frame.get("FrameContentSequence") or ():
            if "TemporalPositionIndex" in content:
                content.TemporalPositionIndex = int(content.TemporalPositionIndex) + edit.volumes
            for name in ("FrameAcquisitionDateTime", "FrameReferenceDateTime"):
                if content.get(name):
                    content[name].value = _later(str(content[name].value), edit.seconds)


def _advance_clocks(dataset: Dataset, seconds: float) -> None:
    for name in CLOCKS:
        if dataset.get(name):
            dataset[name].value = _later(str(dataset[name].value), seconds)


def _later(clock: str, seconds: float) -> str:
    """A DICOM time, or date and time, some seconds on."""
    whole, _, fraction = clock.partition(".")
    date, time = (whole[:8], whole[8:]) if len(whole) > 8 else ("20260101", whole)
    moment = datetime.datetime.strptime(date + time.ljust(6, "0"), "%Y%m%d%H%M%S")
    moment += datetime.timedelta(seconds=seconds, microseconds=int(fraction.ljust(6, "0")[:6]))
    return moment.strftime("%Y%m%d%H%M%S.%f" if len(whole) > 8 else "%H%M%S.%f")


def _make_foreign(dataset: Dataset, place: int) -> None:
    """A field map's phase image of the same person: never part of the run."""
    key = f"{dataset.SeriesInstanceUID} foreign"
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[key])
    dataset.SeriesNumber = int(dataset.get("SeriesNumber") or 0) + FOREIGN_NUMBER
    dataset.SeriesDescription = dataset.ProtocolName = FOREIGN_NAME
    kind = [*list(dataset.ImageType), "NONE"]
    dataset.ImageType = [*kind[:2], "P", *kind[3:-1]]
    if "ComplexImageComponent" in dataset:
        dataset.ComplexImageComponent = "PHASE"
    dataset.InstanceNumber = int(dataset.InstanceNumber) + place


def _halve(dataset: Dataset) -> None:
    """The upper half of every frame."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    frames = np.frombuffer(dataset.PixelData, dtype="<u2").reshape(-1, rows, columns)
    dataset.Rows = rows // 2
    dataset.PixelData = frames[:, : rows // 2].tobytes()


def _shift(dataset: Dataset, shift_mm: float) -> None:
    """The image claims to lie further up."""
    places = [dataset] if "ImagePositionPatient" in dataset else []
    for frame in dataset.get("PerFrameFunctionalGroupsSequence") or ():
        places += list(frame.get("PlanePositionSequence") or ())
    for place in places:
        x, y, z = (float(value) for value in place.ImagePositionPatient)
        place.ImagePositionPatient = [f"{value:.6f}"[:16] for value in (x, y, z + shift_mm)]
