"""How a validation was done, in words, from its resolved configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from offline.atlas import Atlas
from offline.decoder.metrics import LEVEL, N_DRAWS
from offline.decoder.validate import Validation
from offline.numerals import counted

__all__ = ["methods"]


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
        paragraphs.append(_harmonization(s))
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
        f" {counted(s['n_scans'], 'scan')} of {counted(s['n_people'], 'person', 'people')} at"
        f" {counted(s['n_sites'], 'site')}. Target: {target}."
    )
    least = s.get("min_people_per_site", 1)
    if least > 1:
        text += f" Sites with fewer than {least} people of the sample were left out."
    if s["n_traveling_scans"]:
        scans = counted(s["n_traveling_scans"], "scan")
        text += f" {scans} of traveling subjects taught the harmonizer only."
    if excluded:
        told = "; ".join(f"{reason}: {n}" for reason, n in excluded)
        text += f" Excluded scans by reason: {told}."
    return text


def _model(s: dict[str, Any]) -> str:
    e = s["estimator"]
    if e["class"] in ("LassoEnsemble", "LassoEnsembleRegressor"):
        text = _lasso(e, e["class"].endswith("Regressor"))
    elif e["class"] in ("ComponentClassifier", "ComponentRegressor"):
        text = _components(e)
    else:
        text = f"Decoder: {_call(e)}."
    if e.get("within_person"):
        text += " Each person's mean over their scans was subtracted: states, not traits, are told."
    return text


def _lasso(e: dict[str, Any], regression: bool) -> str:
    drawn = (
        f"{e['share'] * 100:.0f} % of the training people"
        if regression
        else "equally many scans of each class"
    )
    rule = "the one-standard-error rule" if e["one_se"] else "the least inner deviance"
    loss = "linear" if regression else "logistic"
    return (
        f"Decoder: {e['n_folds']} folds of people, even over sites and classes; in each training"
        f" set {counted(e['n_undersamples'], 'draw')} of {drawn}; on each an L1-penalised {loss}"
        f" model, its penalty chosen among {e['n_lambdas']} by {rule} in {e['n_inner_folds']}"
        " inner folds; the output is the mean over models (recipe of Yamashita et al. 2020,"
        " doi:10.1371/journal.pbio.3000966)."
    )


def _components(e: dict[str, Any]) -> str:
    used = "scores of these" if e["features"] == "scores" else "edges that make them up"
    return (
        f"Decoder: {e['n_folds']} folds of people, even over sites and classes; in each training"
        f" set principal components that go with the target (false discovery rate {e['q']:g}), and"
        f" a ridge model (penalty {e['penalty']:g}) on the {used}."
    )


def _harmonization(s: dict[str, Any]) -> str:
    h = s["harmonizer"]
    kept = ", ".join(s["covariates"]) or "none"
    policy = {
        "unharmonized": "were used as measured, since a harmonizer cannot know them",
        "extend": "were harmonized after adding the site by its traveling scans",
        "reference_controls": "were harmonized by their own controls, which is transductive",
    }[s["unseen_site"]]
    how = {"ComBat": _combat, "TravelingSubject": _traveling}.get(h["class"], _call)
    return (
        f"Harmonization: {how(h)}; covariates kept: {kept}. It was fitted anew inside each"
        " training set, never saw the target, and was applied to the people left out by their"
        f" site. Scans of a site left out whole {policy}."
    )


def _combat(h: dict[str, Any]) -> str:
    priors = "parametric" if h["parametric"] else "non-parametric"
    bayes = f"{priors} empirical Bayes" if h["empirical_bayes"] else "without empirical Bayes"
    moments = "means only" if h["mean_only"] else "means and variances"
    reference = f"reference site {h['reference_site']}" if h["reference_site"] else "no reference"
    return (
        f"ComBat ({bayes}, {moments}, {reference}; Johnson et al. 2007,"
        " doi:10.1093/biostatistics/kxj037)"
    )


def _traveling(h: dict[str, Any]) -> str:
    penalty = (
        "by generalised cross-validation" if h["penalty"] == "gcv" else f"{float(h['penalty']):g}"
    )
    who = "travelers and residents" if h["estimator"] == "joint" else "travelers alone"
    return (
        f"traveling-subject method ({who}, ridge penalty {penalty}; Yamashita et al. 2019,"
        " doi:10.1371/journal.pbio.3000042)"
    )


def _call(described: dict[str, Any]) -> str:
    parameters = ", ".join(
        f"{name}={value}" for name, value in described.items() if name != "class"
    )
    return f"{described['class']}({parameters})"


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
        f" ({LEVEL * 100:.0f} %) are percentiles of {N_DRAWS:,} draws of people within site and"
        " class; for one site's AUC Newcombe's (2006, method 5). They do not contain what"
        " another training sample would"
        f" change.{_permutations(s['n_permutations'])} Seed {s['seed']}."
    )


def _permutations(n: int) -> str:
    if not n:
        return " No labels were permuted."
    return (
        f" {counted(n, 'run')} of the whole procedure on labels exchanged between people of one"
        " site give p and the null of the largest selection count."
    )
