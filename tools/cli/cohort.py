"""`fcnef cohort`: participants and their connectivity, who is left out and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import cyclopts

from offline.atlas import Atlas
from offline.blocks import open_executor
from offline.cohort import Cohort, Limits, People, build_cohort, open_source, read_people
from offline.cohort.connectivity_release import read_connectivity
from offline.cohort.consent import Tier
from offline.cohort.derivatives import DerivativesSource, Strategy
from offline.cohort.exclusion import by_reason
from offline.cohort.matrices import Kind
from offline.cohort.releases import open_people, traveling_people
from offline.cohort.scans import Censoring, Source
from offline.errors import CohortError
from offline.numerals import counted

__all__ = ["cohort"]

cohort = cyclopts.App(
    name="cohort",
    help="Build, show and keep cohorts: participants, their connectivity, who is left out and why.",
    help_epilogue="Example:\n\n```text\nfcnef cohort show my-cohort\n```",
)


@cyclopts.Parameter(name="*")
@dataclass(frozen=True)
class Rules:
    """What is asked of a scan.

    Parameters
    ----------
    tier
        Release the cohort is for; needed if the participants table has a column consent.
    max_mean_fd
        Largest mean framewise displacement, mm.
    min_minutes
        Least minutes left after censoring.
    missing_rois
        Leave out people with a missing ROI, drop such ROIs for everyone, or keep NaN.
    max_missing_share
        With drop and keep: share of missing ROIs above which a scan is left out.
    """

    tier: Tier | None = None
    max_mean_fd: float | None = None
    min_minutes: float | None = None
    missing_rois: Literal["exclude", "drop", "keep"] = "exclude"
    max_missing_share: float = 0.1

    def limits(self) -> Limits:
        return Limits(
            self.tier,
            self.max_mean_fd,
            self.min_minutes,
            self.missing_rois,
            self.max_missing_share,
        )


@cyclopts.Parameter(name="*")
@dataclass(frozen=True)
class Running:
    """Where scans are read.

    Parameters
    ----------
    scheduler
        Address of a Dask scheduler (`tcp://host:8786`); this machine if not given.
    workers
        Scans read at the same time on this machine; all processors if not given.
    processes
        Use processes instead of threads.
    rebuild
        Replace the cohort that is there; who was withdrawn stays out.
    """

    scheduler: str | None = None
    workers: int | None = None
    processes: bool = False
    rebuild: bool = False


@cohort.command
def build(
    out: Path,
    /,
    *,
    people: Path,
    arrays: Path,
    kind: Kind,
    atlas: Path | None = None,
    pattern: str | None = None,
    variable: str | None = None,
    drop: list[str] | None = None,
    column: list[str] | None = None,
    tr: float | None = None,
    censor: float | None = None,
    fd_pattern: str = "",
    misaligned: Literal["exclude", "keep"] = "exclude",
    rules: Annotated[Rules, cyclopts.Parameter(name="*")] = Rules(),
    running: Annotated[Running, cyclopts.Parameter(name="*")] = Running(),
) -> None:
    """Build a cohort from a participants table and arrays. Interrupted, the same call goes on.

    Parameters
    ----------
    out
        Folder of the cohort.
    people
        Participants table (`.tsv`, `.csv`): one row a scan, columns participant, site, and what
        there is of session, scanner, diagnosis, age, sex, medication, consent, mean_fd, traveling,
        file; further columns of numbers are symptom scores.
    arrays
        Folder of one file a scan, archive (`.npz`, `.mat`) of one variable a scan, or one file of
        all scans' connectivity in the table's order.
    kind
        series (n_volumes, n_rois), correlations r, or Fisher z.
    atlas
        Table of ROI labels in the order of the arrays; names in the arrays if not given.
    pattern
        File or variable of a scan, with `{participant}` and `{session}`.
    variable
        Array of an archive that holds all scans.
    drop
        Named column that is no ROI.
    column
        `OURS=THEIRS` where the table names a column in another way.
    tr
        Repetition time, s.
    censor
        Framewise displacement above which a volume is censored, mm; needs `--fd-pattern`.
    fd_pattern
        File or variable of a scan's framewise displacement.
    misaligned
        What becomes of scans whose displacements do not line up with their volumes.

    Example
    -------
    fcnef cohort build my-cohort --people participants.tsv --arrays series.npz --kind series \\
        --atlas atlas.tsv --drop GlobSig --tr 2.5 --max-mean-fd 0.3
    """
    table = read_people(people, _pairs(column or []))
    source = open_source(
        arrays,
        kind,
        None if atlas is None else Atlas.load(atlas),
        len(table.table),
        pattern=pattern,
        fd_pattern=fd_pattern,
        variable=variable,
        drop=drop or [],
        censoring=Censoring(tr, censor, misaligned),
    )
    _build(out, table, source, rules, running, f"{arrays.name} ({kind})")


@cohort.command
def bids(
    out: Path,
    tree: Path,
    /,
    *,
    labels: Path,
    atlas: Path,
    people: Path | None = None,
    release: Literal["open", "traveling"] | None = None,
    column: list[str] | None = None,
    task: str = "rest",
    space: str = "MNI152NLin6Asym",
    confounds: Strategy = "motion24-wmcsf",
    censor: float | None = None,
    rules: Annotated[Rules, cyclopts.Parameter(name="*")] = Rules(),
    running: Annotated[Running, cyclopts.Parameter(name="*")] = Running(),
) -> None:
    """Build a cohort from a BIDS derivatives tree as fMRIPrep writes it.

    Parameters
    ----------
    out
        Folder of the cohort.
    tree
        Folder of `sub-*` with preprocessed BOLD and confounds.
    labels
        Label image in the BOLD's space: label k is the k-th ROI of the atlas.
    atlas
        Table of ROI labels.
    people
        Participants table, one row a session; not with `--release`.
    release
        Participants of the SRPBS open MRI or traveling-subject release, by its own table and
        names beside the tree.
    column
        `OURS=THEIRS` where the table names a column in another way.
    task
        Task of the runs.
    space
        Space of the images.
    confounds
        What is regressed out, beside slow drifts.
    censor
        Framewise displacement above which a volume is censored, mm.

    Example
    -------
    fcnef cohort bids my-cohort derivatives/fmriprep --people participants.tsv \\
        --labels atlas.nii.gz --atlas atlas.tsv --censor 0.5 --min-minutes 4
    """
    if (people is None) == (release is None):
        raise CohortError("expected either --people or --release, found both or none; give one")
    if people is not None:
        table = read_people(people, _pairs(column or []))
    else:
        table = open_people(tree) if release == "open" else traveling_people(tree)
    source = DerivativesSource(
        tree, labels, Atlas.load(atlas), task, space, confounds, Censoring(fd_limit_mm=censor)
    )
    _build(out, table, source, rules, running, f"{tree.name} ({confounds})")


@cohort.command
def release(
    out: Path,
    root: Path,
    /,
    *,
    rules: Annotated[Rules, cyclopts.Parameter(name="*")] = Rules(tier="restricted-fc"),
    running: Annotated[Running, cyclopts.Parameter(name="*")] = Running(),
) -> None:
    """Build a cohort from the SRPBS connectivity release: 140 ROIs, 9,730 edges.

    Parameters
    ----------
    out
        Folder of the cohort.
    root
        The release: folder of the institutions' folders.

    Example
    -------
    fcnef cohort release srpbs SRPBS_FC --tier restricted-fc --missing-rois drop
    """
    found = read_connectivity(root)
    _build(out, found.people, found.source, rules, running, root.name, found.notes)


@cohort.command
def show(folder: Path, /, *, excluded: bool = False) -> None:
    """Print who is in a cohort, by what rules, and who is not.

    Parameters
    ----------
    folder
        The cohort.
    excluded
        List everyone left out with the reason, as a table.

    Example
    -------
    fcnef cohort show my-cohort --excluded
    """
    found = Cohort.open(folder)
    if excluded:
        print(found.excluded.to_csv(sep="\t", index=False), end="")
        return
    _tell(found)


@cohort.command
def withdraw(folder: Path, participant: str, /) -> None:
    """Remove a person from a cohort for good: from every table and from the edges on disk.

    A hash stays, by which the person is left out when the cohort is built anew. Models and
    harmonized copies made from the cohort before are not touched: make them anew.

    Parameters
    ----------
    folder
        The cohort.
    participant
        The person's id.

    Example
    -------
    fcnef cohort withdraw my-cohort sub-017
    """
    n_scans = Cohort.open(folder).withdraw(participant)
    print(
        f"{folder}: {counted(n_scans, 'scan')} removed; models and copies made from it are not:"
        " make them anew"
    )


def _build(
    out: Path,
    people: People,
    source: Source,
    rules: Rules,
    running: Running,
    description: str,
    notes: Sequence[str] = (),
) -> None:
    with open_executor(running.scheduler, running.workers, running.processes) as executor:
        built = build_cohort(
            out,
            people,
            source,
            rules.limits(),
            executor=executor,
            rebuild=running.rebuild,
            description=description,
            notes=notes,
        )
    _tell(built)


def _tell(found: Cohort) -> None:
    people, left_out, atlas = found.people, found.excluded, found.atlas
    n_people = people["participant"].nunique()
    size = f"{counted(len(people), 'scan')} of {counted(n_people, 'person', 'people')}"
    print(f"{found.folder}: {size}, {found.about['description']}")
    print(
        f"  atlas {atlas.name}: {atlas.n_rois} ROIs, {atlas.n_edges:,} edges, {atlas.digest[:12]}"
    )
    for column in ("site", "diagnosis", "sex"):
        if people[column].notna().any():
            counts = people[column].fillna("n/a").value_counts()
            print(f"  {column}: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    if people["traveling"].any():
        travelers = people[people["traveling"]]
        n, where = travelers["participant"].nunique(), travelers["site"].nunique()
        print(
            f"  traveling subjects: {counted(n, 'person', 'people')},"
            f" {counted(len(travelers), 'scan')}, {counted(where, 'site')}"
        )
    for line in (*found.about["rules"], *found.about["notes"]):
        print(f"  {line}")
    advice = " (`--excluded` lists them)" if len(left_out) else ""
    print(f"  left out: {counted(len(left_out), 'scan')}{advice}")
    for reason, n in by_reason(left_out):
        print(f"    {n} x {reason}")


def _pairs(columns: list[str]) -> dict[str, str]:
    pairs = {}
    for text in columns:
        ours, joint, theirs = text.partition("=")
        if not (ours and joint and theirs):
            raise CohortError(f"--column: expected OURS=THEIRS, found {text!r}; such as age=years")
        pairs[ours] = theirs
    return pairs
