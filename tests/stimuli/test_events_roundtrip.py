"""What the tasks record is what the offline side reads: trials, answers, choices, misses."""

from __future__ import annotations

import numpy as np

from offline.twin.tasks import encode
from offline.twin.trials import read_events
from stimuli.eventlog import EventLog, events_path
from stimuli.matching import COLUMNS as MATCHING_COLUMNS
from stimuli.matching import MatchingConfig, matching_run
from stimuli.stroop import COLUMNS as STROOP_COLUMNS
from stimuli.stroop import StroopConfig, stroop_trials
from stimuli.taskrun import Trial


def record(out, task, columns, trials: list[Trial], wrong: dict[str, str]):
    """Every third trial missed, the one after it wrong, the others right in .5 s."""
    path = events_path(out, "p01", "2", task)
    log = EventLog(path, columns, {})
    for k, trial in enumerate(trials):
        response = (None, wrong[trial.answer], trial.answer)[k % 3]
        log.trial(
            {
                "onset": trial.onset_s,
                "duration": trial.duration_s,
                "response_time": None if response is None else 0.5,
                "response": response,
                "answer": trial.answer,
                "correct": response == trial.answer,
                **trial.columns,
            }
        )
    return path


def test_stroop_and_matching_are_read_back(tmp_path):
    base = {"participant": "p01", "out": tmp_path}
    stroop = stroop_trials(StroopConfig(**base), 1)
    matching, _ = matching_run(MatchingConfig(**base, shapes_only=True), {}, 1)
    other = {"red": "green", "green": "blue", "blue": "red", "left": "right", "right": "left"}
    trials = read_events(
        [
            record(tmp_path, "stroop", STROOP_COLUMNS, stroop, other),
            record(tmp_path, "matching", MATCHING_COLUMNS, matching, other),
        ]
    )
    assert len(trials) == 78 + 54
    assert set(trials.table["run"]) == {"2-1"}
    for task, planned in (("stroop", stroop), ("matching", matching)):
        rows = trials.of(task).table
        np.testing.assert_allclose(rows["onset_s"], [trial.onset_s for trial in planned])
        k = np.arange(len(planned)) % 3
        assert (rows["missed"] == (k == 0)).all()
        assert (rows["correct"] == (k == 2)).all()
    segments = encode(trials)
    there = segments.row >= 0
    order = np.argsort(segments.row[there])
    answers = [segments.choices[segments.task[s]][segments.answer[s, j]]
               for s, j in np.argwhere(there)]  # fmt: skip
    planned = [trial.answer for trial in (*stroop, *matching)]
    assert [answers[place] for place in order] == planned
    wrong = there & ~segments.correct & ~segments.missed
    assert (segments.choice[wrong] >= 0).all()
    assert (segments.choice[wrong] != segments.answer[wrong]).all()
