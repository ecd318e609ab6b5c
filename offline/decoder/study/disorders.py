"""The decoders of all disorders of a cohort, on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from offline.cohort import Cohort
from offline.decoder import across_disorders
from offline.decoder.samples import MIN_SCANS
from offline.decoder.small_sites import common_sites
from offline.decoder.validation import Validation
from offline.harmonize.inputs import named
from offline.store import read_block

if TYPE_CHECKING:
    from offline.blocks import Executor

__all__ = ["disorders_table"]

LEAST_PATIENTS = MIN_SCANS // 2


def disorders_table(
    cohort: Cohort,
    validation: Validation,
    estimator: Any,
    harmonizer: Any,
    covariates: Sequence[str],
    executor: Executor | None = None,
    least: int = 1,
) -> tuple[pd.DataFrame | None, tuple[str, ...]]:
    """Every disorder's decoder on every disorder.

    Disorders of fewer than `LEAST_PATIENTS` are left out, and sites that not every decoder knows;
    both are told. All controls and people of one diagnosis alone take part; the decoder of each
    disorder is trained on its patients and all controls.

    Parameters
    ----------
    cohort : Cohort
    validation : Validation
        Of one disorder; its controls are everybody's.
    estimator, harmonizer : estimator
        Unfitted.
    covariates : sequence of str
    executor : Executor or None
    least : int
        People a site needs in the sample of every decoder.

    Returns
    -------
    tuple
        The table, None where fewer than two disorders are left; and sentences on what is not in it.
    """
    assert validation.classes is not None
    people, control = cohort.people, validation.classes[0]
    dx = people["diagnosis"].to_numpy(object)
    travels = people["traveling"].to_numpy(bool)
    before = _patients(people[~travels], control)
    enough = sorted(before.index[before >= LEAST_PATIENTS])
    shared = common_sites(people, dx, enough, control, least)
    patients = _patients(people[~travels & shared], control).reindex(before.index, fill_value=0)
    names = sorted(patients.index[patients >= LEAST_PATIENTS])
    sites = sorted(set(people["site"][~travels]) - set(people["site"][~travels & shared]))
    told = _told(patients, sites)
    if len(names) < 2:
        return None, told
    part = np.flatnonzero(travels | (shared & np.isin(dx.astype(str), [control, *names])))
    X = read_block(cohort.z, slice(None), part)
    table = people.iloc[part].reset_index(drop=True)
    dx, travels = dx[part], travels[part]
    known = {
        "sites": table["site"].to_numpy(object),
        "groups": table["participant"].to_numpy(object),
    }
    kept = table[list(covariates)] if covariates else None
    decoders = {}
    for name in names:
        rows = np.flatnonzero(travels | (dx == name) | (dx == control))
        model = clone(estimator).set_params(harmonizer=harmonizer)
        decoders[name] = model.fit(
            X[rows],
            (dx[rows] == name).astype(np.int64),
            covariates=None if kept is None else kept.iloc[rows],
            traveling=travels[rows],
            executor=executor,
            **{key: values[rows] for key, values in known.items()},
        )
    across = across_disorders(
        decoders,
        X,
        np.where(travels, control, dx),
        control=control,
        covariates=kept,
        traveling=travels,
        **known,
    )
    return across, told


def _patients(people: pd.DataFrame, control: str) -> pd.Series:
    """How many have each diagnosis and no other."""
    dx = people["diagnosis"].dropna().astype(str)
    return dx[(dx != control) & ~dx.str.contains(";")].value_counts()


def _told(patients: pd.Series, sites: list[str]) -> tuple[str, ...]:
    """What is not in the table, of a cohort of more than one disorder."""
    if len(patients) < 2:
        return ()
    told = []
    if sites:
        told.append(
            f"Not in the table of disorders, as not every decoder knows them: sites {named(sites)}."
        )
    few = patients[patients < LEAST_PATIENTS].sort_index()
    if len(few):
        listed = ", ".join(f"{name} {n}" for name, n in few.items())
        told.append(
            f"Not in the table of disorders, for fewer than {LEAST_PATIENTS} patients at the sites"
            f" that are: {listed}."
        )
    if len(patients) - len(few) < 2:
        told.append("There is no table of disorders: fewer than two are left.")
    return tuple(told)
