"""Figures of a validation report, each an SVG text from tables of one `Validation`."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import StrMethodFormatter

from offline.decoder.metrics import Figure
from offline.decoder.null import SelectionNull
from offline.drawing import (
    ACCENT,
    HALF_PAGE_IN,
    INK,
    PALE,
    QUIET,
    WARM,
    legend_above,
    svg,
    whole_numbers,
)

__all__ = [
    "calibration",
    "control",
    "forest",
    "motion",
    "prediction",
    "selection",
    "site_prediction",
]

LEGEND_COLUMNS = 4
MOST_POINTS = 3000
MARGIN = 0.03
"""Beyond 0 and 1, so that points there are whole."""


def forest(sites: pd.DataFrame, overall: Figure, left_out: Figure | None, what: str) -> str:
    """Each site with its interval, within and left out; the average below."""
    n = len(sites)

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.axvline(overall.chance, color=QUIET, lw=0.9, ls="--")
        place = np.arange(n)[::-1] + 1.5
        for key, colour, shift, label in (
            ("", ACCENT, 0.14, "site in training"),
            ("left_out_", WARM, -0.14, "site left out"),
        ):
            value = sites[f"{key}value"].to_numpy(float)
            known = np.isfinite(value)
            if key and (left_out is None or not known.any()):
                continue
            spread = np.stack(
                [value - sites[f"{key}low"], sites[f"{key}high"].to_numpy(float) - value]
            )
            size = 3.0 + 5.0 * np.sqrt(sites["n"].to_numpy(float) / sites["n"].max())
            kind: dict[str, Any] = {"fmt": "none", "ecolor": colour, "lw": 1.2}
            spread = np.maximum(spread[:, known], 0.0)
            axes.errorbar(value[known], place[known] + shift, xerr=spread, **kind)
            points = {"color": colour, "s": size[known] ** 2, "zorder": 3, "lw": 0}
            axes.scatter(value[known], place[known] + shift, label=label, **points)
            total = overall if not key else left_out
            assert total is not None
            _diamond(axes, total, 0.5 + shift, colour)
        axes.set_yticks([*place, 0.5], [*_names(sites), "all sites"])
        axes.set_ylim(0.0, n + 1.0)
        axes.axhline(1.0, color=PALE, lw=1)
        low, high = (0.0, 1.0) if overall.chance else (-1.0, 1.0)
        axes.set_xlim(low - MARGIN, high + MARGIN)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(what)
        legend_above(axes, LEGEND_COLUMNS)

    return svg("forest", draw, HALF_PAGE_IN, 1.1 + 0.34 * (n + 1))


def control(permuted: pd.DataFrame, name: str, pooled: str, found: Figure, naive: Figure) -> str:
    """The first figure and the pooled one against what permuted labels give."""

    def draw(canvas: Canvas) -> None:
        left, right = canvas.subplots(1, 2, sharey=True)
        panels = (
            (left, name, found, ACCENT),
            (right, pooled.replace(" over sites", "") + " (not to believe)", naive, QUIET),
        )
        for axes, label, value, colour in panels:
            column = name if axes is left else pooled
            null = permuted[column].to_numpy(float)
            bins = int(np.clip(len(null) // 3, 5, 20))
            axes.hist(null[np.isfinite(null)], bins=bins, color=colour, alpha=0.55, lw=0)
            axes.axvline(found.chance, color=QUIET, lw=0.9, ls="--")
            if np.isfinite(value.value):
                axes.axvline(value.value, color=WARM, lw=1.6)
            axes.set_xlabel(label)
            axes.locator_params(axis="x", nbins=4)
        left.set_ylabel("number of permutations")
        whole_numbers(left, "y")

    return svg("control", draw, HALF_PAGE_IN, 2.4)


def site_prediction(table: pd.DataFrame) -> str:
    """How well the site is told before and after, with chance."""

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        place = np.arange(len(table))[::-1]
        value = table["balanced"].to_numpy(float)
        spread = np.stack([value - table["balanced_low"], table["balanced_high"] - value])
        colours = [WARM if when == "before" else ACCENT for when in table["when"]]
        axes.barh(place, value, color=colours, height=0.55)
        # rounding, or draws that all lie on one side, can put an end of the interval past the value
        spread = np.maximum(spread, 0.0)
        axes.errorbar(value, place, xerr=spread, fmt="none", ecolor=INK, lw=1.1)
        axes.axvline(table["balanced_chance"].iloc[0], color=INK, lw=0.9, ls="--")
        axes.set_yticks(place, [f"{when} harmonization" for when in table["when"]])
        axes.set_xlim(0.0, 1.0)
        axes.set_xlabel("share of a site's people recognised (dashed: chance)")

    return svg("site-prediction", draw, HALF_PAGE_IN, 0.7 + 0.4 * len(table))


def selection(null: SelectionNull, level: float) -> str:
    """Selection counts of edges by rank, against the largest ones under permutation."""

    def draw(canvas: Canvas) -> None:
        left, right = canvas.subplots(1, 2, sharey=True, width_ratios=(3, 1))
        counts = np.sort(null.counts[null.counts > 0])[::-1]
        rank = np.arange(1, len(counts) + 1)
        above = np.sort(null.p()[null.counts > 0]) <= level
        left.plot(rank[~above], counts[~above], ".", color=QUIET, ms=4)
        left.plot(rank[above], counts[above], "o", color=ACCENT, ms=4.5)
        if len(counts) > 1:
            left.set_xscale("log")
            left.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        if above.any():
            for axes in (left, right):
                axes.axhline(counts[above].min() - 0.5, color=WARM, lw=1, ls="--")
        if not len(counts):
            left.set_xticks([])
            left.text(0.5, 0.5, "no edge was chosen", ha="center", transform=left.transAxes)
        left.set_xlabel("edges, most often chosen first")
        left.set_ylabel(f"times chosen, of {null.n_models}")
        top = max(int(counts.max(initial=1)), int(null.largest.max())) + 2
        bins = np.linspace(-0.5, top - 0.5, min(top, 30) + 1)
        right.hist(null.largest, bins=bins, orientation="horizontal", color=QUIET, lw=0)
        right.set_xlabel("number of\npermutations")
        whole_numbers(right, "x")
        whole_numbers(left, "y")
        left.set_ylim(-0.5, top)

    return svg("selection", draw, HALF_PAGE_IN, 3.0)


def motion(outputs: pd.DataFrame, classes: tuple[str, str] | None) -> str:
    """Outputs against mean framewise displacement."""

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        shown = outputs.iloc[:: max(1, len(outputs) // MOST_POINTS)]
        if classes is None:
            axes.plot(shown["mean_fd"], shown["output"], ".", color=ACCENT, ms=5)
        else:
            for name, colour in zip(classes, (QUIET, ACCENT), strict=True):
                of = shown[shown["target"] == name]
                axes.plot(of["mean_fd"], of["output"], ".", color=colour, ms=5, label=name)
            legend_above(axes, LEGEND_COLUMNS)
        axes.set_xlabel("mean FD, mm")
        axes.set_ylabel("output for a person never seen")

    return svg("motion", draw, HALF_PAGE_IN, 2.8)


def calibration(bins: pd.DataFrame, positive: str) -> str:
    """Observed against predicted frequency."""

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.plot([0, 1], [0, 1], color=QUIET, lw=0.9, ls="--")
        value = bins["observed"].to_numpy(float)
        spread = np.stack([value - bins["low"], bins["high"].to_numpy(float) - value])
        kind: dict[str, Any] = {"fmt": "o", "color": ACCENT, "ms": 5, "lw": 1.2}
        axes.errorbar(bins["predicted"], value, yerr=np.maximum(spread, 0.0), **kind)
        whole = (-MARGIN, 1.0 + MARGIN)
        axes.set(xlim=whole, ylim=whole, aspect="equal")
        axes.set_xlabel(f"predicted probability of {positive}")
        axes.set_ylabel("observed share")

    return svg("calibration", draw, HALF_PAGE_IN, 3.6)


def prediction(outputs: pd.DataFrame, target: str) -> str:
    """Predicted against actual values of a continuous target, sites apart by colour."""

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        shown = outputs.iloc[:: max(1, len(outputs) // MOST_POINTS)]
        sites = sorted(set(shown["site"].astype(str)))
        colours = mpl.colormaps["viridis"](np.linspace(0.0, 0.85, len(sites)))
        for site, colour in zip(sites, colours, strict=True):
            of = shown[shown["site"].astype(str) == site]
            label = site if len(sites) <= 8 else None
            axes.plot(of["target"], of["output"], ".", color=colour, ms=5, label=label)
        axes.set_xlabel(f"{target}, actual")
        axes.set_ylabel(f"{target}, predicted")
        if len(sites) <= 8:
            legend_above(axes, LEGEND_COLUMNS)

    return svg("prediction", draw, HALF_PAGE_IN, 3.0)


def _names(sites: pd.DataFrame) -> list[str]:
    if "n_positive" not in sites:
        return [f"{row.site} ({row.n})" for row in sites.itertuples()]
    return [
        f"{row.site} ({row.n - row.n_positive} + {row.n_positive})" for row in sites.itertuples()
    ]


def _diamond(axes: Axes, figure: Figure, at: float, colour: str) -> None:
    if not np.isfinite(figure.value):
        return
    low = figure.low if np.isfinite(figure.low) else figure.value
    high = figure.high if np.isfinite(figure.high) else figure.value
    x = [low, figure.value, high, figure.value]
    axes.fill(x, [at, at + 0.11, at, at - 0.11], color=colour, lw=0)
