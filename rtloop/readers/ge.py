"""GE: classic slices, one file each, numbered through the whole series.

There is no volume index: a volume is (InstanceNumber - 1) // slices. There is no acquisition
time either: AcquisitionTime is the series' start in every file, so `acquired_s` stays None.
Slice order and the phase-encoding sense are in the protocol data block, a compressed text.
"""

from __future__ import annotations

import re
import zlib
from functools import lru_cache

import numpy as np

from rtloop.readers.binding import ScannerConfig
from rtloop.readers.dicom import DicomFile, Elements
from rtloop.readers.outcome import Unreadable
from rtloop.readers.piece import Piece, Place, Series
from rtloop.readers.series import (
    classic_series,
    echo_planar,
    in_plane_axis,
    scaling_of,
    volume_index,
)

__all__ = ["slice_piece", "slice_place", "slice_series"]

_COMPONENTS = {1: "PHASE", 2: "REAL", 3: "IMAGINARY"}
_MAX_BLOCK_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"


def slice_series(elements: Elements) -> Series:
    """Facts of a series of GE slices."""
    component = _COMPONENTS.get(elements.integer("ImageComponent") or 0)
    return classic_series(
        elements,
        "GE slices",
        epi=echo_planar(elements),
        n_volumes=elements.integer("NumberOfTemporalPositions"),
        image_type=(component,) if component else (),
    )


def slice_place(elements: Elements, binding: ScannerConfig) -> Place:
    """Which slice of which volume a file is.

    Raises
    ------
    Unreadable
        If the number of slices or the slice's place cannot be told.
    """
    n_slices = (
        binding.n_slices
        or elements.integer("LocationsInAcquisition")
        or elements.integer("ImagesInAcquisition")
    )
    if not n_slices or n_slices < 2:
        raise Unreadable("GE slices: expected the number of slices, found none; set n_slices")
    if binding.index_tag is None:
        number = volume_index(elements, binding, "InstanceNumber")
        return Place(number // n_slices, number % n_slices, n_slices)
    part = elements.integer("InStackPositionNumber")
    if part is None or not 1 <= part <= n_slices:
        raise Unreadable("GE slices: expected InStackPositionNumber beside index_tag, found none")
    return Place(volume_index(elements, binding, binding.index_tag), part - 1, n_slices)


def slice_piece(file: DicomFile, series: Series, place: Place) -> Piece:
    """The plane a file holds.

    Raises
    ------
    Unreadable
        If its position is missing, or its pixel data are not what they should be.
    """
    elements = file.elements
    scaling = scaling_of(elements)
    position = elements.floats("ImagePositionPatient")
    if len(position) != 3:
        raise Unreadable("GE slices: expected ImagePositionPatient, found none")
    block = _protocol_block(elements.blob("ProtocolDataBlock"))
    axis = in_plane_axis(elements.text("InPlanePhaseEncodingDirection"))
    return Piece(
        series=series,
        place=place,
        planes=[file.frames()[0].copy()],  # a copy, so that the file's bytes can go
        positions_mm=np.array([position]),
        orientation=elements.floats("ImageOrientationPatient"),
        spacing_mm=elements.floats("PixelSpacing"),
        scaling=None if scaling is None else [scaling],
        bits_stored=elements.integer("BitsStored"),
        slice_times_s=_slice_times_s(elements, series, block, place.n_parts),
        # VIEWORDER 1: lines are acquired from the image's bottom up (agrees with dcm2niix)
        phase_encoding=None if axis is None else (axis, _flag(block, "VIEWORDER", rising="0")),
    )


def _slice_times_s(
    elements: Elements, series: Series, block: dict[str, str], n_slices: int
) -> tuple[float, ...] | None:
    """Slice times by the protocol's slice order; None where it is not told or multiband.

    The slices share the repetition time evenly, less a group delay; interleaved order takes
    every second slice from the first, then the rest (as dcm2niix reads the same block).
    """
    order = block.get("SLICEORDER")
    delay = block.get("DELACQ", "0")
    multiband = elements.text("MultibandParameters") not in ("", "0", "1")
    if order not in ("0", "1") or series.tr_s is None or multiband:
        return None
    if not re.fullmatch(r"[\d.]+", delay):
        delay = "0"  # "Minimum" and the like: no delay
    step_s = (series.tr_s - float(delay) / 1000.0) / n_slices
    ranks = np.arange(n_slices)
    if order == "1":
        ranks[np.r_[0:n_slices:2, 1:n_slices:2]] = np.arange(n_slices)
    return tuple((ranks * step_s).tolist())


def _flag(block: dict[str, str], name: str, rising: str) -> bool | None:
    value = block.get(name)
    return None if value not in ("0", "1") else value == rising


@lru_cache(maxsize=8)
def _protocol_block(blob: bytes) -> dict[str, str]:
    """The protocol data block's entries that are used; empty where there is none."""
    start = blob.find(_GZIP)
    if start < 0:
        return {}
    try:
        text = zlib.decompressobj(31).decompress(blob[start:], _MAX_BLOCK_BYTES).decode("latin-1")
    except zlib.error:
        return {}
    return dict(re.findall(r'^(?:set )?(SLICEORDER|VIEWORDER|DELACQ) "([^"]*)"', text, re.M))
