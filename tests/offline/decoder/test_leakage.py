"""What would let a decoder be judged with what it was trained on is refused, and nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from offline.decoder.leakage import refuse_determined_target, refuse_traveling
from offline.errors import LeakageError

N = 120
Y = (np.arange(N) % 2).astype(float)
RNG = np.random.default_rng(0)
SCORE = RNG.standard_normal(N)


def table(**columns: object) -> pd.DataFrame:
    return pd.DataFrame(columns)


@pytest.mark.parametrize(
    "covariates",
    [
        table(group=np.where(Y == 1, "patient", "control")),
        table(code=7 - 3 * Y),
        # patients are those with some drug: more levels than classes
        table(drug=np.where(Y == 1, RNG.choice(["a", "b", "c"], N), "none")),
        table(severity=np.where(Y == 1, RNG.uniform(10, 30, N), RNG.uniform(0, 8, N))),
        table(a=SCORE, b=Y - SCORE),
        table(a=np.where(SCORE > 0, "x", "z"), b=np.where((SCORE > 0) ^ (Y == 1), "x", "z")),
        table(flag=Y == 1),
    ],
    ids=["label", "code", "levels", "threshold", "sum", "combination", "bool"],
)
def test_refuses_covariates_that_tell_the_class(covariates: pd.DataFrame) -> None:
    covariates["age"] = RNG.uniform(20, 60, N)
    with pytest.raises(LeakageError, match="tell the target"):
        refuse_determined_target(covariates, Y, categorical=True)


def test_refuses_the_target_by_its_name() -> None:
    with pytest.raises(LeakageError, match="'diagnosis', the target itself"):
        refuse_determined_target(table(diagnosis=SCORE), Y, categorical=True, name="diagnosis")


@pytest.mark.parametrize("copy", [SCORE + 0.05 * RNG.standard_normal(N), -3 * SCORE + 1])
def test_refuses_another_scale_of_a_continuous_target(copy: np.ndarray) -> None:
    with pytest.raises(LeakageError, match="'copy'"):
        refuse_determined_target(table(copy=copy), SCORE, categorical=False)
    with pytest.raises(LeakageError, match="add up"):
        half = RNG.standard_normal(N)
        refuse_determined_target(table(a=half, b=SCORE - half), SCORE, categorical=False)


def test_allows_what_is_merely_related() -> None:
    age = 40 + 8 * Y + 10 * RNG.standard_normal(N)
    sex = np.where(RNG.random(N) < 0.3 + 0.4 * Y, "F", "M")
    missing = np.where(RNG.random(N) < 0.1, np.nan, age)
    handed = pd.Series(np.where(RNG.random(N) < 0.1, None, "right"), dtype=object)
    related = table(age=age, sex=sex, missing=missing, handed=handed)
    refuse_determined_target(related, Y, categorical=True)
    refuse_determined_target(related, SCORE, categorical=False)
    refuse_determined_target(pd.DataFrame(index=range(N)), Y, categorical=True)


def test_allows_cells_too_small_to_mean_anything() -> None:
    # 60 cells of two people each tell everyone's class, neither column alone does
    cells = table(a=[f"a{k // 6}" for k in range(N)], b=[f"b{k % 6 // 2}" for k in range(N)])
    pairs = np.repeat(RNG.permutation(Y[: N // 2]), 2)
    refuse_determined_target(cells, pairs, categorical=True)
    # a column that does is refused, however many levels it has
    named = cells.assign(name=[f"n{k}" for k in range(N)])
    with pytest.raises(LeakageError, match="'name'"):
        refuse_determined_target(named, pairs, categorical=True)


def test_refuses_people_at_several_sites() -> None:
    people = np.array(["a", "b", "c", "a"], object)
    with pytest.raises(LeakageError, match="found 1 scanned at several"):
        refuse_traveling(people, np.array(["X", "X", "Y", "Y"], object))
    refuse_traveling(people, np.array(["X", "X", "Y", "X"], object))
