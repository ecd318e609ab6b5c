"""Which figures a validation's page shows, each with words for those who cannot see it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.decoder.judge import LEFT_OUT, POOLED
from offline.decoder.validate import Validation
from offline.numerals import counted, number, percent, probability
from offline.report import brain, figures
from offline.report.words import CHANCE_P, transductive_sites

__all__ = ["Drawing", "drawings", "edge_drawings"]


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


def drawings(validation: Validation) -> Iterator[Drawing]:
    """Sites, permutations, site prediction, motion, calibration or prediction, counts.

    Yields
    ------
    Drawing
    """
    yield _sites(validation)
    if len(validation.permuted):
        yield _permuted(validation)
    if len(validation.site_prediction):
        yield _site_prediction(validation)
    if "mean_fd" in validation.outputs and validation.motion:
        words = "; ".join(f"{name}, r = {figure}" for name, figure in validation.motion.items())
        yield Drawing(
            "Motion",
            figures.motion(validation.outputs, validation.classes),
            f"Scatter of outputs against mean framewise displacement (FD): {words}.",
            f"Mean framewise displacement (FD) and output: {words}. An interval that leaves out 0"
            " says that part of what is told may be motion.",
        )
    if validation.calibration is not None and validation.classes is not None:
        yield Drawing(
            "Calibration",
            figures.calibration(validation.calibration, validation.classes[1]),
            "Observed share against predicted probability in bins of equally many scans.",
            "Bins of equally many scans, with 95 % intervals; on the dashed line probabilities are"
            f" what they say. Brier score {number(validation.brier)}, expected calibration error"
            f" {number(validation.calibration_error)}. Sites pooled: a probability holds for a"
            " population with this sample's share of each class.",
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
        yield _selection(validation)


def edge_drawings(
    validation: Validation,
    edges: pd.DataFrame | None,
    atlas: Atlas | None,
    coordinates: NDArray[np.float64] | None,
) -> Iterator[Drawing]:
    """The edges that matter on a glass brain, where positions are known, and in a circle.

    Yields
    ------
    Drawing
    """
    if edges is None or atlas is None or not len(edges):
        return
    significant = bool(edges["significant"].any())
    shown = edges[edges["significant"]] if significant else edges
    pairs, weights = shown[["a", "b"]].to_numpy(np.int64), shown["weight"].to_numpy(float)
    kind = "significant" if significant else "most often chosen (none significant)"
    up = validation.classes[1] if validation.classes else f"more {validation.target}"
    listed = ", ".join(shown["name"].head(5))
    n = counted(len(shown), f"{kind} edge")
    caption = (
        f"{n}. Orange: stronger connectivity speaks for {up}; blue: weaker connectivity does; the"
        " larger the mean weight, the stronger the colour or line."
    )
    if coordinates is not None:
        yield Drawing(
            "Glass brain",
            brain.glass_brain(pairs, weights, coordinates),
            f"Glass brain with {len(shown)} edges, among them {listed}.",
            f"{caption} A region on both sides is drawn where its left part is.",
        )
    where = (
        "Left hemisphere on the left, front at the top."
        if brain.two_sided(coordinates)
        else "Regions in the atlas's order, clockwise from the top."
    )
    yield Drawing(
        "Connectogram",
        brain.connectogram(atlas, pairs, weights, coordinates),
        f"Circle of {atlas.n_rois} regions with {len(shown)} edges as chords, among them {listed}.",
        f"{caption if coordinates is None else ''} {where}".strip(),
    )


def _sites(validation: Validation) -> Drawing:
    kind = validation.classes is not None
    first = validation.figures[validation.headline]
    left = validation.figures.get(LEFT_OUT[kind])
    known = int(validation.sites["value"].notna().sum())
    sizes = (
        f" ({validation.classes[0]} + {validation.classes[1]} in brackets)"
        if validation.classes
        else " (in brackets)"
    )
    own = transductive_sites(validation)
    note = f" TRANSDUCTIVE when left out: {own}." if own else ""
    return Drawing(
        "Sites",
        figures.forest(validation.sites, first, left, "AUC" if kind else "r"),
        f"Forest plot of {counted(len(validation.sites), 'site')}: {known} with a figure of"
        f" {'its' if known == 1 else 'their'} own; all together {first}.",
        f"Each site from its own people alone, with 95 % interval; size of the points: people"
        f"{sizes}. The diamond is the average over sites. Dashed: chance.{note}",
    )


def _permuted(validation: Validation) -> Drawing:
    kind = validation.classes is not None
    first = validation.figures[validation.headline]
    naive = validation.not_to_believe[POOLED[kind]]
    return Drawing(
        "Permuted labels",
        figures.control(validation.permuted, validation.headline, POOLED[kind], first, naive),
        f"Histograms of {counted(len(validation.permuted), 'permutation')}:"
        f" {validation.headline} found {number(first.value)}, p {probability(validation.p)}; pooled"
        f" {number(naive.value)}.",
        "The whole procedure on labels exchanged between people of one site; the line is the true"
        " labels, dashed is chance. If the right cloud lies off chance, sites differ in the"
        " target, and the pooled figure shows it even where there is nothing to be found.",
    )


def _site_prediction(validation: Validation) -> Drawing:
    told = validation.site_prediction
    words = ", ".join(
        f"{row.when} {percent(row.balanced)} ({percent(row.balanced_low)} to"
        f" {percent(row.balanced_high)})"
        for row in told.itertuples()
    )
    return Drawing(
        "Predict the site",
        figures.site_prediction(told),
        f"Bars: share of each site's people recognised by a linear classifier: {words}.",
        f"Share recognised {words}; chance {percent(told['balanced_chance'].iloc[0])}. Harmonizer"
        " and classifier never see the people they are tried on. What remains above chance"
        " is what the harmonizer left (or was told to keep).",
    )


def _selection(validation: Validation) -> Drawing:
    null = validation.selection
    assert null is not None
    n = int(np.sum(null.p() <= CHANCE_P))
    permutations = counted(len(null.largest), "permutation")
    return Drawing(
        "Selection counts",
        figures.selection(null, CHANCE_P),
        f"Edges by selection count beside the largest count of {permutations};"
        f" {counted(n, 'edge')} above what chance explains.",
        f"{counted(n, 'edge')} chosen more often than chance explains: at most 5 % of permutations"
        " have an edge chosen as often. Right: the largest count of an edge in each of"
        f" {permutations}, at most {int(null.largest.max())} of {null.n_models}.",
    )
