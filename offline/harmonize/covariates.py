"""What shall survive harmonization, as columns of a design: numbers as they are, text one-hot.

A categorical covariate's first level (sorted, or the first of a pandas Categorical) is its
reference and has no column; which one it is changes no harmonized value. The same table of
columns, levels and scales is used for new scans: a level that was not there is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.errors import DesignError, HarmonizeError
from offline.harmonize.inputs import labels_or_none, named

__all__ = ["Covariates"]

COLLINEAR = 1e-8
"""Share of a column's norm that has to be left beside sites and the columns before it."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Covariates:
    """Covariates as they were when the model was fitted.

    Attributes
    ----------
    names : tuple of str
        Columns of the table, in its order.
    scales : dict
        Mean and SD of each continuous one, which keep the arithmetic well conditioned.
    levels : dict
        Levels of each categorical one, reference first.
    """

    names: tuple[str, ...] = ()
    scales: dict[str, tuple[float, float]] = field(default_factory=dict)
    levels: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def learn(cls, table: Any, n_scans: int) -> Self:
        """Look at the covariates of the scans a model is fitted with.

        Raises
        ------
        HarmonizeError
            If a value is missing, or the table has another number of rows.
        DesignError
            If a covariate does not differ between scans.
        """
        if table is None:
            return cls()
        frame = _frame(table, n_scans)
        scales: dict[str, tuple[float, float]] = {}
        levels: dict[str, list[str]] = {}
        for name in frame.columns:
            if _is_number(frame[name]):
                values = _numbers(frame[name], name)
                scales[name] = (float(values.mean()), float(values.std()))
                differs = scales[name][1] > 1e-12 * max(1.0, abs(scales[name][0]))
            else:
                found = _texts(frame[name], name)
                levels[name] = _ordered(frame[name], found)
                differs = len(levels[name]) > 1
            if not differs:
                raise DesignError(
                    f"expected covariate {name} to differ between scans, found"
                    f" {frame[name].iloc[0]} in all; leave it out"
                )
        return cls(tuple(frame.columns), scales, levels)

    @property
    def columns(self) -> list[str]:
        """Name of each column of the design, `sex=M` for a level."""
        out = []
        for name in self.names:
            out += [name] if name in self.scales else [f"{name}={v}" for v in self.levels[name][1:]]
        return out

    def design(self, table: Any, n_scans: int) -> Float64:
        """Columns for some scans, shape (n_scans, n_columns).

        Raises
        ------
        HarmonizeError
            If the table has other columns than the model, a missing value or an unseen level.
        """
        if table is None and not self.names:
            return np.zeros((n_scans, 0))
        frame = _frame(table, n_scans) if table is not None else pd.DataFrame()
        if set(frame.columns) != set(self.names):
            raise HarmonizeError(
                "expected the covariates the model was fitted with"
                f" ({named(self.names) or 'none'}), found {named(list(frame.columns)) or 'none'};"
                " give the same columns"
            )
        columns = [np.zeros((n_scans, 0))]
        for name in self.names:
            if name in self.scales:
                mean, sd = self.scales[name]
                columns.append(((_numbers(frame[name], name) - mean) / sd)[:, None])
                continue
            texts, known = _texts(frame[name], name), self.levels[name]
            unseen = sorted(set(texts) - set(known))
            if unseen:
                raise HarmonizeError(
                    f"expected levels of {name} the model was fitted with ({named(known)}), found"
                    f" {named(unseen)}; fit with scans of that level or leave these out"
                )
            columns.append((texts[:, None] == np.array(known[1:], object)).astype(np.float64))
        return np.hstack(columns)

    def require_independent(self, centred: Float64) -> None:
        """Refuse covariates that sites, or other covariates, determine.

        Parameters
        ----------
        centred : ndarray of float64, shape (n_scans, n_columns)
            Columns of the design, each site's mean taken out.
        """
        kept: list[Float64] = []
        for name, column in zip(self.columns, centred.T, strict=True):
            scale = np.sqrt(len(column))
            if np.linalg.norm(column) < COLLINEAR * scale:
                raise DesignError(
                    f"expected covariate {name} to vary within sites, found one value in each:"
                    " it is confounded with site; leave it out"
                )
            rest = column.copy()
            for other in kept * 2:  # twice is enough against rounding
                rest -= other * (other @ rest)
            if np.linalg.norm(rest) < COLLINEAR * np.linalg.norm(column):
                raise DesignError(
                    f"expected independent covariates, found {name} determined by site and"
                    f" {named(self.columns[: len(kept)])}; leave it out"
                )
            kept.append(rest / np.linalg.norm(rest))

    def as_json(self) -> dict[str, Any]:
        """What a model's header keeps."""
        return {"names": list(self.names), "scales": self.scales, "levels": self.levels}

    @classmethod
    def from_json(cls, entries: dict[str, Any]) -> Self:
        """The covariates `as_json` wrote."""
        scales = {name: (pair[0], pair[1]) for name, pair in entries["scales"].items()}
        return cls(tuple(entries["names"]), scales, entries["levels"])


def _frame(table: Any, n_scans: int) -> pd.DataFrame:
    if not isinstance(table, pd.DataFrame):
        raise HarmonizeError(
            f"expected covariates as a pandas.DataFrame, found {type(table).__name__}; name the"
            " columns"
        )
    if len(table) != n_scans:
        raise HarmonizeError(
            f"expected covariates of {n_scans} scans, found {len(table)} rows; give one a scan"
        )
    return table.rename(columns=str)


def _is_number(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _numbers(values: pd.Series, name: str) -> Float64:
    numbers: Float64 = values.astype("Float64").to_numpy(np.float64, na_value=np.nan)
    _require_all(np.isfinite(numbers), name)
    return numbers


def _texts(values: pd.Series, name: str) -> NDArray[np.object_]:
    texts = labels_or_none(values, len(values), f"covariate {name}")
    _require_all(np.array([text is not None for text in texts]), name)
    return texts


def _require_all(there: NDArray[np.bool_], name: str) -> None:
    if not there.all():
        raise HarmonizeError(
            f"expected covariate {name} of every scan, found none for {int(np.sum(~there))} (first:"
            f" scan {int(np.argmin(there))}); fill it in or leave these scans out"
        )


def _ordered(values: pd.Series, texts: NDArray[np.object_]) -> list[str]:
    """Levels that occur, in the order of a Categorical or sorted."""
    present = set(texts)
    if isinstance(values.dtype, pd.CategoricalDtype):
        return [str(level) for level in values.cat.categories if str(level) in present]
    return sorted(present)
