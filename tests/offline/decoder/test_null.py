"""The permutation null keeps what may not be permuted, compares like with like, and resumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from offline.blocks import open_executor
from offline.decoder import LassoEnsemble, max_count_null
from offline.decoder.null import SelectionNull, permuted
from offline.errors import DecodeError, ExecutorError
from tests.offline.decoder.people import people

DECODER = LassoEnsemble(n_folds=4, n_undersamples=3, n_lambdas=6, n_inner_folds=4)


def quiet(_: str) -> None:
    """Says nothing."""


def test_labels_move_between_people_of_one_site() -> None:
    rng = np.random.default_rng(0)
    names = np.repeat([f"p{k}" for k in range(60)], 2).astype(object)
    sites = np.repeat(np.array(["A", "B", "C"])[np.arange(60) % 3], 2)
    label_of = rng.random(60) < np.array([0.2, 0.5, 0.8])[np.arange(60) % 3]
    y = np.repeat(label_of, 2).astype(int)
    other = permuted(y, names, sites, rng)
    assert not np.array_equal(other, y)
    assert np.array_equal(other[::2], other[1::2])
    for site in "ABC":
        assert other[sites == site].sum() == y[sites == site].sum()


def test_labels_that_vary_move_within_their_person() -> None:
    names = np.repeat(np.arange(30), 2).astype(object)
    y = np.tile([0, 1], 30)
    other = permuted(y, names, None, np.random.default_rng(0))
    assert np.array_equal(other[::2] + other[1::2], np.ones(30))
    assert 5 < np.sum(other[::2] == 1) < 25


def test_true_edges_exceed_the_null_and_others_do_not() -> None:
    cohort = people(120, effect=1.6)
    said: list[str] = []
    null = max_count_null(
        DECODER,
        cohort.X,
        cohort.y,
        n_permutations=12,
        n_undersamples=1,
        say=said.append,
        **cohort.known,
    )
    assert "12 permutations of 4 models" in said[0]
    assert "minutes of CPU" in said[0]
    # the counts compared are of four models as well, not of the decoder's twelve
    assert null.n_models == null.counts.max() == 4
    assert null.largest.shape == (12,)
    assert null.largest.max() <= 4
    assert null.threshold >= np.median(null.largest)
    if null.threshold < 4:
        assert set(null.significant.tolist()) <= set(range(10))
    assert DECODER.n_undersamples == 3
    assert not hasattr(DECODER, "coef_")


def test_resumes_where_it_stopped_and_runs_anywhere(tmp_path: Path) -> None:
    cohort = people(80)
    known = {**cohort.known, "say": quiet, "n_undersamples": 1}
    whole = max_count_null(DECODER, cohort.X, cohort.y, n_permutations=5, **known)
    folder = tmp_path / "null"
    max_count_null(DECODER, cohort.X, cohort.y, n_permutations=2, checkpoint=folder, **known)
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("item-*")}
    assert len(kept) == 2
    with open_executor(workers=2) as executor:
        rest = max_count_null(
            DECODER,
            cohort.X,
            cohort.y,
            n_permutations=5,
            checkpoint=folder,
            executor=executor,
            **known,
        )
    assert np.array_equal(rest.largest, whole.largest)
    for name, written in kept.items():
        assert (folder / name).stat().st_mtime_ns == written
    with pytest.raises(ExecutorError, match="other parameters"):
        max_count_null(
            DECODER, cohort.X + 1, cohort.y, n_permutations=2, checkpoint=folder, **known
        )


def test_threshold_and_p_count_maxima() -> None:
    largest = np.array([1] * 10 + [2] * 6 + [3] * 4)
    null = SelectionNull(np.array([0, 1, 2, 3, 4]), largest, 10, 0.75, 1.0)
    assert null.threshold == 2
    assert null.significant.tolist() == [4, 3]
    np.testing.assert_allclose(null.p(), np.array([21, 21, 11, 5, 1]) / 21)


@pytest.mark.parametrize("n", [1, 3, 18, 19, 20, 39, 99, 100])
def test_what_is_significant_has_a_small_p(n: int) -> None:
    largest = np.random.default_rng(n).integers(0, 60, n)
    null = SelectionNull(np.arange(101), largest, 100, 0.95, 1.0)
    assert sorted(null.significant.tolist()) == np.flatnonzero(null.p() <= 0.05).tolist()
    assert bool(len(null.significant)) == (n >= 19)  # fewer show nothing


def test_refuses_nothing_to_do() -> None:
    cohort = people(80)
    with pytest.raises(DecodeError, match="at least one permutation"):
        max_count_null(DECODER, cohort.X, cohort.y, n_permutations=0)
