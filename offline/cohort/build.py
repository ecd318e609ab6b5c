"""Building a cohort: read every scan once, decide who is left out, store the rest.

Reading is block work (`offline.blocks`): a block of scans in, their edges and what is known of
them out, kept in a checkpoint inside the cohort's folder. Interrupted building therefore resumes
with the same call, and the decision, which needs everyone, is made over small tables while no more
than a few blocks are in memory.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.blocks import Executor, open_executor
from offline.checkpoint import digest_of
from offline.cohort.consent import Tombstones
from offline.cohort.exclusion import Limits, Reasons, before_reading, kept_rois, once_read
from offline.cohort.hold import LOCK, held
from offline.cohort.people import People
from offline.cohort.scans import Entry, Source
from offline.cohort.stored import ABOUT, BUILDING, FORMAT, TEXT_COLUMNS, Cohort, write_generation
from offline.errors import CohortError
from offline.store import EdgeStore
from rtloop import __version__
from rtloop.connectivity import edge_index

__all__ = ["BLOCK_BYTES", "build_cohort", "read_block_of_scans"]

BLOCK_BYTES = 16 << 20
"""Edges of one block of scans: work enough for a call, several at a time fit in memory."""


def build_cohort(
    folder: str | Path,
    people: People,
    source: Source,
    limits: Limits | None = None,
    *,
    executor: Executor | None = None,
    rebuild: bool = False,
    description: str = "",
    notes: Sequence[str] = (),
) -> Cohort:
    """Build a cohort into a folder.

    Parameters
    ----------
    folder : str or Path
        New, or that of an interrupted building: with the same arguments it goes on, with others
        it begins anew.
    people : People
        The participants table.
    source : Source
        Their arrays.
    limits : Limits or None
        Who is left out; None for the defaults.
    executor : Executor or None
        Where scans are read; None for threads of this process.
    rebuild : bool
        Whether a cohort that is in the folder is replaced. Who was withdrawn from it stays out.
    description : str
        For people: what this was built from.
    notes : sequence of str
        What a reader should know of it, beside what building finds.

    Returns
    -------
    Cohort
        Opened.

    Raises
    ------
    CohortError
        If the folder holds a cohort already or is being written, the consent is not settled, or
        nobody is left.
    AtlasError
        If an array is of another atlas or another order.
    ScaleError
        If matrices are not what they are said to be.
    """
    folder, limits = Path(folder), limits or Limits()
    _require_own(folder)
    with held(folder), nullcontext(executor) if executor else open_executor() as running:
        stones = _tombstones(folder, rebuild)
        reasons = before_reading(people, limits, stones)
        entries = _entries(people.table, source, reasons)
        blocks = partial(_blocks, running, source, entries, folder / BUILDING)
        known = _survey(blocks(), len(people.table), source.atlas)
        table = _completed(people.table, known)
        once_read(
            reasons,
            table,
            known.faults,
            known.missing,
            known.holes,
            known.contents,
            limits,
            stones,
        )
        kept = reasons.kept
        _require_someone(kept, reasons, table, stones)
        rois = kept_rois(known.missing[kept], source.atlas, limits)
        atlas = source.atlas.without(
            label for label, stays in zip(source.atlas.labels, rois, strict=True) if not stays
        )
        about = {
            "format": FORMAT,
            "version": __version__,
            "description": description,
            "atlas": atlas.as_json(),
            "scores": list(people.scores),
            "rules": limits.words(),
            "notes": [*notes, *_notes(people, limits, known, kept, source.atlas, atlas)],
            "tombstones": {"key": stones.key, "marks": list(stones.marks)},
        }
        write_generation(
            folder,
            about,
            table.loc[kept, _columns(people)],
            known.scans(table).loc[kept],
            reasons.table(table, stones),
            lambda path: _store(path, blocks(), int(kept.sum()), kept, rois, source.atlas, atlas),
        )
        shutil.rmtree(folder / BUILDING)
    return Cohort.open(folder)


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


class _Known:
    """What reading told of each row of the participants table."""

    def __init__(self, n_scans: int, n_rois: int) -> None:
        self.faults = [""] * n_scans
        self.notes = [""] * n_scans
        self.contents = [""] * n_scans
        self.about = np.full((n_scans, 4), np.nan)
        self.missing = np.zeros((n_scans, n_rois), bool)
        self.holes = np.zeros(n_scans, np.int64)

    def add(self, block: dict[str, Any]) -> None:
        rows = block["rows"]
        for k, row in enumerate(rows):
            self.faults[row] = block["faults"][k]
            self.notes[row] = block["notes"][k]
            self.contents[row] = block["contents"][k]
        self.about[rows] = block["about"]
        self.missing[rows] = block["missing"]
        self.holes[rows] = block["holes"]

    def scans(self, table: pd.DataFrame) -> pd.DataFrame:
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


def _require_own(folder: Path) -> None:
    """Refuse a folder of other things."""
    found = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if found and not found & {ABOUT, BUILDING, LOCK}:
        raise CohortError(
            f"cohort {folder}: expected a new folder, found other files in it; give another"
        )


def _tombstones(folder: Path, rebuild: bool) -> Tombstones:
    """Who was withdrawn from the cohort that is replaced."""
    if not (folder / ABOUT).exists():
        return Tombstones()
    present = Cohort.open(folder)
    if not rebuild:
        raise CohortError(
            f"cohort {folder}: expected a new folder, found a cohort of {len(present.people)}"
            " scans; give another, or rebuild it"
        )
    return present.tombstones


def _entries(table: pd.DataFrame, source: Source, reasons: Reasons) -> list[Entry]:
    """Rows to be read, with what tells that their file changed."""
    files = table["file"].fillna("")
    entries = []
    for row in np.flatnonzero(reasons.kept):
        entry = Entry(
            str(table["participant"].iloc[row]),
            str(table["session"].iloc[row]),
            str(files.iloc[row]),
            int(row),
        )
        entries.append(entry._replace(stamp=source.stamp(entry)))
    return entries


def _blocks(executor: Executor, source: Source, entries: list[Entry], parts: Path) -> Any:
    n = max(1, BLOCK_BYTES // (4 * source.atlas.n_edges))
    items = [entries[start : start + n] for start in range(0, len(entries), n)]
    function = partial(read_block_of_scans, source)
    # by what is read: a building that failed does not stand in the way of the corrected one
    own = parts / digest_of((function, __version__))[:12]
    return executor.map(function, items, label="connectivity", checkpoint=own)


def _survey(blocks: Any, n_scans: int, atlas: Atlas) -> _Known:
    known = _Known(n_scans, atlas.n_rois)
    for block in blocks:
        known.add(block)
    return known


def _completed(table: pd.DataFrame, known: _Known) -> pd.DataFrame:
    """The table with motion and length as measured, where they were."""
    table = table.copy()
    for column, place in (("mean_fd", 2), ("minutes", 3)):
        measured = known.about[:, place]
        table[column] = np.where(np.isnan(measured), table[column], measured)
    return table


def _store(
    path: Path,
    blocks: Any,
    n_rows: int,
    kept: NDArray[np.bool_],
    rois: NDArray[np.bool_],
    whole: Atlas,
    atlas: Atlas,
) -> None:
    """Write the rows that are kept, in the order of the table."""
    edges = slice(None) if rois.all() else _edges_of(rois, whole)
    store = EdgeStore.create(path, n_rows, atlas)
    with store.rows() as writer:
        for block in blocks:
            read = [k for k, fault in enumerate(block["faults"]) if not fault]
            stays = kept[block["rows"][read]]
            writer.add(block["z"][stays][:, edges])


def _edges_of(rois: NDArray[np.bool_], whole: Atlas) -> NDArray[np.int64]:
    """Places, among all edges, of those between the ROIs that stay."""
    places = np.flatnonzero(rois)
    a, b = np.triu_indices(len(places), k=1)
    return edge_index(whole.n_rois, places[a], places[b])


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


def _columns(people: People) -> list[str]:
    """Columns of a cohort's table of people."""
    numbers = ["age", "mean_fd", "minutes"]
    return [*TEXT_COLUMNS, *numbers, "traveling", *people.scores]


def _require_someone(
    kept: NDArray[np.bool_], reasons: Reasons, table: pd.DataFrame, stones: Tombstones
) -> None:
    if kept.any():
        return
    told = reasons.table(table, stones)["reason"].value_counts()
    first = f"{told.index[0]} ({told.iloc[0]} of {len(table)})" if len(told) else "an empty table"
    raise CohortError(f"expected someone to be left, found everyone excluded: {first}; check why")


def _notes(
    people: People,
    limits: Limits,
    known: _Known,
    kept: NDArray[np.bool_],
    whole: Atlas,
    atlas: Atlas,
) -> list[str]:
    """What was done that a reader should know."""
    ignored = ", ".join(people.ignored)
    notes = [f"columns left out of the table: {ignored}"] if ignored else []
    told = pd.Series(known.notes)[kept]
    told = told[told != ""]
    notes += [f"{count} scans: {note}" for note, count in told.value_counts().items()]
    dropped = [label for label in whole.labels if label not in set(atlas.labels)]
    if dropped:
        notes.append(f"ROIs left out for everyone: {', '.join(dropped)}")
    n_missing = known.missing[kept].any(axis=1).sum()
    if limits.missing_rois == "keep" and n_missing:
        notes.append(f"{n_missing} scans have NaN at the edges of missing ROIs")
    return notes
