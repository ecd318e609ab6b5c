"""Outputs for sites that a decoder never saw.

A site that is left out is unknown to a harmonizer fitted on the others. What happens to its scans
is therefore a choice that is named in the result: `UnseenSite`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from offline.decoder.folded import FoldedDecoder
from offline.decoder.infold import fit_harmonizer, harmonize
from offline.decoder.outputs.task import Task
from offline.errors import DecodeError, HarmonizeError

if TYPE_CHECKING:
    from offline.blocks import Executor

__all__ = ["left_out_sites", "require_unseen_site"]

Float64 = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


def left_out_sites(
    task: Task, executor: Executor | None = None, checkpoint: Path | None = None
) -> tuple[Float64, dict[str, str]]:
    """Output for each scan from a decoder trained on the other sites' other people alone.

    The harmonizer is fitted on the other sites' people (and traveling scans there).

    Parameters
    ----------
    task : Task
    executor : Executor or None
        Runs the sites; None runs them here.
    checkpoint : Path or None
        Folder where finished sites are kept.

    Returns
    -------
    tuple
        Outputs, shape (n_scans,), NaN for traveling scans and sites that could not be judged; and
        by site, what was done with its scans, or why it could not be judged.
    """
    sites = sorted({str(site) for site in task.sites[task.samples.rows]})
    work = partial(_left_out, task)
    results = (
        executor.map(work, sites, label="sites left out", checkpoint=checkpoint)
        if executor
        else map(work, sites)
    )
    outputs, told = np.full(len(task.y), np.nan), {}
    for site, found in zip(sites, results, strict=True):
        told[site] = found["told"]
        outputs[_rows_at(task, site)] = found["outputs"]
    return outputs, told


def require_unseen_site(task: Task) -> None:
    """Refuse a way of judging sites left out that this harmonizer or cohort has not.

    Raises
    ------
    DecodeError
        Saying what is missing.
    """
    if task.harmonizer is None or task.unseen_site == "unharmonized":
        return
    name = type(task.harmonizer).__name__
    if not hasattr(task.harmonizer, task.unseen_site):
        raise DecodeError(
            f"expected a harmonizer that sites can be added to by {task.unseen_site}, found"
            f" {name}; judge sites left out unharmonized"
        )
    if task.unseen_site == "extend" and not len(task.samples.travelers):
        raise DecodeError(
            "expected traveling scans to extend the harmonizer by, found none; judge sites left"
            " out unharmonized"
        )


def _rows_at(task: Task, site: str) -> Ints:
    rows = task.samples.rows
    return np.asarray(rows[task.sites[rows].astype(str) == site])


def _left_out(task: Task, site: str) -> dict[str, Any]:
    """Outputs for one site, and what was done with its scans."""
    samples = task.samples
    judged = _rows_at(task, site)
    # people who moved are not trained with at their other sites either
    rows = samples.rows[~np.isin(samples.people[samples.rows], samples.people[judged])]
    nothing = np.full(len(judged), np.nan)
    if not len(rows):
        return {"outputs": nothing, "told": "not judged: nobody was scanned elsewhere alone"}
    known = {}
    if getattr(task.estimator, "within_person", False):
        known["groups"] = samples.people[judged]
    try:
        X, test, told = _harmonized_apart(task, rows, judged)
        model = _fit_apart(task, rows, X)
        return {"outputs": task.output(model, test, **known), "told": told}
    except (DecodeError, HarmonizeError) as error:
        return {"outputs": nothing, "told": f"not judged: {error}"}


def _harmonized_apart(task: Task, rows: Ints, judged: Ints) -> tuple[Floats, Floats, str]:
    """Edges of the other sites and of the site left out, and what was done with the latter."""
    samples = task.samples
    X, test = samples.read(rows), samples.read(judged)
    if task.harmonizer is None:
        return X, test, "as measured"
    if len({str(site) for site in task.sites[rows]}) < 2:
        return X, test, "as measured: one other site, which has nothing to be harmonized with"
    site = str(task.sites[judged[0]])
    at_site = task.sites[samples.travelers].astype(str) == site
    elsewhere = replace(samples, rows=rows, travelers=samples.travelers[~at_site])
    fitted = fit_harmonizer(task.harmonizer, elsewhere, rows, X)
    X = harmonize(fitted, X, task.sites[rows], samples.covariates_of(rows))
    told = "as measured: the harmonizer never saw this site"
    if task.unseen_site != "unharmonized":
        if task.unseen_site == "extend":
            told = _extend(task, fitted, samples.travelers[at_site])
        else:
            told = _add_by_controls(task, fitted, judged)
        test = harmonize(fitted, test, task.sites[judged], samples.covariates_of(judged))
    return X, test, told


def _extend(task: Task, fitted: Any, travelers: Ints) -> str:
    """Let a harmonizer know the site by its traveling scans; what was done is returned."""
    if not len(travelers):
        raise DecodeError(
            "expected traveling scans at the site left out, found none; judge it unharmonized"
        )
    samples = task.samples
    subjects = [f"T{number}" for number in samples.people[travelers]]
    fitted.extend(samples.read(travelers), task.sites[travelers], subjects)
    return f"harmonized by {len(set(subjects))} traveling subjects, no label used"


def _add_by_controls(task: Task, fitted: Any, judged: Ints) -> str:
    """Let a harmonizer know the site by its own controls; what was done is returned."""
    samples = task.samples
    controls = judged[task.y[judged] == 0.0] if task.categorical else judged
    if len(controls) < 2:
        raise DecodeError(
            f"expected two controls or more at the site left out, found {len(controls)}; judge it"
            " unharmonized"
        )
    known: dict[str, Any] = {}
    if "covariates" in signature(fitted.reference_controls).parameters:
        known["covariates"] = samples.covariates_of(controls)
    fitted.reference_controls(samples.read(controls), task.sites[controls], **known)
    kind = "controls, whose diagnosis is thereby used" if task.categorical else "people"
    return f"TRANSDUCTIVE: harmonized by its own {len(controls)} {kind}"


def _fit_apart(task: Task, rows: Ints, X: Floats) -> Any:
    """The estimator on some scans whose edges are harmonized already."""
    samples, y = task.samples, task.y[rows]
    if task.categorical and len(np.unique(y)) < 2:
        raise DecodeError("expected both classes at the other sites, found one")
    model = clone(task.estimator)
    if not isinstance(model, FoldedDecoder):
        return model.fit(X, task.labels(y))
    model.set_params(harmonizer=None)
    return model.fit(
        X,
        task.labels(y),
        sites=task.sites[rows],
        groups=samples.people[rows],
        traveling=np.zeros(len(rows), bool),
    )
