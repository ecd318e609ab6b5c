"""The page: a self-contained HTML file that needs no network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.decoder.judge import LEFT_OUT, POOLED
from offline.decoder.metrics import Figure
from offline.decoder.validate import Validation
from offline.errors import AtlasError
from offline.report import brain, figures
from offline.report.words import CHANCE_P, methods, verdict, versions

__all__ = ["chosen_edges", "write_report"]

TEMPLATE = Path(__file__).with_name("report.html.j2")
STYLE = Path(__file__).with_name("style.css")
MOST_LISTED = 20
MOST_DRAWN = 60

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Drawing:
    """A figure of the page.

    Attributes
    ----------
    name : str
        Heading.
    content : str
        SVG text, or the data URI of a PNG.
    alt, caption : str
        What it shows, for those who cannot see it; and what to know beside it.
    """

    name: str
    content: str
    alt: str
    caption: str = ""

    @property
    def is_image(self) -> bool:
        """Whether the content is a data URI."""
        return self.content.startswith("data:")


def write_report(
    validation: Validation,
    path: str | Path,
    *,
    atlas: Atlas | None = None,
    coordinates: Float64 | None = None,
    title: str = "",
    excluded: Sequence[tuple[str, int]] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write the report of a validation.

    Parameters
    ----------
    validation : Validation
    path : str or Path
        HTML file to write.
    atlas : Atlas or None
        Names the edges; None: they are numbered and not drawn.
    coordinates : ndarray of float64, shape (n_rois, 3), or None
        Positions of the atlas's ROIs, mm (`roi_coordinates`); None: no brain is drawn.
    title : str
        What the sample is; "" for none.
    excluded : sequence of tuple
        Reasons for exclusion and how many scans each.
    notes : sequence of str
        Sentences to show below the first.

    Raises
    ------
    AtlasError
        If the atlas or the coordinates are not those of the edges.
    """
    path = Path(path)
    n_edges = validation.settings["n_edges"]
    if atlas is not None and atlas.n_edges != n_edges:
        raise AtlasError(
            f"expected an atlas of {n_edges} edges, found {atlas.n_edges}; give the one decoded"
        )
    if coordinates is not None and (atlas is None or coordinates.shape != (atlas.n_rois, 3)):
        raise AtlasError(
            f"expected coordinates (n_rois, 3) of the atlas, found {coordinates.shape}; give them"
            " with their atlas"
        )
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    edges = None if validation.decoder is None else chosen_edges(validation, atlas)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        style=STYLE.read_text(encoding="utf-8"),
        title=title,
        about=_about(validation),
        verdict=verdict(validation),
        warnings=validation.warnings,
        notes=[*notes, *validation.notes],
        tiles=_tiles(validation),
        quoted=_rows(validation.figures),
        pooled=_rows(validation.not_to_believe),
        permuted_pooled=_permuted_pooled(validation),
        drawings=list(_drawings(validation)),
        selection=validation.selection,
        edges=edges,
        edge_drawings=list(_edge_drawings(validation, edges, atlas, coordinates)),
        has_coordinates=coordinates is not None,
        tables=list(_tables(validation)),
        methods=methods(validation, atlas, excluded),
        settings=json.dumps({**validation.settings, "versions": versions()}, indent=2),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def chosen_edges(validation: Validation, atlas: Atlas | None) -> pd.DataFrame:
    """Edges that matter, or without a null (or any above it) those chosen most often.

    Returns
    -------
    pandas.DataFrame
        `edge` (place), `name`, `a`, `b` (ROIs; -1 without an atlas), `count`, `p` (corrected over
        all edges; NaN without a null), `weight` (mean coefficient) and `significant`.
    """
    decoder, null = validation.decoder, validation.selection
    counts = decoder.selection_counts_
    order = np.argsort(-counts, kind="stable")
    p = np.full(len(counts), np.nan) if null is None else null.p()
    keep = order[: min(MOST_DRAWN, max(MOST_LISTED, int(np.sum(p <= CHANCE_P))))]
    keep = keep[counts[keep] > 0]
    names = atlas.edge_names() if atlas is not None else None
    pairs = atlas.edges() if atlas is not None else np.full((len(counts), 2), -1)
    weight = np.asarray(decoder.coef_[:, keep].sum(axis=0)).ravel() / decoder.coef_.shape[0]
    return pd.DataFrame(
        {
            "edge": keep,
            "name": [names[k] if names else f"edge {k}" for k in keep],
            "a": pairs[keep, 0],
            "b": pairs[keep, 1],
            "count": counts[keep],
            "p": p[keep],
            "weight": weight,
            "significant": p[keep] <= CHANCE_P,
        }
    )


def _about(validation: Validation) -> str:
    s = validation.settings
    return (
        f"{s['n_people']:,} people, {s['n_scans']:,} scans, {s['n_sites']} sites,"
        f" {s['n_edges']:,} edges · {s['estimator']['class']}"
        f" · {s['harmonizer']['class'] if s['harmonizer'] else 'not harmonized'}"
    )


def _tiles(validation: Validation) -> list[tuple[str, str]]:
    """What a reader wants to know first, in a word each."""
    kind = validation.classes is not None
    first = validation.figures[validation.headline]
    tiles = [(f"{validation.headline}, {_interval(first)}", _value(first.value))]
    left = validation.figures.get(LEFT_OUT[kind])
    if left is not None:
        tiles.append((f"{LEFT_OUT[kind]}, {_interval(left)}", _value(left.value)))
    n = len(validation.permuted)
    tiles.append((f"p, {n} permutations" if n else "no permutations", _value(validation.p)))
    told = validation.site_prediction
    if len(told):
        change = " → ".join(f"{value:.0%}" for value in told["balanced"])
        chance = f"chance {told['balanced_chance'].iloc[0]:.0%}"
        before = "before → after" if len(told) > 1 else "not harmonized"
        tiles.append((f"site recognised, {before} ({chance})", change))
    fd = validation.motion.get("within sites")
    if fd is not None:
        tiles.append((f"r of output and FD, {_interval(fd)}", _value(fd.value)))
    return tiles


def _rows(found: dict[str, Figure]) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "value": _value(figure.value),
            "interval": _interval(figure),
            "chance": _value(figure.chance),
        }
        for name, figure in found.items()
    ]


def _permuted_pooled(validation: Validation) -> str:
    """What pooling gives where there is nothing to find."""
    name = POOLED[validation.classes is not None]
    null = validation.permuted[name].dropna() if len(validation.permuted) else []
    if not len(null):
        return ""
    return (
        f"On permuted labels, where there is nothing to be found, {name} is"
        f" {_value(float(np.mean(null)))} on average."
    )


def _value(value: float) -> str:
    return "–" if not np.isfinite(value) else f"{value:.2f}".replace("-", "−")


def _interval(figure: Figure) -> str:
    if not np.isfinite(figure.low):
        return "no interval"
    return f"{_value(figure.low)} to {_value(figure.high)}"


def _drawings(validation: Validation) -> Iterator[Drawing]:
    kind = validation.classes is not None
    first = validation.figures[validation.headline]
    left = validation.figures.get(LEFT_OUT[kind])
    known = validation.sites["value"].notna().sum()
    yield Drawing(
        "Sites",
        figures.forest(validation.sites, first, left, "AUC" if kind else "r"),
        f"Forest plot of {len(validation.sites)} sites: {known} have a figure of their own;"
        f" all together {first}.",
        "Each site from its own people alone, with 95 % interval; size of the points: people"
        + (" (negative + positive in brackets)" if kind else " (in brackets)")
        + ". The diamond is the average over sites. Dashed: chance.",
    )
    if len(validation.permuted):
        naive = validation.not_to_believe[POOLED[kind]]
        yield Drawing(
            "Permuted labels",
            figures.control(validation.permuted, validation.headline, POOLED[kind], first, naive),
            f"Histograms of {len(validation.permuted)} permutations: {validation.headline} found"
            f" {_value(first.value)}, p {_value(validation.p)}; pooled {_value(naive.value)}.",
            "The whole procedure on labels exchanged between people of one site; the line is the"
            " true labels, dashed is chance. If the right cloud lies off chance, sites differ in"
            " the target, and the pooled figure shows it even where there is nothing to be found.",
        )
    told = validation.site_prediction
    if len(told):
        words = ", ".join(
            f"{row.when} {row.balanced:.0%} ({row.balanced_low:.0%} to {row.balanced_high:.0%})"
            for row in told.itertuples()
        )
        yield Drawing(
            "Predict the site",
            figures.site_prediction(told),
            f"Bars: share of each site's people recognised by a linear classifier: {words}.",
            f"{words}; chance {told['balanced_chance'].iloc[0]:.0%}. Nested: harmonizer and"
            " classifier see training people alone. What remains above chance is what the"
            " harmonizer left (or was told to keep).",
        )
    if "mean_fd" in validation.outputs and validation.motion:
        words = "; ".join(f"{name}: r = {figure}" for name, figure in validation.motion.items())
        yield Drawing(
            "Motion",
            figures.motion(validation.outputs, validation.classes),
            f"Scatter of outputs against mean framewise displacement. {words}.",
            f"{words}. An interval that leaves out 0 says that part of what is told may be motion.",
        )
    if validation.calibration is not None and validation.classes is not None:
        yield Drawing(
            "Calibration",
            figures.calibration(validation.calibration, validation.classes[1]),
            "Observed share against predicted probability in bins of equally many scans.",
            f"Brier score {_value(validation.brier)}, expected calibration error"
            f" {_value(validation.calibration_error)}. Sites pooled: a probability holds for a"
            " population with this sample's prevalence.",
        )
    if validation.classes is None:
        yield Drawing(
            "Predicted and actual",
            figures.prediction(validation.outputs, validation.target),
            f"Scatter of predicted against actual {validation.target}, sites in colours.",
            "Predictions for people never seen. Differences between sites are part of this"
            " picture; the first figure leaves them out.",
        )
    if validation.selection is not None:
        null = validation.selection
        n = int(np.sum(null.p() <= CHANCE_P))
        yield Drawing(
            "Selection counts",
            figures.selection(null, CHANCE_P),
            f"Edges by selection count beside the largest count of {len(null.largest)}"
            f" permutations; {n} edges lie above what chance explains.",
            f"{n} edges were chosen more often than chance explains: at most 5 % of permutations"
            f" have an edge chosen as often. Largest count of the {len(null.largest)} permutations:"
            f" {int(null.largest.max())} of {null.n_models}.",
        )


def _edge_drawings(
    validation: Validation,
    edges: pd.DataFrame | None,
    atlas: Atlas | None,
    coordinates: Float64 | None,
) -> Iterator[Drawing]:
    if edges is None or atlas is None or not len(edges):
        return
    shown = edges[edges["significant"]] if edges["significant"].any() else edges
    pairs, weights = shown[["a", "b"]].to_numpy(np.int64), shown["weight"].to_numpy(float)
    kind = "significant" if edges["significant"].any() else "most often chosen (none significant)"
    up = validation.classes[1] if validation.classes else f"more {validation.target}"
    listed = ", ".join(shown["name"].head(5))
    caption = (
        f"The {len(shown)} {kind} edges. Orange: higher z speaks for {up}; blue: lower z does."
    )
    if coordinates is not None:
        yield Drawing(
            "Glass brain",
            brain.glass_brain(pairs, weights, coordinates),
            f"Glass brain with {len(shown)} edges, among them {listed}.",
            f"{caption} An ROI on both sides is drawn where its left part is.",
        )
    where = (
        "Left hemisphere on the left, front at the top."
        if brain.two_sided(coordinates)
        else "ROIs in the atlas's order, clockwise from the top."
    )
    yield Drawing(
        "Connectogram",
        brain.connectogram(atlas, pairs, weights, coordinates),
        f"Circle of {atlas.n_rois} ROIs with {len(shown)} edges as chords, among them {listed}.",
        f"{caption if coordinates is None else ''} {where}".strip(),
    )


def _tables(validation: Validation) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Heading, what to know, and the table."""
    what = "Cramér's V" if validation.classes else "share of the target's SD between sites"
    yield (
        "Who is at which site",
        f"{what}: {_value(validation.confounding)}.",
        validation.confounds,
    )
    told = validation.sites[["site", "told"]].rename(columns={"told": "when left out"})
    yield ("Sites left out", "What was done with their scans.", told)
    if validation.disorders is not None:
        yield (
            "Every decoder on every disorder",
            "People a decoder was trained with are judged by models that never saw them. These"
            " AUCs pool over sites: read them beside each other, not by themselves.",
            validation.disorders,
        )
