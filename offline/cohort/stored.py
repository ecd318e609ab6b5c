"""`Cohort`: people, their edges and who was left out, in one folder.

`cohort.json` names the generation in use, a folder beside it that holds everything of people. A
withdrawal writes the next generation without the person, turns `cohort.json` to it in one step and
deletes the former, so that it may be interrupted at any time and the person's bytes are gone when
it is done.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.cohort.consent import Tombstones
from offline.cohort.hold import held
from offline.cohort.people import NUMBERS, WITHDRAWN, plain_id
from offline.errors import CohortError
from offline.store import CHUNK_ROWS, EdgeStore

__all__ = ["ABOUT", "BUILDING", "FORMAT", "TEXT_COLUMNS", "Cohort", "write_generation"]

ABOUT = "cohort.json"
BUILDING = ".building"
"""Holds what a building has read so far."""
FORMAT = 1
TEXT_COLUMNS = (
    "participant",
    "session",
    "site",
    "scanner",
    "diagnosis",
    "sex",
    "medication",
    "consent",
)
LEAVING = "leaving.json"
"""Names a generation that is to be deleted, from before it is replaced until it is gone."""


@dataclass
class Cohort:
    """A cohort in its folder.

    Attributes
    ----------
    folder : Path
        Where it is.
    about : dict
        What it was built from, rules, notes, versions.
    """

    folder: Path
    about: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Cohort:
        """Open a cohort.

        Parameters
        ----------
        folder : str or Path
            As given to `build_cohort`.

        Raises
        ------
        CohortError
            If there is no cohort, or one whose building was interrupted.
        """
        folder = Path(folder)
        path = folder / ABOUT
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            begun = (folder / BUILDING).exists()
            told = "one whose building was interrupted" if begun else "none"
            todo = "build it again with the same arguments" if begun else "check the path"
            raise CohortError(
                f"cohort {folder}: expected a cohort, found {told}; {todo}"
            ) from error
        if about.get("format") != FORMAT:
            raise CohortError(
                f"cohort {folder}: expected format {FORMAT}, found {about.get('format')}; build it"
                " with this version"
            )
        cohort = cls(folder, about)
        cohort._finish_leaving()
        return cohort

    @property
    def atlas(self) -> Atlas:
        """The ROIs whose pairs the edges are."""
        return Atlas.from_json(self.about["atlas"])

    @cached_property
    def people(self) -> pd.DataFrame:
        """One row a scan, in the order of the rows of `z`; scores are the last columns."""
        return self._in_order("people.tsv", (*NUMBERS, *self.scores))

    @cached_property
    def z(self) -> EdgeStore:
        """Fisher z, shape (n_scans, n_edges)."""
        return EdgeStore.open(self._generation / "edges")

    @cached_property
    def excluded(self) -> pd.DataFrame:
        """Who was left out and why: participant, session, reason."""
        return self._table("excluded.tsv")

    @cached_property
    def scans(self) -> pd.DataFrame:
        """Volumes, digest of the values and a note for each scan."""
        return self._in_order("scans.tsv", ("n_volumes", "n_used"))

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the symptom scores among the columns of `people`."""
        return tuple(self.about["scores"])

    @property
    def tombstones(self) -> Tombstones:
        """Who was withdrawn."""
        return Tombstones(self.about["tombstones"]["key"], tuple(self.about["tombstones"]["marks"]))

    def withdraw(self, participant: str) -> int:
        """Remove a person: rows of all tables and of the edges, and every mention by name.

        A hash of the id and of the values stays, by which `build_cohort` leaves the person out
        when the cohort is built anew. Copies made elsewhere (harmonized edges, models, backups)
        are not touched.

        Parameters
        ----------
        participant : str
            The id, with or without `sub-`.

        Returns
        -------
        int
            Scans removed.

        Raises
        ------
        CohortError
            If nobody has this id, the person was withdrawn before, or the cohort is being written.
        """
        with held(self.folder):
            now = _in_use(self.folder)
            if now != self.about["generation"]:  # or who left since would come back
                raise CohortError(
                    f"cohort {self.folder}: expected it as it was opened, found it changed since;"
                    " open it anew"
                )
            return self._withdraw(participant)

    def _withdraw(self, participant: str) -> int:
        try:
            person = plain_id(participant)
        except ValueError:
            person = ""
        gone = (self.people["participant"] == person).to_numpy()
        left_out = (self.excluded["participant"] == person).to_numpy()
        if not gone.any() and not left_out.any():
            before = "one who was withdrawn already" if self.tombstones.has(person) else "none"
            raise CohortError(
                f"cohort {self.folder}: expected a participant {participant!r}, found {before};"
                " check the id"
            )
        stones = self.tombstones.with_these(person, *self.scans["content"][gone])
        excluded = _without_name(self.excluded[~left_out], person, stones.mark(person)[:16])
        sessions = [*self.people["session"][gone], *self.excluded["session"][left_out]]
        farewell = pd.DataFrame(
            {"participant": stones.mark(person)[:16], "session": sessions, "reason": WITHDRAWN}
        )
        about = {**self.about, "tombstones": {"key": stones.key, "marks": list(stones.marks)}}
        write_generation(
            self.folder,
            about,
            self.people[~gone],
            self.scans[~gone],
            pd.concat([excluded, farewell], ignore_index=True),
            _copy_rows(self.z, np.flatnonzero(~gone)),
        )
        # what an interrupted building read may be the person's too
        shutil.rmtree(self.folder / BUILDING, ignore_errors=True)
        self.about = json.loads((self.folder / ABOUT).read_text(encoding="utf-8"))
        for name in ("people", "z", "excluded", "scans"):
            self.__dict__.pop(name, None)
        return int(gone.sum())

    @property
    def _generation(self) -> Path:
        return self.folder / str(self.about["generation"])

    def _table(self, name: str, numbers: tuple[str, ...] = ()) -> pd.DataFrame:
        path = self._generation / name
        try:
            table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, na_values=["n/a"])
            for column in numbers:
                table[column] = table[column].astype(float)
        except (OSError, ValueError, KeyError) as error:
            raise CohortError(
                f"cohort {self.folder}: expected {name} as it was written, found it damaged or"
                " gone; build it anew"
            ) from error
        if "traveling" in table:
            table["traveling"] = table["traveling"] == "True"
        return table

    def _in_order(self, name: str, numbers: tuple[str, ...]) -> pd.DataFrame:
        """A table of one row a scan, refused if its rows are no longer those of the arrays."""
        table = self._table(name, numbers)
        if len(table) != len(self.z):
            raise CohortError(
                f"cohort {self.folder}: expected {name} to have a row for each of"
                f" {len(self.z)} scans, found {len(table)}; build it anew"
            )
        # a cohort of before the order was kept has it in its table of scans alone
        kept = self.about.get("order") or _order(self._table("scans.tsv"))
        if _order(table) != kept:
            raise CohortError(
                f"cohort {self.folder}: expected the rows of {name} in the order of the arrays,"
                " found others; the table was sorted or renamed by hand, build the cohort anew"
            )
        return table

    def _finish_leaving(self) -> None:
        """Delete what a withdrawal was interrupted before deleting."""
        path = self.folder / LEAVING
        if not path.exists():
            return
        leaving = json.loads(path.read_text(encoding="utf-8"))["generation"]
        if leaving != self.about["generation"]:
            shutil.rmtree(self.folder / leaving, ignore_errors=True)
            path.unlink()


def write_generation(
    folder: Path,
    about: dict[str, Any],
    people: pd.DataFrame,
    scans: pd.DataFrame,
    excluded: pd.DataFrame,
    write_edges: Callable[[Path], None],
) -> None:
    """Write everything of a cohort, then make it the one in use and delete the former.

    Parameters
    ----------
    folder : Path
        The cohort's.
    about : dict
        What `cohort.json` is to say; its generation and the order of its rows are set here.
    people, scans, excluded : pandas.DataFrame
        The tables.
    write_edges : callable
        Called with the path the edges are to be stored at.
    """
    fresh = folder / ".fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    write_edges(fresh / "edges")
    for name, table in (("people", people), ("scans", scans), ("excluded", excluded)):
        table.to_csv(fresh / f"{name}.tsv", sep="\t", index=False, na_rep="n/a")
    former = _in_use(folder)
    for orphan in folder.glob("g-*"):  # of a building that was interrupted at its very end
        if orphan.name != former:
            shutil.rmtree(orphan)
    name = f"g-{uuid.uuid4().hex[:12]}"
    fresh.rename(folder / name)
    if former:
        _write(folder / LEAVING, {"generation": former})
    _write(folder / ABOUT, {**about, "generation": name, "order": _order(people)})
    if former:
        shutil.rmtree(folder / former)
        (folder / LEAVING).unlink()


def _order(table: pd.DataFrame) -> str:
    """Digest of whose scan each row is, in order."""
    rows = table["participant"] + "\t" + table["session"] + "\n"
    return hashlib.sha256("".join(rows).encode()).hexdigest()


def _in_use(folder: Path) -> str:
    try:
        return str(json.loads((folder / ABOUT).read_text(encoding="utf-8"))["generation"])
    except (OSError, ValueError, KeyError):
        return ""


def _write(path: Path, entries: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(entries, file, indent=2, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _copy_rows(source: EdgeStore, rows: NDArray[np.int64]) -> Callable[[Path], None]:
    """Writes some rows of a store into a new one, a few hundred at a time."""

    def write(path: Path) -> None:
        store = EdgeStore.create(path, len(rows), source.atlas)
        with store.rows() as writer:
            for start in range(0, len(rows), CHUNK_ROWS):
                writer.add(source.read(slice(None), rows[start : start + CHUNK_ROWS]))

    return write


def _without_name(excluded: pd.DataFrame, person: str, mark: str) -> pd.DataFrame:
    """Reasons of others that mention a person, without the name."""
    pattern = re.compile(rf"(?<!\S){re.escape(person)}/")
    return excluded.assign(
        reason=[pattern.sub(f"{mark}/", reason) for reason in excluded["reason"]]
    )
