"""Trial tables: every policy for what is no plain answer, and mistakes told in one line."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from offline.errors import TaskError
from offline.twin.trials import read_events, read_trials
from tests.offline.twin.trialtables import one_run, stroop_kinds

KINDS = stroop_kinds(6)


def table(**changes):
    """A run of six trials with single cells changed: `column={row: text}`."""
    made = one_run("A1", np.array([0.6, 0.7, 0.8, 0.9, 1.0, 1.1]), KINDS)
    for column, cells in changes.items():
        for row, text in cells.items():
            made.loc[row, column] = text
    return made


def test_a_miss_is_no_wrong_answer():
    made = table(response_time_s={1: "n/a"}, correct={1: "0", 2: "0"})
    rows = read_trials(made).table
    assert rows["missed"].tolist() == [False, True, False, False, False, False]
    assert rows["correct"].tolist() == [True, False, False, True, True, True]
    assert np.isnan(rows["rt_s"][1])
    assert rows["rt_s"][2] == 0.8


@pytest.mark.parametrize("early", ["0.149", "0.003", "-0.1"])
def test_an_anticipation_is_counted_and_not_used(early):
    rows = read_trials(table(response_time_s={3: early})).table
    assert rows["anticipated"].tolist() == [False] * 3 + [True] + [False] * 2
    assert rows["raw_rt_s"][3] == float(early)
    assert np.isnan(rows["rt_s"][3])
    assert not rows["correct"][3]
    assert not rows["missed"][3]
    assert not read_trials(table(response_time_s={3: early})).usable[3]


def test_an_answer_at_the_limit_counts():
    assert read_trials(table(response_time_s={3: "0.15"})).usable.all()


def test_trials_are_in_order_of_onset_whatever_the_file_says():
    shuffled = table().iloc[[3, 0, 5, 1, 2, 4]]
    rows = read_trials(shuffled).table
    assert rows["trial"].tolist() == list(range(6))
    assert rows["rt_s"].tolist() == [0.6, 0.7, 0.8, 0.9, 1.0, 1.1]


def test_trials_of_one_onset_keep_the_order_of_the_file():
    stalled = table(onset_s={2: "6.000000"}, response_time_s={2: "n/a"}, correct={2: "0"})
    rows = read_trials(stalled).table
    assert rows["missed"].tolist() == [False, False, True, False, False, False]
    assert rows["trial"].tolist() == list(range(6))


def test_two_tables_of_one_run_are_refused():
    twice = [table(), table()]
    with pytest.raises(TaskError, match="every trial once, found trial 0 of sub-A1"):
        read_trials(pd.concat(twice, ignore_index=True))
    unnumbered = pd.concat(twice, ignore_index=True).drop(columns="trial_index")
    with pytest.raises(TaskError, match="every trial once"):
        read_trials(unnumbered)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"response_time_s": {4: "fast"}}, "row 6, column response_time_s: expected a number"),
        ({"response_time_s": {4: "inf"}}, "row 6, column response_time_s: .* found 'inf'"),
        ({"onset_s": {3: "-inf"}}, "row 5, column onset_s: .* found '-inf'"),
        ({"duration_s": {3: "1e999"}}, "row 5, column duration_s: .* found '1e999'"),
        ({"onset_s": {0: "n/a"}}, "row 2, column onset_s: expected an onset, found n/a"),
        ({"response_time_s": {2: "n/a"}}, "row 4, column response_time_s: expected a response"),
        ({"correct": {2: "n/a"}}, "row 4, column correct: expected 0 or 1 where"),
        ({"correct": {2: "7"}}, "row 4, column correct: expected 0 or 1, found '7'"),
        ({"correct": {2: "100"}}, "row 4, column correct: expected 0 or 1, found '100'"),
        ({"correct": {2: "0.6"}}, "row 4, column correct: expected 0 or 1, found '0.6'"),
        ({"participant_id": {1: "n/a"}}, "row 3, column participant_id: expected a participant"),
        ({"participant_id": {1: "sub-"}}, "row 3, column participant_id: expected a participant"),
        ({"task": {1: "n/a"}}, "row 3, column task: expected a task"),
        ({"run": {1: ""}}, "row 3, column run: expected a run"),
        ({"trial_type": {1: "n/a"}}, "row 3, column trial_type: expected a trial type"),
        ({"trial_index": {1: "n/a"}}, "row 3, column trial_index: expected a number"),
    ],
)
def test_a_wrong_cell_is_named(changes, words):
    with pytest.raises(TaskError, match=words) as info:
        read_trials(table(**changes))
    assert "\n" not in str(info.value)


def test_a_cell_that_is_missing_in_memory_is_missing():
    made = table(correct={1: "0"})
    made.loc[1, "response_time_s"] = None
    assert read_trials(made).table["missed"].tolist() == [False, True] + [False] * 4


def test_whether_a_miss_or_an_anticipation_was_right_need_not_be_known():
    made = table(response_time_s={1: "n/a", 2: "0.1"}, correct={1: "n/a", 2: "n/a"})
    assert read_trials(made).usable.tolist() == [True, False, False, True, True, True]


def in_ms(made, *columns):
    """Columns in milliseconds."""
    return made.assign(**{name: (1000 * made[name].astype(float)).map(str) for name in columns})


def test_onsets_in_milliseconds_are_refused():
    with pytest.raises(TaskError, match="expected onsets in seconds, found a median of 4000"):
        read_trials(in_ms(table(), "onset_s"))
    other = one_run("B2", np.full(6, 0.7), KINDS)
    with pytest.raises(TaskError, match="sub-B2, task stroop, run AP; divide milliseconds"):
        read_trials(pd.concat([table(), in_ms(other, "onset_s")], ignore_index=True))


def test_onsets_on_the_clock_of_a_day_are_refused():
    made = table()
    made["onset_s"] = (1.7e9 + made["onset_s"].astype(float)).map(str)
    with pytest.raises(TaskError, match="from the start of the run, found 1"):
        read_trials(made)


@pytest.mark.parametrize("later_s", [0.0, 0.1])
def test_a_run_that_is_two_tables_is_refused(later_s):
    """Other answers to the same stimuli, as of a run listed twice or two without a column run."""
    second = one_run("A1", np.linspace(0.5, 0.9, 6), KINDS)
    second["onset_s"] = (later_s + second["onset_s"].astype(float)).map(str)
    both = pd.concat([table(), second], ignore_index=True)
    for dropped in (["trial_index"], ["trial_index", "run"]):
        with pytest.raises(TaskError, match="found most onsets of sub-A1, task stroop"):
            read_trials(both.drop(columns=dropped))


def test_a_table_without_trials_is_refused():
    with pytest.raises(TaskError, match="expected trials, found a header alone"):
        read_trials(table().iloc[:0])


def test_columns_that_only_have_a_name_of_ours_change_nothing():
    made = table()
    renamed = made.rename(columns={"correct": "hit"}).assign(correct="0", missed="x", trial="9")
    found = read_trials(renamed, {"correct": "hit"}).table
    pd.testing.assert_frame_equal(found, read_trials(made).table)


def test_rows_that_break_off_are_refused(tmp_path):
    path = tmp_path / "trials.tsv"
    made = table()[
        ["onset_s", "participant_id", "task", "response_time_s", "correct", "trial_type"]
    ]
    made.to_csv(path, sep="\t", index=False)
    path.write_text(path.read_text() + "26.0\tsub-A1\n")
    with pytest.raises(TaskError, match="row 8, column task: expected a task, found n/a"):
        read_trials(path)


def test_people_tasks_and_runs_in_order():
    parts = [
        one_run(name, np.linspace(0.5, 0.9, 6), KINDS, run=run)
        for name, run in (("B2", "10"), ("A1", "2"), ("B2", "9"))
    ]
    rows = read_trials(pd.concat(parts, ignore_index=True)).in_order().table
    found = list(rows[["participant", "run"]].drop_duplicates().itertuples(index=False, name=None))
    assert found == [("A1", "2"), ("B2", "9"), ("B2", "10")]


def test_a_missing_column_is_named():
    with pytest.raises(TaskError, match="column onset_s or onset, found participant_id"):
        read_trials(table().drop(columns="onset_s"))


def test_columns_can_be_named():
    made = table().rename(columns={"correct": "hit"})
    assert read_trials(made, {"correct": "hit"}).usable.all()


def test_no_table_is_one_line(tmp_path):
    with pytest.raises(TaskError, match="expected a table of trials"):
        read_trials(tmp_path / "none.tsv")


def events(folder, name, **columns):
    made = table().drop(columns=["participant_id", "task", "run", "trial_index"])
    made = made.rename(
        columns={"onset_s": "onset", "duration_s": "duration", "response_time_s": "response_time",
                 "correct": "accuracy_binarized"}
    ).assign(**columns)  # fmt: skip
    path = folder / name
    made.to_csv(path, sep="\t", index=False)
    return path


def test_events_tell_who_what_and_which_run_by_their_names(tmp_path):
    files = [
        events(tmp_path, "sub-A1_task-stroopPA_run-01_events.tsv"),
        events(tmp_path, "sub-A2_ses-2_task-stroop_dir-AP_run-3_events.tsv"),
        events(tmp_path, "sub-A3_task-matching_run-2_events.tsv"),
        events(tmp_path, "sub-A3_task-rest_events.tsv"),
    ]
    trials = read_events(files, tasks=("stroop", "matching"))
    found = trials.table[["participant", "task", "run"]].drop_duplicates().values.tolist()
    assert found == [["A1", "stroop", "PA"], ["A2", "stroop", "2-AP"], ["A3", "matching", "2"]]
    assert trials.people == ("A1", "A2", "A3")


def test_a_run_given_twice_is_refused(tmp_path):
    (tmp_path / "copy").mkdir()
    name = "sub-A1_task-stroopPA_run-01_events.tsv"
    with pytest.raises(TaskError, match="leave one of the two tables out"):
        read_events([events(tmp_path, name), events(tmp_path / "copy", name)])


def test_names_that_are_not_bids_are_refused(tmp_path):
    with pytest.raises(TaskError, match="rename it"):
        read_events([events(tmp_path, "trials.tsv")])
    with pytest.raises(TaskError, match="found none"):
        read_events([])


def test_a_grid_has_a_row_a_person(tmp_path):
    short = one_run("B2", np.array([0.5, np.nan]), KINDS[:2])
    trials = read_trials(pd.concat([table(), short], ignore_index=True))
    grid = trials.grid("rt_s", ["B2", "C3", "A1"])
    assert grid.shape == (3, 6)
    assert grid[0, 0] == 0.5
    assert np.isnan(grid[0, 1:]).all()
    assert np.isnan(grid[1]).all()
    assert grid[2].tolist() == [0.6, 0.7, 0.8, 0.9, 1.0, 1.1]
    other = one_run("A1", np.array([0.5]), KINDS[:1], run="PA")
    both = read_trials(pd.concat([table(), other], ignore_index=True))
    with pytest.raises(TaskError, match="one run"):
        both.grid("rt_s")


def test_the_public_trials(data):
    trials = read_trials(data / "behaviour" / "tcp_trials.tsv.gz")
    rows = trials.table
    assert len(trials) == 58362
    assert len(trials.people) == 228
    assert rows["missed"].sum() == 1903
    assert rows["anticipated"].sum() == 21
    assert (rows["raw_rt_s"] < 0).sum() == 1
    sizes = rows.groupby(["task", "run"])["participant"].nunique().to_dict()
    assert sizes == {("hammer", "AP"): 219, ("stroop", "AP"): 226, ("stroop", "PA"): 219}
