"""One look for every report, from matplotlib alone."""

from __future__ import annotations

import subprocess
import sys

from matplotlib.figure import Figure

from offline.drawing import legend_above, svg, whole_numbers

HEAVY = ("sklearn", "pandas", "zarr", "scipy", "torch")


def test_the_loops_report_needs_matplotlib_alone() -> None:
    program = (
        f"import sys\nfor name in {HEAVY}: sys.modules[name] = None\n"
        "import offline.drawing, tools.runreport\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_same_drawing_is_the_same_text_and_names_tell_figures_apart() -> None:
    def draw(figure: Figure) -> None:
        figure.subplots().fill_between([0, 1], [0, 1], hatch="/")

    one, two = svg("one", draw, 2.0, 2.0), svg("two", draw, 2.0, 2.0)
    assert one == svg("one", draw, 2.0, 2.0)
    assert one.startswith("<svg")
    ids = [{part.split('"')[0] for part in text.split(' id="')[1:]} for text in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_counts_have_whole_ticks() -> None:
    axes = Figure().subplots()
    axes.hist([0.1, 0.5, 0.9], bins=20)
    assert any(tick % 1 for tick in axes.get_yticks())
    whole_numbers(axes, "y")
    assert not any(tick % 1 for tick in axes.get_yticks())


def test_a_legend_only_where_something_is_named() -> None:
    axes = Figure().subplots()
    axes.plot([0, 1], [0, 1])
    legend_above(axes, 4)
    assert axes.get_legend() is None
    axes.plot([0, 1], [1, 0], label="named")
    legend_above(axes, 4)
    assert axes.get_legend() is not None
