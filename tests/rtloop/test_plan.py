"""The plan: what it accepts, and that everything wrong is named in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rtloop.errors import PlanError, RoiError
from rtloop.plan import AtlasRois, Plan, file_digest

SPHERES = {
    "kind": "spheres",
    "spheres": [
        {"name": "A", "center_mm": [0, 0, 0], "radius_mm": 6},
        {"name": "B", "center_mm": [30, 0, 0], "radius_mm": 6},
    ],
}
PHASES = [
    {"name": "rest", "duration_s": 14, "scene": "rest"},
    {"name": "regulate", "duration_s": 40, "scene": "instruction"},
    {"name": "delay", "duration_s": 8, "scene": "fixation"},
    {"name": "feedback", "duration_s": 6, "scene": "score"},
]
BLOCK = {
    "kind": "block",
    "rest_s": 12,
    "phases": PHASES,
    "n_trials": 3,
    "score_phase": "regulate",
    "feedback_phase": "feedback",
}


def entries(**changes: Any) -> dict[str, Any]:
    plan = {
        "participant": "p01",
        "rois": SPHERES,
        "edges": [{"a": "A", "b": "B"}],
        "tr_s": 1.0,
        "n_volumes": 300,
        "timeline": {"kind": "continuous", "rest_s": 60},
        "calibration": {"kind": "linear", "center": 0.3, "sd": 0.2},
    }
    return {**plan, **changes}


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    plan = Plan.create(**entries(timeline=BLOCK))
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
    assert Plan.load(tmp_path / "plan.json").digest == plan.digest


def test_the_digest_sees_every_entry() -> None:
    assert Plan.create(**entries()).digest != Plan.create(**entries(window_s=41.0)).digest


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"edges": [{"a": "A", "b": "C"}]}, "unknown ROI name 'C'"),
        ({"edges": [{"a": "A", "b": "A"}]}, "found 'A' twice"),
        ({"edges": [{"a": "A", "b": "B"}, {"a": "B", "b": "A"}]}, "found one twice"),
        ({"window_s": 300.0}, "window_s: expected shorter than the run"),
        (
            {"timeline": {"kind": "continuous", "rest_s": 301.0}},
            "rest_s: expected no longer than",
        ),
        ({"window_s": 2.0}, "at least 4 volumes"),
        ({"tr_s": float("nan")}, "tr_s"),
        ({"surprise": 1}, "surprise"),
        ({"schema_version": 2}, "schema_version"),
        ({"timeline": {**BLOCK, "n_trials": 99}}, "expected a run of at least"),
        ({"timeline": BLOCK, "window_s": 30.0}, "expected the score phase's 40 s"),
        ({"timeline": BLOCK, "haemodynamic_delay_s": 9.0}, "at least 9 s after"),
        ({"timeline": {**BLOCK, "score_phase": "push"}}, "phase 'push'"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError) as caught:
        Plan.create(**entries(**changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_errors_are_named_at_once() -> None:
    with pytest.raises(PlanError, match=r"participant.*tr_s"):
        Plan.create(**entries(participant="", tr_s=-1))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 1}'])
def test_a_broken_file_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(PlanError) as caught:
        Plan.load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="expected a readable file"):
        Plan.load(tmp_path / "none.json")


def test_an_atlas_is_bound_by_its_content(tmp_path: Path) -> None:
    image = tmp_path / "labels.nii.gz"
    image.write_bytes(b"one")
    rois = AtlasRois(path="labels.nii.gz", sha256=file_digest(image), labels={1: "A", 2: "B"})
    assert rois.locate(tmp_path) == image
    image.write_bytes(b"two")
    with pytest.raises(RoiError, match="changed since the plan"):
        rois.locate(tmp_path)


def test_the_file_is_readable_json(tmp_path: Path) -> None:
    Plan.create(**entries()).save(tmp_path / "plan.json")
    assert json.loads((tmp_path / "plan.json").read_text())["edges"][0]["a"] == "A"
