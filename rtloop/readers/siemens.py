"""Siemens: mosaics (one classic file per volume) and XA's enhanced files (one file per volume).

A mosaic shows its slices as tiles of one large image; how many they are, which way they run and
when each was taken is in the CSA header (and, for count and times, in later software also in
private elements). An enhanced file of an aborted series is valid but short of frames: the
protocol's text inside says how many slices the volume has.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rtloop.readers.binding import ScannerConfig
from rtloop.readers.csa import csa_floats, protocol_number
from rtloop.readers.dicom import DicomFile, Elements
from rtloop.readers.outcome import Unreadable
from rtloop.readers.piece import Piece, Place, Series
from rtloop.readers.series import (
    acquisition_clock_s,
    classic_series,
    clock_s,
    echo_planar,
    in_plane_axis,
    protocol_of,
    scaling_of,
    series_key,
    volume_index,
)

__all__ = [
    "enhanced_piece",
    "enhanced_place",
    "enhanced_series",
    "mosaic_piece",
    "mosaic_place",
    "mosaic_series",
]

DAY_S = 86400.0


def mosaic_series(elements: Elements) -> Series:
    """Facts of a mosaic's series."""
    return classic_series(
        elements,
        "Siemens mosaic",
        epi=echo_planar(elements),
        n_volumes=_measurements(elements.blob("CSASeriesHeaderInfo")),
        protocol={"prescan_normalise": "NORM" in elements.texts("ImageType")},
    )


def _measurements(protocol: bytes) -> int | None:
    """Volumes of the series by the protocol's text; None where there is none."""
    repetitions = protocol_number(protocol, "lRepetitions", unsaid=0)
    return None if repetitions is None else repetitions + 1


def mosaic_place(elements: Elements, binding: ScannerConfig) -> Place:
    """Which volume a mosaic is."""
    return Place(volume_index(elements, binding, "InstanceNumber"))


def mosaic_piece(file: DicomFile, series: Series, place: Place) -> Piece:
    """The volume a mosaic holds.

    Raises
    ------
    NotYetWhole
        If the file ends before its pixel data do.
    Unreadable
        If slice count or direction cannot be told, or contradict each other or the image.
    """
    elements = file.elements
    header = elements.blob("CSAImageHeaderInfo")
    n_slices = _slice_count(elements, header)
    image = file.frames()[0]
    tiles = _tiles(image, n_slices)
    orientation = elements.floats("ImageOrientationPatient")
    spacing_mm = elements.floats("PixelSpacing")
    positive = csa_floats(header, "PhaseEncodingDirectionPositive")
    axis = in_plane_axis(elements.text("InPlanePhaseEncodingDirection"))
    scaling = scaling_of(elements)
    return Piece(
        series=series,
        place=place,
        planes=tiles,
        positions_mm=_tile_positions_mm(elements, header, image.shape, tiles),
        orientation=orientation,
        spacing_mm=spacing_mm,
        scaling=None if scaling is None else [scaling] * n_slices,
        bits_stored=elements.integer("BitsStored"),
        acquired_s=acquisition_clock_s(elements),
        slice_times_s=_mosaic_times_s(elements, header),
        phase_encoding=None if axis is None else (axis, bool(positive[0]) if positive else None),
    )


def _slice_count(elements: Elements, header: bytes) -> int:
    """Slices in a mosaic: the private element's count, the CSA header's, or both if they agree."""
    tagged = elements.integer("NumberOfImagesInMosaic")
    listed = csa_floats(header, "NumberOfImagesInMosaic")
    counts = {int(count) for count in (tagged, *listed) if count}
    if len(counts) != 1:
        found = " and ".join(str(count) for count in sorted(counts)) or "none"
        raise Unreadable(
            f"mosaic: expected one slice count in (0019,xx0A) or the CSA header, found {found}"
        )
    return counts.pop()


def _tiles(image: NDArray[np.generic], n_slices: int) -> list[NDArray[np.generic]]:
    """Slices of a mosaic, row by row; the grid is the smallest square that holds them."""
    grid = int(np.ceil(np.sqrt(n_slices)))
    rows, columns = (edge // grid for edge in image.shape)
    if (rows * grid, columns * grid) != image.shape or n_slices < 2:
        raise Unreadable(
            f"mosaic of {n_slices} slices: expected {grid} x {grid} equal tiles, "
            f"found {image.shape[0]} x {image.shape[1]} voxels"
        )
    corners = [divmod(number, grid) for number in range(n_slices)]
    return [image[r * rows : (r + 1) * rows, c * columns : (c + 1) * columns] for r, c in corners]


def _tile_positions_mm(
    elements: Elements,
    header: bytes,
    mosaic: tuple[int, ...],
    tiles: list[NDArray[np.generic]],
) -> NDArray[np.float64]:
    """Centre of each tile's first voxel, LPS+ mm.

    The position in the header is that of a single image as large as the mosaic around the first
    slice's centre, so half the difference in size is added (nibabel's DICOM notes, "mosaic").
    """
    corner = np.array(elements.floats("ImagePositionPatient"))
    axes = np.array(elements.floats("ImageOrientationPatient"))
    spacing_mm = elements.floats("PixelSpacing")
    step_mm = elements.number("SpacingBetweenSlices") or elements.number("SliceThickness")
    normal = np.array(csa_floats(header, "SliceNormalVector"))
    if corner.size != 3 or axes.size != 6 or len(spacing_mm) != 2 or not step_mm:
        raise Unreadable("mosaic: expected position, orientation and spacings, found fewer")
    if normal.size != 3:
        raise Unreadable(
            "mosaic: expected SliceNormalVector in the CSA header, found none; "
            "without it, which end is the head's top is unknown"
        )
    rows, columns = tiles[0].shape
    first: NDArray[np.float64] = (
        corner
        + axes[:3] * spacing_mm[1] * (mosaic[1] - columns) / 2.0
        + axes[3:] * spacing_mm[0] * (mosaic[0] - rows) / 2.0
    )
    positions_mm: NDArray[np.float64] = first + np.arange(len(tiles))[:, None] * normal * step_mm
    return positions_mm


def _mosaic_times_s(elements: Elements, header: bytes) -> tuple[float, ...] | None:
    """Slice times, s: the CSA header's, else the private element's; None where neither has them."""
    times_ms = csa_floats(header, "MosaicRefAcqTimes") or elements.floats("MosaicRefAcqTimes")
    return tuple(time_ms / 1000.0 for time_ms in times_ms) or None


def enhanced_series(elements: Elements) -> Series:
    """Facts of an XA series, most of them inside the functional groups."""
    shared = _first(elements.items("SharedFunctionalGroupsSequence"))
    frame = _first(elements.items("PerFrameFunctionalGroupsSequence"))
    image_type = elements.texts("ImageType") + elements.texts("ComplexImageComponent")
    image_type += _group(frame, shared, "SiemensMRSDISequence").texts("ImageTypeText")
    timing = _group(frame, shared, "MRTimingAndRelatedParametersSequence")
    tr_ms = timing.number("RepetitionTime")
    echo_ms = _group(frame, shared, "MREchoSequence").number("EffectiveEchoTime")
    n_volumes = elements.integer("NumberOfTemporalPositions")
    if n_volumes in (None, 1):  # one may be the file's own
        text = _group(frame, shared, "SiemensMRSDSSequence").blob("MrPhoenixProtocol")
        n_volumes = _measurements(text) or n_volumes
    return Series(
        key=series_key(elements),
        form="Siemens enhanced",
        description=elements.text("SeriesDescription"),
        number=elements.integer("SeriesNumber"),
        protocol_name=elements.text("ProtocolName"),
        image_type=image_type,
        echo=elements.integer("EchoNumbers"),
        epi=_yes(elements.text("EchoPlanarPulseSequence")),
        n_volumes=n_volumes,
        tr_s=None if tr_ms is None else tr_ms / 1000.0,
        protocol=protocol_of(elements, echo_ms) | {"prescan_normalise": "NORM" in image_type},
    )


def enhanced_place(elements: Elements, binding: ScannerConfig) -> Place:
    """Which volume an enhanced file is."""
    frame = _first(elements.items("PerFrameFunctionalGroupsSequence"))
    content = _first(frame.items("FrameContentSequence"))
    return Place(volume_index(elements, binding, "InstanceNumber", content))


def enhanced_piece(file: DicomFile, series: Series, place: Place) -> Piece:
    """The volume an enhanced file holds.

    Raises
    ------
    NotYetWhole
        If the file ends before its pixel data do.
    Unreadable
        If it holds fewer frames than the protocol has slices, or more than one volume.
    """
    elements = file.elements
    shared = _first(elements.items("SharedFunctionalGroupsSequence"))
    frames = elements.items("PerFrameFunctionalGroupsSequence")
    images = file.frames()
    contents = [_group(frame, shared, "FrameContentSequence") for frame in frames]
    _check_frames(contents, len(images), _protocol_slices(shared, frames))
    order = _stack_order(contents)
    frames = [frames[number] for number in order]
    clocks_s = _frame_clocks_s([contents[number] for number in order])
    orientation = {
        _group(f, shared, "PlaneOrientationSequence").floats("ImageOrientationPatient")
        for f in frames
    }
    if len(orientation) != 1:
        raise Unreadable("frames of one volume: expected one orientation, found several")
    scaling = [scaling_of(_group(f, shared, "PixelValueTransformationSequence")) for f in frames]
    return Piece(
        series=series,
        place=place,
        planes=[images[number] for number in order],
        positions_mm=_frame_positions_mm(frames, shared),
        orientation=orientation.pop(),
        spacing_mm=_group(frames[0], shared, "PixelMeasuresSequence").floats("PixelSpacing"),
        scaling=[pair or (1.0, 0.0) for pair in scaling] if any(scaling) else None,
        bits_stored=elements.integer("BitsStored"),
        acquired_s=min(clocks_s) % DAY_S if clocks_s else acquisition_clock_s(elements),
        slice_times_s=_frame_times_s(frames, shared) or clocks_s,
        phase_encoding=_frame_phase_encoding(frames[0], shared),
    )


def _check_frames(contents: list[Elements], n_images: int, n_slices: int | None) -> None:
    """Refuse a file that is not exactly one volume."""
    positions = {content.integer("TemporalPositionIndex") for content in contents}
    if len(positions) > 1:
        raise Unreadable(
            f"enhanced file of {len(positions)} volumes; expected one file per volume: "
            "set the scanner's export to it"
        )
    if n_images != len(contents):
        raise Unreadable(f"{n_images} frames; expected as many as are described: {len(contents)}")
    if n_slices is not None and n_images != n_slices:
        raise Unreadable(
            f"enhanced file of {n_images} frames; expected {n_slices}: the series was aborted "
            "within this volume"
        )


def _protocol_slices(shared: Elements, frames: list[Elements]) -> int | None:
    """Slices per volume by the protocol's text; None where there is none."""
    text = _group(_first(frames), shared, "SiemensMRSDSSequence").blob("MrPhoenixProtocol")
    return protocol_number(text, "sSliceArray.lSize")


def _stack_order(contents: list[Elements]) -> list[int]:
    """Frames in stacking order; the file's order is the writer's to choose."""
    places = [content.integer("InStackPositionNumber") for content in contents]
    known = [place for place in places if place is not None]
    if not known:
        return list(range(len(contents)))
    if sorted(known) != list(range(1, len(contents) + 1)):
        raise Unreadable("frames: expected stack positions 1 to the number of frames, each once")
    return sorted(range(len(known)), key=known.__getitem__)


def _frame_positions_mm(frames: list[Elements], shared: Elements) -> NDArray[np.float64]:
    positions = [
        _group(frame, shared, "PlanePositionSequence").floats("ImagePositionPatient")
        for frame in frames
    ]
    if any(len(position) != 3 for position in positions):
        raise Unreadable("frames: expected ImagePositionPatient in each, found fewer")
    return np.array(positions)


def _frame_times_s(frames: list[Elements], shared: Elements) -> tuple[float, ...] | None:
    """When each frame was taken after the series' start, s; None where not all frames tell.

    Siemens' own element, as the standard's clock is rounded down by up to 2.5 ms.
    """
    times_s = [_group(f, shared, "SiemensMRSDISequence").number("TimeAfterStart") for f in frames]
    told_s = tuple(time_s for time_s in times_s if time_s is not None)
    return told_s if len(told_s) == len(frames) else None


def _frame_clocks_s(contents: list[Elements]) -> tuple[float, ...] | None:
    """The scanner's clock at each frame, s; past midnight it goes on. None if not all tell."""
    clocks_s = [clock_s(content.text("FrameAcquisitionDateTime")) for content in contents]
    told_s = [told for told in clocks_s if told is not None]
    if len(told_s) != len(contents) or not told_s:
        return None
    wrapped = max(told_s) - min(told_s) > DAY_S / 2
    return tuple(t + DAY_S if wrapped and t < DAY_S / 2 else t for t in told_s)


def _frame_phase_encoding(
    frame: Elements, shared: Elements
) -> tuple[Literal[0, 1], bool | None] | None:
    text = _group(frame, shared, "MRFOVGeometrySequence").text("InPlanePhaseEncodingDirection")
    axis = in_plane_axis(text)
    siemens = _group(frame, shared, "SiemensMRSDISequence")
    positive = siemens.integer("PhaseEncodingDirectionPositive")
    return None if axis is None else (axis, None if positive is None else bool(positive))


def _group(frame: Elements, shared: Elements, name: str) -> Elements:
    """A functional group of this frame, or of all frames."""
    return _first(frame.items(name) or shared.items(name))


def _first(items: list[Elements]) -> Elements:
    return items[0] if items else Elements()


def _yes(text: str) -> bool | None:
    return {"YES": True, "NO": False}.get(text)
