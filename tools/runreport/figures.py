"""Figures of a run report, each an SVG text from arrays of one `Course`."""

from __future__ import annotations

import io
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tools.runreport.course import Course

__all__ = ["Truth", "connectivity", "latency", "motion", "score"]

Truth = NDArray[np.float64]
"""Known population Fisher z of the circuit at each volume, for simulated participants."""

INK = "#23303d"
ACCENT = "#0072b2"
WARM = "#d55e00"
QUIET = "#8a97a3"

_STYLE = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "fcnef",
}


def score(course: Course, truth: Truth | None = None) -> str:
    """Raw score with its standard error, the feedback shown, and what disturbed it."""

    def draw(figure: Figure) -> None:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        time_s = course.time_s
        top.fill_between(
            time_s,
            course.score - course.standard_error,
            course.score + course.standard_error,
            color=ACCENT,
            alpha=0.2,
            lw=0,
            label="± 1 standard error",
        )
        top.plot(time_s, course.score, color=ACCENT, lw=1.4, label="raw score")
        if truth is not None:
            top.plot(time_s, truth, color=INK, lw=1, ls="--", label="truth (simulated)")
        _mark_faults(top, course)
        top.set_ylabel("Fisher z")
        top.legend(loc="upper left", ncols=3, fontsize=8)
        bottom.plot(time_s, course.feedback, color=WARM, lw=1.2)
        bottom.set(ylim=(-4, 104), ylabel="feedback", xlabel="scanner time, s")
        bottom.set_xlim(0, time_s[-1])

    return _svg(draw, 8.4, 3.8)


def connectivity(course: Course) -> str:
    """Correlation of each edge of the circuits over time."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        image = axes.imshow(
            course.correlations.T,
            aspect="auto",
            cmap="RdBu_r",
            vmin=-1,
            vmax=1,
            interpolation="nearest",
            extent=(0, course.time_s[-1], len(course.edge_labels) - 0.5, -0.5),
        )
        axes.set_yticks(range(len(course.edge_labels)), course.edge_labels)
        axes.set_xlabel("scanner time, s")
        figure.colorbar(image, ax=axes, label="Pearson r", pad=0.01)

    return _svg(draw, 8.4, 1.1 + 0.32 * len(course.edge_labels))


def motion(course: Course, fd_threshold_mm: float) -> str:
    """Translations, rotations and framewise displacement."""

    def draw(figure: Figure) -> None:
        shift, turn, fd = figure.subplots(3, 1, sharex=True)
        time_s = course.time_s
        for k, (axis, colour) in enumerate(zip("xyz", (ACCENT, WARM, "#009e73"), strict=True)):
            shift.plot(time_s, course.parameters[:, k], color=colour, lw=1, label=axis)
            turn.plot(time_s, np.degrees(course.parameters[:, 3 + k]), color=colour, lw=1)
        shift.legend(loc="upper left", ncols=3, fontsize=8)
        shift.set_ylabel("mm")
        turn.set_ylabel("degrees")
        fd.plot(time_s, course.fd_mm, color=INK, lw=0.9)
        fd.axhline(fd_threshold_mm, color=WARM, lw=0.9, ls="--")
        fd.set(ylabel="FD, mm", xlabel="scanner time, s")
        fd.set_xlim(0, time_s[-1])

    return _svg(draw, 8.4, 4.2)


def latency(course: Course) -> str:
    """Histograms of volume -> feedback and feedback -> flip."""

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        _histogram(left, course.latency_ms, "volume complete → feedback published, ms")
        _histogram(right, course.flip_ms, "feedback published → flip, ms")

    return _svg(draw, 8.4, 2.4)


def _histogram(axes: Axes, values_ms: NDArray[np.float64], label: str) -> None:
    axes.set_xlabel(label)
    axes.set_ylabel("count")
    if not len(values_ms):
        axes.text(0.5, 0.5, "none", ha="center", transform=axes.transAxes, color=QUIET)
        return
    # One restart lasts seconds; the histogram is about the others, and says what it leaves out.
    limit = 4.0 * float(np.median(values_ms))
    inside = values_ms[values_ms <= limit]
    axes.hist(inside, bins=40, color=ACCENT)
    note = f"median {np.median(values_ms):.1f}, p99 {np.percentile(values_ms, 99):.1f}"
    beyond = len(values_ms) - len(inside)
    axes.set_title(note + (f"; {beyond} beyond" if beyond else ""), fontsize=8, color=INK)


def _mark_faults(axes: Axes, course: Course) -> None:
    """A thin line where a volume is missing or censored."""
    shown = set()
    for index, status in enumerate(course.status):
        if status in ("missing", "refused", "censored"):
            colour = WARM if status != "censored" else QUIET
            label = None if status in shown else status
            shown.add(status)
            axes.axvline((index + 1) * course.plan.tr_s, color=colour, lw=0.8, label=label)


def _svg(draw: Callable[[Figure], None], width_in: float, height_in: float) -> str:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
