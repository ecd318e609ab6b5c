"""The delay kernel: ring order, missing samples, undefined values."""

from __future__ import annotations

import numpy as np
import pytest

from rtloop.kernels.delay import delay

N_SETS = 8


def filters_that_tell_the_set(n: int) -> np.ndarray:
    """Weights by which the output shows which samples and which set were used."""
    filters = np.zeros((n, N_SETS, 4))
    for there in range(N_SETS):
        filters[:, there] = [1000.0 * (there + 1), 1.0, 10.0, 100.0]
    return filters


@pytest.mark.parametrize("newest", [0, 1, 2, 3])
@pytest.mark.parametrize("there", range(N_SETS))
def test_uses_the_samples_that_are_there(newest: int, there: int) -> None:
    history = np.empty((4, 1))
    expected = 1000.0 * (there + 1) * 2.0
    history[newest] = 2.0
    for tap in (1, 2, 3):
        known = there >> (tap - 1) & 1
        history[(newest + tap) % 4] = tap + 2.0 if known else np.nan
        expected += known * 10.0 ** (tap - 1) * (tap + 2.0)
    out = np.empty(1)
    usable = np.ones((1, N_SETS), dtype=np.bool_)
    assert delay(history, newest, filters_that_tell_the_set(1), usable, out)
    assert out[0] == expected


def test_undefined_without_current_sample_or_usable_filter() -> None:
    history = np.ones((4, 3))
    history[2, 0] = np.nan
    usable = np.ones((3, N_SETS), dtype=np.bool_)
    usable[1, 7] = False
    out = np.zeros(3)
    assert not delay(history, 2, filters_that_tell_the_set(3), usable, out)
    assert np.isnan(out).tolist() == [True, True, False]
