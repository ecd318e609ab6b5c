"""Tables of behaviour: against NumPy on simulated people, published figures on real ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from offline.errors import TaskError
from offline.twin.behaviour import include
from offline.twin.tables import (
    between_runs,
    held_out_predictions,
    held_out_table,
    read_demographics,
    run_data,
    seen_table,
)
from offline.twin.tasks import STROOP
from offline.twin.trials import read_trials
from tests.offline.twin.trialtables import people_table


def test_the_seen_table_is_numpys():
    table, _ = people_table(30, 40)
    (row,) = seen_table(read_trials(table), (STROOP,), ks=(5,)).to_dict("records")
    rt_s = table["response_time_s"].to_numpy().astype(float).reshape(30, 40)
    second = rt_s[:, 20:].mean(axis=1)
    assert row["own_first_half"] == pytest.approx(np.corrcoef(rt_s[:, :20].mean(1), second)[0, 1])
    assert row["first_5"] == pytest.approx(np.corrcoef(rt_s[:, :5].mean(1), second)[0, 1])
    assert row["always_correct"] == 1.0
    assert row["n"] == 30


def test_held_out_people_are_told_by_others():
    """Simulated: predictions of a person do not move when their own later trials do."""
    table, demographics = people_table(40, 40, by_age=0.01)
    data = run_data(read_trials(table), STROOP)
    told = held_out_predictions(data, demographics, ks=(3,), n_folds=5, n_repeats=1)
    late = table["onset_s"].astype(float) > 2.0 + 4.0 * 19
    moved = table.copy()
    own = (moved["participant_id"] == "sub-P007") & late
    moved.loc[own, "response_time_s"] = "3.000000"
    again = held_out_predictions(
        run_data(read_trials(moved), STROOP), demographics, ks=(3,), n_folds=5, n_repeats=1
    )
    for name in told:
        assert again[name][7] == told[name][7], name
        assert not np.array_equal(again[name], told[name]) or name.startswith("own")
    frame = held_out_table(data, told, ks=(3,), n_draws=200)
    assert frame["predictor"].tolist() == [
        "demographics", "own k=3", "james_stein k=3", "k_shot k=3",
    ]  # fmt: skip
    assert np.isfinite(frame["r"]).all()
    assert np.isfinite(frame.loc[3, ["rmse_gain_ms_low", "rmse_gain_ms_high"]].astype(float)).all()


def test_two_runs_are_compared():
    first, _ = people_table(40, 60, seed=1)
    second, _ = people_table(40, 60, seed=1, noise_sd=0.2)
    both = pd.concat([first, second.assign(run="PA")], ignore_index=True)
    found = between_runs(read_trials(both))
    assert found["n"] == 40
    assert found["mean_r"] > 0.9
    with pytest.raises(TaskError, match="two runs"):
        between_runs(read_trials(first))


def test_demographics_are_read(tmp_path):
    path = tmp_path / "participants.tsv"
    path.write_text("participant_id\tage\tsex\tSite\tGroup\nsub-A1\t20.5\tF\t1\tPatient\n")
    table = read_demographics(path)
    assert table.loc["A1"].tolist() == [20.5, "F", "1", "Patient"]
    path.write_text("participant_id\tage\tsex\nsub-A1\t20.5\tF\n")
    with pytest.raises(TaskError, match="found no group, site"):
        read_demographics(path)
    with pytest.raises(TaskError, match="expected a participants table"):
        read_demographics(tmp_path / "none.tsv")
    rows = "sub-A1\t20\tF\t1\tPatient\n"
    path.write_text("participant_id\tage\tsex\tSite\tGroup\n" + rows + rows)
    with pytest.raises(TaskError, match="A1 again"):
        read_demographics(path)


HEADER = "participant_id\tage\tsex\tSite\tGroup\n"


@pytest.mark.parametrize("age", ["old", "-5", "inf", "89+", "nine", "1990"])
def test_an_age_that_is_none_is_refused(tmp_path, age):
    path = tmp_path / "participants.tsv"
    path.write_text(f"{HEADER}sub-A1\tn/a\tF\t1\tPatient\nsub-B2\t{age}\tF\t1\tPatient\n")
    with pytest.raises(TaskError, match="participant B2: expected an age in years") as info:
        read_demographics(path)
    assert repr(age) in str(info.value)
    path.write_text(path.read_text().replace(age, "31.5"))
    assert read_demographics(path)["age"].tolist()[1] == 31.5
    assert np.isnan(read_demographics(path)["age"]["A1"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEADER, "a participant in every row, found nobody"),
        (HEADER + "A1\t20\tF\t1\tP\nn/a\t20\tF\t1\tP\n", "found none in row 3"),
        (HEADER.replace("\n", "\tAge\n"), "expected every column once, found age again"),
    ],
)
def test_a_participants_table_that_is_none_is_refused(tmp_path, text, words):
    path = tmp_path / "participants.tsv"
    path.write_text(text)
    with pytest.raises(TaskError, match=words):
        read_demographics(path)


# --- real people ------------------------------------------------------------------------------


def test_the_published_figures_of_seen_people(data):
    trials = read_trials(data / "behaviour" / "tcp_trials.tsv.gz")
    everyone = seen_table(trials).set_index(["task", "run"])
    usable = seen_table(include(trials).trials).set_index(["task", "run"])
    faces, stroop = ("matching", "AP"), ("stroop", "AP")
    assert everyone.loc[faces, "own_first_half"] == pytest.approx(0.895, abs=0.002)
    assert usable.loc[faces, "own_first_half"] == pytest.approx(0.918, abs=0.002)
    assert everyone.loc[stroop, "own_first_half"] == pytest.approx(0.886, abs=0.002)
    assert usable.loc[stroop, "own_first_half"] == pytest.approx(0.876, abs=0.003)
    assert everyone.loc[faces, "odd_even"] == pytest.approx(0.95, abs=0.01)
    assert everyone.loc[stroop, "odd_even"] == pytest.approx(0.96, abs=0.01)
    assert everyone.loc[faces, "always_correct"] == pytest.approx(0.937, abs=0.001)
    assert everyone.loc[stroop, "always_correct"] == pytest.approx(0.905, abs=0.001)
    assert usable.loc[faces, ["first_5", "first_10", "first_20"]].tolist() == pytest.approx(
        [0.70, 0.77, 0.85], abs=0.01
    )


def test_k_shot_on_held_out_real_people(data):
    folder = data / "behaviour"
    demographics = read_demographics(folder / "tcp_participants.tsv")
    trials = include(read_trials(folder / "tcp_trials.tsv.gz")).trials.of("stroop", "AP")
    run = run_data(trials, STROOP)
    told = held_out_predictions(run, demographics, ks=(2, 5, 10), n_folds=4, n_repeats=1)
    frame = held_out_table(run, told, n_draws=500).set_index("predictor")
    for k in (2, 5, 10):
        assert frame.loc[f"k_shot k={k}", "rmse_gain_ms"] > 0.0
        assert frame.loc[f"k_shot k={k}", "r_gain"] > 0.0
    assert frame.loc["demographics", "r"] == pytest.approx(0.20, abs=0.06)
