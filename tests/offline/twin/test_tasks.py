"""Tasks as network inputs: what is on at which step, against a plain loop; what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from offline.errors import TaskError
from offline.twin.tasks import MATCHING, STROOP, Bold, TaskSpec, encode
from offline.twin.trials import read_trials
from tests.offline.twin.trialtables import one_run, stroop_kinds

STEP_S = 0.08

FLANKER = """
name = "flanker"
aliases = ["flankers"]
choices = ["left", "right"]
response_window_s = 1.8
stimulus_s = 1.0
answer = "target"
response = "response"
[channels]
"target left" = { target = "left" }
"target right" = { target = "right" }
"flankers incongruent" = { trial_type = ["incongruent"] }
[conditions]
incongruent = "incongruent"
"""


def stroop_trials(n_trials=30, gap_s=4.0, people=("A1", "B2"), **changes):
    rng = np.random.default_rng(1)
    tables = [
        one_run(name, 0.5 + rng.random(n_trials), stroop_kinds(n_trials, k), gap_s=gap_s)
        for k, name in enumerate(people)
    ]
    made = pd.concat(tables, ignore_index=True)
    for column, cells in changes.items():
        for row, text in cells.items():
            made.loc[row, column] = text
    return read_trials(made)


@pytest.mark.parametrize("gap_s", [2.25, 4.0, 8.25])
def test_inputs_are_those_of_a_plain_loop(gap_s):
    trials = stroop_trials(gap_s=gap_s)
    segments = encode(trials, (STROOP,))
    expected = np.zeros_like(segments.inputs)
    for s, rows in enumerate(segments.row):
        for row in rows[rows >= 0]:
            trial = trials.table.loc[row]
            on = round((trial["onset_s"] - segments.start_s[s]) / STEP_S)
            off = min(on + round(STROOP.stimulus_s / STEP_S), 262)
            for name in ("word " + trial["stimulus_text"], "ink " + trial["stimulus_color"]):
                expected[s, on:off, segments.channels.index(f"stroop: {name}")] = 1.0
    np.testing.assert_array_equal(segments.inputs, expected)


def test_every_trial_is_in_one_segment_with_its_whole_window():
    trials = stroop_trials(gap_s=3.3)
    segments = encode(trials, (STROOP,))
    held = segments.row[segments.row >= 0]
    assert sorted(held) == list(range(len(trials)))
    end_s = segments.onset_step * STEP_S + STROOP.response_window_s
    assert (end_s[segments.row >= 0] <= 262 * STEP_S + STEP_S / 2).all()
    assert (segments.onset_step[:, 0] == 0).all()
    same = trials.table["participant"].to_numpy()[segments.row[:, 0]]
    assert [segments.people[k] for k in segments.person] == same.tolist()


def test_targets_are_those_of_the_table():
    changed = {"response_time_s": {0: "n/a", 1: "0.05"}, "correct": {0: "0", 2: "0"}}
    trials = stroop_trials(people=("A1",), **changed)
    segments = encode(trials, (STROOP,))
    there = segments.row >= 0
    for name in ("rt_s", "missed", "correct"):
        wanted = trials.table[name].to_numpy()[segments.row[there]]
        np.testing.assert_array_equal(getattr(segments, name)[there], wanted)
    assert not segments.missed[~there].any()
    assert np.isnan(segments.rt_s[~there]).all()
    ink = [STROOP.choices.index(colour) for colour in trials.table["stimulus_color"]]
    np.testing.assert_array_equal(segments.answer[there], np.array(ink)[segments.row[there]])
    # missed, too soon, and wrong with an unknown key: no choice is known
    assert segments.choice[0, :3].tolist() == [-1, -1, -1]
    assert (segments.choice[there][3:] == segments.answer[there][3:]).all()
    assert set(segments.conditions) == {"stroop congruent", "stroop incongruent"}


def test_a_recorded_response_is_the_choice():
    made = one_run("A1", np.full(8, 0.6), stroop_kinds(8))
    answer = made["stimulus_color"].to_numpy()
    made["response"] = answer
    wrong = "red" if answer[5] != "red" else "blue"
    made.loc[5, ["response", "correct"]] = wrong, "0"
    segments = encode(read_trials(made), (STROOP,))
    slot = np.argwhere(segments.row == 5)[0]
    assert segments.choice[tuple(slot)] == STROOP.choices.index(wrong)
    assert segments.answer[tuple(slot)] == STROOP.choices.index(answer[5])


def test_of_two_choices_the_wrong_one_is_the_other():
    made = one_run("A1", np.full(6, 0.6), ["shape"] * 6, task="hammer", gap_s=3.0)
    made["answer"] = ["left", "right"] * 3
    made.loc[1, "correct"] = "0"
    segments = encode(read_trials(made), (MATCHING,))
    assert segments.choice[0].tolist() == [0, 0, 0, 1, 0, 1]
    on = segments.channels.index("matching: match right")
    assert segments.inputs[0, segments.onset_step[0, 1], on] == 1.0


def test_a_block_of_matching_is_a_segment_and_sides_may_be_unknown():
    kinds = ["shape"] * 6 + ["face"] * 6
    onsets = [11.0 + 21.0 * (k // 6) + 3.0 * (k % 6) for k in range(12)]
    made = one_run("A1", np.full(12, 0.6), kinds, task="hammer")
    made["onset_s"] = [f"{value:.6f}" for value in onsets]
    segments = encode(read_trials(made))
    assert segments.trial.tolist() == [list(range(6)), list(range(6, 12))]
    assert (segments.choice == -1).all()
    moving = segments.inputs.max(axis=(0, 1)) > 0
    assert np.array(segments.channels)[moving].tolist() == ["matching: face", "matching: shape"]


def test_bold_is_at_the_volumes_of_the_segment():
    trials = stroop_trials(people=("A1", "B2"))
    series = np.arange(200.0, dtype=np.float32)[:, None] * np.array([1.0, -1.0], np.float32)
    segments = encode(
        trials, (STROOP,), bold={("A1", "stroop", "AP"): Bold(series, 0.8)}, regions=("a", "b")
    )
    assert segments.regions == ("a", "b")
    for s in range(len(segments.inputs)):
        if segments.people[segments.person[s]] == "B2":
            assert np.isnan(segments.bold[s]).all()
            continue
        there = np.isfinite(segments.bold_s[s])
        volume = segments.bold[s, there, 0]
        np.testing.assert_allclose(volume * 0.8, segments.start_s[s] + segments.bold_s[s, there],
                                   atol=1e-4)  # fmt: skip
        assert (segments.bold_s[s, there] >= -1e-6).all()
        assert (segments.bold_s[s, there] < 262 * STEP_S).all()
        np.testing.assert_array_equal(segments.bold[s, there, 1], -volume)
        assert 25 <= there.sum() <= 27


def test_bold_of_two_protocols_is_refused():
    one = Bold(np.zeros((50, 2), np.float32), 0.8)
    other = Bold(np.zeros((50, 2), np.float32), 2.0)
    keys = (("A1", "stroop", "AP"), ("B2", "stroop", "AP"))
    with pytest.raises(TaskError, match="one TR"):
        encode(stroop_trials(), (STROOP,), bold=dict(zip(keys, (one, other), strict=True)),
               regions=("a", "b"))  # fmt: skip


def test_a_task_from_toml(tmp_path):
    path = tmp_path / "flanker.toml"
    path.write_text(FLANKER)
    spec = TaskSpec.load(path)
    made = one_run("A1", np.full(4, 0.5), ["incongruent", "congruent"] * 2, task="flankers")
    made["target"] = ["left", "right", "right", "left"]
    segments = encode(read_trials(made), (spec,))
    on = segments.inputs[0, segments.onset_step[0]]
    assert on.tolist() == [[1, 0, 1], [0, 1, 0], [0, 1, 1], [1, 0, 0]]
    assert spec.chance == 0.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", "expected TOML"),
        (FLANKER.replace("choices", "choice"), "choices: Field required"),
        (FLANKER.replace('["left", "right"]', '["left", "left"]'), "each choice once"),
        (FLANKER.replace("1.8", "-1"), "response_window_s"),
        ('name="x"\nchoices=["a","b"]\nresponse_window_s=1\nstimulus_s=1\nchannels={}', "channel"),
    ],
)
def test_a_wrong_task_file_is_one_line(tmp_path, text, words):
    path = tmp_path / "task.toml"
    path.write_text(text)
    with pytest.raises(TaskError, match=words) as info:
        TaskSpec.load(path)
    assert "\n" not in str(info.value)


def test_a_missing_task_file_is_one_line(tmp_path):
    with pytest.raises(TaskError, match="No such file"):
        TaskSpec.load(tmp_path / "none.toml")


def test_what_no_task_knows_is_refused():
    trials = stroop_trials()
    with pytest.raises(TaskError, match="found task 'stroop'"):
        encode(trials, (MATCHING,))
    with pytest.raises(TaskError, match="use more steps"):
        encode(trials, (STROOP,), n_steps=20)
    with pytest.raises(TaskError, match="found none"):
        encode(trials.only([]), (STROOP,))
    with pytest.raises(TaskError, match="found 'pink'"):
        encode(stroop_trials(stimulus_color={4: "pink"}), (STROOP,))
    unseen = {"stimulus_color": {4: "n/a"}, "stimulus_text": {4: "n/a"}}
    with pytest.raises(TaskError, match="a stimulus that a channel shows, found trial 4 of sub-A1"):
        encode(stroop_trials(**unseen), (STROOP,))


def test_a_trial_type_that_no_channel_shows_is_refused():
    made = one_run("A1", np.full(6, 0.6), ["shape", "faces"] * 3, task="hammer", gap_s=3.0)
    made["answer"] = ["left", "right"] * 3
    with pytest.raises(
        TaskError, match="trial type face, shape, found 'faces' in trial 1 of sub-A1"
    ):
        encode(read_trials(made), (MATCHING,))
    named = MATCHING.model_copy(update={"conditions": {"faces": "face"}})
    assert encode(read_trials(made), (named,)).inputs.any()
    # channels of Stroop are the word and its ink: trial types only name conditions
    assert encode(stroop_trials(trial_type={4: "neutral"}), (STROOP,)).inputs.any()


def test_the_public_trials(data):
    trials = read_trials(data / "behaviour" / "tcp_trials.tsv.gz")
    people = trials.people[:20]
    segments = encode(trials.only(people))
    matching = segments.task == segments.tasks.index("matching")
    assert ((segments.trial[matching] >= 0).sum(axis=1) == 6).mean() > 0.95
    assert segments.inputs.max() == 1.0
    assert segments.inputs.min() == 0.0
    assert (segments.row >= 0).sum() == len(trials.only(people))
