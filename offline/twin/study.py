"""What a twin is fitted to and judged on, from wherever it lies: connectomes beside behaviour.

A source is a cohort's folder with trials, the folder of the public release, trials alone (then
nothing that needs connectomes is measured), or simulated people:

    synthetic:FORM[:SEED[:PEOPLE[:ROIS]]]      such as synthetic:gated:1:228:100

Trials are a joined table, or a folder of BIDS events such as `fcnef task` writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.errors import TwinError
from offline.twin.behaviour import include
from offline.twin.examples import Examples, examples_of
from offline.twin.leftout import broken_off, unmatched, why_nobody
from offline.twin.synthetic import FORMS, SyntheticPeople, people_with_truth
from offline.twin.synthetic_runs import REGIONS
from offline.twin.tables import read_demographics
from offline.twin.tasks import MATCHING, STROOP, Bold, TaskSpec, encode
from offline.twin.trials import Trials, read_events, read_trials

if TYPE_CHECKING:
    from offline.twin.twin import Twin

__all__ = ["Study", "open_study"]

SMALLEST = (0, 3, 14)
"""Seed, people and ROIs of simulated people: pairs of edges of two people do not differ, and each
network needs two ROIs."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Study:
    """People, what they did, and where known their connectomes.

    Attributes
    ----------
    name : str
    provenance : {"real", "synthetic"}
    specs : tuple of TaskSpec
    trials : Trials
        Of usable runs.
    examples : Examples
        The same, encoded.
    runs : dict of (str, str) to int
        Task of the trial table and run, to the number in `examples.run`.
    people : pandas.DataFrame
        Indexed as `examples.people`; age, sex, site, group where known.
    left_out : pandas.DataFrame
        Who and what is not used, and why.
    atlas : Atlas or None
    edges : ndarray of float64, shape (n_people, n_edges), or None
        Fisher z, rows as `examples.people`.
    again : ndarray of float64, shape (n_people, n_edges), or None
        Of another scan of the same people.
    truth : SyntheticPeople or None
    """

    name: str
    provenance: Literal["real", "synthetic"]
    specs: tuple[TaskSpec, ...]
    trials: Trials
    examples: Examples
    runs: dict[tuple[str, str], int]
    people: pd.DataFrame
    left_out: pd.DataFrame
    atlas: Atlas | None = None
    edges: Float64 | None = None
    again: Float64 | None = None
    truth: SyntheticPeople | None = None

    @property
    def connectomes(self) -> Float64:
        """`edges`, where they are needed.

        Raises
        ------
        TwinError
            If the study has none.
        """
        if self.edges is None:
            raise TwinError(
                f"expected connectomes, found behaviour alone in {self.name}; give a cohort or a"
                " release"
            )
        return self.edges

    def require_kind_of(self, twin: Twin) -> None:
        """Refuse a twin of other people.

        Raises
        ------
        TwinError
            If the twin is of real people and these are simulated, or the other way round.
        AtlasError
            If its connectomes are of other ROIs, or in another order.
        """
        if twin.provenance != self.provenance:
            raise TwinError(
                f"expected {twin.provenance} people for a twin of {twin.provenance} people, found"
                f" {self.provenance} ones; their figures are never mixed"
            )
        if self.atlas is not None:
            twin.atlas.require_same(self.atlas)

    @property
    def sites(self) -> list[str] | None:
        """Of everybody, where the table has them."""
        return list(self.people["site"].astype(str)) if "site" in self.people else None

    def of(self, names: Sequence[str]) -> Study:
        """Some of the people, in this order; truth stays that of all."""
        rows = np.array([self.examples.people.index(name) for name in names], np.int64)
        return replace(
            self,
            trials=self.trials.only(names),
            examples=self.examples.of(rows),
            people=self.people.iloc[rows],
            edges=None if self.edges is None else self.edges[rows],
            again=None if self.again is None else self.again[rows],
            truth=None,
        )

    def spec(self, task: str) -> TaskSpec:
        """How a task of the trial table is described."""
        return next(spec for spec in self.specs if spec.names(task))


def open_study(
    source: str | Path,
    trials: str | Path | None = None,
    people: str | Path | None = None,
    *,
    tasks: Sequence[TaskSpec] = (MATCHING, STROOP),
    regions: Sequence[str] = (),
    labels: str | Path | None = None,
    bold: bool = False,
) -> Study:
    """Open a source.

    Parameters
    ----------
    source : str or Path
        A cohort, a folder of the release, trials, or `synthetic:…`.
    trials : str, Path or None
        Table of trials or folder of BIDS events, for a cohort.
    people : str, Path or None
        Participants table, for trials alone.
    tasks : sequence of TaskSpec
    regions : sequence of str
        Of the release, whose BOLD is to be predicted.
    labels : str, Path or None
        Of the release: table of all its regions, in the order of its files; None numbers them.
    bold : bool
        Of simulated people: with BOLD.

    Raises
    ------
    TwinError
        If the source is none of these, has no use for what is given beside it, or nobody is left.
    CohortError, TaskError, AtlasError
        If a file is not what it should be.
    """
    text, path = str(source), Path(source)
    given = {
        "trials": trials, "people": people, "regions": regions, "labels": labels, "bold": bold,
    }  # fmt: skip
    if text.startswith("synthetic:"):
        _require_use("simulated people", given, "bold")
        return _synthetic(text, bold)
    if (path / "participants.tsv").is_file():
        _require_use("a release", given, "regions", "labels")
        return _release(path, tasks, regions, labels)
    if path.is_file() or _event_files(path):
        _require_use("trials alone", given, "people")
        return _behaviour_alone(path, people, tasks)
    if path.is_dir():
        _require_use("a cohort", given, "trials")
        return _cohort(path, trials, tasks)
    raise TwinError(
        f"expected a cohort, a release, trials or synthetic:FORM, found {text!r}; check the path"
    )


def _require_use(kind: str, given: Mapping[str, object], *used: str) -> None:
    """Nothing that is given may go unused in silence."""
    unused = [name for name, value in given.items() if value and name not in used]
    if unused:
        raise TwinError(
            f"expected {' and '.join(used)} at most beside {kind}, found {', '.join(unused)}; leave"
            " that out"
        )


def _event_files(path: Path) -> list[Path]:
    """BIDS events in a folder and those below it."""
    return sorted([*path.rglob("sub-*_events.tsv"), *path.rglob("sub-*_events.tsv.gz")])


def _trials(path: Path) -> Trials:
    """Of a joined table, or of a folder of BIDS events."""
    return read_events(_event_files(path)) if path.is_dir() else read_trials(path)


def _synthetic(text: str, bold: bool) -> Study:
    form, *numbers = text.split(":")[1:]
    given = [0, 228, 100]
    try:
        for k, number in enumerate(numbers):
            given[k] = int(number)
        if form not in FORMS:
            raise ValueError(form)
    except (ValueError, IndexError) as error:
        raise TwinError(
            f"expected synthetic:FORM[:SEED[:PEOPLE[:ROIS]]] with a form {', '.join(FORMS)}, found"
            f" {text!r}"
        ) from error
    if any(found < least for found, least in zip(given, SMALLEST, strict=True)):
        raise TwinError(
            "expected synthetic:FORM[:SEED[:PEOPLE[:ROIS]]] with a seed of {} or more, at least {}"
            " people and at least {} ROIs, found {!r}".format(*SMALLEST, text)
        )
    seed, n_people, n_rois = given
    drawn = people_with_truth(form, seed=seed, n_people=n_people, n_rois=n_rois)
    study = _assembled(
        f"{n_people} simulated people, effect {form}, seed {seed}", read_trials(drawn.trials),
        (MATCHING,), drawn.people.set_index("participant"), drawn.atlas,
        dict(zip(drawn.people["participant"], drawn.edges, strict=True)),
        drawn.bold if bold else None, REGIONS if bold else (),
    )  # fmt: skip
    rows = [drawn.people["participant"].tolist().index(name) for name in study.examples.people]
    return replace(study, provenance="synthetic", again=drawn.rescan(1)[rows], truth=drawn)


def _behaviour_alone(path: Path, people: str | Path | None, tasks: Sequence[TaskSpec]) -> Study:
    trials = _trials(path)
    table = pd.DataFrame(index=list(trials.people))
    if people is not None:
        table = read_demographics(people)
    return _assembled(path.name, trials, tasks, table, None, None, None, ())


def _release(
    path: Path, tasks: Sequence[TaskSpec], regions: Sequence[str], labels: str | Path | None
) -> Study:
    from offline.twin.release import Release

    release = Release(path, None if labels is None else Atlas.load(labels).labels)
    found = release.connectivity()
    bold = release.bold(regions) if regions else None
    return _assembled(
        path.name, release.trials(), tasks, release.demographics(), release.atlas(),
        dict(zip(found.people, found.z, strict=True)), bold, regions, broken_off(found.left_out),
    )  # fmt: skip


def _cohort(path: Path, trials: str | Path | None, tasks: Sequence[TaskSpec]) -> Study:
    from offline.cohort import Cohort

    cohort = Cohort.open(path)
    if trials is None:
        raise TwinError(f"cohort {path}: expected trials beside it, found none; give --trials")
    table = cohort.people
    names = table["participant"].astype(str).str.removeprefix("sub-")
    z = np.asarray(cohort.z.read(slice(0, cohort.atlas.n_edges)), np.float64)
    places = pd.Series(np.arange(len(names))).groupby(names.to_numpy()).apply(list)
    # several scans of a person are one connectome: their mean
    edges = {name: z[rows].mean(axis=0) for name, rows in places.items()}
    first = table.set_axis(names, axis=0)
    first = first[~first.index.duplicated()].rename(columns={"diagnosis": "group"})
    columns = [name for name in ("age", "sex", "site", "group") if name in first]
    return _assembled(
        str(cohort.about.get("description") or path.name), _trials(Path(trials)), tasks,
        first[columns], cohort.atlas, edges, None, (),
    )  # fmt: skip


def _assembled(
    name: str,
    trials: Trials,
    tasks: Sequence[TaskSpec],
    people: pd.DataFrame,
    atlas: Atlas | None,
    edges: dict[str, Float64] | None,
    bold: Mapping[tuple[str, str, str], Bold] | None,
    regions: Sequence[str],
    scans_left_out: pd.DataFrame | None = None,
) -> Study:
    everyone = sorted(people.index) if len(people) else sorted(trials.people)
    # the order of a table's rows changes nothing that is learned
    included = include(trials.in_order(), tasks, everyone)
    without = unmatched(included.trials.people, people, edges)
    left = pd.concat([scans_left_out, included.table, without], ignore_index=True)
    names = [n for n in included.trials.people if n not in set(without["participant"])]
    if not names:
        needed = "usable trials" if edges is None else "usable trials and a connectome"
        raise TwinError(f"expected people with {needed}, found none: {why_nobody(left)}")
    usable = included.trials.only(names)
    present = tuple(spec for spec in tasks if any(map(spec.names, usable.table["task"].unique())))
    segments = encode(usable, present, bold=bold, regions=regions)
    numbers = {
        (task, run): segments.tasks.index(next(s.name for s in present if s.names(task)))
        * len(segments.runs)
        + segments.runs.index(run)
        for task, run in usable.table[["task", "run"]].drop_duplicates().itertuples(index=False)
    }
    return Study(
        name, "real", present, usable, examples_of(segments, names), numbers, people.loc[names],
        left, atlas, None if edges is None else np.array([edges[n] for n in names]),
    )  # fmt: skip
