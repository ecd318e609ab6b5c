"""Refusals: what would let a decoder be judged with what it was trained on.

Three ways are closed here. A harmonizer that is told the target, or something the target can be
told from, writes the target into the edges: with no true effect and prevalences that differ by
site, ComBat that keeps the label reaches a pooled AUC of .92. Traveling scans are the same few
people many times. And a person must not be in training and test at once.

**When covariates determine a target.** A covariate is refused if (1) it is the target under
another name or coding: every level of a categorical one has one value of the target; (2) a
threshold on a continuous one separates the classes without error, or its correlation with a
continuous target is at least .99 in size; (3) the combination of all categorical ones does so,
unless its cells hold fewer than five people on average, where that happens by chance; or (4) the
target is a linear combination of all of them (levels as indicators), which is what a harmonizer
that keeps covariates would keep. A covariate that is related to the target, but does not
determine it (age in most samples), is allowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offline.errors import LeakageError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["design_of", "refuse_determined_target", "refuse_traveling"]

MIN_CELL_PEOPLE = 5.0
ALMOST_ONE = 0.99
EXACT = 1e-9

Float64 = NDArray[np.float64]


def refuse_traveling(people: NDArray[Any], sites: NDArray[Any]) -> None:
    """Refuse people who were scanned at several sites among the training samples.

    Parameters
    ----------
    people, sites : ndarray, shape (n_scans,)

    Raises
    ------
    LeakageError
        Naming how many there are.
    """
    where: dict[Any, set[Any]] = {}
    for person, site in zip(people.tolist(), sites.tolist(), strict=True):
        where.setdefault(person, set()).add(site)
    travelers = sum(len(at) > 1 for at in where.values())
    if travelers:
        raise LeakageError(
            f"expected every person at one site, found {travelers} scanned at several; traveling"
            " scans take no part in training: give `traveling`, True for them (False for people"
            " who moved)"
        )


def refuse_determined_target(
    covariates: pd.DataFrame, y: NDArray[Any], categorical: bool, name: str | None = None
) -> None:
    """Refuse covariates that contain or determine the target; the module says when they do.

    Parameters
    ----------
    covariates : pandas.DataFrame, shape (n_scans, n_covariates)
        Numeric columns are continuous, others categorical. Missing values are left out here.
    y : ndarray, shape (n_scans,)
        Class numbers, or a continuous target.
    categorical : bool
        Whether the target is one of classes.
    name : str or None
        The target's name, if it has one.

    Raises
    ------
    LeakageError
        Naming the covariate.
    """
    y = np.asarray(y, np.float64)
    if name is not None and name in covariates.columns:
        raise _refusal(f"{name!r}, the target itself")
    levels = []
    for column in covariates.columns:
        values = covariates[column]
        known = values.notna().to_numpy(bool)
        if _is_numeric(values):
            found = values.to_numpy(np.float64, na_value=np.nan)[known]
            determined = _separates(found, y[known], categorical)
        else:
            named = values.to_numpy(object)
            codes = _codes([named[known]])
            determined = len(codes) > 0 and _tells(codes, y[known])
            levels.append(
                np.array([v if k else None for v, k in zip(named, known, strict=True)], object)
            )
        if determined:
            raise _refusal(f"{column!r}, which determines it")
    if len(levels) > 1:
        codes = _codes(levels)
        if len(y) >= MIN_CELL_PEOPLE * (codes.max() + 1) and _tells(codes, y):
            raise _refusal("a combination of categorical ones that determines it")
    if len(covariates.columns) and _spans(covariates, y):
        raise _refusal(f"{', '.join(map(repr, covariates.columns))}, which add up to it")


def _refusal(what: str) -> LeakageError:
    return LeakageError(
        f"expected covariates of a harmonizer that do not tell the target, found {what}; take it"
        " out of `covariates`"
    )


def _is_numeric(values: pd.Series) -> bool:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return bool(is_numeric_dtype(values) and not is_bool_dtype(values))


def _codes(columns: list[NDArray[Any]]) -> NDArray[np.int64]:
    """Number of each row's combination of levels."""
    known: dict[Any, int] = {}
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return np.array([known.setdefault(row, len(known)) for row in rows], np.int64)


def _tells(codes: NDArray[np.int64], y: Float64) -> bool:
    """Whether all of a level have one value of the target, and levels differ in it."""
    if np.ptp(y) == 0.0:
        return False
    low = np.full(codes.max() + 1, np.inf)
    high = np.full(codes.max() + 1, -np.inf)
    np.minimum.at(low, codes, y)
    np.maximum.at(high, codes, y)
    return bool(np.all(low == high))


def _separates(values: Float64, y: Float64, categorical: bool) -> bool:
    if len(y) < 3 or np.ptp(y) == 0.0 or np.ptp(values) == 0.0:
        return False
    if not categorical:
        return bool(abs(np.corrcoef(values, y)[0, 1]) >= ALMOST_ONE)
    for label in np.unique(y):
        inside, outside = values[y == label], values[y != label]
        if inside.min() > outside.max() or inside.max() < outside.min():
            return True
    # a number can be a code: two levels of which each has one class
    few = len(np.unique(values)) <= 20
    return few and _tells(np.unique(values, return_inverse=True)[1], y)


def design_of(covariates: pd.DataFrame) -> Float64:
    """Intercept, numeric columns and indicators of levels but the first, shape (n_scans, n)."""
    columns = [np.ones(len(covariates))]
    for column in covariates.columns:
        values = covariates[column]
        if _is_numeric(values):
            columns.append(values.to_numpy(np.float64, na_value=np.nan))
        else:
            codes = _codes([values.to_numpy(object)])
            columns += [(codes == level).astype(np.float64) for level in range(1, codes.max() + 1)]
    return np.stack(columns, axis=1)


def _spans(covariates: pd.DataFrame, y: Float64) -> bool:
    """Whether the target is a linear combination of the covariates."""
    known = covariates.notna().all(axis=1).to_numpy(bool)
    y = y[known]
    if not len(y) or np.ptp(y) == 0.0:
        return False
    design = design_of(covariates[known])
    if len(y) < 2 * design.shape[1]:
        return False
    design[:, 1:] -= design[:, 1:].mean(axis=0)
    size = np.linalg.norm(design, axis=0)
    design /= np.where(size > 0.0, size, 1.0)
    y = y - y.mean()
    left = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return bool(left @ left <= EXACT * (y @ y))
