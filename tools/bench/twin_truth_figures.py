"""What cohorts whose truth is known add up to, with intervals: figures and claims of `twin_truth`.

Gains and average precision have Student's interval over cohorts, each of which has people of its
own: percentiles of so few cohorts drawn anew would be too narrow. Edits and recommendations, of 20
cohorts and more, have those. r is of values less their means over folds (`intervals`). Where forms
are taken together they count alike, as with five cohorts of each; that was set after a first
summing up, every cohort alike and half of them of pairs, gave r of edits as .69.

A claim that speaks of an interval holds if the whole interval is on its side. Three are of a value,
and say so: r of edits, coverage, and how many people an edge is recommended to where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from offline.twin.intervals import less_means
from offline.twin.synthetic import Form

__all__ = ["BESIDE", "RIVALS", "plain", "summarise"]

RIDGES = ("kernel ridge", "kernel ridge, linear")
RIVALS = (*RIDGES, "CPM")
BESIDE = ("kernel ridge, quadratic", "kernel ridge, Gaussian")
"""Reported, no claim is made beside them: what the second degree alone can tell."""

EXCHANGED = "twin, exchanged connectomes"
NONLINEAR: tuple[Form, ...] = ("interaction", "gated")
N_DRAWS = 2000
OWN = ("true_s", "change_s", "low_s", "high_s")
SHRUNKEN = ("true_s", "shrunken_s", "shrunken_low_s", "shrunken_high_s")
Float64 = NDArray[np.float64]
Row = dict[str, Any]


def summarise(found: dict[Form, list[Row]]) -> tuple[Row, dict[str, bool]]:
    """Figures over cohorts, and what they reach.

    Parameters
    ----------
    found : dict
        Rows of `twin_truth.cohort` by form.
    """
    figures: Row = {form: _case(rows) for form, rows in found.items() if rows}
    reached: dict[str, bool] = {}
    for form in NONLINEAR:
        if form in figures:
            reached |= _nonlinear(form, figures[form])
    if "linear" in figures:
        reached |= _linear(figures["linear"])
    planted = [row for form, rows in found.items() if form != "none" for row in rows]
    if planted:
        figures["edits"] = _edit_figures(planted)
        figures["edits, shrunken"] = _edit_figures(planted, SHRUNKEN)
        reached |= _edits(figures["edits"]["all circuits"], len(planted))
    if found.get("none"):
        figures["none"]["recommended"], held = _recommended(found["none"])
        reached["nothing planted: recommended to <= 5 % of people, the value, >= 20 cohorts"] = held
    if planted:
        figures["recommended"] = {
            form: _found_edges(rows) for form, rows in found.items() if form != "none" and rows
        }
    return figures, reached


def _found_edges(rows: list[Row]) -> Row:
    """Edges that qualify where some act: how many of them do, and their true effects."""
    told = [row["recommended"] for row in rows]
    surest = [edge for one in told for edge in one["surest"]]
    out: Row = {
        "people": _over(np.array([one["people"] / one["n"] for one in told])),
        "surest edges": len(surest),
    }
    if not surest:
        return out
    true, size, low, high = (
        np.array([edge[name] for edge in surest])
        for name in ("true_s", "associated_s", "low_s", "high_s")
    )
    return out | {
        "planted": round(float(np.mean([edge["planted"] for edge in surest])), 4),
        "rms_true_ms": float(1000.0 * np.sqrt(np.mean(true**2))),
        "rms_associated_ms": float(1000.0 * np.sqrt(np.mean(size**2))),
        "covered": round(float(np.mean((true >= low) & (true <= high))), 4),
    }


def _nonlinear(form: Form, case: Row) -> dict[str, bool]:
    reached = {
        f"{form}: zero-shot RT above {rival}, interval above 0": case["gain"][rival]["low"] > 0.0
        for rival in RIVALS
    }
    over_ridge = case["auprc"]["gain over ridge weights"]["low"] > 0.0
    return reached | {
        f"{form}: AUPRC >= 3x prevalence": case["auprc"]["twin"]["times"] >= 3.0,
        f"{form}: AUPRC above ridge weights, interval above 0": over_ridge,
        f"{form}: matched above exchanged connectomes, interval above 0": _matched(case),
    }


def _linear(case: Row) -> dict[str, bool]:
    reached = {
        f"linear: no worse than {ridge} within the interval": case["gain"][ridge]["high"] >= 0.0
        for ridge in RIDGES
    }
    return reached | {
        "linear: matched above exchanged connectomes, interval above 0": _matched(case)
    }


def _matched(case: Row) -> bool:
    return bool(case["gain"][EXCHANGED]["low"] > 0.0)


def _edits(every: Row, n_cohorts: int) -> dict[str, bool]:
    enough = n_cohorts >= 10 and every["people"] >= 500
    covered = 0.85 <= every["covered"]["value"] <= 0.95
    return {
        "predicted against true ΔRT: r >= .7, the value": enough and every["r"]["value"] >= 0.7,
        "90 % intervals cover 85-95 %, the value, >= 500 people of >= 10 cohorts": (
            enough and covered
        ),
    }


def _recommended(rows: list[Row]) -> tuple[Row, bool]:
    told = [row["recommended"] for row in rows]
    shares = np.array([row["people"] / row["n"] for row in told])
    figures = {
        **_over(shares),
        "by_cohort": plain(shares),
        "without the null": float(np.mean([row["without_null"] / row["n"] for row in told])),
    }
    few = 20 * sum(row["people"] for row in told) <= sum(row["n"] for row in told)
    return figures, len(shares) >= 20 and few


def _case(rows: list[Row]) -> Row:
    """Zero-shot and edges of the cohorts of one form."""
    names = [name for name in rows[0]["zero_shot"] if name not in ("rt_s", "fold")]
    r = {name: [_r(row["zero_shot"], name) for row in rows] for name in names}
    out: Row = {
        "r": {
            name: {"value": float(np.mean(r[name])), "by_cohort": plain(r[name])} for name in names
        },
        "gain": {
            name: _student(np.subtract(r["twin"], r[name])) for name in names if name != "twin"
        },
    }
    if "edges" in rows[0]:
        kinds = [name for name in rows[0]["edges"] if name != "prevalence"]
        prevalence = rows[0]["edges"]["prevalence"]
        values = {name: np.array([row["edges"][name] for row in rows]) for name in kinds}
        out["auprc"] = {
            name: {
                **_student(v),
                "times": float(v.mean() / prevalence),
                "by_cohort": plain(v),
            }
            for name, v in values.items()
        }
        out["auprc"]["prevalence"] = prevalence
        out["auprc"]["gain over ridge weights"] = _student(values["twin"] - values["ridge weights"])
    return out


def _edit_figures(rows: list[Row], columns: tuple[str, ...] = OWN) -> Row:
    out = {}
    groups: dict[str, Callable[[Row, Row], bool]] = {
        "all circuits": lambda row, edit: not edit["circuit"].startswith("single"),
        "planted circuits": lambda row, edit: edit["circuit"].startswith("planted"),
        "random circuits": lambda row, edit: edit["circuit"].startswith("random"),
        **{
            f"{form}, planted circuits": partial(_is_planted, form)
            for form in ("linear", "interaction", "gated")
        },
        "single planted edges": lambda row, edit: edit["circuit"].startswith("single"),
        **{
            f"{form}, single planted edges": partial(_is_planted, form, kind="single")
            for form in ("linear", "interaction", "gated")
        },
    }
    for name, keep in groups.items():
        parts, forms, n_people = [], [], 0
        for row in rows:
            chosen = [edit for edit in row["edits"] if keep(row, edit)]
            if chosen:
                parts.append([_array(chosen, column) for column in columns])
                forms.append(row["form"])
                # the same new people are edited once for each circuit
                n_people += len(chosen[0]["true_s"])
        if parts:
            out[name] = {"people": n_people, **_edit_group(parts, forms)}
    return out


def _is_planted(form: str, row: Row, edit: Row, kind: str = "planted") -> bool:
    return bool(row["form"] == form and edit["circuit"].startswith(kind))


def _edit_group(parts: list[list[Float64]], forms: list[str]) -> Row:
    """Agreement of true and predicted changes; each part is a cohort, and all forms count alike."""
    kept = [
        [column[np.isfinite(part[1]) & np.isfinite(part[2])] for column in part] for part in parts
    ]
    own = [np.flatnonzero(np.array(forms) == form) for form in sorted(set(forms))]
    counts = {forms[k]: len(places) for places in own for k in places}

    def of(places: NDArray[np.int64]) -> tuple[list[Float64], Float64]:
        columns = [
            np.concatenate(column) for column in zip(*(kept[k] for k in places), strict=True)
        ]
        return columns, np.concatenate(
            [np.full(len(kept[k][0]), 1.0 / counts[forms[k]]) for k in places]
        )

    columns, weights = of(np.arange(len(kept)))
    value = _agreement(columns, weights)
    rng = np.random.default_rng(0)
    draws = np.array(
        [
            _agreement(*of(np.concatenate([rng.choice(places, len(places)) for places in own])))
            for _ in range(500)
        ]
    )
    true, told = columns[:2]
    names = ("r", "covered", "true per predicted", "sign")
    return {
        "edits": len(true),
        "rms_true_ms": float(1000.0 * np.sqrt(np.average(true**2, weights=weights))),
        "rms_predicted_ms": float(1000.0 * np.sqrt(np.average(told**2, weights=weights))),
        **{name: _figure(value[k], draws[:, k]) for k, name in enumerate(names)},
    }


def _agreement(columns: list[Float64], weights: Float64) -> tuple[float, float, float, float]:
    """r, share covered, slope of true on predicted, share of signs, each edit with its weight."""
    true, told, low, high = columns
    covered = np.average((true >= low) & (true <= high), weights=weights)
    root = np.sqrt(weights)
    a, b = (root * (x - np.average(x, weights=weights)) for x in (true, told))
    known = told.std() > 0.0 and true.std() > 0.0
    r = float(a @ b / np.sqrt((a @ a) * (b @ b))) if known else float("nan")
    slope = float((weights * true) @ told / ((weights * told) @ told)) if known else float("nan")
    moved = np.abs(true) > 0.0
    same = (np.sign(true) == np.sign(told))[moved]
    sign = np.average(same, weights=weights[moved]) if moved.any() else np.nan
    return r, float(covered), slope, float(sign)


def _r(told: Row, name: str) -> float:
    """r over people of one predictor, values less their means over folds."""
    y, own = (less_means(np.array(told[column]), told["fold"]) for column in ("rt_s", name))
    return _correlation(y, own)


def _correlation(a: Float64, b: Float64) -> float:
    """r; 0 for a predictor that says the same of everybody."""
    a, b = a - a.mean(), b - b.mean()
    both = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / both if both > 1e-15 else 0.0


def _student(values: Float64) -> Row:
    """Mean over cohorts, with Student's interval."""
    n, mean = len(values), float(values.mean())
    half = np.nan
    if n > 1:
        half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return {
        "value": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4),
    }  # fmt: skip


def _over(values: Float64) -> Row:
    """Mean over cohorts, with the interval of cohorts drawn anew."""
    rng = np.random.default_rng(0)
    draws = values[rng.integers(0, len(values), (N_DRAWS, len(values)))].mean(axis=1)
    return _figure(float(values.mean()), draws)


def _figure(value: float, draws: Float64) -> Row:
    if not np.isfinite(draws).any():
        return {"value": None, "low": None, "high": None}
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return {"value": round(value, 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def _array(edits: list[Row], column: str) -> Float64:
    values = [np.array([np.nan if v is None else v for v in edit[column]]) for edit in edits]
    return np.concatenate(values)


def plain(values: Any) -> list[float | None]:
    """Numbers for JSON: six places, None for what is not finite."""
    return [round(float(v), 6) if np.isfinite(v) else None for v in values]
