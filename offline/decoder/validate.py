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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from offline.blocks import Executor, open_executor
from offline.decoder.confounds import confounding, predict_site
from offline.decoder.judge import WITHIN, Judge
from offline.decoder.leakage import refuse_determined_target
from offline.decoder.metrics import Figure
from offline.decoder.null import SelectionNull
from offline.decoder.outputs import (
    Task,
    UnseenSite,
    left_out_sites,
    out_of_fold,
    permuted_run,
    require_unseen_site,
)
from offline.decoder.samples import Samples
from offline.errors import DecodeError

if TYPE_CHECKING:
    from offline.store import EdgeStore

__all__ = ["Validation", "validate"]

QUANTILE = 0.95
"""Of the largest selection counts, which an edge has to exceed."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Validation:
    """Figures and tables of one decoder on one target.

    Attributes
    ----------
    target : str
    classes : tuple of str or None
        Names of the negative and the positive class; None for a continuous target.
    figures : dict of str to Figure
        What may be quoted; `headline` is the one to begin with.
    not_to_believe : dict of str to Figure
        Pooled over sites.
    permuted : pandas.DataFrame
        One row a permutation: the headline and the pooled figure, `largest` selection count.
    sites : pandas.DataFrame
        One row a site: people, AUC (or r) with interval, within sites and left out; `told`: what
        was done with the site's scans when it was left out.
    outputs : pandas.DataFrame
        One row a judged scan: participant, site, target, output, output_left_out and, where
        known, output_calibrated and mean_fd.
    site_prediction : pandas.DataFrame
        From `offline.decoder.confounds.predict_site`.
    confounds : pandas.DataFrame
        People of each class at each site.
    confounding : float
        Cramér's V of target and site; for a continuous target the share of its SD between sites.
    motion : dict of str to Figure
        Correlation of output and mean FD: `pooled`, `within sites`.
    calibration : pandas.DataFrame or None
        Bins of probabilities: calibrated ones where the decoder has them.
    brier, calibration_error : float
        Of the same; NaN for a continuous target.
    selection : SelectionNull or None
        Selection counts against their null; None without permutations or counts.
    warnings, notes : tuple of str
        What a reader must know first, and should know besides.
    settings : dict
        Resolved configuration.
    decoder : estimator or None
        Fitted, where it is one of this package.
    disorders : pandas.DataFrame or None
        Every decoder on every disorder, where somebody made that table.
    """

    target: str
    classes: tuple[str, str] | None
    figures: dict[str, Figure]
    not_to_believe: dict[str, Figure]
    permuted: pd.DataFrame
    sites: pd.DataFrame
    outputs: pd.DataFrame
    site_prediction: pd.DataFrame
    confounds: pd.DataFrame
    confounding: float
    motion: dict[str, Figure]
    calibration: pd.DataFrame | None
    brier: float
    calibration_error: float
    selection: SelectionNull | None
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    settings: dict[str, Any]
    decoder: Any = None
    disorders: pd.DataFrame | None = None

    @property
    def headline(self) -> str:
        """Name of the figure to begin with."""
        return WITHIN[self.classes is not None]

    @property
    def p(self) -> float:
        """Share of permutations that reach the headline, the truth counted in; NaN without any."""
        value = self.figures[self.headline].value
        if not len(self.permuted) or not np.isfinite(value):
            return float("nan")
        reached = self.permuted[self.headline].to_numpy(np.float64) >= value
        return float((1 + reached.sum()) / (1 + len(reached)))


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
        raise DecodeError(f"expected no fewer than 0 permutations, found {n_permutations}")
    samples = _samples(X, people, covariates)
    numbers, classes = _numbers(y, samples, positive)
    if harmonizer is None:
        harmonizer = estimator.get_params(deep=False).get("harmonizer")
    if harmonizer is not None and samples.covariates is not None:
        own = samples.covariates_of(samples.rows)
        assert own is not None
        refuse_determined_target(own, numbers[samples.rows], classes is not None, target)
    bare = clone(estimator)
    if "harmonizer" in bare.get_params(deep=False):
        bare.set_params(harmonizer=None)
    task = Task(samples, numbers, classes is not None, bare, harmonizer, unseen_site, seed)
    require_unseen_site(task)
    judge = Judge(task, seed)
    table, v, warnings = confounding(task.y, task.samples, task.categorical, target, classes)
    if executor is None:
        with open_executor(workers=1) as here:
            found = _run(task, here, n_permutations, leave_out, checkpoint, say)
    else:
        found = _run(task, executor, n_permutations, leave_out, checkpoint, say)
    figures, pooled = judge.figures(found.outputs, found.left)
    motion = judge.motion(found.outputs, people)
    bins, brier, error = None, float("nan"), float("nan")
    if task.categorical:
        known = getattr(found.decoder, "out_of_fold_calibrated_", found.outputs)
        bins, brier, error = judge.calibration(known)
    return Validation(
        target=target,
        classes=classes,
        figures=figures,
        not_to_believe=pooled,
        permuted=judge.permuted(found.permuted),
        sites=judge.sites(found.outputs, found.left, found.told),
        outputs=_outputs(task, people, found, classes),
        site_prediction=predict_site(task.samples, task.harmonizer, seed, executor),
        confounds=table,
        confounding=v,
        motion=motion,
        calibration=bins,
        brier=brier,
        calibration_error=error,
        selection=_selection(found),
        warnings=(*warnings, *_of_motion(motion)),
        notes=_notes(task, found),
        settings={
            "estimator": described(task.estimator),
            "harmonizer": described(task.harmonizer),
            "covariates": list(covariates),
            "unseen_site": unseen_site if task.harmonizer is not None else "none needed",
            "seed": seed,
            "n_permutations": n_permutations,
            "n_scans": len(task.samples.rows),
            "n_people": len(np.unique(task.samples.people[task.samples.rows])),
            "n_traveling_scans": len(task.samples.travelers),
            "n_sites": len(judge.sites(found.outputs, found.left, {})),
            "n_edges": int(X.shape[1]),
            "cpu_s_of_one_run": round(found.cpu_s, 2),
        },
        decoder=found.decoder,
    )


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
    checkpoint: str | Path | None,
    say: Callable[[str], None] | None,
) -> _Found:
    started_s, started_cpu_s = time.monotonic(), time.process_time()
    outputs, decoder = out_of_fold(task, executor)
    elapsed_s, cpu_s = time.monotonic() - started_s, time.process_time() - started_cpu_s
    n_sites = len(set(task.sites[task.samples.rows].tolist()))
    n_left = n_sites if leave_out and n_sites > 1 else 0
    if say is not None:
        say(
            f"one run took {elapsed_s:.1f} s ({cpu_s:.1f} s of CPU in this process); {n_left} sites"
            f" left out and {n_permutations} permutations to come: about"
            f" {(n_left + n_permutations) * elapsed_s / 60:.1f} minutes"
        )
    folder = None if checkpoint is None else Path(checkpoint)
    left = np.full(len(task.y), np.nan)
    told: dict[str, str] = {}
    if n_left:
        left, told = left_out_sites(task, executor, None if folder is None else folder / "sites")
    permuted = executor.map(
        partial(permuted_run, task),
        range(n_permutations),
        label="permutations",
        checkpoint=None if folder is None else folder / "permutations",
    )
    return _Found(outputs, decoder, left, told, list(permuted), cpu_s)


def _samples(X: Any, people: pd.DataFrame, covariates: Sequence[str]) -> Samples:
    """Scans with their people and sites, checked."""
    columns = ["participant", "site", *covariates]
    missing = [name for name in columns if name not in people]
    if missing:
        raise DecodeError(
            f"expected columns {', '.join(columns)} in the table of people, found none named"
            f" {', '.join(missing)}; add them"
        )
    if len(people) != X.shape[0]:
        raise DecodeError(
            f"expected a row of people for each of {X.shape[0]} scans, found {len(people)}; give"
            " them in the order of the rows of X"
        )
    travels = people["traveling"].fillna(False).to_numpy(bool) if "traveling" in people else None
    return Samples.of(
        X,
        people["site"].to_numpy(object),
        people["participant"].to_numpy(object),
        people[list(covariates)] if covariates else None,
        travels,
    )


def _numbers(
    y: ArrayLike, samples: Samples, positive: str | None
) -> tuple[Float64, tuple[str, str] | None]:
    """The target as numbers, and names of its classes if it has two."""
    values = np.asarray(y, object)
    if values.shape != (samples.X.shape[0],):
        raise DecodeError(
            f"expected a target for each of {samples.X.shape[0]} scans, found shape"
            f" {values.shape}; give y in the order of the rows of X"
        )
    own = values[samples.rows]
    missing = int(np.sum(pd.isna(own)))
    if missing:
        raise DecodeError(
            f"expected the target of every scan, found {missing} missing; leave those scans out"
        )
    names = sorted({str(v) for v in own})
    as_numbers = all(isinstance(v, int | float | np.number) for v in own)
    if len(names) == 1:
        raise DecodeError(f"expected a target that varies, found {names[0]} for all; check it")
    if positive is None and as_numbers and len(names) > 2:
        numbers = np.full(len(values), np.nan)
        numbers[samples.rows] = own.astype(np.float64)
        return numbers, None
    if len(names) != 2:
        raise DecodeError(
            f"expected a target of two classes, found {len(names)} ({', '.join(names[:5])}); choose"
            " two groups, or give numbers"
        )
    if positive is not None and positive not in names:
        raise DecodeError(
            f"expected the positive class to be one of {', '.join(names)}, found {positive}"
        )
    positive = names[1] if positive is None else positive
    negative = next(name for name in names if name != positive)
    numbers = np.full(len(values), np.nan)
    numbers[samples.rows] = [float(str(v) == positive) for v in own]
    return numbers, (negative, positive)


def _outputs(
    task: Task, people: pd.DataFrame, found: _Found, classes: tuple[str, str] | None
) -> pd.DataFrame:
    rows = task.samples.rows
    known = ["participant", "session", "site", "mean_fd"]
    table = people.iloc[rows][[name for name in known if name in people]].reset_index(drop=True)
    y = task.y[rows]
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
        notes.append(f"{repeats} scans are repeats of a person: people are drawn, not scans.")
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
            f"{len(found.permuted)} permutations cannot show p below"
            f" {1 / (1 + len(found.permuted)):.2f}."
        )
    return tuple(notes)


def described(estimator: Any) -> dict[str, Any] | None:
    """Class and parameters of an estimator, as JSON can hold them; None for none."""
    if estimator is None:
        return None
    parameters = {
        name: value if isinstance(value, int | float | str | bool | None) else str(value)
        for name, value in estimator.get_params(deep=False).items()
    }
    return {"class": type(estimator).__name__, **parameters}
