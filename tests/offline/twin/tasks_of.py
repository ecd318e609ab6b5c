"""Small people with truth, encoded, for the twin's tests."""

from __future__ import annotations

from functools import cache

from offline.twin.examples import Examples, examples_of
from offline.twin.synthetic import Form, SyntheticPeople, people_with_truth
from offline.twin.synthetic_runs import REGIONS
from offline.twin.tasks import MATCHING, encode
from offline.twin.trials import read_trials


@cache
def small(
    form: Form = "gated", n_people: int = 40, seed: int = 0, n_rois: int = 30, bold: bool = False
) -> tuple[SyntheticPeople, Examples]:
    """People and their examples; made once, not to be changed."""
    people = people_with_truth(form, seed=seed, n_people=n_people, n_rois=n_rois)
    trials = read_trials(people.trials)
    if bold:
        segments = encode(trials, (MATCHING,), bold=people.bold, regions=REGIONS)
    else:
        segments = encode(trials, (MATCHING,))
    return people, examples_of(segments)
