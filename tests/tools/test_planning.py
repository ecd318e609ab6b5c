"""Plans by hand and anchors from recorded rest, against figures read from the records by SQL."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from rtloop import attempts
from rtloop.config import DisplaySettings, Network, RunEntry, Source
from rtloop.errors import ConfigError, FcnefError, PlanError
from rtloop.events import Operator
from rtloop.feedback import ScoreMap
from rtloop.journal import Record
from rtloop.plan import AtlasRois, BlockTimeline, LinearAnchors, Plan, file_digest
from rtloop.rois import RoiSet
from rtloop.session import preflight
from tests.rtloop.simulated import AFFINE, SHAPE, series, small_plan
from tests.tools.recorded import rest_plan, session_for, write_record
from tools import planning
from tools.planning import calibrated_plan, new_plan, save_plan

BLOCK = Path(__file__).parents[2] / "configs" / "timelines" / "block.toml"
ENDPOINTS = ("volumes", "feedback", "telemetry", "reports")
SPHERES = ("A:-40,10,20:8", "B:0,-50.5,30")


def made(**changes: Any) -> Plan:
    entries: dict[str, Any] = {
        "participant": "p01",
        "tr_s": 1.0,
        "n_volumes": 500,
        "spheres": SPHERES,
        "atlas": None,
        "base": Path(),
        "edges": (),
        "direction": 1,
        "window_s": 40.0,
        "haemodynamic_delay_s": 6.0,
        "rest_s": 60.0,
        "timeline": None,
        "anchors": (None, None),
        "feedback": True,
    }
    return new_plan(**{**entries, **changes})


def scores(path: Path) -> list[float]:
    """Raw scores of the record's good volumes."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        rows = db.execute(
            "SELECT raw_score FROM step WHERE status = 'used' AND raw_score IS NOT NULL"
        ).fetchall()
    return [score for (score,) in rows]


def two_rests(folder: Path) -> list[Path]:
    return [
        write_record(folder / f"rest-{seed}.sqlite", rest_plan(), series(60, seed=seed))
        for seed in (7, 8)
    ]


# --- plans by hand ----------------------------------------------------------------------------


def test_two_spheres_make_a_plan() -> None:
    plan = made(direction=-1)
    assert [(s.name, s.center_mm, s.radius_mm) for s in plan.rois.spheres] == [  # type: ignore[union-attr]
        ("A", (-40.0, 10.0, 20.0), 8.0),
        ("B", (0.0, -50.5, 30.0), 6.0),
    ]
    assert [(e.a, e.b, e.weight, e.direction) for e in plan.edges] == [("A", "B", 1.0, -1)]
    assert plan.calibration.kind == "run_baseline"
    assert plan.control.arm == "real"


def test_edges_weights_anchors_and_no_feedback() -> None:
    plan = made(
        spheres=(*SPHERES, "C:1,2,3"),
        edges=("A,C", " B , C , 2.5"),
        anchors=(0.2, 0.1),
        feedback=False,
    )
    assert [(e.a, e.b, e.weight) for e in plan.edges] == [("A", "C", 1.0), ("B", "C", 2.5)]
    assert plan.calibration == LinearAnchors(center=0.2, sd=0.1)
    assert plan.control.arm == "none"


def test_a_block_timeline_decides_the_window() -> None:
    plan = made(timeline=BLOCK, window_s=17.0)
    assert isinstance(plan.timeline, BlockTimeline)
    assert plan.window_s == 40.0
    assert plan.timeline.n_trials == 6


def atlas(folder: Path, values: Any, name: str = "atlas.nii.gz") -> Path:
    image = np.zeros((4, 4, 4), np.float32)
    image.flat[: len(values)] = values
    path = folder / name
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), path)
    return path


def test_an_atlas_with_names_beside_it(tmp_path: Path) -> None:
    path = atlas(tmp_path, [3, 7, 7, 12])
    (tmp_path / "atlas.tsv").write_text("index\tname\tcolour\n7\tPCC\tred\n3\tDLPFC\tblue\n")
    plan = made(spheres=(), atlas=path, base=tmp_path)
    assert isinstance(plan.rois, AtlasRois)
    assert plan.rois.labels == {3: "DLPFC", 7: "PCC", 12: "label-12"}
    assert (plan.rois.path, plan.rois.sha256) == ("atlas.nii.gz", file_digest(path))
    assert [(e.a, e.b) for e in plan.edges] == [("DLPFC", "PCC")]
    assert plan.rois.locate(tmp_path) == path


def test_an_atlas_elsewhere_is_named_by_its_whole_path(tmp_path: Path) -> None:
    path = atlas(tmp_path, [1, 2])
    plan = made(spheres=(), atlas=path, base=tmp_path / "plans")
    assert plan.rois.path == str(path)  # type: ignore[union-attr]


def test_a_runs_own_plan_finds_the_atlas_beside_it(tmp_path: Path) -> None:
    """A session's plan and that of one of its runs may lie in different folders."""
    (tmp_path / "transfer").mkdir()
    path = tmp_path / "transfer" / "labels.nii.gz"
    labels = np.zeros(SHAPE, np.int16)
    labels[2:4, 4:6, 3:5], labels[7:9, 4:6, 3:5] = 1, 2
    nibabel.save(nibabel.Nifti1Image(labels, AFFINE), path)
    made(spheres=(), atlas=path, base=path.parent).save(path.parent / "plan.json")
    small_plan().save(tmp_path / "plan.json")
    runs = [{"name": "one"}, {"name": "two", "plan": "transfer/plan.json"}]
    session = session_for(tmp_path).model_copy(
        update={
            "runs": tuple(map(RunEntry.model_validate, runs)),
            "source": Source(kind="stream"),
            "display": DisplaySettings(enabled=False),
            "network": Network(**{e: f"ipc://{tmp_path}/{e}" for e in ENDPOINTS}),
        }
    )
    plan = preflight(session, session.runs[1])
    assert plan.rois.names == ("label-1", "label-2")
    volume = series(1)[0]
    own = session.for_run(session.runs[1])
    with Record.create(tmp_path / "run.sqlite", {}) as record:
        running = attempts.begin(own, plan, record, volume, 0.0)
    assert RoiSet.from_bytes(running.attempt.rois).names == ("label-1", "label-2")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spheres": ()}, "either --atlas or --sphere"),
        ({"spheres": SPHERES[:1]}, "expected at least two, found 1"),
        ({"spheres": ("A:1,2", SPHERES[1])}, "NAME:x,y,z"),
        ({"spheres": ("A:1,2,x", SPHERES[1])}, "NAME:x,y,z"),
        ({"spheres": (":1,2,3", SPHERES[1])}, "NAME:x,y,z"),
        ({"spheres": ("A:1,2,3:wide", SPHERES[1])}, "NAME:x,y,z"),
        ({"spheres": ("A:1,2,nan", SPHERES[1])}, "finite"),
        ({"spheres": ("A:1,2,3:0", SPHERES[1])}, "radius_mm"),
        ({"spheres": (SPHERES[0], SPHERES[0])}, "unique names"),
        ({"edges": ("A",)}, "--edge: expected A,B"),
        ({"edges": ("A,B,-1",)}, "--edge: expected A,B"),
        ({"edges": ("A,B,much",)}, "--edge: expected A,B"),
        ({"edges": ("A,C",)}, "unknown ROI name 'C'"),
        ({"edges": ("A,A",)}, "expected two ROIs"),
        ({"edges": ("A,B", "B,A")}, "each connection once"),
        ({"anchors": (0.1, None)}, "--mean and --sd together"),
        ({"anchors": (None, 0.1)}, "--mean and --sd together"),
        ({"anchors": (0.1, 0.0)}, "sd"),
        ({"window_s": 500.0}, "shorter than the run"),
        ({"timeline": BLOCK, "n_volumes": 100}, "at least 468 s"),
        ({"participant": ""}, "participant"),
    ],
)
def test_wrong_entries_are_one_line(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(FcnefError, match=words) as caught:
        made(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('kind = "block"', "n_trials"),
        (BLOCK.read_text().replace('score_phase = "regulate"', 'score_phase = "try"'), "'try'"),
        (BLOCK.read_text().replace("duration_s = 40.0", ""), "duration_s"),
        ("kind = ", "expected TOML"),
    ],
)
def test_a_wrong_timeline_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "timeline.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        made(timeline=path)
    assert "timeline" in str(caught.value)


def test_wrong_atlases_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "noise.nii.gz").write_bytes(b"no image")
    wrong = {
        "found no file": tmp_path / "none.nii.gz",
        "expected a NIfTI": tmp_path / "noise.nii.gz",
        "whole numbers": atlas(tmp_path, [0.5, 1.0], "probabilities.nii.gz"),
        "at least two, found 1": atlas(tmp_path, [4], "one.nii.gz"),
    }
    for words, path in wrong.items():
        with pytest.raises(FcnefError, match=words):
            made(spheres=(), atlas=path, base=tmp_path)
    path = atlas(tmp_path, [1, 2], "named.nii.gz")
    for table in ("number\tname\n1\tA\n", "index\tname\none\tA\n"):
        (tmp_path / "named.tsv").write_text(table)
        with pytest.raises(FcnefError, match="expected tab-separated columns"):
            made(spheres=(), atlas=path, base=tmp_path)


def test_a_plan_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="expected a file that can be written"):
        save_plan(made(), tmp_path / "none" / "plan.json")


def test_a_file_that_is_no_plan(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes(b"\x91\xff")
    with pytest.raises(PlanError, match="expected JSON, found no text"):
        Plan.load(tmp_path / "plan.json")


# --- anchors from rest ------------------------------------------------------------------------


def test_anchors_are_mean_and_sd_of_the_recorded_scores(tmp_path: Path) -> None:
    rests = two_rests(tmp_path)
    plan, words = calibrated_plan(small_plan(), rests)
    found = np.array([score for path in rests for score in scores(path)])
    assert len(found) > 80
    assert isinstance(plan.calibration, LinearAnchors)
    assert plan.calibration.center == pytest.approx(found.mean(), abs=1e-12)
    assert plan.calibration.sd == pytest.approx(found.std(ddof=1), abs=1e-12)
    assert plan.model_copy(update={"calibration": small_plan().calibration}) == small_plan()
    assert "from 2.0 min of rest" in words
    assert "WARNING: at least 20 minutes" in words


def test_held_out_means_are_those_under_the_other_runs_anchors(tmp_path: Path) -> None:
    rests = two_rests(tmp_path)
    _, words = calibrated_plan(small_plan(), rests)
    first, second = (np.array(scores(path)) for path in rests)
    means = []
    for run, other in ((first, second), (second, first)):
        reach = 2 * other.std(ddof=1)
        means.append(np.clip(50 * ((run - other.mean()) / reach + 1), 0, 100).mean())
    assert f"held-out rest means {means[0]:.0f}, {means[1]:.0f}" in words
    outside = any(not 40 <= mean <= 60 for mean in means)
    assert ("a held-out mean lies outside 40..60" in words) == outside


def test_no_warning_at_twenty_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """120 s recorded stand for 1200 s; the rest's length counts, not the number of windows."""
    rests = two_rests(tmp_path)
    monkeypatch.setattr(planning, "RECOMMENDED_REST_S", 120.0)
    assert "at least 20 minutes" not in calibrated_plan(small_plan(), rests)[1]
    monkeypatch.setattr(planning, "RECOMMENDED_REST_S", 60.0)
    assert "over two runs" in calibrated_plan(small_plan(), rests[:1])[1]


def test_a_window_that_a_censored_volume_ends_does_not_count(tmp_path: Path) -> None:
    """It repeats the one before it, as feedback does."""
    volumes = series(60)
    volumes[45] = replace(volumes[45], data=np.asfortranarray(volumes[45].data[::-1]))
    path = write_record(tmp_path / "rest.sqlite", rest_plan(), volumes)
    with contextlib.closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT volume_index, raw_score FROM step WHERE status = 'censored'")
        ((index, score),) = found.fetchall()
    assert index == 45
    assert score is not None
    plan, _ = calibrated_plan(small_plan(), [path])
    assert plan.calibration.center == pytest.approx(np.mean(scores(path)), abs=1e-12)  # type: ignore[union-attr]


def test_a_window_counts_once(tmp_path: Path) -> None:
    """A duplicate and a pause repeat the last score; it is one window."""
    volumes = series(60)
    events = [*volumes[:40], volumes[39], Operator("pause"), Operator("resume"), *volumes[40:]]
    plain = write_record(tmp_path / "plain.sqlite", rest_plan(), volumes)
    noisy = write_record(tmp_path / "noisy.sqlite", rest_plan(), events)
    expected = calibrated_plan(small_plan(), [plain])[0].calibration
    assert calibrated_plan(small_plan(), [noisy])[0].calibration == expected


def test_calibration_puts_rest_in_the_middle(tmp_path: Path) -> None:
    plan, _ = calibrated_plan(small_plan(), two_rests(tmp_path))
    score_map = ScoreMap(plan.calibration)
    assert score_map(plan.calibration.center) == pytest.approx(50.0)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "changes",
    [
        {"edges": [{"a": "A", "b": "B", "weight": 2.0}]},
        {"edges": [{"a": "A", "b": "B", "direction": -1}]},
        {"window_s": 14.0},
        {"window_s": 12.0 * 1.25, "tr_s": 1.25},
    ],
)
def test_another_circuit_or_window_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = write_record(tmp_path / "rest.sqlite", rest_plan())
    with pytest.raises(PlanError, match="the plan's own circuit and window"):
        calibrated_plan(small_plan(**changes), [path])


def test_too_short_a_rest_is_refused(tmp_path: Path) -> None:
    path = write_record(tmp_path / "rest.sqlite", rest_plan(), series(15))
    with pytest.raises(ConfigError, match="at least 10 scored resting windows"):
        calibrated_plan(small_plan(), [path])
    assert all(math.isfinite(score) for score in scores(path))
