"""Harmonizers on whole cohorts: fit to a folder, apply to a store, and what was done to whom.

Everybody of the cohort is in the fit. That is right for a model that new scans will be harmonized
with, and wrong before a decoder is judged: decoders fit their own harmonizer inside every fold.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from offline.cohort import Cohort
from offline.errors import HarmonizeError
from offline.harmonize.combat import ComBat
from offline.harmonize.inputs import Labels, named
from offline.harmonize.traveling import TravelingSubject
from offline.model_file import digest
from offline.store import EdgeStore

__all__ = [
    "MODEL",
    "REPORT",
    "apply_to_cohort",
    "describe",
    "fit_combat",
    "fit_traveling",
    "subjects_of",
    "write_report",
]

MODEL = "model.safetensors"
REPORT = "report.json"
EDGES = "edges"

INSIDE_FOLDS = (
    "everybody of the cohort is in this model: for a decoder give the method to `fcnef decode`,"
    " which fits it inside the folds"
)


def fit_traveling(
    cohort: Cohort, model: TravelingSubject, factors: Sequence[str] = ()
) -> TravelingSubject:
    """Fit on a cohort's sites, travelers and diagnoses.

    Parameters
    ----------
    cohort : Cohort
    model : TravelingSubject
        Unfitted.
    factors : sequence of str
        Further columns of the participants table; those the model names as measurement factors
        are added.

    Raises
    ------
    HarmonizeError
        If nobody travels, or the table has no such column.
    """
    people = cohort.people
    if not people["traveling"].any():
        raise HarmonizeError(
            f"cohort {cohort.folder}: expected traveling subjects, found none; mark their scans in"
            " the column traveling, or use ComBat"
        )
    wanted = list(dict.fromkeys([*factors, *model.measurement_factors]))
    table = _columns(people, wanted) if wanted else None
    diagnosis = people["diagnosis"].to_numpy(object) if people["diagnosis"].notna().any() else None
    if model.estimator != "joint":
        diagnosis = None
    model.fit(cohort.z, people["site"].to_numpy(object), subjects_of(people), diagnosis, table)
    model.provenance_ = _provenance(cohort)
    return model


def fit_combat(cohort: Cohort, model: ComBat, covariates: Sequence[str] = ()) -> ComBat:
    """Fit on a cohort's sites, keeping columns of its participants table."""
    people = cohort.people
    table = _columns(people, covariates) if covariates else None
    model.fit(cohort.z, people["site"].to_numpy(object), table)
    model.provenance_ = _provenance(cohort)
    return model


def apply_to_cohort(cohort: Cohort, model: ComBat | TravelingSubject, folder: Path) -> EdgeStore:
    """Write a cohort's harmonized edges into `folder`.

    Raises
    ------
    HarmonizeError
        If the folder has harmonized edges already.
    UnseenSiteError
        If the cohort has sites the model was not fitted with.
    """
    path = folder / EDGES
    if path.exists():
        raise HarmonizeError(
            f"{path}: expected no harmonized edges yet, found some; choose another folder"
        )
    people = cohort.people
    sites = people["site"].to_numpy(object)
    given: dict[str, Any] = {}
    if isinstance(model, ComBat):
        if model.covariate_names_:
            given["covariates"] = _columns(people, model.covariate_names_)
    elif model.factor_levels_:
        given["factors"] = _columns(people, list(model.factor_levels_))
    # what is refused is refused before gigabytes are written
    first = np.flatnonzero(~pd.Series(sites).duplicated())
    model.transform(
        cohort.z.read(slice(None), first),
        sites[first],
        **{name: table.iloc[first] for name, table in given.items()},
    )
    # under its name only when it is whole: edges that were not reached would be missing ones
    partial = path.with_name(f".{EDGES}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    out = EdgeStore.create(partial, len(people), cohort.atlas)
    model.transform(cohort.z, sites, out=out, **given)
    partial.rename(path)
    return EdgeStore.open(path)


def describe(model: ComBat | TravelingSubject) -> list[str]:
    """What a model is and does, a line a fact."""
    kept = named(list(model.covariate_names_), 20) or "none"
    lines = [
        f"{type(model).__name__}, {len(model.sites_)} sites: {named(list(model.sites_), 20)}",
        f"in the fit besides sites: {kept}",
    ]
    if isinstance(model, TravelingSubject):
        lines += model.report_.lines()
    else:
        how = [
            "parametric" if model.parametric else "non-parametric",
            "empirical Bayes" if model.empirical_bayes else "no empirical Bayes",
            "means only" if model.mean_only else "means and variances",
            f"reference {model.reference_site}" if model.reference_site else "no reference site",
        ]
        lines += [
            ", ".join(how),
            f"{len(model.constant_edges_)} constant edges, left as they are",
            "NOTE: differences between the sites' people are removed with those of scanners",
        ]
        own = model.provenance_.get("transductive_sites")
        if own:
            lines.append(f"TRANSDUCTIVE: {named(own)} by controls of their own")
    if model.transductive_:
        lines.append("NOTE: TRANSDUCTIVE, a site was estimated from scans to be harmonized")
    return lines


def write_report(
    folder: Path,
    cohort: Cohort,
    model: ComBat | TravelingSubject,
    model_path: Path,
    out: EdgeStore | None = None,
) -> Path:
    """Write `report.json`: the model, and what was taken off each site's scans."""
    people = cohort.people
    of_site = people.groupby("site")
    sites = [
        {
            "site": site,
            "n_scans": len(rows),
            "n_people": int(rows["participant"].nunique()),
            "n_traveling_scans": int(rows["traveling"].sum()),
            **_bias(model, str(site)),
        }
        for site, rows in of_site
    ]
    document = {
        "model": {"path": model_path.name, "sha256": digest(model_path)},
        "cohort": _provenance(cohort),
        "description": describe(model),
        "traveling_report": getattr(model, "report_", None) and model.report_.as_dict(),
        "sites": sites,
        "n_left_out_of_cohort": len(cohort.excluded),
        "harmonized": None if out is None else {"path": out.path.name, "identity": out.identity},
        "note": INSIDE_FOLDS,
    }
    path = folder / REPORT
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path


def subjects_of(people: pd.DataFrame) -> Labels:
    """Who travels, by scan; None for everybody else."""
    subjects: Labels = people["participant"].to_numpy(object, copy=True)
    subjects[~people["traveling"].to_numpy(bool)] = None
    return subjects


def _bias(model: ComBat | TravelingSubject, site: str) -> dict[str, float]:
    """Size of what is taken off scans of a site, SD over edges, Fisher z."""
    if site not in model.sites_:
        return {}
    k = model.sites_.index(site)
    if isinstance(model, TravelingSubject):
        return {
            "bias_sd": float(model.measurement_bias_[k].std()),
            "standard_error": float(np.sqrt(np.mean(model.standard_error_[k] ** 2))),
        }
    return {
        "location_sd": float((model.gamma_[k] * model.pooled_sd_).std()),
        "mean_scale": float(np.sqrt(model.delta_[k]).mean()),
    }


def _columns(people: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    absent = [name for name in names if name not in people]
    if absent:
        raise HarmonizeError(
            f"expected columns of the participants table ({named(list(people.columns), 20)}),"
            f" found {named(absent)}; check the names"
        )
    return people[list(names)]


def _provenance(cohort: Cohort) -> dict[str, Any]:
    return {
        "cohort": cohort.about["description"],
        "edges": cohort.z.identity,
        "atlas": cohort.atlas.digest,
        "n_scans": len(cohort.people),
        "n_people": int(cohort.people["participant"].nunique()),
    }
