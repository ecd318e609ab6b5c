"""What a form reader makes of a file: a piece of a volume, and the series it belongs to.

Mosaics, enhanced files, PAR/REC pairs and NIfTI images hold a whole volume; classic slices hold
one plane of it. Either way a volume is built from pieces in one place, here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rtloop.readers.binding import ScannerConfig
from rtloop.readers.geometry import Placement, plane_affine, scaled_dtype, stack
from rtloop.readers.outcome import Unreadable
from rtloop.volume import Volume

__all__ = ["Form", "Piece", "Place", "Series", "build_volume", "repetition_time_s"]

Form = Literal[
    "Siemens mosaic",
    "Siemens enhanced",
    "GE slices",
    "Philips slices",
    "Philips PAR/REC",
    "NIfTI",
    "DICOM",
]

TR_LIMITS_S = (0.05, 60.0)
"""A repetition time outside is not one: PAR/REC dumps say 1 ms, bare NIfTI files say 0."""


@dataclass(frozen=True, slots=True)
class Series:
    """What a file says of its series. Stays inside the readers but for `protocol` and numbers.

    `key` is the series' instance UID (or folder and stem): it leaves only as a keyed hash.
    `description` is free text: it is compared with the binding and printed by `fcnef read`.
    """

    key: str
    form: Form
    description: str = ""
    number: int | None = None
    protocol_name: str = ""
    image_type: tuple[str, ...] = ()
    echo: int | None = None
    epi: bool | None = None
    n_volumes: int | None = None
    tr_s: float | None = None
    protocol: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file belongs: volume `index` from 0, piece `part` of `n_parts`, from 0.

    Parts are stacked in this order.
    """

    index: int
    part: int = 0
    n_parts: int = 1


@dataclass(frozen=True, slots=True)
class Piece:
    """One or all planes of a volume.

    Attributes
    ----------
    series : Series
    place : Place
    planes : sequence of ndarray, each (rows, columns)
        Stored values.
    positions_mm : ndarray, shape (n_planes, 3)
        Centre of each plane's first voxel, LPS+.
    orientation : tuple of six floats
        Unit vectors of rising column and rising row, LPS+.
    spacing_mm : tuple of two floats
        Distance between rows, then between columns.
    scaling : sequence of (slope, intercept) or None
        Per plane; None where stored values are what the scanner shows.
    bits_stored : int or None
    acquired_s : float or None
        See `Volume`.
    slice_times_s : tuple of float or None
        Start of each slice of the whole volume in stacking order, from any zero.
    phase_encoding : (0 or 1, bool or None) or None
        Stored axis (0 along columns' index, 1 along rows' index), and whether it rises; None
        where not told.
    """

    series: Series
    place: Place
    planes: Sequence[NDArray[np.generic]]
    positions_mm: NDArray[np.float64]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    scaling: Sequence[tuple[float, float]] | None = None
    bits_stored: int | None = None
    acquired_s: float | None = None
    slice_times_s: tuple[float, ...] | None = None
    phase_encoding: tuple[Literal[0, 1], bool | None] | None = None


def build_volume(
    pieces: Sequence[Piece], attempt: str, received_s: float, binding: ScannerConfig
) -> Volume:
    """Join the pieces of one volume, in the order of their parts.

    Parameters
    ----------
    pieces : sequence of Piece
        All of them, in any order.
    attempt : str
        Keyed hash of the series.
    received_s : float
        Host clock, Unix seconds.
    binding : ScannerConfig
        What it overrides (TR, number of volumes).

    Returns
    -------
    Volume
        Owns its voxels.

    Raises
    ------
    Unreadable
        If the pieces do not fit together, or an entry a volume needs is missing.
    """
    pieces = sorted(pieces, key=lambda piece: piece.place.part)
    first = pieces[0]
    planes = [plane for piece in pieces for plane in piece.planes]
    if len({plane.shape for plane in planes}) != 1 or len({p.orientation for p in pieces}) != 1:
        raise Unreadable("slices of one volume: expected equal matrix and orientation")
    affine = plane_affine(
        np.concatenate([piece.positions_mm for piece in pieces]),
        first.orientation,
        first.spacing_mm,
    )
    rows, columns = planes[0].shape
    placement = Placement.closest_to_ras(affine, (columns, rows, len(planes)))
    scaling = _scaling(pieces)
    dtype = scaled_dtype(planes[0].dtype, first.bits_stored, scaling is not None)
    tr_s = repetition_time_s(first.series, binding)
    return Volume(
        attempt=attempt,
        index=first.place.index,
        data=stack(planes, placement, dtype, scaling),
        affine=placement.affine,
        tr_s=tr_s,
        received_s=received_s,
        acquired_s=min((p.acquired_s for p in pieces if p.acquired_s is not None), default=None),
        slice_times_s=_slice_times_s(first.slice_times_s, len(planes), placement.flipped[2]),
        slice_axis=placement.axes[2],
        n_volumes=binding.n_volumes or first.series.n_volumes,
        protocol=_protocol(first, placement, tr_s),
    )


def _scaling(pieces: Sequence[Piece]) -> list[tuple[float, float]] | None:
    """Slope and intercept of each plane; None where no plane has any."""
    if all(piece.scaling is None for piece in pieces):
        return None
    unscaled = (1.0, 0.0)
    return [pair for piece in pieces for pair in piece.scaling or [unscaled] * len(piece.planes)]


def repetition_time_s(series: Series, binding: ScannerConfig) -> float:
    """Repetition time, s: the binding's where it is set, else the header's.

    Raises
    ------
    Unreadable
        If the header's is missing or cannot be one.
    """
    if binding.tr_s is not None:
        return binding.tr_s
    tr_s = series.tr_s
    if tr_s is None or not TR_LIMITS_S[0] <= tr_s <= TR_LIMITS_S[1]:
        found = "none" if tr_s is None else f"{tr_s:g} s"
        raise Unreadable(
            f"repetition time: expected {TR_LIMITS_S[0]:g} to {TR_LIMITS_S[1]:g} s in the header, "
            f"found {found}; set tr_s in scanner.toml"
        )
    return tr_s


def _slice_times_s(
    times_s: tuple[float, ...] | None, n_slices: int, flipped: bool
) -> tuple[float, ...] | None:
    """Times along the volume's slice axis, from the volume's first slice; None if not all told."""
    if times_s is None or len(times_s) != n_slices:
        return None
    start_s = min(times_s)
    ordered = times_s[::-1] if flipped else times_s
    return tuple(round(time_s - start_s, 6) for time_s in ordered)


def _protocol(piece: Piece, placement: Placement, tr_s: float) -> dict[str, Any]:
    """Whitelisted acquisition parameters, plain data that msgpack can send."""
    edges_mm = np.sqrt((placement.affine[:3, :3] ** 2).sum(axis=0))
    protocol: dict[str, Any] = {
        **(piece.series.protocol or {}),
        "repetition_time_s": tr_s,
        "voxel_size_mm": [round(float(edge), 4) for edge in edges_mm],
    }
    if piece.phase_encoding is not None:
        axis, rising = piece.phase_encoding
        protocol["phase_encoding_axis"] = placement.direction(axis, True)[0]
        if rising is not None:
            protocol["phase_encoding"] = placement.direction(axis, rising)
    return protocol
