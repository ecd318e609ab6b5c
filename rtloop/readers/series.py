"""What every DICOM form shares: the series' facts, times, scaling, the volume index."""

from __future__ import annotations

import re
from typing import Any, Literal

from rtloop.readers.binding import ScannerConfig
from rtloop.readers.dicom import Elements
from rtloop.readers.outcome import Unreadable
from rtloop.readers.piece import Form, Series
from rtloop.readers.tags import TOP

__all__ = [
    "MAX_NAME",
    "acquisition_clock_s",
    "classic_series",
    "clock_s",
    "echo_planar",
    "in_plane_axis",
    "index_name",
    "protocol_of",
    "scaling_of",
    "series_key",
    "volume_index",
]

MAX_NAME = 64
"""Longest protocol name that leaves the gateway, characters (an LO element's limit)."""

_CLOCK = re.compile(r"(?:\d{8})?(\d{2})(\d{2})(\d{2}(?:\.\d{1,6})?)")


def series_key(elements: Elements) -> str:
    """SeriesInstanceUID; never the study's, which XA's interoperability mode renews per volume."""
    key = elements.text("SeriesInstanceUID")
    if not key:
        raise Unreadable("expected SeriesInstanceUID, found none")
    return key


def classic_series(
    elements: Elements,
    form: Form,
    *,
    epi: bool | None,
    n_volumes: int | None,
    image_type: tuple[str, ...] = (),
    protocol: dict[str, Any] | None = None,
) -> Series:
    """Facts of a series whose entries lie at the dataset's top level.

    `image_type` are values beside those of ImageType; `protocol` entries beside the usual.
    """
    tr_ms = elements.number("RepetitionTime")
    return Series(
        key=series_key(elements),
        form=form,
        description=elements.text("SeriesDescription"),
        number=elements.integer("SeriesNumber"),
        protocol_name=elements.text("ProtocolName"),
        image_type=elements.texts("ImageType") + image_type,
        echo=elements.integer("EchoNumbers"),
        epi=epi,
        n_volumes=n_volumes,
        tr_s=None if tr_ms is None else tr_ms / 1000.0,
        protocol=protocol_of(elements, elements.number("EchoTime")) | (protocol or {}),
    )


def protocol_of(elements: Elements, echo_time_ms: float | None) -> dict[str, Any]:
    """Acquisition parameters that may leave the gateway, absent where not told."""
    told: dict[str, Any] = {
        "manufacturer": elements.text("Manufacturer")[:MAX_NAME],
        "model": elements.text("ManufacturerModelName")[:MAX_NAME],
        "protocol_name": elements.text("ProtocolName")[:MAX_NAME],
        "field_strength_t": elements.number("MagneticFieldStrength"),
        "echo_time_s": None if echo_time_ms is None else echo_time_ms / 1000.0,
    }
    return {name: value for name, value in told.items() if value not in (None, "")}


def volume_index(
    elements: Elements, binding: ScannerConfig, usual: str, inner: Elements | None = None
) -> int:
    """Volume index from 0, from the binding's index tag or the vendor's usual one.

    `inner` is where a tag that is not at the top level may be (enhanced files).

    Raises
    ------
    Unreadable
        If the element is missing or below the first index.
    """
    name = index_name(binding) or usual
    value = elements.integer(name)
    if value is None and inner is not None:
        value = inner.integer(name)
    if value is None:
        raise Unreadable(f"{name}: expected the volume index, found none; see index_tag")
    first = 1 if binding.first_index is None else binding.first_index
    if value < first:
        raise Unreadable(f"{name}: expected {first} or more, found {value}; see first_index")
    return value - first


def echo_planar(elements: Elements) -> bool | None:
    """Whether ScanningSequence says echo-planar; None where it is absent."""
    sequence = elements.texts("ScanningSequence")
    return "EP" in sequence if sequence else None


def index_name(binding: ScannerConfig) -> str | None:
    """Name of the binding's index element among those read; None for the vendor's own."""
    tag = binding.index_element
    if tag is None:
        return None
    return TOP.public[tag][0] if tag in TOP.public else binding.index_tag


def clock_s(text: str) -> float | None:
    """Seconds since midnight of a DICOM TM or DT value; None where it is none.

    Examples
    --------
    >>> clock_s("124803.827500"), clock_s("20220711120905.225000"), clock_s("")
    (46083.8275, 43745.225, None)
    """
    match = _CLOCK.match(text)
    if match is None:
        return None
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])


def acquisition_clock_s(elements: Elements) -> float | None:
    """When the volume's acquisition began by the scanner's clock, seconds since its midnight."""
    for name in ("AcquisitionTime", "AcquisitionDateTime", "ContentTime"):
        found_s = clock_s(elements.text(name))
        if found_s is not None:
            return found_s
    return None


def scaling_of(elements: Elements) -> tuple[float, float] | None:
    """Rescale slope and intercept; None where they are absent or change nothing."""
    slope = elements.number("RescaleSlope")
    intercept = elements.number("RescaleIntercept")
    pair = (1.0 if slope is None else slope, intercept or 0.0)
    return None if pair == (1.0, 0.0) else pair


def in_plane_axis(text: str) -> Literal[0, 1] | None:
    """Stored axis of phase encoding: ROW runs along the columns' index, COL along the rows'."""
    if text.startswith("ROW"):
        return 0
    return 1 if text.startswith("COL") else None
