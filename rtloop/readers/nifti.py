"""NIfTI: folders of 3-D images, one per volume; and 4-D images as whole series, offline.

A 3-D image's volume index is the number that ends its name. A NIfTI header may lack the
repetition time and usually lacks slice times; what is missing comes from the binding or stays
untold.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from rtloop.errors import ReaderError
from rtloop.readers.binding import ScannerConfig
from rtloop.readers.geometry import Placement
from rtloop.readers.outcome import NotOfThisRun, NotYetWhole, Unreadable
from rtloop.readers.piece import Series, repetition_time_s
from rtloop.volume import WIRE_DTYPES, Volume

__all__ = ["NIFTI_SUFFIXES", "Image", "image_volumes", "parse_image"]

NIFTI_SUFFIXES = (".nii.gz", ".nii")

_GZIP = b"\x1f\x8b"
_HEADER_BYTES: dict[int, Any] = {348: nib.Nifti1Image, 540: nib.Nifti2Image}
_UNITS_S = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}
_UNITS_MM = {"mm": 1.0, "meter": 1e3, "micron": 1e-3, "unknown": 1.0}


@dataclass(frozen=True, slots=True)
class Image:
    """A parsed image of one or more volumes; `stored` is a view, shape (x, y, z, n_volumes)."""

    series: Series
    stored: NDArray[Any]
    scaling: tuple[float, float] | None
    placement: Placement
    slice_axis: int
    slice_times_s: tuple[float, ...] | None

    @property
    def n_volumes(self) -> int:
        """Volumes in this file."""
        return int(self.stored.shape[3])


def parse_image(source: bytes, key: str) -> Image:
    """Read a single-file NIfTI image's bytes, compressed or not.

    Parameters
    ----------
    source : bytes
        The file's content, perhaps still growing.
    key : str
        What identifies the series.

    Returns
    -------
    Image
        A view on the bytes, or on what they inflate to.

    Raises
    ------
    NotYetWhole
        If the file ends before its voxels do.
    NotOfThisRun
        If it is no NIfTI image.
    Unreadable
        If it is neither 3-D nor 4-D, or its type or affine cannot be used.
    """
    raw = _inflated(source)
    if len(raw) < 4:
        raise NotYetWhole("the file ends within its header")
    size = int.from_bytes(raw[:4], "little")
    kind = _HEADER_BYTES.get(size) or _HEADER_BYTES.get(int.from_bytes(raw[:4], "big"))
    if kind is None:
        if not any(raw[:348]):
            raise NotYetWhole("the file's header is not written yet")
        raise NotOfThisRun("no NIfTI image")
    if len(raw) < 540:
        raise NotYetWhole("the file ends within its header")
    try:
        header = kind.header_class.from_fileobj(BytesIO(raw), check=True)
        return _image(header, _stored(raw, header), key)
    except (HeaderDataError, KeyError, ValueError) as error:
        if isinstance(error, ReaderError):
            raise
        raise Unreadable("NIfTI image: expected a valid header, found wrong entries") from None


def image_volumes(
    image: Image, attempt: str, first_index: int, received_s: float, binding: ScannerConfig
) -> Iterator[Volume]:
    """Volumes of an image one by one, the first with index `first_index`.

    Raises
    ------
    Unreadable
        If the repetition time is told neither by the header nor by the binding.
    """
    tr_s = repetition_time_s(image.series, binding)
    placement, n_told = image.placement, image.series.n_volumes
    edges_mm = np.sqrt((placement.affine[:3, :3] ** 2).sum(axis=0))
    protocol = {"voxel_size_mm": [round(float(edge), 4) for edge in edges_mm]}
    dtype = _volume_dtype(image)
    for number in range(image.n_volumes):
        data = np.empty(placement.shape, dtype, order="F")
        voxels = image.stored[..., number]
        if image.scaling is not None:
            voxels = voxels * image.scaling[0] + image.scaling[1]
        placement.stored_view(data)[...] = voxels
        yield Volume(
            attempt=attempt,
            index=first_index + number,
            data=data,
            affine=placement.affine,
            tr_s=tr_s,
            received_s=received_s,
            slice_times_s=image.slice_times_s,
            slice_axis=image.slice_axis,
            n_volumes=binding.n_volumes or n_told,
            protocol={"repetition_time_s": tr_s, **protocol},
        )


def _inflated(source: bytes) -> bytes:
    if source[:2] != _GZIP[: len(source)] or not source:
        return source
    try:
        return gzip.decompress(source)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        # a file that is preallocated and half written fails its check sum as well
        raise NotYetWhole("the compressed file ends before its content does") from None


def _stored(raw: bytes, header: Any) -> NDArray[Any]:
    """Voxels as stored, a view, shape (x, y, z, n_volumes)."""
    shape = tuple(int(edge) for edge in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (3, 4) or min(shape, default=0) < 1:
        raise Unreadable(f"NIfTI image: expected 3 or 4 dimensions, found {len(shape)}")
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise Unreadable("NIfTI image: expected real numbers, found colours or complex values")
    start, count = int(header.get_data_offset()), int(np.prod(shape))
    if len(raw) < start + count * dtype.itemsize:
        raise NotYetWhole(f"{len(raw)} bytes; expected {start + count * dtype.itemsize}")
    voxels = np.frombuffer(raw, dtype, count, start).reshape(shape, order="F")
    return voxels if voxels.ndim == 4 else voxels[..., None]


def _image(header: Any, stored: NDArray[Any], key: str) -> Image:
    space, time = header.get_xyzt_units()
    if not header["sform_code"] and not header["qform_code"]:
        raise Unreadable(
            "NIfTI image: expected an sform or qform, found none; "
            "without it, left and right are unknown"
        )
    affine = np.array(header.get_best_affine(), np.float64)
    affine[:3] *= _UNITS_MM[space]
    columns, rows, slices, n_volumes = stored.shape
    placement = Placement.closest_to_ras(affine, (columns, rows, slices))
    zooms = header.get_zooms()
    told_s = float(zooms[3]) * _UNITS_S.get(time, 1.0) if len(zooms) > 3 else None
    if told_s is None and header["pixdim"][4] > 0:
        told_s = float(header["pixdim"][4]) * _UNITS_S.get(time, 1.0)
    stem = Path(key).name
    series = Series(
        key,
        "NIfTI",
        protocol_name=stem,
        n_volumes=n_volumes if n_volumes > 1 else None,
        tr_s=told_s,
    )
    slope, intercept = header.get_slope_inter()
    scaled = slope is not None and (slope, intercept) != (1.0, 0.0)
    axis, times_s = _slice_times_s(header, placement, time)
    return Image(
        series=series,
        stored=stored,
        scaling=(float(slope), float(intercept)) if scaled else None,
        placement=placement,
        slice_axis=axis,
        slice_times_s=times_s,
    )


def _slice_times_s(
    header: Any, placement: Placement, unit: str
) -> tuple[int, tuple[float, ...] | None]:
    """Slice axis of the volume (its third stored axis unless told) and times along it."""
    told = header.get_dim_info()[2]
    stored_axis = 2 if told is None else int(told)
    axis = placement.axes[stored_axis]
    try:
        times = header.get_slice_times()
    except HeaderDataError:
        return axis, None
    if any(time is None for time in times):
        return axis, None
    ordered = times[::-1] if placement.flipped[stored_axis] else times
    return axis, tuple(float(time) * _UNITS_S.get(unit, 1.0) for time in ordered)


def _volume_dtype(image: Image) -> np.dtype[Any]:
    native = image.stored.dtype.newbyteorder("=")
    if image.scaling is None and native.name in WIRE_DTYPES:
        return native
    return np.dtype(np.float32)
