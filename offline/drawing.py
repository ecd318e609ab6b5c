"""How every figure of every report looks: colours, type, and the SVG text a page takes in.

Needs matplotlib alone, so that the loop's own report can use it where nothing else of the offline
side is installed.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

__all__ = ["ACCENT", "GREEN", "HALF_PAGE_IN", "INK", "PAGE_IN", "PALE", "QUIET", "WARM"]
__all__ += ["legend_above", "svg", "whole_numbers"]

INK = "#23303d"
ACCENT = "#0072b2"
WARM = "#d55e00"
GREEN = "#009e73"
QUIET = "#8a97a3"
PALE = "#eef2f5"

PAGE_IN = 8.6
HALF_PAGE_IN = 4.9
"""Widths at which a figure's letters are as large as its page's own."""

STYLE: dict[str, Any] = {
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
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_GROUP_ID = re.compile(r' id="[A-Za-z0-9.]+_\d+"')


def svg(name: str, draw: Callable[[Figure], None], width_in: float, height_in: float) -> str:
    """The text of a drawing.

    Parameters
    ----------
    name : str
        Tells the ids that the figure refers to from those of a page's other figures.
    draw : callable
        Given the empty figure.
    width_in, height_in : float
    """
    style: Any = {**STYLE, "svg.hashsalt": name}
    with mpl.rc_context(style):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    text = buffer.getvalue()
    return _GROUP_ID.sub("", text[text.index("<svg") :])


def legend_above(axes: Axes, columns: int) -> None:
    """A legend outside the curves, so that it never covers one; none where nothing is named."""
    if not axes.get_legend_handles_labels()[1]:
        return
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (-0.01, 0.98)}
    axes.legend(
        ncols=columns, fontsize=8, handlelength=1.4, columnspacing=1.4, borderaxespad=0.2, **place
    )


def whole_numbers(axes: Axes, which: str) -> None:
    """Whole numbers at the ticks of an axis (`"x"` or `"y"`) that counts."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(integer=True, nbins="auto"))
