"""What an edit does to people's twins, person by person, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from offline.errors import TwinError

__all__ = ["LEVEL", "NO_INTERVAL", "Intervention", "jackknife", "mean_of_known", "normal_interval"]

LEVEL = 0.90
FEWEST_FOLDS = 3
NO_INTERVAL = "no interval: fewer than three folds were trained without the person"

Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Intervention:
    """What an edit does to people's twins.

    Attributes
    ----------
    people : tuple of str
    edges : ndarray of int64, shape (n,)
    delta_z : ndarray of float64, shape (n_people, n)
        As asked for.
    targets : tuple of str
        Rows: RT and responses, over all trials and each condition.
    before : ndarray of float64, shape (n_targets, n_people)
        Mean over members; RT in s, responses in the unit of BOLD.
    members : ndarray of float64, shape (n_targets, n_members, n_people)
        Change; NaN where a member was trained with the person, or the edit is refused.
    change, low, high : ndarray of float64, shape (n_targets, n_people)
        Mean over members, and 90 % interval; without backgrounds none with fewer than three folds
        to tell.
    agreement : ndarray of float64, shape (n_targets, n_people)
        Share of members with the sign of the change.
    others : ndarray of float64, shape (n_people,)
        Largest change of an edge not edited, Fisher z: the price of a valid matrix.
    refused : tuple of str
        Why a person has no prediction; "" where they have.
    """

    people: tuple[str, ...]
    edges: Ints
    delta_z: Float64
    targets: tuple[str, ...]
    before: Float64
    members: Float64
    change: Float64
    low: Float64
    high: Float64
    agreement: Float64
    others: Float64
    refused: tuple[str, ...]

    def row(self, target: str) -> int:
        """Place of a target.

        Raises
        ------
        TwinError
            If it is not among `targets`.
        """
        if target not in self.targets:
            raise TwinError(
                f"expected one of the targets {', '.join(self.targets)}, found {target!r}"
            )
        return self.targets.index(target)

    def table(self) -> pd.DataFrame:
        """One row a person and target: `person`, `target`, `before`, `change`, `low`, `high`,
        `agreement`, `others`, `refused`."""
        n_targets, n_people = self.before.shape
        return pd.DataFrame(
            {
                "person": np.tile(np.array(self.people, object), n_targets),
                "target": np.repeat(np.array(self.targets, object), n_people),
                "before": self.before.ravel(),
                "change": self.change.ravel(),
                "low": self.low.ravel(),
                "high": self.high.ravel(),
                "agreement": self.agreement.ravel(),
                "others": np.tile(self.others, n_targets),
                "refused": np.tile(np.array(self.refused, object), n_targets),
            }
        )


def jackknife(members: Float64, folds: Ints) -> tuple[Float64, Float64, Float64]:
    """Mean over members and its 90 % interval, by folds.

    Parameters
    ----------
    members : ndarray of float64, shape (..., n_members, n_people)
        NaN where a member does not tell.
    folds : ndarray of int64, shape (n_members,)
        The fold each member left out.

    Returns
    -------
    tuple of ndarray of float64, each (..., n_people)
        Mean, low, high; the last two NaN where fewer than three folds tell.
    """
    names = np.unique(folds)
    means = np.stack([mean_of_known(members[..., folds == fold, :]) for fold in names], axis=-2)
    n = np.isfinite(means).sum(axis=-2)
    value = mean_of_known(means)
    squares = np.nansum((means - value[..., None, :]) ** 2, axis=-2)
    enough = n >= FEWEST_FOLDS
    free = np.maximum(n - 1, 1)
    error = np.sqrt(free / np.maximum(n, 1) * squares)
    reach = stats.t.ppf(0.5 + LEVEL / 2.0, free) * error
    low, high = value - reach, value + reach
    return value, np.where(enough, low, np.nan), np.where(enough, high, np.nan)


def normal_interval(members: Float64, variance: Float64) -> tuple[Float64, Float64, Float64]:
    """Mean over members and its 90 % interval, by each member's own variance.

    Members share most people: their errors are nearly one error, which averaging does not lessen,
    and by which they differ is part of it. So the variance is the members' mean one.

    Parameters
    ----------
    members, variance : ndarray of float64, shape (..., n_members, n_people)
        NaN where a member does not tell.

    Returns
    -------
    tuple of ndarray of float64, each (..., n_people)
    """
    value = mean_of_known(members)
    reach = stats.norm.ppf(0.5 + LEVEL / 2.0) * np.sqrt(mean_of_known(variance))
    return value, value - reach, value + reach


def mean_of_known(values: Float64) -> Float64:
    """Mean over members, the last axis but one, of what is there; NaN where nothing is."""
    n = np.isfinite(values).sum(axis=-2)
    return np.where(n > 0, np.nansum(values, axis=-2) / np.maximum(n, 1), np.nan)
