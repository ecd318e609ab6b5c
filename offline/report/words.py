"""What a validation says in words: the first sentence, and how it was done.

The sentence comes from the figures alone. It says "nothing" where the interval covers chance or
permuted labels reach the figure as often as one time in twenty, whatever else looks good.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from offline.atlas import Atlas
from offline.decoder.judge import LEFT_OUT
from offline.decoder.metrics import LEVEL, N_DRAWS, Figure
from offline.decoder.validate import Validation

__all__ = ["Verdict", "methods", "verdict", "versions"]

CHANCE_P = 0.05
ENOUGH_PERMUTATIONS = 19
"""With fewer, no p can be .05 or less."""

LIBRARIES = ("numpy", "scipy", "scikit-learn", "pandas", "nilearn", "numba")


@dataclass(frozen=True)
class Verdict:
    """The first sentence, and how to look at it.

    Attributes
    ----------
    found : bool
        Whether anything beyond chance was reached.
    sentence, reading : str
        What was reached, and what it means; `reading` may be "".
    """

    found: bool
    sentence: str
    reading: str


def verdict(validation: Validation) -> Verdict:
    """What may be said first."""
    figure = validation.figures[validation.headline]
    told = (
        f"{validation.classes[1]} from {validation.classes[0]}"
        if validation.classes
        else validation.target
    )
    if not np.isfinite(figure.value):
        return Verdict(False, f"Nothing can be said: no site by itself tells {told}.", "")
    kind = "AUC" if validation.classes else "r"
    reached = f"{kind} {figure.value:.2f} ({LEVEL:.0%} interval {_interval(figure)})"
    chance = f"chance is {figure.chance:.2f}"
    null = _null(validation)
    if figure.covers_chance:
        sentence = f"Adds nothing that can be shown: within sites, {told}: {reached}; {chance}."
        return Verdict(False, sentence, null + _left_out(validation))
    if figure.value < figure.chance:
        sentence = f"Worse than chance: within sites, {told}: {reached}; {chance}."
        return Verdict(False, sentence, null + _left_out(validation))
    if validation.p > CHANCE_P and len(validation.permuted) < ENOUGH_PERMUTATIONS:
        sentence = (
            f"Not shown yet: within sites, {told}: {reached}; {chance}, but"
            f" {len(validation.permuted)} permutations are too few to rely on it."
        )
        return Verdict(False, sentence, _left_out(validation))
    if validation.p > CHANCE_P:
        sentence = (
            f"Not to be relied on: within sites, {told}: {reached}, but permuted labels reach that"
            f" too often (p = {validation.p:.2f})."
        )
        return Verdict(False, sentence, _left_out(validation).strip())
    sentence = f"Within sites, {told}: {reached}; {chance}."
    return Verdict(True, sentence, _meaning(validation, figure) + null + _left_out(validation))


def _interval(figure: Figure) -> str:
    return f"{figure.low:.2f} to {figure.high:.2f}"


def _meaning(validation: Validation, figure: Figure) -> str:
    if validation.classes is None:
        return f"That is {figure.value**2:.0%} of the variance within sites. "
    return (
        f"Of two people of one site, one {validation.classes[1]} and one {validation.classes[0]},"
        f" the right one has the higher output in {100 * figure.value:.0f} of 100 cases. "
    )


def _null(validation: Validation) -> str:
    n = len(validation.permuted)
    if not n:
        return "No permuted labels were run. "
    reached = round(validation.p * (n + 1)) - 1
    return f"{reached} of {n} runs on permuted labels reach it (p = {validation.p:.2g}). "


def _left_out(validation: Validation) -> str:
    name = LEFT_OUT[validation.classes is not None]
    figure = validation.figures.get(name)
    if figure is None or not np.isfinite(figure.value):
        return "No site could be left out: nothing is known of a new scanner."
    beyond = "not beyond chance" if figure.covers_chance else "beyond chance"
    if not figure.covers_chance and figure.value < figure.chance:
        beyond = "below chance"
    return f"At sites left out of training: {figure.value:.2f} ({_interval(figure)}), {beyond}."


def methods(
    validation: Validation, atlas: Atlas | None, excluded: Sequence[tuple[str, int]] = ()
) -> list[str]:
    """Paragraphs that say what was done, from the resolved configuration.

    Parameters
    ----------
    validation : Validation
    atlas : Atlas or None
    excluded : sequence of tuple
        Reasons for exclusion and how many scans each.
    """
    s = validation.settings
    paragraphs = [_sample(validation, atlas, excluded), _model(s)]
    if s["harmonizer"] is not None:
        paragraphs.append(_harmonized(s))
    paragraphs.append(_judged(validation))
    return paragraphs


def _sample(
    validation: Validation, atlas: Atlas | None, excluded: Sequence[tuple[str, int]]
) -> str:
    s = validation.settings
    rois = (
        f" among the {atlas.n_rois} regions of {atlas.name} (SHA-256 of their labels"
        f" {atlas.digest[:12]})"
        if atlas is not None
        else ""
    )
    target = (
        f"{validation.target}, {validation.classes[1]} (positive) against {validation.classes[0]}"
        if validation.classes
        else f"{validation.target}, a number"
    )
    text = (
        f"Functional connectivity: Fisher z of {s['n_edges']:,} edges{rois}. Sample:"
        f" {s['n_scans']:,} scans of {s['n_people']:,} people at {s['n_sites']} sites. Target:"
        f" {target}."
    )
    if s["n_traveling_scans"]:
        text += f" {s['n_traveling_scans']} scans of traveling subjects taught the harmonizer only."
    if excluded:
        told = "; ".join(f"{reason}: {n}" for reason, n in excluded)
        text += f" Excluded scans by reason: {told}."
    return text


def _model(s: dict[str, Any]) -> str:
    e = s["estimator"]
    if e["class"] in ("LassoEnsemble", "LassoEnsembleRegressor"):
        regression = e["class"].endswith("Regressor")
        drawn = (
            f"{e['share']:.0%} of the training people"
            if regression
            else "equally many scans of each class"
        )
        rule = "the one-standard-error rule" if e["one_se"] else "the least inner deviance"
        loss = "linear" if regression else "logistic"
        text = (
            f"Decoder: {e['n_folds']} folds of people, even over sites and classes; in each"
            f" training set {e['n_undersamples']} draws of {drawn}; on each an L1-penalised {loss}"
            f" model, its penalty chosen among {e['n_lambdas']} by {rule} in"
            f" {e['n_inner_folds']} inner folds; the output is the mean over models (recipe of"
            " Yamashita et al. 2020, doi:10.1371/journal.pbio.3000966)."
        )
    else:
        parameters = ", ".join(f"{name}={value}" for name, value in e.items() if name != "class")
        text = f"Decoder: {e['class']}({parameters})."
    if e.get("within_person"):
        text += " Each person's mean over their scans was subtracted: states, not traits, are told."
    return text


def _harmonized(s: dict[str, Any]) -> str:
    h = s["harmonizer"]
    parameters = ", ".join(f"{name}={value}" for name, value in h.items() if name != "class")
    kept = ", ".join(s["covariates"]) or "none"
    policy = {
        "unharmonized": "were used as measured, since a harmonizer cannot know them",
        "extend": "were harmonized after adding the site by its traveling scans",
        "reference_controls": "were harmonized by their own controls, which is transductive",
    }[s["unseen_site"]]
    return (
        f"Harmonization: {h['class']}({parameters}), covariates kept: {kept}. It was fitted anew"
        " inside each training set, never saw the target, and was applied to the people left out"
        f" by their site. Scans of a site left out whole {policy}."
    )


def _judged(validation: Validation) -> str:
    s = validation.settings
    first = (
        "The average of the sites' own AUCs, weighted by their sizes"
        if validation.classes
        else "The correlation after each site's mean was taken off both sides"
    )
    return (
        f"Judgement: outputs for people whom no part of the model had seen, all scans of a person"
        f" together. {first}, comes first, since telling sites apart cannot raise it. Intervals"
        f" ({LEVEL:.0%}) are percentiles of {N_DRAWS:,} draws of people within site and class; for"
        " one site's AUC Newcombe's (2006, method 5). They do not contain what another training"
        f" sample would change. {s['n_permutations']} runs of the whole procedure on labels"
        " exchanged between people of one site give p and the null of the largest selection count."
        f" Seed {s['seed']}."
    )


def versions() -> dict[str, str]:
    """Versions of everything that made the figures."""
    from rtloop import __version__

    found = {"fcnef": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
