"""Which form a DICOM file has, by its SOP class, manufacturer and image type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rtloop.readers import ge, philips, siemens
from rtloop.readers.binding import ScannerConfig
from rtloop.readers.dicom import DicomFile, Elements
from rtloop.readers.outcome import NotOfThisRun, NotYetWhole
from rtloop.readers.piece import Piece, Place, Series
from rtloop.readers.series import classic_series

__all__ = ["DicomForm", "dicom_form"]

_MR = "1.2.840.10008.5.1.4.1.1.4"
_ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"


@dataclass(frozen=True, slots=True)
class DicomForm:
    """How to read one form: a file's series, its place in it, and the piece it holds."""

    series: Callable[[Elements], Series]
    place: Callable[[Elements, ScannerConfig], Place]
    piece: Callable[[DicomFile, Series, Place], Piece]


_MOSAIC = DicomForm(siemens.mosaic_series, siemens.mosaic_place, siemens.mosaic_piece)
_ENHANCED = DicomForm(siemens.enhanced_series, siemens.enhanced_place, siemens.enhanced_piece)
_GE = DicomForm(ge.slice_series, ge.slice_place, ge.slice_piece)
_PHILIPS = DicomForm(philips.slice_series, philips.slice_place, philips.slice_piece)


def dicom_form(file: DicomFile) -> DicomForm:
    """The form of a parsed file.

    Raises
    ------
    NotYetWhole
        If the file ends before its pixel data do, as nothing follows from what it lacks.
    NotOfThisRun
        If it is no MR image.
    """
    elements = file.elements
    sop_class = elements.text("SOPClassUID")
    if sop_class and sop_class not in (_MR, _ENHANCED_MR):
        raise NotOfThisRun("a DICOM object that is no MR image")
    if file.pixel_bytes is None and not file.compressed:
        raise NotYetWhole("the file ends before its pixel data do")
    maker = elements.text("Manufacturer").upper()
    enhanced = sop_class == _ENHANCED_MR
    if "SIEMENS" in maker:
        return _siemens(elements, enhanced)
    if enhanced:
        return _other("an enhanced file; only Siemens' are read, others as classic slices")
    if maker.startswith("GE"):
        return _GE
    if "PHILIPS" in maker:
        return _PHILIPS
    return _other("a manufacturer whose form is not known")


def _siemens(elements: Elements, enhanced: bool) -> DicomForm:
    if enhanced:
        return _ENHANCED
    if "MOSAIC" in elements.texts("ImageType"):
        return _MOSAIC
    return _other("a Siemens image that is neither a mosaic nor an enhanced file")


def _other(reason: str) -> DicomForm:
    """A form whose series can be named, and whose files cannot be read, for this reason."""

    def series(elements: Elements) -> Series:
        return classic_series(elements, "DICOM", epi=None, n_volumes=None)

    def place(elements: Elements, binding: ScannerConfig) -> Place:
        raise NotOfThisRun(reason)

    def piece(file: DicomFile, series: Series, place: Place) -> Piece:
        raise NotOfThisRun(reason)

    return DicomForm(series, place, piece)
