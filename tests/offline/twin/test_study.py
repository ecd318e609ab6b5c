"""A study from its tables: the same whatever the order of rows; who is left out, and why nobody is.

Files are of the layout of real ones, with made-up values; people with connectomes are simulated.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pandas as pd
import pytest

from offline.errors import TwinError
from offline.twin.study import _assembled, open_study
from offline.twin.synthetic import people_with_truth
from offline.twin.tasks import MATCHING, STROOP
from offline.twin.trials import read_trials
from tests.offline.twin.releases import TAIL, write_release, write_series
from tests.offline.twin.trialtables import one_run, people_table, stroop_kinds

KINDS = stroop_kinds(40)


def study_of(table, people=None, edges=None):
    """Trials of a table as text, beside people and their edges."""
    trials = read_trials(table)
    people = pd.DataFrame(index=list(trials.people)) if people is None else people
    return _assembled("x", trials, (MATCHING, STROOP), people, None, edges, None, ())


def several_runs():
    """Of five people two runs of Stroop and one of faces, in no order of names."""
    rng = np.random.default_rng(0)
    parts = []
    for name in ("P3", "P1", "P5", "P2", "P4"):
        for task, run in (("stroop", "10"), ("stroop", "9"), ("hammer", "1")):
            kinds = KINDS if task == "stroop" else ["face", "shape"] * 20
            parts.append(one_run(name, rng.uniform(0.5, 1.1, 40), kinds, task, run))
    return pd.concat(parts, ignore_index=True)


def assert_same(a, b):
    for field in fields(a.examples):
        one, other = getattr(a.examples, field.name), getattr(b.examples, field.name)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other, err_msg=field.name)
        else:
            assert one == other, field.name
    assert np.array_equal(a.edges, b.edges)
    assert a.runs == b.runs
    for name in ("people", "left_out"):
        pd.testing.assert_frame_equal(getattr(a, name), getattr(b, name))
    pd.testing.assert_frame_equal(a.trials.table, b.trials.table)


def test_the_order_of_rows_changes_nothing():
    table = several_runs()
    # two trials of one onset: their number tells which came first
    table.loc[5, "onset_s"] = table.loc[6, "onset_s"]
    people = pd.DataFrame({"age": np.arange(7.0)}, index=["P3", "P7", "P1", "P2", "P6", "P5", "P4"])
    edges = {name: np.full(3, k) for k, name in enumerate(people.index)}
    study = study_of(table, people, edges)
    assert study.examples.people == ("P1", "P2", "P3", "P4", "P5")
    assert list(study.runs) == [("hammer", "1"), ("stroop", "9"), ("stroop", "10")]
    backwards = study_of(table[::-1], people[::-1], dict(reversed(edges.items())))
    assert_same(study, backwards)
    shuffled = table.sample(frac=1.0, random_state=1)
    assert_same(study, study_of(shuffled, people.sample(frac=1.0, random_state=2), edges))


def test_who_has_trials_but_is_not_a_participant_or_has_no_connectome_is_listed():
    people = pd.DataFrame(index=["P1", "P2", "P3", "P4"])
    edges = {"P1": np.zeros(3), "P2": np.zeros(3), "P3": np.array([0.0, np.nan, np.nan])}
    study = study_of(several_runs(), people, edges)
    assert study.examples.people == ("P1", "P2")
    rows = study.left_out[["participant", "left_out", "reason", "found"]].to_numpy().tolist()
    assert rows == [
        ["P3", "person", "an ROI without signal", "2 edges not defined"],
        ["P4", "person", "no connectome", "no scan"],
        ["P5", "person", "not among the participants", "trials alone"],
    ]


def test_rest_that_was_broken_off_is_listed(tmp_path):
    folder = write_release(tmp_path / "ds005237", n_people=4)
    series = next(folder.glob("fMRI*")) / "NDAR_INVP001"
    short = np.random.default_rng(0).standard_normal((90, 12))
    write_series(series / f"task-restAP_run-01_{TAIL}", short)
    study = open_study(folder)
    assert len(study.examples.people) == 4
    line = study.left_out[study.left_out["task"] == "rest"].to_dict("records")
    assert line == [
        {"participant": "NDARINVP001", "task": "rest", "run": "AP1", "left_out": "run",
         "reason": "rest broken off", "found": "90 volumes"}
    ]  # fmt: skip
    for path in folder.glob(f"fMRI*/*/task-rest*_{TAIL}"):
        write_series(path, short)
    with pytest.raises(TwinError, match=r"found none: rest broken off \(4 of 4 people.*90 volumes"):
        open_study(folder)


def nobody(table, people=None, edges=None):
    with pytest.raises(TwinError, match="expected people with usable trials") as info:
        study_of(table, people, edges)
    assert "\n" not in str(info.value)
    return str(info.value)


def test_why_nobody_is_left_is_told():
    table = several_runs()
    missed = table.assign(response_time_s="n/a", correct="0")
    told = nobody(missed)
    assert (
        "found none: all trials missed (5 of 5 people, such as sub-P1, task hammer, run 1" in told
    )
    assert "name" not in told
    assert "accuracy not above chance (5 of 5 people" in nobody(table.assign(correct="0"))
    assert "response times all equal (5 of 5" in nobody(table.assign(response_time_s="0.7"))
    # of several reasons the commonest, not that nobody has a usable run
    mixed = missed.assign(response_time_s=table["response_time_s"])
    mixed = mixed[(mixed["task"] == "stroop") & (mixed["run"] == "9")]
    mixed.loc[mixed["participant_id"].isin(["sub-P1", "sub-P2"]), "response_time_s"] = "n/a"
    assert "accuracy not above chance (3 of 5 people, such as sub-P3" in nobody(mixed)
    few = table[table["trial_index"].astype(int) < 10]
    assert "too few correct trials (5 of 5" in nobody(few)


def test_names_are_spoken_of_where_they_differ():
    other = pd.DataFrame(index=[f"sub_{k}" for k in range(30)])
    told = nobody(several_runs(), other)
    assert "not among the participants (5 of 5 people, such as sub-P1: trials alone)" in told
    assert "make the names of the trials and of the participants agree" in told
    people = pd.DataFrame(index=[f"P{k}" for k in range(1, 6)])
    told = nobody(several_runs(), people, {"p1": np.zeros(3)})
    assert "usable trials and a connectome, found none: no connectome (5 of 5" in told
    assert "make the names of the trials and of the scans agree" in told


@pytest.mark.parametrize(
    "source", ["-1:3:14", "0:2:14", "0:0:14", "0:-4:14", "0:3:13", "0:3:0", "0:3:-1"]
)
@pytest.mark.parametrize("form", ["interaction", "none"])
def test_simulated_people_that_cannot_be_are_refused(form, source):
    with pytest.raises(
        TwinError, match="0 or more, at least 3 people and at least 14 ROIs"
    ) as info:
        open_study(f"synthetic:{form}:{source}")
    assert repr(f"synthetic:{form}:{source}") in str(info.value)


@pytest.mark.parametrize("form", ["linear", "interaction", "gated", "none"])
def test_the_smallest_simulated_people_can_be(form):
    study = open_study(f"synthetic:{form}:0:3:14", bold=True)
    assert study.edges.shape == (3, 91)
    assert np.isfinite(study.truth.mean_rt_s()).all()
    assert form == "none" or study.truth.mean_rt_s().std() > 0.0


def test_pairs_of_edges_of_two_people_do_not_differ():
    """Why three are the fewest: what acts on two people would be the noise of rounding."""
    with np.errstate(invalid="ignore"):
        drawn = people_with_truth("interaction", seed=0, n_people=2, n_rois=14)
    z = drawn.edges[:, drawn.planted]
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    effect = np.sum(z[:, :5] * z[:, 5:], axis=1)
    assert effect[0] == pytest.approx(effect[1])


def test_trials_alone_are_of_those_in_the_table_of_people(tmp_path):
    table, _ = people_table(4, 40)
    table.to_csv(tmp_path / "trials.tsv", sep="\t", index=False)
    rows = "".join(f"P00{k}\t30\tF\t1\tPatient\n" for k in range(3))
    header = "participant_id\tage\tsex\tsite\tgroup\n"
    (tmp_path / "people.tsv").write_text(header + rows)
    study = open_study(tmp_path / "trials.tsv", people=tmp_path / "people.tsv")
    assert study.examples.people == ("P000", "P001", "P002")
    why = study.left_out.set_index("participant")["reason"]
    assert why.to_dict() == {"P003": "not among the participants"}
