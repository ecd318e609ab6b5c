"""Chosen edges on a glass brain and in a circle, and where ROIs lie.

Positions come from a table of the atlas, or from its label image; without either there is no
brain to draw, and edges are listed. The circle shows the left hemisphere on its left, front at
the top, where positions are known and ROIs have a side; the atlas's order otherwise.
"""

from __future__ import annotations

import base64
import csv
import io
import warnings
from itertools import takewhile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Curve
from numpy.typing import NDArray

from offline.atlas import LABEL_COLUMNS, Atlas, numbered
from offline.drawing import ACCENT, HALF_PAGE_IN, INK, QUIET, WARM, svg
from offline.errors import AtlasError

__all__ = ["connectogram", "glass_brain", "roi_coordinates", "two_sided"]

AXES_NAMES = (("x", "y", "z"), ("x_mm", "y_mm", "z_mm"), ("R", "A", "S"))
"""Columns of a table of ROIs that may hold positions, mm."""

COARSE_MM = 2.0

GAP_DEGREES = 10.0
"""Left open at the top and the bottom of the circle."""

LETTERS_PT = 8.0
LETTER_IN, LINE_IN = 0.073, 0.133
"""Width and height of such a letter, spaces between them included."""
MOST_LETTERS = 16
NAME_AT = 1.09
"""Where names begin, in radii of the circle."""
FULL_CIRCLE = float(np.radians(340.0))
"""What there is for names: the gaps stay free."""

Float64 = NDArray[np.float64]


def roi_coordinates(
    atlas: Atlas, table: str | Path | None = None, image: str | Path | None = None
) -> Float64 | None:
    """Positions of an atlas's ROIs, mm, shape (n_rois, 3); None if nothing tells them.

    Parameters
    ----------
    atlas : Atlas
    table : str, Path or None
        `.tsv` or `.csv` of ROIs: labels (a column of `offline.atlas.LABEL_COLUMNS`) and, for
        positions of its own, columns x, y, z (mm). A column `index` says which value of the image
        a row is; without one, rows are 1, 2, ….
    image : str, Path or None
        Label image; the middle of each label is taken (`find_parcellation_cut_coords` of
        nilearn). Needs the table to know which value is which ROI, unless values are the atlas's
        ROIs in order.

    Raises
    ------
    AtlasError
        If a file cannot be read, or has not all ROIs of the atlas.
    """
    rows = None if table is None else _rows(Path(table))
    if rows is not None:
        named = next((n for n in AXES_NAMES if all(column in rows[0] for column in n)), None)
        if named is not None:
            at = _of_atlas(atlas, rows, str(table))
            return np.array([[float(rows[k][column]) for column in named] for k in at])
    if image is None:
        return None
    values = np.arange(1, atlas.n_rois + 1)
    if rows is not None:
        at = _of_atlas(atlas, rows, str(table))
        values = np.array([int(rows[k].get("index") or k + 1) for k in at])
    known = _centres(Path(image))
    missing = [int(v) for v in values if int(v) not in known]
    if missing:
        raise AtlasError(
            f"atlas image {image}: expected label {missing[0]}, found {len(known)} others; give"
            " the image of the atlas the edges are of"
        )
    return np.array([known[int(v)] for v in values])


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AtlasError(
            f"atlas table {path}: expected a readable table, found {error}; check the path"
        ) from error
    rows = list(csv.DictReader(text.splitlines(), delimiter="," if path.suffix == ".csv" else "\t"))
    if not rows or not any(column in rows[0] for column in LABEL_COLUMNS):
        raise AtlasError(
            f"atlas table {path}: expected a column {' or '.join(LABEL_COLUMNS)}, found none; name"
            " the column of labels so"
        )
    return rows


def _of_atlas(atlas: Atlas, rows: list[dict[str, str]], where: str) -> list[int]:
    """The row of each ROI of the atlas."""
    column = next(name for name in LABEL_COLUMNS if name in rows[0])
    place = {name: k for k, name in enumerate(numbered([row[column].strip() for row in rows]))}
    missing = [label for label in atlas.labels if label not in place]
    if missing:
        raise AtlasError(
            f"atlas table {where}: expected a row for each ROI of {atlas.name}, found none for"
            f" {missing[0]!r} and {len(missing) - 1} more; give the table of that atlas"
        )
    return [place[label] for label in atlas.labels]


def _centres(path: Path) -> dict[int, Float64]:
    import nibabel
    from nilearn.plotting import find_parcellation_cut_coords

    try:
        image: Any = nibabel.load(path)
        # every second millimetre is enough for a picture, and eight times faster
        step = [max(1, int(COARSE_MM / size)) for size in image.header.get_zooms()[:3]]
        image = image.slicer[:: step[0], :: step[1], :: step[2]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of label images that are stored as floats
            found, values = find_parcellation_cut_coords(image, return_label_names=True)
    except (OSError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        raise AtlasError(
            f"atlas image {path}: expected a label image, found {error}; check the path"
        ) from error
    return {int(value): np.asarray(at, float) for value, at in zip(values, found, strict=True)}


def glass_brain(edges: NDArray[np.int64], weights: Float64, coordinates: Float64) -> str:
    """The edges on three glass brains, as the data URI of a PNG.

    Parameters
    ----------
    edges : ndarray of int64, shape (n_shown, 2)
        ROI pairs.
    weights : ndarray of float64, shape (n_shown,)
        Sign gives the colour, size the width.
    coordinates : ndarray of float64, shape (n_rois, 3)
        mm.
    """
    from nilearn.plotting import plot_connectome

    used = np.unique(edges)
    place = {int(roi): k for k, roi in enumerate(used)}
    matrix = np.zeros((len(used), len(used)))
    for (a, b), weight in zip(edges, weights, strict=True):
        matrix[place[int(a)], place[int(b)]] = matrix[place[int(b)], place[int(a)]] = weight
    canvas = Canvas(figsize=(9.0, 3.2))
    top = float(np.abs(weights).max()) or 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nilearn's, about what its own calls do
        plot_connectome(
            matrix,
            coordinates[used],
            figure=canvas,
            node_size=14,
            node_color=INK,
            edge_cmap=_two_colours(),
            edge_vmin=-top,
            edge_vmax=top,
            edge_kwargs={"linewidth": 2.0},
            colorbar=False,  # the list has the weights
            display_mode="ortho",
            annotate=True,
        )
        buffer = io.BytesIO()
        canvas.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def connectogram(
    atlas: Atlas, edges: NDArray[np.int64], weights: Float64, coordinates: Float64 | None
) -> str:
    """The edges as chords of a circle of all ROIs, the chosen ones named."""
    angle = _around(atlas.n_rois, coordinates)
    used = {int(roi) for roi in np.unique(edges)}
    names = _short_names(atlas, sorted(used))
    # as much room beyond the circle as the longest name takes
    longest = max(map(len, names.values()))
    room = NAME_AT / (1.0 - min(2.0 * longest * LETTER_IN / HALF_PAGE_IN, 0.5))
    apart = LINE_IN / (NAME_AT * HALF_PAGE_IN / (2.0 * room))

    def draw(canvas: Canvas) -> None:
        canvas.set_layout_engine("none")
        axes = canvas.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set(xlim=(-room, room), ylim=(-room, room), aspect="equal")
        axes.axis("off")
        x, y = np.sin(angle), np.cos(angle)
        others = [k for k in range(atlas.n_rois) if k not in used]
        axes.plot(x[others], y[others], ".", color=QUIET, alpha=0.6, ms=3.5)
        top = float(np.abs(weights).max()) or 1.0
        for (a, b), weight in sorted(
            zip(edges.tolist(), weights.tolist(), strict=True), key=lambda e: abs(e[1])
        ):
            bend = 0.25
            points = [(x[a], y[a]), (bend * (x[a] + x[b]) / 2, bend * (y[a] + y[b]) / 2)]
            curve = Curve([*points, (x[b], y[b])], [Curve.MOVETO, Curve.CURVE3, Curve.CURVE3])
            look = {"lw": 0.7 + 2.0 * abs(weight) / top, "alpha": 0.75}
            axes.add_patch(PathPatch(curve, fc="none", ec=WARM if weight > 0 else ACCENT, **look))
        for k in used:
            axes.plot(x[k], y[k], "o", color=INK, ms=4)
        for k, at in _spread(sorted(used), angle, apart).items():
            right = np.sin(at) >= 0
            turn = 90.0 - np.degrees(at) if right else 270.0 - np.degrees(at)
            axes.annotate(
                names[k],
                (x[k], y[k]),
                (NAME_AT * np.sin(at), NAME_AT * np.cos(at)),
                ha="left" if right else "right",
                va="center",
                rotation=turn,
                rotation_mode="anchor",
                fontsize=LETTERS_PT * min(1.0, FULL_CIRCLE / (apart * len(used))),
                color=INK,
            )

    return svg("connectogram", draw, HALF_PAGE_IN, 4.9)


def two_sided(coordinates: Float64 | None) -> bool:
    """Whether both hemispheres have enough ROIs for a half of the circle each."""
    if coordinates is None:
        return False
    left = float(np.mean(coordinates[:, 0] < 0))
    return 1.0 / 3.0 <= left <= 2.0 / 3.0


def _around(n_rois: int, coordinates: Float64 | None) -> Float64:
    """Angle of each ROI, clockwise from the top, rad."""
    gap = np.radians(GAP_DEGREES)
    if coordinates is None or not two_sided(coordinates):
        return np.linspace(gap, 2.0 * np.pi - gap, n_rois)
    angle = np.empty(n_rois)
    # front (large y) at the top; ROIs at the midline are with the right
    for side, right in ((coordinates[:, 0] >= 0, True), (coordinates[:, 0] < 0, False)):
        members = np.flatnonzero(side)
        order = members[np.argsort(-coordinates[members, 1], kind="stable")]
        around = np.linspace(gap, np.pi - gap, len(order))
        angle[order] = around if right else 2.0 * np.pi - around
    return angle


def _short_names(atlas: Atlas, used: list[int]) -> dict[int, str]:
    """Names for the circle: without what all labels begin with, and no longer than fits."""
    # what the first and the last in alphabetical order share, all share
    pairs = zip(min(atlas.labels), max(atlas.labels), strict=False)
    shared = "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    start = shared.rfind("_") + 1
    names = {k: atlas.labels[k][start:] for k in used}
    half = MOST_LETTERS // 2
    return {
        k: name if len(name) <= MOST_LETTERS else f"{name[: half - 1]}…{name[-half:]}"
        for k, name in names.items()
    }


def _spread(used: list[int], angle: Float64, apart: float) -> dict[int, float]:
    """Angles of the names: those of the ROIs, moved apart where they would overlap."""
    apart = min(apart, FULL_CIRCLE / len(used))
    order = sorted(used, key=lambda k: angle[k])
    at = np.array([angle[k] for k in order])
    for _ in range(200):
        close = apart - np.diff(at)
        push = np.where(close > 1e-4, close / 2.0, 0.0)
        if not push.any():
            break
        at[:-1] -= push
        at[1:] += push
    return dict(zip(order, at.tolist(), strict=True))


def _two_colours() -> Any:
    return mpl.colors.LinearSegmentedColormap.from_list("fcnef", [ACCENT, "#c9d3da", WARM])
