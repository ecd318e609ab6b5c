"""Reading every scan once: a block of scans in, their edges and what is known of them out.

Blocks are kept in a checkpoint, so that they are at hand again when it is known who stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.blocks import Executor
from offline.checkpoint import digest_of
from offline.cohort.scans import Entry, Source
from rtloop import __version__

__all__ = ["BLOCK_BYTES", "Known", "entries_of", "read_block_of_scans", "read_blocks"]

BLOCK_BYTES = 16 << 20
"""Edges of one block of scans: work enough for a call, several at a time fit in memory."""


class Known:
    """What reading told of each row of the participants table.

    Attributes
    ----------
    faults, notes, contents : list of str
        Why a scan could not be used, what a reader should know of it, digest of its values.
    about : ndarray of float64, shape (n_scans, 4)
        Volumes, used ones, mean FD in mm, minutes; NaN where not known.
    missing : ndarray of bool, shape (n_scans, n_rois)
        ROIs without any edge.
    holes : ndarray of int64, shape (n_scans,)
        Edges missing between ROIs that have others.
    """

    def __init__(self, n_scans: int, n_rois: int) -> None:
        self.faults = [""] * n_scans
        self.notes = [""] * n_scans
        self.contents = [""] * n_scans
        self.about = np.full((n_scans, 4), np.nan)
        self.missing = np.zeros((n_scans, n_rois), bool)
        self.holes = np.zeros(n_scans, np.int64)

    @classmethod
    def survey(cls, blocks: Iterable[dict[str, Any]], n_scans: int, n_rois: int) -> Known:
        """What all blocks tell together."""
        known = cls(n_scans, n_rois)
        for block in blocks:
            known.add(block)
        return known

    def add(self, block: dict[str, Any]) -> None:
        """Take in a block."""
        rows = block["rows"]
        for k, row in enumerate(rows):
            self.faults[row] = block["faults"][k]
            self.notes[row] = block["notes"][k]
            self.contents[row] = block["contents"][k]
        self.about[rows] = block["about"]
        self.missing[rows] = block["missing"]
        self.holes[rows] = block["holes"]

    def completed(self, table: pd.DataFrame) -> pd.DataFrame:
        """The participants table with motion and length as measured, where they were."""
        table = table.copy()
        for column, place in (("mean_fd", 2), ("minutes", 3)):
            measured = self.about[:, place]
            table[column] = np.where(np.isnan(measured), table[column], measured)
        return table

    def scans(self, table: pd.DataFrame) -> pd.DataFrame:
        """The cohort's table of scans."""
        return pd.DataFrame(
            {
                "participant": table["participant"],
                "session": table["session"],
                "n_volumes": self.about[:, 0],
                "n_used": self.about[:, 1],
                "content": self.contents,
                "note": [note or "n/a" for note in self.notes],
            },
            index=table.index,
        )


def entries_of(table: pd.DataFrame, source: Source, rows: Iterable[int]) -> list[Entry]:
    """Rows of the participants table to be read, with what tells that their file changed."""
    files = table["file"].fillna("")
    entries = []
    for row in rows:
        entry = Entry(
            str(table["participant"].iloc[row]),
            str(table["session"].iloc[row]),
            str(files.iloc[row]),
            int(row),
        )
        entries.append(entry._replace(stamp=source.stamp(entry)))
    return entries


def read_blocks(
    executor: Executor, source: Source, entries: Sequence[Entry], parts: Path
) -> Iterator[dict[str, Any]]:
    """Read scans by blocks; those that are in the folder `parts` already are not read again."""
    n = max(1, BLOCK_BYTES // (4 * source.atlas.n_edges))
    items = [entries[start : start + n] for start in range(0, len(entries), n)]
    function = partial(read_block_of_scans, source)
    # by what is read: a building that failed does not stand in the way of the corrected one
    own = parts / digest_of((function, __version__))[:12]
    return executor.map(function, items, label="connectivity", checkpoint=own)


def read_block_of_scans(source: Source, entries: Sequence[Entry]) -> dict[str, Any]:
    """Read some scans: edges of those without a fault, and what is known of each.

    Parameters
    ----------
    source : Source
        Their arrays.
    entries : sequence of Entry
        Rows of the participants table.

    Returns
    -------
    dict
        `rows`, `faults`, `notes`, `about` (n, 4: volumes, used ones, mean FD in mm, minutes),
        `missing` (n, n_rois), `holes` (n,), `contents`, and `z` (n_without_fault, n_edges).
    """
    n_rois = source.atlas.n_rois
    scans = [source.read(entry) for entry in entries]
    z = [scan.z for scan in scans if scan.z is not None]
    missing = np.zeros((len(scans), n_rois), bool)
    holes = np.zeros(len(scans), np.int64)
    for k, scan in enumerate(scans):
        if scan.z is not None:
            missing[k], holes[k] = _absent(scan.z, source.atlas)
    return {
        "rows": np.array([entry.row for entry in entries], np.int64),
        "faults": [scan.fault for scan in scans],
        "notes": [scan.note for scan in scans],
        "about": np.array([(s.n_volumes, s.n_used, s.mean_fd, s.minutes) for s in scans], float),
        "missing": missing,
        "holes": holes,
        "contents": ["" if scan.z is None else _content(scan.z) for scan in scans],
        "z": np.array(z, np.float32).reshape(len(z), source.atlas.n_edges),
    }


def _absent(z: NDArray[np.float32], atlas: Atlas) -> tuple[NDArray[np.bool_], int]:
    """ROIs without any edge, and edges missing between ROIs that have others."""
    bad = ~np.isfinite(z)
    if not bad.any():
        return np.zeros(atlas.n_rois, bool), 0
    a, b = atlas.edges().T
    count = np.bincount(a[bad], minlength=atlas.n_rois)
    count += np.bincount(b[bad], minlength=atlas.n_rois)
    missing = count == atlas.n_rois - 1
    return missing, int((bad & ~missing[a] & ~missing[b]).sum())


def _content(z: NDArray[np.float32]) -> str:
    return hashlib.sha256(z.tobytes()).hexdigest()
