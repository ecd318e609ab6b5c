"""The traveling-subject model as columns and constraints, declared in one place.

    x = m[site] + p[participant] + d[disorder] + s[site] or s[site, disorder] + c + e

`traveling_blocks` lists the factors of Yamashita et al. 2019 (doi:10.1371/journal.pbio.3000042)
and whatever further factors a table holds; each `Block` says which scans it concerns, whether
its levels sum to zero and whether it belongs to the measurement. `Design` puts them side by side.
`travel_parts` tells whether traveling subjects connect the sites at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.errors import DesignError, HarmonizeError
from offline.harmonize.inputs import Labels, labels_or_none, named

__all__ = [
    "Block",
    "Design",
    "factor_blocks",
    "factor_columns",
    "require_connected",
    "travel_parts",
    "traveling_blocks",
]

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Block:
    """One factor of the model.

    Attributes
    ----------
    name : str
        `site`, `participant`, `disorder`, `sampling:control`, `constant` or the factor's own.
    levels : tuple of str
        One a column.
    columns : ndarray of float64, shape (n_scans, n_levels)
        One-hot where the factor concerns a scan, else 0.
    sums_to_zero : bool
        The constraint on its coefficients. Disorders have none: controls are the reference.
    measurement : bool
        Whether the factor describes the measurement, and is removed from scans.
    """

    name: str
    levels: tuple[str, ...]
    columns: Float64
    sums_to_zero: bool = True
    measurement: bool = False


@dataclass(frozen=True)
class Design:
    """Blocks side by side."""

    blocks: tuple[Block, ...]

    @property
    def matrix(self) -> Float64:
        """D, shape (n_scans, n_columns)."""
        return np.hstack([block.columns for block in self.blocks])

    @property
    def constraints(self) -> Float64:
        """A, shape (n_constraints, n_columns): A @ coefficients = 0."""
        constrained = [block.name for block in self.blocks if block.sums_to_zero]
        A = np.zeros((len(constrained), sum(len(block.levels) for block in self.blocks)))
        for row, name in zip(A, constrained, strict=True):
            row[self.columns_of(name)] = 1.0
        return A

    def columns_of(self, name: str) -> slice:
        """Where the columns of a block are."""
        start = 0
        for block in self.blocks:
            if block.name == name:
                return slice(start, start + len(block.levels))
            start += len(block.levels)
        raise KeyError(name)

    def block(self, name: str) -> Block:
        """The block of this name."""
        return next(block for block in self.blocks if block.name == name)


def traveling_blocks(
    sites: Labels,
    subjects: Labels,
    diagnosis: Labels | None,
    control: str,
) -> list[Block]:
    """Factors of the published model.

    Parameters
    ----------
    sites : ndarray of str, shape (n_scans,)
    subjects : ndarray of str or None, shape (n_scans,)
        Who travels; None for residents.
    diagnosis : ndarray of str or None, shape (n_scans,)
        Of residents; travelers' is not looked at. None altogether: residents are one population.
    control : str
        The diagnosis of controls.

    Returns
    -------
    list of Block
        Without those that would have no column, or a single one that has to be zero.
    """
    travels = subjects != None  # noqa: E711 (element by element)
    group = np.full(len(sites), None, object)
    group[~travels] = control if diagnosis is None else diagnosis[~travels]
    disorders = sorted({g for g in group if g not in (None, control)})
    blocks = [
        _one_hot("site", sites, measurement=True),
        _one_hot("participant", subjects),
        _one_hot("disorder", _only(group, np.isin(group, disorders)), free=True),
    ]
    blocks += [_one_hot(f"sampling:{g}", _only(sites, group == g)) for g in (control, *disorders)]
    constant = Block("constant", ("constant",), np.ones((len(sites), 1)), sums_to_zero=False)
    kept = [b for b in blocks if len(b.levels) > (1 if b.sums_to_zero else 0)]
    return [*kept, constant]


def factor_blocks(
    factors: Any, measurement: Sequence[str], n_scans: int, scales: dict[str, tuple[float, float]]
) -> list[Block]:
    """Further factors: a block for each column of a table.

    Parameters
    ----------
    factors : pandas.DataFrame
        Columns of numbers become one column each, centred, in units of their SD; all others
        one-hot blocks that sum to zero. A missing entry: the factor does not concern that scan.
    measurement : sequence of str
        Which of them describe the measurement.
    n_scans : int
        Rows of the table.
    scales : dict
        Receives mean and SD of the numeric columns.

    Raises
    ------
    DesignError
        If a factor has one level alone, or the name of one of the model's own.
    """
    table = pd.DataFrame(factors)
    blocks = []
    for column in table.columns:
        name, values = str(column), table[column]
        if name in ("site", "participant", "disorder", "constant") or name.startswith("sampling:"):
            raise DesignError(
                f"expected factors besides those of the model, found {name!r}; rename the column"
            )
        is_number = pd.api.types.is_numeric_dtype(values) and values.dtype != bool
        if is_number:
            blocks.append(_numeric(name, values, n_scans, name in measurement, scales))
        else:
            labels = labels_or_none(values, n_scans, f"factor {name}")
            blocks.append(_one_hot(name, labels, measurement=name in measurement))
        if len(blocks[-1].levels) < (1 if is_number else 2):
            raise DesignError(
                f"expected factor {name} to differ between scans, found one level; leave it out"
            )
    absent = [name for name in measurement if name not in [block.name for block in blocks]]
    if absent:
        raise HarmonizeError(
            f"expected measurement factors among the columns {named(list(map(str, table)))},"
            f" found {named(absent)}; check the names"
        )
    return blocks


def factor_columns(
    factors: Any,
    name: str,
    levels: Sequence[str],
    scale: tuple[float, float] | None,
    n_scans: int,
) -> Float64:
    """Columns of one fitted factor for scans to be transformed, shape (n_scans, n_levels).

    Parameters
    ----------
    factors : pandas.DataFrame or None
        Of these scans.
    name : str
        The factor.
    levels : sequence of str
        As it was fitted.
    scale : tuple of float or None
        Mean and SD of a numeric factor.
    n_scans : int

    Raises
    ------
    HarmonizeError
        If the table lacks the factor, or has a level the model was not fitted with.
    """
    if factors is None or name not in factors:
        raise HarmonizeError(
            f"expected the measurement factor {name} the model was fitted with, found none; give"
            " factors with that column"
        )
    if scale is not None:
        numbers = _all_numbers(factors[name], name, n_scans)
        return ((numbers - scale[0]) / scale[1])[:, None]
    labels = labels_or_none(factors[name], n_scans, f"factor {name}")
    unseen = sorted({v for v in labels if v is not None and v not in levels})
    if unseen:
        raise HarmonizeError(
            f"expected levels of {name} the model was fitted with ({named(levels)}), found"
            f" {named(unseen)}; fit with scans of that level"
        )
    columns: Float64 = (labels[:, None] == np.array(levels, object)).astype(np.float64)
    return columns


def require_connected(sites: Labels, travelers: Labels) -> list[tuple[str, ...]]:
    """The one part all sites are in.

    Raises
    ------
    DesignError
        If there is one site alone, a site without travelers, or several parts; naming them.
    """
    parts = travel_parts(sites, travelers)
    visited = {s for s, t in zip(sites, travelers, strict=True) if t is not None}
    never = sorted(set(sites) - visited)
    if len(set(sites)) < 2:
        raise DesignError(
            f"expected at least two sites, found {named(sorted(set(sites)))} alone; one site has"
            " no bias against another"
        )
    if never:
        raise DesignError(
            f"expected traveling scans at every site, found none at {named(never)}: measurement"
            " bias there cannot be told from sampling bias; leave these sites out or scan"
            " travelers there"
        )
    if len(parts) > 1:
        told = " | ".join(", ".join(part) for part in parts)
        raise DesignError(
            f"expected travelers to connect all sites, found {len(parts)} parts: {told}; scan one"
            " person in both parts, or fit each part apart"
        )
    return parts


def travel_parts(sites: Labels, subjects: Labels) -> list[tuple[str, ...]]:
    """Groups of sites that traveling subjects connect, the largest first.

    Two sites are connected if somebody was scanned at both, or at sites connected with both. A
    site without any traveling scan is a part of its own. One part alone: the design determines
    the differences between all sites.

    Parameters
    ----------
    sites : ndarray of str, shape (n_scans,)
    subjects : ndarray of str or None, shape (n_scans,)
    """
    parent = {site: site for site in sites}

    def root(site: str) -> str:
        while parent[site] != site:
            parent[site] = parent[parent[site]]
            site = parent[site]
        return site

    first_site: dict[str, str] = {}
    for site, subject in zip(sites, subjects, strict=True):
        if subject is not None:
            parent[root(site)] = root(first_site.setdefault(subject, site))
    parts: dict[str, list[str]] = {}
    for site in sorted(parent):
        parts.setdefault(root(site), []).append(site)
    return sorted((tuple(part) for part in parts.values()), key=lambda part: (-len(part), part))


def _only(labels: Labels, these: NDArray[np.bool_]) -> Labels:
    """Labels of these scans; None for the others."""
    out = labels.copy()
    out[~these] = None
    return out


def _one_hot(
    name: str, labels: NDArray[Any], measurement: bool = False, free: bool = False
) -> Block:
    levels = tuple(sorted({label for label in labels if label is not None}))
    place = {level: k for k, level in enumerate(levels)}
    columns = np.zeros((len(labels), len(levels)))
    for row, label in zip(columns, labels, strict=True):
        if label is not None:
            row[place[label]] = 1.0
    return Block(name, levels, columns, sums_to_zero=not free, measurement=measurement)


def _numeric(
    name: str,
    values: pd.Series,
    n_scans: int,
    measurement: bool,
    scales: dict[str, tuple[float, float]],
) -> Block:
    numbers = _all_numbers(values, name, n_scans)
    mean, sd = float(numbers.mean()), float(numbers.std())
    levels = (name,) if sd > 1e-12 * max(1.0, abs(mean)) else ()
    scales[name] = (mean, sd)
    columns = ((numbers - mean) / sd)[:, None] if levels else np.empty((n_scans, 0))
    return Block(name, levels, columns, sums_to_zero=False, measurement=measurement)


def _all_numbers(values: pd.Series, name: str, n_scans: int) -> Float64:
    numbers: Float64 = pd.Series(values).to_numpy(np.float64, na_value=np.nan)
    if numbers.shape != (n_scans,) or not np.isfinite(numbers).all():
        raise HarmonizeError(
            f"expected a number for each of {n_scans} scans in factor {name}, found"
            f" {int(np.isfinite(numbers).sum())}; fill the column in or leave it out"
        )
    return numbers
