"""How volumes, lines and tables lie in memory, shared by the kernels of motion correction.

A volume is a buffer of rows along x, each between its reflections, so that rows are filtered in
place. Lines along y and z are filtered sixteen at once: row r of such a bundle holds sample
r - PAD of sixteen lines that are neighbours in x. An interpolant is a tuple `(table, n_taps,
degree)`, see `rtloop.interpolants`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtloop.kernels.simd import LANES

__all__ = [
    "BUFFERS",
    "INTERPOLANT",
    "PAD",
    "ROW_START",
    "SLOPES",
    "SPARE",
    "TARGET",
    "VOLUME_MARGIN",
    "WIDTH",
    "Buffers",
    "Doubles",
    "Floats",
    "Interpolation",
    "Ints",
    "Target",
    "kernel",
    "reflected",
    "row_stride",
]

PAD = 16
"""Rows added by reflection at both ends of a line: half the longest filter, and as many voxels as
neighbouring lines may differ in shift."""

SPARE = 8
"""Rows after the last one that the filter loop may read (four rows at once, every second)."""

ROW_START = 16
"""Floats before the first voxel of a row in a volume's buffer; they hold the row's reflection."""

VOLUME_MARGIN = 128
"""Floats before and after the rows of a volume's buffer, so that no shift reads outside it."""

WIDTH = 16
"""Row length of the interpolants' tables; filters have at most this many taps."""

SLOPES = 32
"""Rows from a weight to its slope in the weights' buffer."""

INTERPOLANT = "Tuple((f4[::1], i8, i8))"
BUFFERS = "UniTuple(f4[::1], 5)"
TARGET = "Tuple((f4[::1], i8, i8))"

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Interpolation = tuple[Floats, int, int]
Buffers = tuple[Floats, ...]
"""Taps, weights, plane, columns, column: what resampling writes on the way."""

Target = tuple[Floats, int, int]
"""Where rows go: array, place of row 0, floats from row to row."""


FAMILY = ("intake", "layout", "lines", "register", "resample", "rows", "sample", "simd")
"""Modules of this package that call one another."""


def _digest() -> str:
    """Of all these modules' sources."""
    sources = [Path(__file__).with_name(f"{name}.py").read_bytes() for name in FAMILY]
    return hashlib.sha256(b"\0".join(sources)).hexdigest()[:16]


_config: Any = numba.config


def _kernel_cache() -> str:
    base = Path(__file__).parent / "__pycache__"
    if _config.CACHE_DIR:
        base = Path(_config.CACHE_DIR)
    elif not os.access(base.parent, os.W_OK):
        base = Path.home() / ".cache" / "fcnef"
    return str(base / f"motion-{_digest()}")


_CACHE = _kernel_cache()


def kernel(signature: Any = None, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`njit` as all kernels of motion correction use it, cached on disk.

    Numba notices a change of the file a cached function stands in, but not of other files that
    it calls or takes constants from: code compiled for another memory layout would be used.
    These kernels are therefore cached in a folder named after all their sources.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        before, _config.CACHE_DIR = _config.CACHE_DIR, _CACHE
        try:
            how = {"cache": True, "nogil": True, "error_model": "numpy", **options}
            return njit(**how)(function) if signature is None else njit(signature, **how)(function)
        finally:
            _config.CACHE_DIR = before

    return decorate


@kernel("i8(i8)")
def row_stride(nx: int) -> int:
    """Floats from row to row of a volume's buffer: reflection, nx voxels, reflection."""
    return (ROW_START + nx + 8 + LANES - 1) // LANES * LANES


@kernel("i8(i8, i8)")
def reflected(i: int, n: int) -> int:
    """Index of the sample that stands `i` rows into the reflection of n samples (0, 1, ...)."""
    while i >= 2 * n:
        i -= 2 * n
    return i if i < n else 2 * n - 1 - i
