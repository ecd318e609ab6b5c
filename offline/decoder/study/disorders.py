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
from offline.store import read_block

if TYPE_CHECKING:
    from offline.blocks import Executor

__all__ = ["disorders_table"]


def disorders_table(
    cohort: Cohort,
    validation: Validation,
    estimator: Any,
    harmonizer: Any,
    covariates: Sequence[str],
    executor: Executor | None = None,
    least: int = 1,
) -> pd.DataFrame | None:
    """Every disorder's decoder on every disorder; None where there is one disorder only.

    Disorders of fewer than `MIN_SCANS` / 2 patients are left out, and sites that not every decoder
    knows. All controls and people of one diagnosis alone take part; the decoder of each disorder
    is trained on its patients and all controls.

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
    """
    assert validation.classes is not None
    people, control = cohort.people, validation.classes[0]
    dx = people["diagnosis"].to_numpy(object)
    travels = people["traveling"].to_numpy(bool)
    names = _disorders(people[~travels], control)
    shared = common_sites(people, dx, names, control, least)
    names = _disorders(people[~travels & shared], control)
    if len(names) < 2:
        return None
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
    return across_disorders(
        decoders,
        X,
        np.where(travels, control, dx),
        control=control,
        covariates=kept,
        traveling=travels,
        **known,
    )


def _disorders(people: pd.DataFrame, control: str) -> list[str]:
    """Diagnoses that enough people have by themselves."""
    counts = people["diagnosis"].value_counts()
    return sorted(
        str(d)
        for d, n in counts.items()
        if d != control and ";" not in str(d) and n >= MIN_SCANS / 2
    )
