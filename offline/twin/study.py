"""What a twin is fitted to and judged on, from wherever it lies: connectomes beside behaviour.

A source is a cohort's folder with a table of trials, the folder of the public release, a table of
trials alone (then nothing that needs connectomes is measured), or simulated people:

    synthetic:FORM[:SEED[:PEOPLE[:ROIS]]]      such as synthetic:gated:1:228:100
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.errors import TwinError
from offline.twin.behaviour import include
from offline.twin.examples import Examples, examples_of
from offline.twin.synthetic import FORMS, SyntheticPeople, people_with_truth
from offline.twin.synthetic_runs import REGIONS
from offline.twin.tables import read_demographics
from offline.twin.tasks import MATCHING, STROOP, Bold, TaskSpec, encode
from offline.twin.trials import Trials, read_trials

__all__ = ["Study", "known", "open_study", "shown"]

Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]


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
        A cohort, a folder of the release, a table of trials, or `synthetic:…`.
    trials : str, Path or None
        Table of trials, for a cohort.
    people : str, Path or None
        Participants table, for a table of trials alone.
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
        If the source is none of these, or nobody is left.
    CohortError, TaskError, AtlasError
        If a file is not what it should be.
    """
    text = str(source)
    if text.startswith("synthetic:"):
        return _synthetic(text, bold)
    path = Path(source)
    if path.is_file():
        return _behaviour_alone(path, people, tasks)
    if (path / "participants.tsv").is_file():
        return _release(path, tasks, regions, labels)
    if path.is_dir():
        return _cohort(path, trials, tasks)
    raise TwinError(
        f"expected a cohort, a release, a table of trials or synthetic:FORM, found {text!r}; check"
        " the path"
    )


def shown(examples: Examples, keep: Bools) -> Examples:
    """What is to be done: only trials kept are trials; segments that nobody needs are left out.

    Parameters
    ----------
    examples : Examples
    keep : ndarray of bool, shape (n_people, n_segments, n_slots)
    """
    some = replace(
        examples,
        onset=np.where(keep, examples.onset, -1),
        end=np.where(keep, examples.end, -1),
        condition=np.where(keep, examples.condition, -1),
    )
    return _columns(some, keep)


def known(examples: Examples, keep: Bools) -> Examples:
    """What was done: responses of trials kept, of all others nothing is known."""
    some = replace(
        examples,
        log_rt=np.where(keep, examples.log_rt, np.nan),
        choice=np.where(keep, examples.choice, -1),
        response_step=np.where(keep, examples.response_step, -1),
        bold=np.full_like(examples.bold, np.nan),
    )
    return _columns(some, keep)


def _columns(examples: Examples, keep: Bools) -> Examples:
    needed = np.flatnonzero(keep.any(axis=(0, 2)))
    if not len(needed):
        raise TwinError("expected a trial of somebody, found none; keep some")
    return examples.parts(np.broadcast_to(needed, (len(examples.people), len(needed))))


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
    trials = read_trials(path)
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
        dict(zip(found.people, found.z, strict=True)), bold, regions,
    )  # fmt: skip


def _cohort(path: Path, trials: str | Path | None, tasks: Sequence[TaskSpec]) -> Study:
    from offline.cohort import Cohort

    cohort = Cohort.open(path)
    if trials is None:
        raise TwinError(
            f"cohort {path}: expected a table of trials beside it, found none; give --trials"
        )
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
        str(cohort.about.get("description") or path.name), read_trials(trials), tasks,
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
) -> Study:
    everyone = people.index if len(people) else trials.people
    included = include(trials, tasks, everyone)
    left = included.table
    names = [n for n in included.trials.people if n in people.index]
    if edges is not None:
        lacking = [n for n in names if n not in edges or not np.isfinite(edges[n]).all()]
        why = ["no connectome" if n not in edges else "an ROI without signal" for n in lacking]
        rows = [(n, "n/a", "n/a", "person", w, "") for n, w in zip(lacking, why, strict=True)]
        left = pd.concat([left, pd.DataFrame(rows, columns=left.columns)], ignore_index=True)
        names = [n for n in names if n not in set(lacking)]
    if not names:
        raise TwinError(
            "expected people with usable trials and a connectome, found none; names of the two"
            " tables may differ"
        )
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
