"""The page: a self-contained HTML file that needs no network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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
from offline.numerals import DASH, counted, interval, number, percent, probability
from offline.report.drawings import drawings, edge_drawings
from offline.report.methods import methods
from offline.report.words import CHANCE_P, transductive_sites, verdict, versions, why_nothing

__all__ = ["chosen_edges", "write_report"]

TEMPLATE = Path(__file__).with_name("report.html.j2")
STYLE = Path(__file__).with_name("style.css")
MOST_LISTED = 20
MOST_DRAWN = 60

FIXED = "\N{NO-BREAK SPACE}"

NAMES = {
    "LassoEnsemble": "ensemble of sparse models (LASSO)",
    "LassoEnsembleRegressor": "ensemble of sparse models (LASSO)",
    "ComponentClassifier": "principal components",
    "ComponentRegressor": "principal components",
    "TravelingSubject": "traveling subjects",
}
"""What estimators are called for readers."""

Float64 = NDArray[np.float64]


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
    environment.filters["number"] = number
    edges = None if validation.decoder is None else chosen_edges(validation, atlas)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        style=STYLE.read_text(encoding="utf-8"),
        title=title,
        about=_about(validation),
        verdict=verdict(validation),
        warnings=validation.warnings,
        notes=[*notes, *validation.notes],
        nothing=why_nothing(validation),
        tiles=_tiles(validation),
        quoted=_rows(validation.figures),
        pooled=_rows(validation.not_to_believe),
        permuted_pooled=_permuted_pooled(validation),
        drawings=list(drawings(validation)),
        selection=validation.selection,
        edges=None if edges is None else _listed(edges),
        n_models=0 if edges is None else len(validation.decoder.intercept_),
        any_significant=edges is not None and bool(edges["significant"].any()),
        edge_drawings=list(edge_drawings(validation, edges, atlas, coordinates)),
        has_coordinates=coordinates is not None,
        tables=list(_tables(validation, excluded)),
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
    harmonizer = s["harmonizer"]["class"] if s["harmonizer"] else ""
    parts = [
        f"{counted(s['n_people'], 'person', 'people')}, {counted(s['n_scans'], 'scan')},"
        f" {counted(s['n_sites'], 'site')}, {counted(s['n_edges'], 'edge')}",
        NAMES.get(s["estimator"]["class"], s["estimator"]["class"]),
        f"harmonized by {NAMES.get(harmonizer, harmonizer)}" if harmonizer else "not harmonized",
    ]
    return " · ".join(parts)


def _tiles(validation: Validation) -> list[tuple[str, str]]:
    """What a reader wants to know first, in a word each."""
    kind = validation.classes is not None
    first = validation.figures[validation.headline]
    tiles = [(f"{validation.headline}, {_interval(first)}", number(first.value))]
    left = validation.figures.get(LEFT_OUT[kind])
    if left is not None:
        name = LEFT_OUT[kind] + (", TRANSDUCTIVE" if transductive_sites(validation) else "")
        tiles.append((f"{name}, {_interval(left)}", number(left.value)))
    n = len(validation.permuted)
    tiles.append(
        (f"p, {counted(n, 'permutation')}" if n else "no permutations", probability(validation.p))
    )
    told = validation.site_prediction
    if len(told):
        change = " → ".join(percent(value) for value in told["balanced"])
        chance = f"chance {percent(told['balanced_chance'].iloc[0])}"
        before = "before → after" if len(told) > 1 else "not harmonized"
        tiles.append((f"site recognised, {before} ({chance})", change))
    fd = validation.motion.get("within sites")
    if fd is not None:
        tiles.append((f"r of output and motion (FD), {_interval(fd)}", number(fd.value)))
    return tiles


def _rows(found: dict[str, Figure]) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "value": number(figure.value),
            "interval": _interval(figure),
            "chance": number(figure.chance),
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
        f" {number(float(np.mean(null)))} on average."
    )


def _interval(figure: Figure) -> str:
    return interval(figure.low, figure.high) if np.isfinite(figure.low) else "no interval"


def _listed(edges: pd.DataFrame) -> list[dict[str, str]]:
    """The edges as the page lists them."""
    return [
        {
            "name": str(row.name).replace("--", f" {DASH} ")
            + (f"{FIXED}*" if row.significant else ""),
            "count": f"{row.count}",
            "p": probability(row.p),
            "weight": number(row.weight, 3, signed=True),
        }
        for row in edges.itertuples()
    ]


def _tables(
    validation: Validation, excluded: Sequence[tuple[str, int]]
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Heading, what to know, and the table."""
    yield ("Who is at which site", _confounding(validation), validation.confounds)
    yield ("Figures of each site", "", _of_sites(validation))
    if excluded:
        yield (
            "Left out of the sample",
            "Whose data were not used, and why.",
            pd.DataFrame(list(excluded), columns=["reason", "scans"]),
        )
    if validation.disorders is not None:
        yield (
            "Every decoder on every disorder",
            "People a decoder was trained with are judged by models that never saw them. These"
            " AUCs pool over sites: read them beside each other, not by themselves.",
            _of_disorders(validation.disorders),
        )


def _confounding(validation: Validation) -> str:
    if validation.classes is None:
        return (
            f"{percent(validation.confounding)} of the SD of {validation.target} are between sites."
        )
    return (
        f"Cramér's V of {validation.target} and site: {number(validation.confounding)} (0: every"
        f" site has the same share of {validation.classes[1]}; 1: the site determines it)."
    )


def _of_sites(validation: Validation) -> pd.DataFrame:
    sites, kind = validation.sites, "AUC" if validation.classes else "r"
    shown = {"site": sites["site"], "scans": sites["n"]}
    for key, name in (("", kind), ("left_out_", f"{kind} when left out")):
        columns = sites[[f"{key}value", f"{key}low", f"{key}high"]].to_numpy(float)
        shown[name] = pd.Series(
            [
                f"{number(value)} ({interval(low, high)})".replace(" ", FIXED)
                if np.isfinite(value)
                else DASH
                for value, low, high in columns
            ]
        )
    return pd.DataFrame(shown | {"its scans when left out": sites["told"]})


def _of_disorders(table: pd.DataFrame) -> pd.DataFrame:
    ends = zip(table["auc_low"], table["auc_high"], strict=True)
    return pd.DataFrame(
        {
            "decoder of": table["decoder"],
            "applied to": table["disorder"],
            "patients": table["patients"],
            "controls": table["controls"],
            "AUC": table["auc"],
            "95 % interval": [interval(low, high) for low, high in ends],
            "Cohen's d": table["d"],
            "of them in its training": [percent(share) for share in table["known"]],
        }
    )
