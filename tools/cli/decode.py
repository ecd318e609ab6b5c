"""`fcnef decode`: what a cohort's connectivity tells of a diagnosis, a state or a number."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cyclopts
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.blocks import open_executor
from offline.cohort import Cohort
from offline.cohort.exclusion import by_reason
from offline.decoder.outputs import UnseenSite
from offline.decoder.small_sites import least_people, require_people, without_small_sites
from offline.decoder.study import (
    Chosen,
    Harmonizer,
    Selector,
    choose,
    disorders_table,
    make_decoder,
    make_harmonizer,
    write_study,
)
from offline.decoder.validate import validate
from offline.decoder.validation import Validation
from offline.numerals import counted
from offline.report import roi_coordinates
from offline.report.words import verdict

__all__ = ["decode"]


@cyclopts.Parameter(name="*")
@dataclass(frozen=True)
class Recipe:
    """How the decoder is made.

    Parameters
    ----------
    selector
        Ensemble of sparse models, or principal components.
    harmonizer
        Fitted inside every training set; never sees the target.
    covariates
        Columns the harmonizer shall keep; may not tell the target.
    draws
        Draws of equal classes in each of ten folds (lasso).
    within_person
        Tell states of one person (before and after treatment) apart: needs repeated scans.
    seed
        Of folds, draws and permutations.
    """

    selector: Selector = "lasso"
    harmonizer: Harmonizer = "combat"
    covariates: Annotated[list[str] | None, cyclopts.Parameter(consume_multiple=True)] = None
    draws: int = 10
    within_person: bool = False
    seed: int = 0


@cyclopts.Parameter(name="*")
@dataclass(frozen=True)
class Judging:
    """How it is judged.

    Parameters
    ----------
    permutations
        Runs of the whole procedure on permuted labels.
    unseen_site
        What happens to scans of a site left out of training: left as measured, harmonized by the
        site's traveling scans, or by its own controls (transductive, and said so).
    disorders
        With several diagnoses, also apply the decoder of each to all of them.
    """

    permutations: int = 100
    unseen_site: UnseenSite = "unharmonized"
    disorders: bool = True


@cyclopts.Parameter(name="*")
@dataclass(frozen=True)
class Running:
    """Where it runs and what it leaves.

    Parameters
    ----------
    out
        Folder of report, tables and model; `decode-TARGET` if not given. The same call goes on
        after an interruption.
    coordinates
        Table of the ROIs with columns x, y, z (mm), for the pictures of the brain.
    labels
        Label image of the atlas, instead of x, y, z.
    scheduler
        Address of a Dask scheduler (`tcp://host:8786`); this machine if not given.
    workers
        Runs at the same time on this machine; all processors if not given.
    """

    out: Path | None = None
    coordinates: Path | None = None
    labels: Path | None = None
    scheduler: str | None = None
    workers: int | None = None


def decode(
    cohort: Path,
    /,
    *,
    target: str,
    positive: str | None = None,
    negative: str | None = None,
    min_people_per_site: int = 1,
    recipe: Annotated[Recipe, cyclopts.Parameter(name="*")] = Recipe(),
    judging: Annotated[Judging, cyclopts.Parameter(name="*")] = Judging(),
    running: Annotated[Running, cyclopts.Parameter(name="*")] = Running(),
) -> None:
    """Train a decoder on a cohort, judge it, and write what may be claimed.

    Parameters
    ----------
    cohort
        A cohort made by `fcnef cohort`.
    target
        Column of the participants table: diagnosis, sex, age, a symptom score, session.
    positive
        Value counted as positive.
    negative
        Value it is told from; the controls for a diagnosis.
    min_people_per_site
        Leave sites with fewer people of the sample out altogether; who that is goes into the
        report's exclusions.

    Example
    -------
    fcnef decode my-cohort --target diagnosis --positive MDD --covariates age sex
    fcnef decode my-cohort --target age --harmonizer combat --permutations 200
    """
    opened = Cohort.open(cohort)
    chosen, small = without_small_sites(
        choose(opened, target, positive, negative), min_people_per_site
    )
    covariates = recipe.covariates or []
    harmonizer = make_harmonizer(recipe.harmonizer, chosen, covariates, target)
    require_people(chosen, harmonizer)
    estimator = make_decoder(
        recipe.selector,
        chosen.positive is not None,
        seed=recipe.seed,
        draws=recipe.draws,
        within_person=recipe.within_person,
    )
    coordinates = roi_coordinates(opened.atlas, running.coordinates, running.labels)
    out = running.out or Path(f"decode-{target}")
    what = f"{chosen.positive} from {chosen.negative}" if chosen.positive else target
    _say(
        f"{what}: {counted(len(chosen.people), 'scan')} x {opened.atlas.n_edges:,} edges; one run,"
        f" then each site left out and {counted(judging.permutations, 'permutation')}"
    )
    for line in chosen.told:
        _say(line)
    with open_executor(running.scheduler, running.workers) as executor:
        found = validate(
            chosen.X,
            chosen.y,
            chosen.people,
            estimator,
            harmonizer,
            executor,
            judging.permutations,
            recipe.seed,
            target=target,
            positive=chosen.positive,
            covariates=covariates,
            unseen_site=judging.unseen_site,
            checkpoint=out / "work",
            say=_say,
        )
        if judging.disorders and target == "diagnosis":
            least = max(min_people_per_site, least_people(harmonizer, categorical=True))
            table, told = disorders_table(
                opened, found, estimator, harmonizer, covariates, executor, least
            )
            found = dataclasses.replace(found, disorders=table, notes=(*found.notes, *told))
    found = dataclasses.replace(
        found, settings={**found.settings, "min_people_per_site": min_people_per_site}
    )
    title = f"Decoding {target}" + (f": {what}" if chosen.positive else "")
    _told(found, _written(found, opened, chosen, small, title, coordinates, out))


def _written(
    found: Validation,
    opened: Cohort,
    chosen: Chosen,
    small: pd.DataFrame,
    title: str,
    coordinates: NDArray[np.float64] | None,
    out: Path,
) -> Path:
    """Report and tables of a judged decoder; where the report is."""
    left_out = pd.concat([opened.excluded, small], ignore_index=True)
    about = opened.about["description"]
    report = write_study(
        found,
        out,
        atlas=opened.atlas,
        coordinates=coordinates,
        title=title,
        excluded=by_reason(left_out),
        notes=(f"Cohort {opened.folder.name}: {about}", *chosen.told),
        source={"cohort": about, "atlas": opened.atlas.digest},
    )
    left_out.to_csv(out / "tables" / "excluded.tsv", sep="\t", index=False)
    return report


def _told(found: Validation, report: Path) -> None:
    """What may be claimed, and where the report is."""
    for line in found.warnings:
        print(f"WARNING: {line}")
    for line in found.notes:
        print(f"NOTE: {line}")
    said = verdict(found)
    print(said.sentence)
    print(said.reading.strip())
    print(report)


def _say(text: str) -> None:
    print(text, flush=True)
