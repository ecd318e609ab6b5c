"""`fcnef harmonize`: take out of a cohort's connectivity what its scanners put in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import cyclopts

from offline.cohort import Cohort
from offline.errors import HarmonizeError
from offline.harmonize import ComBat, TravelingSubject, load
from offline.harmonize.cohorts import (
    INSIDE_FOLDS,
    MODEL,
    apply_to_cohort,
    describe,
    fit_combat,
    fit_traveling,
    subjects_of,
    write_report,
)

__all__ = ["harmonize"]

harmonize = cyclopts.App(
    name="harmonize",
    help="Estimate what scanners add to connectivity, take it out, say what was done.",
    help_epilogue="Example:\n\n```text\nfcnef harmonize fit my-cohort --out harmonizer\n```",
)


@cyclopts.Parameter(name="*")
@dataclass(frozen=True)
class Traveling:
    """Options of the traveling-subject method.

    Parameters
    ----------
    estimator
        Travelers and residents in one model, or travelers alone (needs no diagnosis).
    penalty
        Of the ridge; by cross-validation if not given.
    control
        Diagnosis of controls.
    factor
        Further column of the participants table that enters the model and stays in the data.
    measurement_factor
        Column that describes the measurement and is removed (a protocol, a direction).
    """

    estimator: Literal["joint", "traveling_only"] = "joint"
    penalty: float | None = None
    control: str = "control"
    factor: tuple[str, ...] = ()
    measurement_factor: tuple[str, ...] = ()

    def model(self) -> TravelingSubject:
        penalty: Literal["gcv"] | float = "gcv" if self.penalty is None else self.penalty
        return TravelingSubject(penalty, self.estimator, self.control, self.measurement_factor)


@cyclopts.Parameter(name="*")
@dataclass(frozen=True)
class Combat:
    """Options of ComBat.

    Parameters
    ----------
    covariate
        Column of the participants table to be kept, such as age. A decoder refuses a model that
        keeps its target.
    reference_site
        Site that is left as it is.
    mean_only
        Leave variances as they are.
    parametric
        `--no-parametric` takes the edges themselves as prior; slow beyond 10,000 edges.
    empirical_bayes
        `--no-empirical-bayes` takes every site's estimates as they are.
    """

    covariate: tuple[str, ...] = ()
    reference_site: str | None = None
    mean_only: bool = False
    parametric: bool = True
    empirical_bayes: bool = True

    def model(self) -> ComBat:
        return ComBat(self.parametric, self.empirical_bayes, self.mean_only, self.reference_site)


@harmonize.command
def fit(
    cohort: Path,
    /,
    *,
    out: Path,
    method: Literal["traveling", "combat"] = "traveling",
    traveling: Annotated[Traveling, cyclopts.Parameter(name="*")] = Traveling(),
    combat: Annotated[Combat, cyclopts.Parameter(name="*")] = Combat(),
) -> None:
    """Estimate what the scanners of a cohort add.

    Parameters
    ----------
    cohort
        Folder of the cohort; scans of travelers are marked in its column traveling.
    out
        Folder for `model.safetensors` and `report.json`.
    method
        By traveling subjects, or ComBat, which needs none and also removes what distinguishes
        the sites' people.

    Example
    -------
    fcnef harmonize fit my-cohort --out harmonizer
    """
    people = Cohort.open(cohort)
    model: ComBat | TravelingSubject
    if method == "traveling":
        _require_default(combat, Combat(), "combat")
        model = fit_traveling(people, traveling.model(), traveling.factor)
    else:
        _require_default(traveling, Traveling(), "traveling")
        model = fit_combat(people, combat.model(), combat.covariate)
    path = model.save(out / MODEL)
    write_report(out, people, model, path)
    print(f"{path}:")
    _tell(model)


@harmonize.command
def apply(cohort: Path, model: Path, /, *, out: Path) -> None:
    """Harmonize a cohort's scans with a model, into a store of their own.

    Parameters
    ----------
    cohort
        Folder of the cohort; its sites have to be among the model's.
    model
        Folder of `fit`, or the `model.safetensors` in it.
    out
        Folder for `edges` and `report.json`.

    Example
    -------
    fcnef harmonize apply my-cohort harmonizer --out harmonized
    """
    model = _file(model)
    people, fitted = Cohort.open(cohort), load(model)
    store = apply_to_cohort(people, fitted, out)
    write_report(out, people, fitted, model, store)
    print(f"{store.path}: {store.shape[0]} scans x {store.shape[1]:,} edges harmonized")
    print(f"  {INSIDE_FOLDS}")


@harmonize.command
def extend(
    model: Path, cohort: Path, /, *, out: Path, by: Literal["travelers", "controls"] = "travelers"
) -> None:
    """Add a cohort's sites to a model, by traveling scans or by controls of their own.

    Parameters
    ----------
    model
        Folder of `fit`, or the `model.safetensors` in it.
    cohort
        Folder of a cohort with scans at the new sites: travelers' with `--by travelers`; with
        `--by controls` resident controls (or undiagnosed ones) at sites the model does not know,
        which makes the model transductive and is marked so.
    out
        The new model.
    by
        What the new sites are known by.

    Example
    -------
    fcnef harmonize extend harmonizer new-site --out extended.safetensors
    """
    model = _file(model)
    fitted, people = load(model), Cohort.open(cohort)
    table = people.people
    if by == "travelers":
        if not isinstance(fitted, TravelingSubject):
            raise HarmonizeError("expected a traveling-subject model, found ComBat; see --by")
        rows = table["traveling"].to_numpy(bool).nonzero()[0]
        chosen = table.iloc[rows]
        fitted.extend(people.z.read(slice(None), rows), chosen["site"], subjects_of(chosen))
    else:
        control = getattr(fitted, "control", "control")
        new = ~table["site"].isin(fitted.sites_) & ~table["traveling"]
        new &= table["diagnosis"].isna() | (table["diagnosis"] == control)
        rows = new.to_numpy(bool).nonzero()[0]
        chosen = table.iloc[rows]
        given = (people.z.read(slice(None), rows), chosen["site"])
        if isinstance(fitted, ComBat):
            kept = chosen[list(fitted.covariate_names_)] if fitted.covariate_names_ else None
            fitted.reference_controls(*given, kept)
        else:
            fitted.reference_controls(*given)
    path = fitted.save(out)
    print(f"{path}:")
    _tell(fitted)


@harmonize.command
def report(model: Path, /) -> None:
    """Print what a model is, what it found and what a reader has to know.

    Parameters
    ----------
    model
        Folder of `fit`, or a model's file.

    Example
    -------
    fcnef harmonize report harmonizer
    """
    _tell(load(_file(model)))


def _require_default(given: object, default: object, method: str) -> None:
    if given != default:
        raise HarmonizeError(
            f"expected options of the chosen method, found some of {method}; add --method {method}"
        )


def _file(model: Path) -> Path:
    """A model's file, given that or the folder of `fit`."""
    return model / MODEL if model.is_dir() else model


def _tell(model: ComBat | TravelingSubject) -> None:
    for line in describe(model):
        print(f"  {line}")
