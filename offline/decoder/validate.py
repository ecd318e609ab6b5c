"""What may be claimed of a decoder: nested evaluation, and everything that could fool it.

`validate` returns figures that hold where prevalence and scanners differ between sites: the
average of the sites' own AUCs from outputs for people a model never saw, the same at sites left
out whole, and both beside what permuted labels give. The pooled AUC, which a decoder that knows
nothing but the site can raise at will, is given under `not_to_believe`. Nothing here looks at how
a decoder works; any estimator of scikit-learn's conventions will do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from offline.blocks import Executor, open_executor
from offline.decoder.confounds import confounding, predict_site
from offline.decoder.judge import Judge
from offline.decoder.metrics import Figure
from offline.decoder.null import SelectionNull
from offline.decoder.outputs import Task, UnseenSite, left_out_sites, out_of_fold, permuted_run
from offline.decoder.question import Question, ask
from offline.decoder.validation import Validation
from offline.errors import DecodeError
from offline.numerals import counted

if TYPE_CHECKING:
    from offline.store import EdgeStore

__all__ = ["Validation", "validate"]

QUANTILE = 0.95
"""Of the largest selection counts, which an edge has to exceed."""

Float64 = NDArray[np.float64]


def validate(
    X: NDArray[Any] | EdgeStore,
    y: ArrayLike,
    people: pd.DataFrame,
    estimator: Any,
    harmonizer: Any = None,
    executor: Executor | None = None,
    n_permutations: int = 100,
    seed: int = 0,
    *,
    target: str = "target",
    positive: str | None = None,
    covariates: Sequence[str] = (),
    unseen_site: UnseenSite = "unharmonized",
    leave_out: bool = True,
    checkpoint: str | Path | None = None,
    say: Callable[[str], None] | None = None,
) -> Validation:
    """Judge an estimator on a cohort.

    Parameters
    ----------
    X : ndarray or EdgeStore, shape (n_scans, n_edges)
        Fisher z, finite, not harmonized.
    y : array_like, shape (n_scans,)
        Text or two values: classes. More than two numbers: a continuous target. Not looked at for
        traveling scans.
    people : pandas.DataFrame
        One row a scan in the order of `X`: `participant`, `site`; where present `traveling`,
        `mean_fd` and the covariates.
    estimator : estimator
        Unfitted classifier or regressor of scikit-learn's conventions. Its own `harmonizer`, if it
        has that parameter, is used where `harmonizer` is None.
    harmonizer : estimator or None
        Unfitted; fitted inside each training set only.
    executor : Executor or None
        Runs folds, sites and permutations; None runs them here.
    n_permutations : int
        Runs on permuted labels; 0 for none.
    seed : int
        Of folds, permutations and draws.
    target : str
        What the target is called.
    positive : str or None
        The class counted as positive; None for the last in order.
    covariates : sequence of str
        Columns of `people` that the harmonizer shall keep. May not tell the target.
    unseen_site : "unharmonized", "extend" or "reference_controls"
        What happens to the scans of a site that is left out.
    leave_out : bool
        Whether sites are left out at all.
    checkpoint : str, Path or None
        Folder where finished sites and permutations are kept, so that an interrupted run goes on.
    say : callable or None
        Told the cost once one run is measured, before the others begin.

    Returns
    -------
    Validation

    Raises
    ------
    DecodeError
        If the scans, the target or the sites do not allow a judgement.
    LeakageError
        If covariates tell the target, or a person is on both sides.
    """
    if n_permutations < 0:
        raise DecodeError(
            f"expected no fewer than 0 permutations, found {n_permutations}; use 100, or 0 for none"
        )
    asked = ask(
        X,
        y,
        people,
        estimator,
        harmonizer,
        target=target,
        positive=positive,
        covariates=covariates,
        unseen_site=unseen_site,
        seed=seed,
    )
    folder = None if checkpoint is None else Path(checkpoint)
    with nullcontext(executor) if executor else open_executor(workers=1) as running:
        found = _run(asked.task, running, n_permutations, leave_out, folder, say)
    sites = predict_site(asked.task.samples, asked.task.harmonizer, seed, executor)
    return _judged(asked, found, sites)


@dataclass(frozen=True)
class _Found:
    """What was run."""

    outputs: Float64
    decoder: Any
    left: Float64
    told: dict[str, str]
    permuted: list[dict[str, Any]]
    cpu_s: float


def _run(
    task: Task,
    executor: Executor,
    n_permutations: int,
    leave_out: bool,
    folder: Path | None,
    say: Callable[[str], None] | None,
) -> _Found:
    """The decoder out of fold, at sites left out, and on permuted targets."""
    started_s, started_cpu_s = time.monotonic(), time.process_time()
    outputs, decoder = out_of_fold(task, executor)
    elapsed_s, cpu_s = time.monotonic() - started_s, time.process_time() - started_cpu_s
    n_sites = len(set(task.sites[task.samples.rows].tolist()))
    n_left = n_sites if leave_out and n_sites > 1 else 0
    if say is not None:
        say(
            f"one run took {elapsed_s:.1f} s ({cpu_s:.1f} s of CPU in this process);"
            f" {counted(n_left, 'site')} left out and {counted(n_permutations, 'permutation')} to"
            f" come: about {(n_left + n_permutations) * elapsed_s / 60:.1f} minutes"
        )
    left, told = np.full(len(task.y), np.nan), dict[str, str]()
    if n_left:
        left, told = left_out_sites(task, executor, folder and folder / "sites")
    permuted = executor.map(
        partial(permuted_run, task),
        range(n_permutations),
        label="permutations",
        checkpoint=folder and folder / "permutations",
    )
    return _Found(outputs, decoder, left, told, list(permuted), cpu_s)


def _judged(asked: Question, found: _Found, site_prediction: pd.DataFrame) -> Validation:
    """Figures and tables of what was run."""
    task = asked.task
    judge = Judge(task, task.seed)
    table, v, warnings = confounding(
        task.y, task.samples, task.categorical, asked.target, asked.classes
    )
    figures, pooled = judge.figures(found.outputs, found.left)
    motion = judge.motion(found.outputs, asked.people)
    bins, brier, error = None, float("nan"), float("nan")
    if task.categorical:
        known = getattr(found.decoder, "out_of_fold_calibrated_", found.outputs)
        bins, brier, error = judge.calibration(known)
    return Validation(
        target=asked.target,
        classes=asked.classes,
        figures=figures,
        not_to_believe=pooled,
        permuted=judge.permuted(found.permuted),
        sites=judge.sites(found.outputs, found.left, found.told),
        outputs=_outputs(asked, found),
        site_prediction=site_prediction,
        confounds=table,
        confounding=v,
        motion=motion,
        calibration=bins,
        brier=brier,
        calibration_error=error,
        selection=_selection(found),
        warnings=(*warnings, *_of_motion(motion)),
        notes=_notes(task, found),
        settings=_settings(asked, found),
        decoder=found.decoder,
    )


def _outputs(asked: Question, found: _Found) -> pd.DataFrame:
    """One row a judged scan."""
    task, rows = asked.task, asked.task.samples.rows
    known = [c for c in ("participant", "session", "site", "mean_fd") if c in asked.people]
    table = asked.people.iloc[rows][known].reset_index(drop=True)
    y, classes = task.y[rows], asked.classes
    table["target"] = y if classes is None else [classes[int(v)] for v in y]
    table["output"] = found.outputs[rows]
    table["output_left_out"] = found.left[rows]
    if task.categorical and hasattr(found.decoder, "out_of_fold_calibrated_"):
        table["output_calibrated"] = found.decoder.out_of_fold_calibrated_[rows]
    return table


def _selection(found: _Found) -> SelectionNull | None:
    if found.decoder is None or not found.permuted:
        return None
    largest = np.array([run["largest"] for run in found.permuted], np.int64)
    counts, n_models = found.decoder.selection_counts_, len(found.decoder.intercept_)
    return SelectionNull(counts, largest, n_models, QUANTILE, found.cpu_s)


def _of_motion(motion: dict[str, Figure]) -> list[str]:
    """A warning where outputs go with motion within sites."""
    figure = motion.get("within sites")
    if figure is None or figure.covers_chance:
        return []
    return [
        f"Outputs go with motion: r with mean FD within sites is {figure}. Part of what is told"
        " may be motion; exclude by FD or match groups for it."
    ]


def _notes(task: Task, found: _Found) -> tuple[str, ...]:
    notes = [*getattr(found.decoder, "notes_", ())]
    repeats = len(task.samples.rows) - len(np.unique(task.samples.people[task.samples.rows]))
    if repeats:
        are = "is a repeat" if repeats == 1 else "are repeats"
        scans = counted(repeats, "scan")
        notes.append(f"{scans} {are} of a person: people are drawn, not scans.")
    if len(task.samples.travelers):
        notes.append(
            f"{len(task.samples.travelers)} traveling scans are in no fold: they teach the"
            " harmonizer alone."
        )
    if any("TRANSDUCTIVE" in told for told in found.told.values()):
        notes.append(
            "TRANSDUCTIVE: sites left out were harmonized by their own controls; this is no"
            " result on an unseen site."
        )
    if 0 < len(found.permuted) < 19:
        notes.append(
            f"{counted(len(found.permuted), 'permutation')} cannot show p below"
            f" {1 / (1 + len(found.permuted)):.2f}."
        )
    return tuple(notes)


def _settings(asked: Question, found: _Found) -> dict[str, Any]:
    """Resolved configuration and sizes."""
    task = asked.task
    samples = task.samples
    return {
        "estimator": _described(task.estimator),
        "harmonizer": _described(task.harmonizer),
        "covariates": list(asked.covariates),
        "unseen_site": task.unseen_site if task.harmonizer is not None else "none needed",
        "seed": task.seed,
        "n_permutations": len(found.permuted),
        "n_scans": len(samples.rows),
        "n_people": len(np.unique(samples.people[samples.rows])),
        "n_traveling_scans": len(samples.travelers),
        "n_sites": len({str(site) for site in task.sites[samples.rows]}),
        "n_edges": int(samples.X.shape[1]),
        "cpu_s_of_one_run": round(found.cpu_s, 2),
    }


def _described(estimator: Any) -> dict[str, Any] | None:
    """Class and parameters of an estimator, as JSON can hold them; None for none."""
    if estimator is None:
        return None
    parameters = {
        name: value if isinstance(value, int | float | str | bool | None) else str(value)
        for name, value in estimator.get_params(deep=False).items()
    }
    return {"class": type(estimator).__name__, **parameters}
