"""The open SRPBS releases of MRI (Tanaka et al. 2021, doi:10.1038/s41597-021-01004-8): who is whom.

The multi-disorder release and that of traveling subjects (who, where, when). Images are read from
derivatives made of them (`DerivativesSource`); here is what their tables and names mean.

The releases need an application and were not at hand: this is tested on files of the same layout
with made-up values. Taken from public code that reads the real files: columns `participant_id, age,
sex (1, 2), site, protocol, diag` with the codes below; sessions `ses-siteATV`, and `ses-siteATTd1`
where a site was visited on several days.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from offline.cohort.derivatives import people_of_tree
from offline.cohort.people import People, read_people
from offline.errors import CohortError

__all__ = [
    "DIAGNOSIS_CODES",
    "OPEN_COLUMNS",
    "SEX_CODES",
    "open_people",
    "text_table",
    "traveling_people",
]

OPEN_COLUMNS = {"participant": "participant_id", "site": "site", "scanner": "protocol"}
"""Open MRI, `participants.tsv`: ours to theirs, beside `age`, `sex` and `diag`."""

DIAGNOSIS_CODES = {
    "0": "HC",
    "1": "ASD",
    "2": "MDD",
    "3": "OCD",
    "4": "SCZ",
    "5": "pain",
    "6": "stroke",
    "7": "BD",
    "8": "dysthymia",
    "99": "other",
}
"""Open MRI, column `diag`."""

SEX_CODES = {"1": "M", "2": "F"}
"""Column `sex`."""


def open_people(path: str | Path) -> People:
    """Participants of the open MRI release.

    Parameters
    ----------
    path : str or Path
        Its `participants.tsv`, or the folder of it.
    """
    raw = text_table(_participants_file(Path(path)))
    table = pd.DataFrame({ours: raw[theirs] for ours, theirs in OPEN_COLUMNS.items()})
    table["age"] = raw["age"]
    table["sex"] = raw["sex"].map(lambda text: SEX_CODES.get(text, text))
    table["diagnosis"] = raw["diag"].map(lambda text: DIAGNOSIS_CODES.get(text, text))
    return read_people(table.assign(consent="open-mri"))


def traveling_people(root: str | Path) -> People:
    """Scans of the traveling subjects: who, where (the session's site) and which visit there.

    Parameters
    ----------
    root : str or Path
        The release, or its derivatives: `sub-*/ses-site*`; `participants.tsv` beside them, in
        `sourcedata`, or nowhere (age and sex are missing then).

    Raises
    ------
    CohortError
        If a session does not name its site.
    """
    root = Path(root)
    tree = root / "sourcedata" if (root / "sourcedata").is_dir() else root
    table = people_of_tree(tree)
    places = [_place(session, root) for session in table["session"]]
    table["site"] = [site for site, _ in places]
    table["visit"] = [str(visit) for _, visit in places]
    about = [
        path for path in (tree / "participants.tsv", root / "participants.tsv") if path.exists()
    ]
    if about:
        raw = text_table(about[0])
        raw.index = raw["participant_id"].str.removeprefix("sub-")
        for column, codes in (("age", {}), ("sex", SEX_CODES)):
            if column in raw:
                known = raw[column].map(lambda text, codes=codes: codes.get(text, text))
                table[column] = table["participant"].map(known).fillna("n/a")
    return read_people(table.assign(diagnosis="HC", traveling="yes", consent="open-traveling"))


def text_table(path: Path) -> pd.DataFrame:
    """A table of a release as text.

    Raises
    ------
    CohortError
        If it cannot be read.
    """
    try:
        return pd.read_csv(
            path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig"
        ).map(str.strip)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CohortError(
            f"release {path}: expected a table, found {reason}; keep it as released"
        ) from error


def _place(session: str, root: Path) -> tuple[str, int]:
    """Site and visit of a session: `siteATTd2` is the second day at ATT."""
    match = re.fullmatch(r"site([A-Za-z]+?\d*?)(?:d(\d+))?", session)
    if not match:
        raise CohortError(
            f"release {root}: expected sessions ses-siteCODE, found ses-{session}; is this the"
            " traveling-subject release?"
        )
    return match[1], int(match[2] or 1)


def _participants_file(path: Path) -> Path:
    return path / "participants.tsv" if path.is_dir() else path
