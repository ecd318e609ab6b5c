"""Philips classic slices: one file each, grouped by TemporalPositionIdentifier.

Files may be written slice by slice through the whole run, not volume by volume. Values are those
on the console's scale (RescaleSlope, RescaleIntercept), not those of the private scale elements.
The scanner tells neither slice times nor the sense of phase encoding.
"""

from __future__ import annotations

import numpy as np

from rtloop.readers.binding import ScannerConfig
from rtloop.readers.dicom import DicomFile, Elements
from rtloop.readers.outcome import Unreadable
from rtloop.readers.piece import Piece, Place, Series
from rtloop.readers.series import (
    acquisition_clock_s,
    classic_series,
    in_plane_axis,
    scaling_of,
    volume_index,
)

__all__ = ["slice_piece", "slice_place", "slice_series"]


def slice_series(elements: Elements) -> Series:
    """Facts of a series of Philips slices."""
    factor = elements.integer("EPIFactor")
    return classic_series(
        elements,
        "Philips slices",
        epi=None if factor is None else factor > 1,
        n_volumes=elements.integer("NumberOfTemporalPositions"),
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
        or elements.integer("NumberOfSlicesMR")
        or elements.integer("ImagesInAcquisition")
    )
    part = elements.integer("SliceNumberMR") or elements.integer("InStackPositionNumber")
    if not n_slices or n_slices < 2:
        raise Unreadable("Philips slices: expected the number of slices, found none; set n_slices")
    if part is None or not 1 <= part <= n_slices:
        raise Unreadable(
            f"Philips slices: expected a slice number of 1 to {n_slices} in (2001,xx0A), found none"
        )
    index = volume_index(elements, binding, "TemporalPositionIdentifier")
    return Place(index, part - 1, n_slices)


def slice_piece(file: DicomFile, series: Series, place: Place) -> Piece:
    """The plane a file holds.

    Raises
    ------
    Unreadable
        If its position is missing, or its pixel data are not what they should be.
    """
    elements = file.elements
    position = elements.floats("ImagePositionPatient")
    if len(position) != 3:
        raise Unreadable("Philips slices: expected ImagePositionPatient, found none")
    axis = in_plane_axis(elements.text("InPlanePhaseEncodingDirection"))
    return Piece(
        series=series,
        place=place,
        planes=[file.frames()[0].copy()],  # a copy, so that the file's bytes can go
        positions_mm=np.array([position]),
        orientation=elements.floats("ImageOrientationPatient"),
        spacing_mm=elements.floats("PixelSpacing"),
        # always scaled, so that the voxel type cannot change within a run
        scaling=[scaling_of(elements) or (1.0, 0.0)],
        bits_stored=elements.integer("BitsStored"),
        acquired_s=acquisition_clock_s(elements),
        phase_encoding=None if axis is None else (axis, None),
    )
