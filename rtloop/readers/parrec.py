"""Philips PAR/REC: a text that describes images, and the file that holds them; a pair per volume.

Only magnitude images are taken, wherever they stand among phase images. Position and angulation
come from the images' own lines: the general header of a research export is zeroed. There is no
volume index inside, so it is the number that ends the file's name.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import parrec
from numpy.typing import NDArray

from rtloop.readers.binding import ScannerConfig
from rtloop.readers.outcome import NotOfThisRun, NotYetWhole, Unreadable
from rtloop.readers.piece import Piece, Place, Series
from rtloop.readers.series import MAX_NAME

__all__ = ["PAIR_SUFFIXES", "pair_piece", "pair_series"]

PAIR_SUFFIXES = (".par", ".rec")

_MAGNITUDE = (0, 16)
"""image_type_mr of magnitude images: 0 in the standard export, 16 in the research export."""

_END_LINE = b"END OF DATA DESCRIPTION FILE"
_VERSION = re.compile(rb"image export tool\s+(V[\d.]+)")

_STACK_AXES = {
    1: np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]),
    2: np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]]),
    3: np.array([[0.0, 0, 1], [0, -1, 0], [1, 0, 0]]),
}
"""By slice orientation (transverse, sagittal, coronal): stored axes column, row, slice as columns,
in Philips' axes posterior, superior, left (nibabel's notes on PAR/REC)."""

_PSL_TO_LPS = [2, 0, 1]

Lines = NDArray[Any]

_nibabel: Any = parrec  # has no types


def pair_series(text: bytes, key: str) -> Series:
    """Facts of the series from a PAR file's bytes.

    Raises
    ------
    NotYetWhole
        If the text has no end line yet.
    NotOfThisRun
        If it is no PAR file.
    Unreadable
        If it is of another version, or malformed.
    """
    general, lines = _parsed(text)
    tr_ms = float(general["repetition_time"][0])
    dynamics = int(general["max_dynamics"])
    echo_ms = float(lines["echo_time"][0])
    name = str(general["protocol_name"]).strip()
    told: dict[str, Any] = {"manufacturer": "Philips", "protocol_name": name[:MAX_NAME]}
    if echo_ms > 0.1:  # the research export writes 0.025 for none
        told["echo_time_s"] = echo_ms / 1000.0
    return Series(
        key=key,
        form="Philips PAR/REC",
        # a research export leaves the name out; the binding can then match the files' stem
        protocol_name=name or Path(key).name,
        epi=None,
        # one dynamic per pair: a count of 1 says nothing of the run
        n_volumes=dynamics if dynamics > 1 else None,
        tr_s=tr_ms / 1000.0,
        protocol={entry: value for entry, value in told.items() if value != ""},
    )


def pair_piece(
    text: bytes, stored: bytes, series: Series, index: int, binding: ScannerConfig
) -> Piece:
    """The magnitude volume that a pair holds.

    Parameters
    ----------
    text, stored : bytes
        Content of the PAR and of the REC file.
    series : Series
        From `pair_series`.
    index : int
        Volume index.
    binding : ScannerConfig
        Its `echo` is taken.

    Returns
    -------
    Piece
        A whole volume.

    Raises
    ------
    NotYetWhole
        If the REC file is shorter than the images described.
    Unreadable
        If the pair does not hold exactly one magnitude volume.
    """
    general, lines = _parsed(text)
    images = _images(stored, lines)
    magnitude = np.isin(lines["image_type_mr"], _MAGNITUDE) & (lines["echo number"] == binding.echo)
    chosen = lines[magnitude]
    chosen = chosen[np.argsort(chosen["slice number"], kind="stable")]
    n_slices = int(general["max_slices"])
    if chosen["slice number"].tolist() != list(range(1, n_slices + 1)):
        raise Unreadable(
            f"PAR/REC: expected one magnitude image of echo {binding.echo} for each of "
            f"{n_slices} slices, found {len(chosen)}"
        )
    positions_mm, orientation = _geometry(chosen, (images.shape[1], images.shape[2]))
    across, down = chosen["pixel spacing"][0].tolist()
    return Piece(
        series=series,
        place=Place(index),
        planes=[images[number] for number in chosen["index in REC file"]],
        positions_mm=positions_mm,
        orientation=orientation,
        spacing_mm=(down, across),
        scaling=list(
            zip(chosen["rescale slope"].tolist(), chosen["rescale intercept"].tolist(), strict=True)
        ),
    )


def _parsed(text: bytes) -> tuple[dict[str, Any], Lines]:
    """General information and image lines of a PAR file."""
    if not text.lstrip().startswith(b"#"):
        if text.strip(b"\0 \r\n"):
            raise NotOfThisRun("no PAR file")
        raise NotYetWhole("the PAR file is not written yet")
    if _END_LINE not in text:
        raise NotYetWhole("the PAR file ends before its end line")
    version = _VERSION.search(text)
    if version is None or version[1].decode() not in parrec.supported_versions:
        raise Unreadable(f"PAR file: expected version {', '.join(parrec.supported_versions)}")
    try:
        general, lines = _nibabel.parse_PAR_header(io.StringIO(text.decode("latin-1")))
    except (parrec.PARRECError, AttributeError, IndexError, KeyError, ValueError):
        raise Unreadable("PAR file: expected the entries of its version, found others") from None
    if not len(lines):
        raise Unreadable("PAR file: expected image lines, found none")
    return general, lines


def _images(stored: bytes, lines: Lines) -> NDArray[np.generic]:
    """All images of a REC file, shape (n_images, rows, columns)."""
    sizes = {tuple(size) for size in lines["recon resolution"].tolist()}
    bits = set(lines["image pixel size"].tolist())
    if len(sizes) != 1 or bits not in ({8}, {16}):
        raise Unreadable("PAR file: expected images of one size and of 8 or 16 bits")
    columns, rows = sizes.pop()
    dtype = np.dtype(f"<u{bits.pop() // 8}")
    n_images = int(lines["index in REC file"].max()) + 1
    expected = n_images * rows * columns * dtype.itemsize
    if len(stored) < expected:
        raise NotYetWhole(f"REC file of {len(stored)} bytes; expected {expected}")
    if len(stored) > expected:
        raise Unreadable(f"REC file of {len(stored)} bytes; expected {expected}")
    return np.frombuffer(stored, dtype).reshape(n_images, rows, columns)


def _geometry(
    lines: Lines, shape: tuple[int, int]
) -> tuple[NDArray[np.float64], tuple[float, ...]]:
    """First voxel of each slice, LPS+ mm, and the unit vectors of rising column and row.

    The order of the rotations is the one found by trial by nibabel's authors. Slice centres are
    rounded to 0.1 mm in the file, so slices are laid out from their mean by thickness and gap.
    """
    axes = _STACK_AXES.get(int(lines["slice orientation"][0]))
    if axes is None:
        raise Unreadable("PAR file: expected slice orientation 1, 2 or 3")
    about_ap, about_fh, about_rl = np.deg2rad(lines["image angulation"][0])
    turn = _turn(2, about_rl) @ _turn(0, about_ap) @ _turn(1, about_fh)
    column, row, normal = (turn @ axes)[_PSL_TO_LPS].T
    across_mm, down_mm = lines["pixel spacing"][0]
    step_mm = lines["slice thickness"][0] + lines["slice gap"][0]
    centres_mm = lines["image offcentre"][:, _PSL_TO_LPS]
    places = np.arange(len(lines)) - (len(lines) - 1) / 2.0
    laid_out = centres_mm.mean(axis=0) + places[:, None] * normal * step_mm
    if np.abs(laid_out - centres_mm).max() > step_mm / 2.0:
        raise Unreadable("PAR file: expected slice centres that agree with thickness and gap")
    corner = column * across_mm * (shape[1] - 1) / 2.0 + row * down_mm * (shape[0] - 1) / 2.0
    return laid_out - corner, (*column.tolist(), *row.tolist())


def _turn(axis: int, angle_rad: float) -> NDArray[np.float64]:
    """Rotation about one axis, right-handed, shape (3, 3)."""
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    one, other = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[one, one] = matrix[other, other] = cosine
    matrix[other, one], matrix[one, other] = sine, -sine
    return matrix
