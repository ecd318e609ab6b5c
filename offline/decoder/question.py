"""What is asked of a decoder, checked once: whose scans, which target, with what.

Everything that could make an answer worthless without anybody's noticing is refused here: a target
that covariates tell, a way of judging sites left out that this harmonizer or cohort has not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from offline.decoder.leakage import refuse_determined_target
from offline.decoder.outputs import Task, UnseenSite, require_unseen_site
from offline.decoder.samples import Samples
from offline.errors import DecodeError

if TYPE_CHECKING:
    from offline.store import EdgeStore

__all__ = ["Question", "ask"]

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """A task with its names.

    Attributes
    ----------
    task : Task
    target : str
    classes : tuple of str or None
        Names of the negative and the positive class; None for a continuous target.
    people : pandas.DataFrame
        One row a scan.
    covariates : tuple of str
        Columns of `people` that the harmonizer keeps.
    """

    task: Task
    target: str
    classes: tuple[str, str] | None
    people: pd.DataFrame
    covariates: tuple[str, ...]


def ask(
    X: NDArray[Any] | EdgeStore,
    y: ArrayLike,
    people: pd.DataFrame,
    estimator: Any,
    harmonizer: Any,
    *,
    target: str,
    positive: str | None,
    covariates: Sequence[str],
    unseen_site: UnseenSite,
    seed: int,
) -> Question:
    """Check what was given; arguments and errors as of `offline.decoder.validate.validate`."""
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
    return Question(task, target, classes, people, tuple(covariates))


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
    """The target as numbers (NaN for traveling scans), and names of its classes if it has two."""
    own = _complete(y, samples)
    numbers = np.full(samples.X.shape[0], np.nan)
    names = sorted({str(v) for v in own})
    if len(names) == 1:
        raise DecodeError(f"expected a target that varies, found {names[0]} for all; check it")
    as_numbers = all(isinstance(v, int | float | np.number) for v in own)
    if positive is None and as_numbers and len(names) > 2:
        numbers[samples.rows] = own.astype(np.float64)
        return numbers, None
    if len(names) != 2:
        raise DecodeError(
            f"expected a target of two classes, found {len(names)} ({', '.join(names[:5])}); choose"
            " two groups, or give numbers"
        )
    if positive is not None and positive not in names:
        raise DecodeError(
            f"expected the positive class to be one of {', '.join(names)}, found {positive}; check"
            " its spelling"
        )
    positive = names[1] if positive is None else positive
    negative = next(name for name in names if name != positive)
    numbers[samples.rows] = [float(str(v) == positive) for v in own]
    return numbers, (negative, positive)


def _complete(y: ArrayLike, samples: Samples) -> NDArray[Any]:
    """The target of the scans that do not travel, none missing."""
    values, n_scans = np.asarray(y, object), samples.X.shape[0]
    if values.shape != (n_scans,):
        raise DecodeError(
            f"expected a target for each of {n_scans} scans, found shape {values.shape}; give y in"
            " the order of the rows of X"
        )
    own = values[samples.rows]
    missing = int(np.sum(pd.isna(own)))
    if missing:
        raise DecodeError(
            f"expected the target of every scan, found {missing} missing; leave those scans out"
        )
    return own
