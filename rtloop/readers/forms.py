"""Which form a DICOM file has, by its SOP class, manufacturer and image type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rtloop.readers import ge, philips, siemens
from rtloop.readers.binding import ScannerConfig
from rtloop.readers.dicom import DicomFile, Elements
from rtloop.readers.outcome import NotOfThisRun, NotYetWhole
from rtloop.readers.piece import Piece, Series
from rtloop.readers.series import classic_series

__all__ = ["DicomForm", "dicom_form"]

_MR = "1.2.840.10008.5.1.4.1.1.4"
_ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"


@dataclass(frozen=True, slots=True)
class DicomForm:
    """How to read one form: `series` its facts, `piece` what one file holds."""

    series: Callable[[Elements], Series]
    piece: Callable[[DicomFile, Series, ScannerConfig], Piece]


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
        return DicomForm(ge.slice_series, ge.slice_piece)
    if "PHILIPS" in maker:
        return DicomForm(philips.slice_series, philips.slice_piece)
    return _other("a manufacturer whose form is not known")


def _siemens(elements: Elements, enhanced: bool) -> DicomForm:
    if enhanced:
        return DicomForm(siemens.enhanced_series, siemens.enhanced_piece)
    if "MOSAIC" in elements.texts("ImageType"):
        return DicomForm(siemens.mosaic_series, siemens.mosaic_piece)
    return _other("a Siemens image that is neither a mosaic nor an enhanced file")


def _other(reason: str) -> DicomForm:
    facts = partial(classic_series, form="DICOM", epi=None, n_volumes=None)
    return DicomForm(facts, partial(_not_read, reason))


def _not_read(reason: str, file: DicomFile, series: Series, binding: ScannerConfig) -> Piece:  # noqa: ARG001
    raise NotOfThisRun(reason)
