"""Building a cohort: read every scan once, decide who is left out, store the rest.

Reading is block work (`offline.cohort.reading`), kept in a checkpoint inside the cohort's folder.
Interrupted building therefore resumes with the same call, and the decision, which needs everyone,
is made over small tables while no more than a few blocks are in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.blocks import Executor, open_executor
from offline.cohort.consent import Tombstones
from offline.cohort.exclusion import Limits, Reasons, before_reading, kept_rois, once_read
from offline.cohort.hold import LOCK, held
from offline.cohort.people import People
from offline.cohort.reading import Known, entries_of, read_blocks
from offline.cohort.scans import Source
from offline.cohort.stored import ABOUT, BUILDING, FORMAT, TEXT_COLUMNS, Cohort, write_generation
from offline.errors import CohortError
from offline.store import EdgeStore
from rtloop import __version__
from rtloop.connectivity import edge_index

__all__ = ["build_cohort"]


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
        entries = entries_of(people.table, source, np.flatnonzero(reasons.kept).tolist())
        blocks = partial(read_blocks, running, source, entries, folder / BUILDING)
        known = Known.survey(blocks(), len(people.table), source.atlas.n_rois)
        stays = _decide(people.table, known, source.atlas, limits, reasons, stones)
        about = {
            "format": FORMAT,
            "version": __version__,
            "description": description,
            "atlas": stays.atlas.as_json(),
            "scores": list(people.scores),
            "rules": limits.words(),
            "notes": [*notes, *_notes(people, limits, known, stays)],
            "tombstones": {"key": stones.key, "marks": list(stones.marks)},
        }
        write_generation(
            folder,
            about,
            stays.table.loc[stays.kept, _columns(people)],
            known.scans(stays.table).loc[stays.kept],
            reasons.table(stays.table, stones),
            lambda path: _store(path, blocks(), stays),
        )
        shutil.rmtree(folder / BUILDING)
    return Cohort.open(folder)


@dataclass(frozen=True)
class _Stays:
    """Who and what is stored.

    Attributes
    ----------
    table : pandas.DataFrame
        The participants table, completed.
    kept : ndarray of bool, shape (n_scans,)
        Its rows that stay.
    rois : ndarray of bool, shape (n_rois,)
        ROIs of the source's atlas that stay.
    whole, atlas : Atlas
        The source's, and that of the ROIs that stay.
    """

    table: pd.DataFrame
    kept: NDArray[np.bool_]
    rois: NDArray[np.bool_]
    whole: Atlas
    atlas: Atlas


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


def _decide(
    table: pd.DataFrame,
    known: Known,
    whole: Atlas,
    limits: Limits,
    reasons: Reasons,
    stones: Tombstones,
) -> _Stays:
    """Add the reasons that reading gives, and say what is left."""
    table = known.completed(table)
    once_read(
        reasons, table, known.faults, known.missing, known.holes, known.contents, limits, stones
    )
    kept = reasons.kept
    _require_someone(kept, reasons, table, stones)
    rois = kept_rois(known.missing[kept], whole, limits)
    gone = (label for label, stays in zip(whole.labels, rois, strict=True) if not stays)
    return _Stays(table, kept, rois, whole, whole.without(gone))


def _require_someone(
    kept: NDArray[np.bool_], reasons: Reasons, table: pd.DataFrame, stones: Tombstones
) -> None:
    if kept.any():
        return
    told = reasons.table(table, stones)["reason"].value_counts()
    first = f"{told.index[0]} ({told.iloc[0]} of {len(table)})" if len(told) else "an empty table"
    raise CohortError(f"expected someone to be left, found everyone excluded: {first}; check why")


def _notes(people: People, limits: Limits, known: Known, stays: _Stays) -> list[str]:
    """What was done that a reader should know."""
    ignored = ", ".join(people.ignored)
    notes = [f"columns left out of the table: {ignored}"] if ignored else []
    told = pd.Series(known.notes)[stays.kept]
    told = told[told != ""]
    notes += [f"{count} scans: {note}" for note, count in told.value_counts().items()]
    dropped = [label for label in stays.whole.labels if label not in set(stays.atlas.labels)]
    if dropped:
        notes.append(f"ROIs left out for everyone: {', '.join(dropped)}")
    n_missing = known.missing[stays.kept].any(axis=1).sum()
    if limits.missing_rois == "keep" and n_missing:
        notes.append(f"{n_missing} scans have NaN at the edges of missing ROIs")
    return notes


def _columns(people: People) -> list[str]:
    """Columns of a cohort's table of people."""
    numbers = ["age", "mean_fd", "minutes"]
    return [*TEXT_COLUMNS, *numbers, "traveling", *people.scores]


def _store(path: Path, blocks: Iterable[dict[str, Any]], stays: _Stays) -> None:
    """Write the rows that are kept, in the order of the table."""
    edges = slice(None) if stays.rois.all() else _edges_of(stays.rois, stays.whole)
    store = EdgeStore.create(path, int(stays.kept.sum()), stays.atlas)
    with store.rows() as writer:
        for block in blocks:
            read = [k for k, fault in enumerate(block["faults"]) if not fault]
            own = stays.kept[block["rows"][read]]
            writer.add(block["z"][own][:, edges])


def _edges_of(rois: NDArray[np.bool_], whole: Atlas) -> NDArray[np.int64]:
    """Places, among all edges, of those between the ROIs that stay."""
    places = np.flatnonzero(rois)
    a, b = np.triu_indices(len(places), k=1)
    return edge_index(whole.n_rois, places[a], places[b])
