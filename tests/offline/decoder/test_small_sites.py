"""Sites of too few people: found, left out, and as few as are needed for any folds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from offline.decoder.folds import bins, deal
from offline.decoder.small_sites import common_sites, least_people, without_small_sites
from offline.decoder.study import Chosen
from offline.errors import DecodeError
from offline.harmonize import ComBat, TravelingSubject


def sample(sites: list[str], traveling: list[bool] | None = None, **columns: Any) -> Chosen:
    n = len(sites)
    people = pd.DataFrame(
        {
            "participant": [f"p{k}" for k in range(n)],
            "session": "1",
            "site": sites,
            "traveling": traveling or [False] * n,
            **columns,
        }
    )
    X = np.arange(3.0 * n, dtype=np.float32).reshape(n, 3)
    return Chosen(X, np.arange(n).astype(object), people, None, None, ("told before",))


def test_small_sites_go_and_travelers_stay() -> None:
    sites = ["A"] * 4 + ["B"] * 3 + ["C"] * 2 + ["B"]
    chosen = sample(sites, [False] * 8 + [True, True])
    stays, left_out = without_small_sites(chosen, 3)
    assert stays.people["site"].tolist() == ["A"] * 4 + ["B"] * 3 + ["C", "B"]
    assert stays.y.tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    np.testing.assert_array_equal(stays.X, np.asarray(chosen.X)[[0, 1, 2, 3, 4, 5, 6, 8, 9]])
    assert stays.told == ("told before", "1 scan at sites with fewer than 3 people left out: C 1")
    assert left_out.to_dict("records") == [
        {"participant": "p7", "session": "1", "reason": "site C: 1 person, at least 3 asked"}
    ]
    same, nobody = without_small_sites(chosen, 1)
    assert same is chosen
    assert len(nobody) == 0


def test_people_count_not_scans() -> None:
    chosen = sample(["A"] * 4 + ["B"] * 4)
    chosen.people.loc[4:, "participant"] = "same"
    assert without_small_sites(chosen, 2)[0].people["site"].unique().tolist() == ["A"]


def test_refusals() -> None:
    with pytest.raises(DecodeError, match="at least 1 person per site, found 0"):
        without_small_sites(sample(["A"] * 4), 0)
    with pytest.raises(DecodeError, match="found at most 4; ask for fewer"):
        without_small_sites(sample(["A"] * 4), 5)


@pytest.mark.parametrize("categorical", [True, False])
@pytest.mark.parametrize(
    ("harmonizer", "needed"), [(ComBat(), 2), (TravelingSubject(), 1), (None, 0)]
)
def test_as_few_as_any_folds_leave_enough(categorical: bool, harmonizer: Any, needed: int) -> None:
    """Over many deals of folds the site never has fewer than are needed, and sometimes just so."""
    least = least_people(harmonizer, categorical)
    fewest = least
    for seed in range(300):
        rng = np.random.default_rng(seed)
        n = 100
        y = rng.standard_normal(n)
        labels = (y > 0).astype(np.int64) if categorical else bins(y, 10)
        sites = np.zeros(n, np.int64)
        sites[rng.choice(n, least, replace=False)] = 1
        folds = deal(np.arange(n), labels, 10, rng, sites)
        left = [int(np.sum(sites[folds != fold])) for fold in range(10)]
        fewest = min(fewest, *left)
    assert fewest >= needed
    if categorical and harmonizer is not None:
        assert fewest == needed


def test_sites_that_every_decoder_knows() -> None:
    people = sample(["A"] * 3 + ["B"] * 2 + ["C"] * 2).people
    dx = np.array(["HC", "X", "Y", "HC", "X", "X", "X"], object)
    np.testing.assert_array_equal(
        common_sites(people, dx, ["X", "Y"], "HC", 1), [True] * 5 + [False] * 2
    )
    np.testing.assert_array_equal(
        common_sites(people, dx, ["X", "Y"], "HC", 2), [True] * 3 + [False] * 4
    )
