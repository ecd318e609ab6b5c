"""`EdgeStore`: edges of many scans on disk, read by blocks of edges, in bounded memory.

Harmonizers and decoders go through all scans of a few thousand edges at a time, people are added
a few hundred at a time. The array is therefore kept in chunks of both (zarr, format 3, float32,
uncompressed: correlations of noisy signals do not compress, and reading is then a copy). A
C-ordered memory map read by columns would bring the whole file into memory.

Everything that works by blocks takes an ndarray as well: `edge_blocks` and `read_block` hide the
difference.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.errors import AtlasError, CohortError

if TYPE_CHECKING:
    import zarr

__all__ = ["CHUNK_EDGES", "CHUNK_ROWS", "EdgeStore", "RowWriter", "edge_blocks", "read_block"]

CHUNK_ROWS = 1024
CHUNK_EDGES = 4096
"""16 MB a chunk. Of 64 to 2,048 rows and 1,024 to 8,192 edges this read a block of edges fastest
(two thirds of the CPU time of 256 rows or less), and the rows that wait to be written are 0.3 GB
for 379 ROIs."""

FORMAT = 1

Rows = NDArray[np.integer[Any]] | slice | None
Float32 = NDArray[np.float32]


class EdgeStore:
    """Edges of scans, shape (n_scans, n_edges), float32, on disk.

    Rows are scans; NaN is an edge that is missing or a row not written yet. Made by `create` or
    `from_array`, found again by `open`. Travels to other processes as its path.

    Attributes
    ----------
    path : Path
        Folder of the store.
    atlas : Atlas
        The ROIs whose pairs the columns are.
    shape : tuple of int
        (n_scans, n_edges).
    """

    def __init__(self, path: Path, array: zarr.Array[Any], writable: bool) -> None:
        self.path = path
        self.writable = writable
        self._array = array
        attributes: dict[str, Any] = array.attrs.asdict()
        self.atlas = Atlas.from_json(attributes["atlas"])
        self._identity = str(attributes["identity"])
        if self.shape[1] != self.atlas.n_edges:
            raise AtlasError(
                f"store {path}: expected {self.atlas.n_edges} edges of atlas {self.atlas.name},"
                f" found {self.shape[1]}; the store was changed, make it anew"
            )

    @classmethod
    def create(
        cls,
        path: str | Path,
        n_rows: int,
        atlas: Atlas,
        chunks: tuple[int, int] = (CHUNK_ROWS, CHUNK_EDGES),
    ) -> EdgeStore:
        """Make an empty store: every value NaN until written.

        Parameters
        ----------
        path : str or Path
            A folder that does not exist yet.
        n_rows : int
            Number of scans.
        atlas : Atlas
            Its edges are the columns.
        chunks : tuple of int
            Rows and edges of one chunk.

        Raises
        ------
        CohortError
            If there is something at `path` already.
        """
        import zarr  # only for those who keep edges on disk

        path = Path(path)
        if path.exists():
            raise CohortError(f"store {path}: expected a new folder, found one; remove it first")
        shape = (n_rows, atlas.n_edges)
        array = zarr.create_array(
            store=path,
            shape=shape,
            chunks=(max(1, min(chunks[0], n_rows)), min(chunks[1], shape[1])),
            dtype="float32",
            fill_value=float("nan"),
            compressors=None,
            zarr_format=3,
            attributes={
                "fcnef_store": FORMAT,
                "identity": uuid.uuid4().hex,
                "atlas": atlas.as_json(),
            },
            config={"write_empty_chunks": True},
        )
        return cls(path, array, writable=True)

    @classmethod
    def open(cls, path: str | Path, writable: bool = False) -> EdgeStore:
        """Open a store.

        Parameters
        ----------
        path : str or Path
            Its folder.
        writable : bool
            Whether `write` is allowed; then not all of it has to be written yet.

        Raises
        ------
        CohortError
            If there is no store at `path`, or one that is read lacks chunks.
        """
        import zarr

        path = Path(path)
        try:
            array = zarr.open_array(
                path,
                mode="r+" if writable else "r",
                zarr_format=3,
                config={"write_empty_chunks": True},
            )
            known = array.attrs.asdict().get("fcnef_store")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CohortError(
                f"store {path}: expected a folder of edges, found none; check the path"
            ) from error
        if known != FORMAT:
            raise CohortError(
                f"store {path}: expected format {FORMAT}, found {known}; make it with this version"
            )
        # zarr gives the fill value for a chunk that is gone: edges would pass for missing ones
        lost = 0 if writable else array.nchunks - array.nchunks_initialized
        if lost:
            raise CohortError(
                f"store {path}: expected all {array.nchunks} chunks of edges, found {lost} gone;"
                " the store is damaged, make it anew"
            )
        return cls(path, array, writable)

    @classmethod
    def from_array(cls, path: str | Path, X: NDArray[Any], atlas: Atlas) -> EdgeStore:
        """Make a store of an array (n_scans, n_edges) that is in memory."""
        X = np.asarray(X)
        if X.ndim != 2 or X.shape[1] != atlas.n_edges:
            raise AtlasError(
                f"store {path}: expected (n_scans, {atlas.n_edges}) for atlas {atlas.name}, found"
                f" {X.shape}; give one column an edge"
            )
        store = cls.create(path, len(X), atlas)
        with store.rows() as writer:
            for start in range(0, len(X), CHUNK_ROWS):
                writer.add(X[start : start + CHUNK_ROWS])
        return store

    @property
    def shape(self) -> tuple[int, int]:
        n_rows, n_edges = self._array.shape
        return int(n_rows), int(n_edges)

    @property
    def identity(self) -> str:
        """Tells one store from another without reading it: given at `create`, never again."""
        return self._identity

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        n_rows, n_edges = self.shape
        return f"EdgeStore({str(self.path)!r}: {n_rows} scans x {n_edges} edges)"

    def __reduce__(self) -> tuple[Any, ...]:
        return EdgeStore.open, (str(self.path.absolute()), self.writable)

    def blocks(self) -> list[slice]:
        """Slices of edges, one per column of chunks, that cover all edges."""
        return edge_blocks(self, self._array.chunks[1])

    def read(self, edges: slice, rows: Rows = None) -> Float32:
        """Read a block of edges.

        Parameters
        ----------
        edges : slice
            Of step 1.
        rows : ndarray of int, slice or None
            Scans, in any order, repeats allowed; None for all.

        Returns
        -------
        ndarray of float32, shape (n_rows, n_edges of the slice)
            C-ordered, the caller's own.

        Raises
        ------
        CohortError
            If a chunk on disk is not whole.
        """
        start, stop = self._range(edges)
        if rows is None or isinstance(rows, slice):
            return np.ascontiguousarray(self._read(rows or slice(None), start, stop), np.float32)
        rows = self._places(rows)
        out = np.empty((len(rows), stop - start), np.float32)
        for span, which in _by_chunk(rows, self._array.chunks[0], len(self)):
            chunk = self._read(span, start, stop)
            out[which] = chunk[rows[which] - span.start]
        return out

    def _read(self, rows: slice, start: int, stop: int) -> NDArray[Any]:
        try:
            return np.asarray(self._array[rows, start:stop])
        except ValueError as error:
            raise CohortError(
                f"store {self.path}: expected whole chunks, found a damaged one; make it anew"
            ) from error

    def write(self, edges: slice, block: NDArray[Any], rows: Rows = None) -> None:
        """Write a block of edges; a chunk is rewritten whole, so write in chunks where you can.

        Parameters
        ----------
        edges : slice
            Of step 1.
        block : ndarray, shape (n_rows, n_edges of the slice)
            Any float; stored as float32.
        rows : ndarray of int, slice or None
            Scans, each once; None for all.

        Raises
        ------
        CohortError
            If the store was opened for reading, or the shape does not fit.
        """
        if not self.writable:
            raise CohortError(f"store {self.path}: expected it to be opened writable; it is not")
        start, stop = self._range(edges)
        places = np.arange(len(self))
        places = places[rows] if rows is None or isinstance(rows, slice) else self._places(rows)
        places = places.reshape(-1)
        block = np.asarray(block, np.float32)
        if block.shape != (len(places), stop - start):
            raise CohortError(
                f"store {self.path}: expected a block of shape {(len(places), stop - start)},"
                f" found {block.shape}; give one row a scan, one column an edge"
            )
        if rows is None or (isinstance(rows, slice) and rows.step in (None, 1)):
            first = int(places[0]) if len(places) else 0
            self._array[first : first + len(places), start:stop] = block
            return
        if len(np.unique(places)) != len(places):
            raise CohortError(f"store {self.path}: expected every row once, found one repeated")
        for span, which in _by_chunk(places, self._array.chunks[0], len(self)):
            part = np.array(self._array[span, start:stop])
            part[places[which] - span.start] = block[which]
            self._array[span, start:stop] = part

    @contextmanager
    def rows(self) -> Iterator[RowWriter]:
        """Write scans as they come, from row 0 on, at whole chunks a time.

        Yields
        ------
        RowWriter
            Its `add` takes (n, n_edges); what is left is written when the block ends.
        """
        writer = RowWriter(self)
        yield writer
        writer.flush()

    def _range(self, edges: slice) -> tuple[int, int]:
        start, stop, step = edges.indices(self.shape[1])
        if step != 1:
            raise CohortError(f"expected edges of step 1, found {edges}; read them one by one")
        return start, max(start, stop)

    def _places(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        rows = np.asarray(rows)
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.int64)
        rows = np.where(rows < 0, rows + len(self), rows)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise CohortError(
                f"store {self.path}: expected rows of 0..{len(self) - 1}, found"
                f" {int(rows.min())}..{int(rows.max())}; check the selection"
            )
        return rows


class RowWriter:
    """Collects scans until a row of chunks is full, so that no chunk is written twice."""

    def __init__(self, store: EdgeStore) -> None:
        self._store = store
        self._chunk_rows = store._array.chunks[0]
        self._waiting = np.empty((self._chunk_rows, store.shape[1]), np.float32)
        self._n_waiting = 0
        self.n_written = 0
        """Scans handed in so far, waiting ones included."""

    def add(self, block: NDArray[Any]) -> None:
        """Take the next scans, shape (n, n_edges)."""
        if self.n_written + len(block) > len(self._store):
            raise CohortError(
                f"store {self._store.path}: expected {len(self._store)} scans, found more;"
                " create it with their number"
            )
        done = 0
        while done < len(block):
            n = min(self._chunk_rows - self._n_waiting, len(block) - done)
            self._waiting[self._n_waiting : self._n_waiting + n] = block[done : done + n]
            self._n_waiting += n
            self.n_written += n
            done += n
            if self._n_waiting == self._chunk_rows:
                self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        if self._n_waiting:
            rows = slice(self.n_written - self._n_waiting, self.n_written)
            self._store.write(slice(None), self._waiting[: self._n_waiting], rows)
            self._n_waiting = 0


def edge_blocks(X: NDArray[Any] | EdgeStore, width: int = CHUNK_EDGES) -> list[slice]:
    """Slices of edges, in order, that cover all columns of `X`.

    Parameters
    ----------
    X : ndarray or EdgeStore, shape (n_scans, n_edges)
        What is to be gone through.
    width : int
        Edges of one slice. In a store a slice ends where a chunk does: `width` is taken to the
        nearest multiple of a chunk, or to a part of one.
    """
    if width < 1:
        raise ValueError(f"expected a width of at least one edge, found {width}")
    n_edges = X.shape[1]
    bounds = [n_edges]
    if isinstance(X, EdgeStore):
        chunk = X._array.chunks[1]
        if width >= chunk:
            width = chunk * max(1, round(width / chunk))
        else:
            bounds = [*range(chunk, n_edges, chunk), n_edges]
    starts = [0, *bounds[:-1]]
    return [
        slice(at, min(at + width, stop))
        for start, stop in zip(starts, bounds, strict=True)
        for at in range(start, stop, width)
    ]


def read_block(X: NDArray[Any] | EdgeStore, edges: slice, rows: Rows = None) -> NDArray[Any]:
    """A block of edges of an array or a store, shape (n_rows, n_edges of the slice).

    An array keeps its dtype, and without `rows` it is a view; a store gives float32.
    """
    if isinstance(X, EdgeStore):
        return X.read(edges, rows)
    return X[:, edges] if rows is None else X[rows, edges]


def _by_chunk(
    rows: NDArray[np.int64], chunk_rows: int, n_rows: int
) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """For each row of chunks that holds some of `rows`: its span, and which of `rows` these are."""
    chunk = rows // chunk_rows
    for c in np.unique(chunk):
        start = int(c) * chunk_rows
        yield slice(start, min(start + chunk_rows, n_rows)), np.flatnonzero(chunk == c)
