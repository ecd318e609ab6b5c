"""Figures of a run report, each an SVG text from arrays of one `Course`."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from offline.drawing import (
    ACCENT,
    GREEN,
    INK,
    PAGE_IN,
    PALE,
    QUIET,
    WARM,
    legend_above,
    svg,
    whole_numbers,
)
from tools.runreport.course import Course

__all__ = ["Truth", "connectivity", "latency", "motion", "score"]

Truth = NDArray[np.float64]
"""Known population Fisher z of the circuit at each volume, for simulated participants."""

LEGEND_COLUMNS = 6
MOST_LABELLED_EDGES = 40
TALLEST_IN = 8.0


def score(course: Course, truth: Truth | None = None) -> str:
    """Raw score with its standard error, the feedback shown, and what disturbed it."""

    def draw(figure: Figure) -> None:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        time_s = course.time_s
        _shade_rest((top, bottom), course)
        _score_with_error(top, course)
        if truth is not None:
            top.plot(time_s, truth, color=INK, lw=1, ls="--", label="truth (simulated)")
        _mark_faults(top, course)
        top.set_ylabel("raw score, Fisher z")
        legend_above(top, LEGEND_COLUMNS)
        bottom.plot(time_s, course.feedback, color=WARM, lw=1.2)
        bottom.set(ylim=(-4, 104), yticks=(0, 50, 100), ylabel="feedback")
        _end_with_time(bottom, course)

    return svg("score", draw, PAGE_IN, 4.2)


def connectivity(course: Course) -> str:
    """Correlation of each edge of the circuits over time."""
    n_edges = len(course.edge_labels)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        image = axes.imshow(
            course.correlations.T,
            aspect="auto",
            cmap="RdBu_r",
            vmin=-1,
            vmax=1,
            interpolation="nearest",
            extent=(0, course.time_s[-1], n_edges - 0.5, -0.5),
        )
        if n_edges <= MOST_LABELLED_EDGES:
            axes.set_yticks(range(n_edges), course.edge_labels)
        else:
            axes.set_ylabel(f"{n_edges} edges, as in the plan")
        axes.set_xlabel("scanner time, s")
        figure.colorbar(image, ax=axes, label="Pearson r", pad=0.01, ticks=(-1, 0, 1))

    return svg("connectivity", draw, PAGE_IN, min(1.1 + 0.3 * n_edges, TALLEST_IN))


def motion(course: Course, fd_threshold_mm: float) -> str:
    """Translations, rotations and framewise displacement."""

    def draw(figure: Figure) -> None:
        shift, turn, fd = figure.subplots(3, 1, sharex=True)
        time_s = course.time_s
        for k, (axis, colour) in enumerate(zip("xyz", (ACCENT, WARM, GREEN), strict=True)):
            shift.plot(time_s, course.parameters[:, k], color=colour, lw=1, label=axis)
            turn.plot(time_s, np.degrees(course.parameters[:, 3 + k]), color=colour, lw=1)
        legend_above(shift, LEGEND_COLUMNS)
        shift.set_ylabel("shift, mm")
        turn.set_ylabel("turn, °")
        fd.plot(time_s, course.fd_mm, color=INK, lw=0.9)
        fd.axhline(fd_threshold_mm, color=WARM, lw=0.9, ls="--")
        fd.set_ylabel("FD, mm")
        fd.set_ylim(bottom=0)
        figure.align_ylabels()
        _end_with_time(fd, course)

    return svg("motion", draw, PAGE_IN, 4.2)


def latency(course: Course) -> str:
    """Histograms of volume -> feedback and feedback -> flip."""

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        _histogram(left, course.latency_ms, "volume complete → feedback published, ms")
        _histogram(right, course.flip_ms, "feedback published → flip, ms")

    return svg("latency", draw, PAGE_IN, 2.4)


def _score_with_error(axes: Axes, course: Course) -> None:
    time_s, low = course.time_s, course.score - course.standard_error
    high = course.score + course.standard_error
    band: dict[str, Any] = {"color": ACCENT, "alpha": 0.2, "lw": 0, "label": "± 1 standard error"}
    axes.fill_between(time_s, low, high, **band)
    axes.plot(time_s, course.score, color=ACCENT, lw=1.4, label="raw score")
    if course.trials:
        at_s = [time_s[min(trial.index, len(time_s) - 1)] for trial in course.trials]
        scores = [trial.score for trial in course.trials]
        errors = [trial.standard_error for trial in course.trials]
        points: dict[str, Any] = {"fmt": "o", "color": INK, "ms": 5, "lw": 1.2, "label": "trial"}
        axes.errorbar(at_s, scores, errors, **points)


def _shade_rest(all_axes: tuple[Axes, ...], course: Course) -> None:
    """A pale ground while the participant rests."""
    resting = np.array([scene == "rest" for scene in course.scene] + [False])
    turns = np.flatnonzero(np.diff(resting.astype(int), prepend=0))
    for start, stop in zip(turns[::2], turns[1::2], strict=True):
        for axes in all_axes:
            label = "rest" if axes is all_axes[0] and start == turns[0] else None
            span_s = np.array([start, stop]) * course.plan.tr_s
            axes.axvspan(*span_s, color=PALE, lw=0, zorder=0, label=label)


def _mark_faults(axes: Axes, course: Course) -> None:
    """A thin line where a volume is missing or censored."""
    shown = set()
    for index, status in enumerate(course.status):
        if status in ("missing", "refused", "censored"):
            colour = WARM if status != "censored" else QUIET
            label = None if status in shown else status
            shown.add(status)
            axes.axvline((index + 1) * course.plan.tr_s, color=colour, lw=0.8, label=label)


def _histogram(axes: Axes, values_ms: NDArray[np.float64], label: str) -> None:
    axes.set_xlabel(label)
    axes.set_ylabel("count")
    whole_numbers(axes, "y")
    if not len(values_ms):
        axes.set(xticks=(), yticks=())
        axes.text(0.5, 0.5, "none", ha="center", transform=axes.transAxes, color=QUIET)
        return
    # One restart lasts seconds; the histogram is about the others, and says what it leaves out.
    limit = 4.0 * float(np.median(values_ms))
    inside = values_ms[values_ms <= limit]
    axes.hist(inside, bins=40, color=ACCENT)
    note = f"median {np.median(values_ms):.1f}, p99 {np.percentile(values_ms, 99):.1f}"
    beyond = len(values_ms) - len(inside)
    axes.set_title(note + (f"; {beyond} beyond" if beyond else ""), fontsize=8, color=INK)


def _end_with_time(axes: Axes, course: Course) -> None:
    axes.set_xlabel("scanner time, s")
    axes.set_xlim(0, course.time_s[-1])
