"""Any settings, any faults, a death at any place: the same bits again, from images or from ROIs."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtloop import attempts
from rtloop.config import SessionConfig
from rtloop.events import Deadline, Event, Operator, encode
from rtloop.journal import Record, Times
from rtloop.plan import Plan
from rtloop.readers import ScannerConfig, read_series
from rtloop.replay import verify
from rtloop.volume import Volume
from tools.proof.rig import two_spheres


def drawn_plan(draw: random.Random, volume: Volume) -> Plan:
    window_s = draw.choice([8.0, 12.0, 15.0])
    block = {
        "kind": "block",
        "rest_s": 10,
        "phases": [
            {"name": "up", "duration_s": window_s, "scene": "instruction", "text": "go"},
            {"name": "wait", "duration_s": 6, "scene": "fixation"},
            {"name": "show", "duration_s": 2, "scene": "score"},
        ],
        "n_trials": int(50 // (window_s + 8)),
        "score_phase": "up",
        "feedback_phase": "show",
    }
    continuous = {"kind": "continuous", "rest_s": draw.choice([0, 10, 25])}
    spheres = two_spheres(volume.data, volume.affine)
    inner = [{**s, "name": s["name"] + " below", "radius_mm": 5.0} for s in spheres]
    for sphere in inner:
        x, y, z = sphere["center_mm"]
        sphere["center_mm"] = (x * 0.7, y - 12.0, z)
    return Plan.create(
        participant="p01",
        rois={"kind": "spheres", "spheres": [*spheres, *inner]},
        edges=[
            {"a": "left", "b": "right", "direction": -1, "weight": 0.7},
            {"a": "left below", "b": "right below"},
        ],
        sham_edges=[{"a": "left", "b": "left below"}] if draw.random() < 0.5 else [],
        tr_s=1.0,
        n_volumes=60,
        window_s=window_s,
        haemodynamic_delay_s=4.0,
        timeline=draw.choice([block, continuous]),
        calibration=draw.choice(
            [{"kind": "linear", "center": 0.2, "sd": 0.3}, {"kind": "run_baseline"}]
        ),
        control={"arm": draw.choice(["real", "none"])},
    )


def drawn_settings(draw: random.Random) -> dict[str, Any]:
    tissue = draw.choice([(), ("global_signal",)])
    return {
        "dummies_s": draw.choice([0.0, 3.0, 10.0]),
        "motion": {"enabled": draw.random() < 0.8},
        "denoise": {
            "motion": draw.choice([0, 6, 12, 24]),
            "drift_order": draw.choice([0, 1, 3]),
            "tissue": tissue,
            "tissue_derivatives": bool(tissue) and draw.random() < 0.5,
            "volumes_per_regressor": 1.0,
        },
        "connectivity": {
            "edges": draw.choice(["circuit", "all"]),
            "slice_alignment_above_s": draw.choice([0.1, 0.5]),
        },
        "quality": {
            "fd_threshold_mm": draw.choice([0.3, 0.5]),
            "fd_weight_from_mm": draw.choice([None, 0.15]),
        },
    }


def drawn_events(draw: random.Random, volumes: list[Volume]) -> list[Event]:
    """Drops, deadlines, refused, repeated and late volumes, pauses."""
    events: list[Event] = [volumes[0]]
    for volume in volumes[1:]:
        chance = draw.random()
        if chance < 0.05:
            continue
        if chance < 0.08:
            events.append(Deadline(volume.index))
        shifted = replace(volume, affine=volume.affine + 0.1 * np.eye(4))
        events.append(shifted if 0.08 <= chance < 0.1 else volume)
        if chance > 0.95:
            events.append(volume)
        if chance > 0.98:
            events.append(Operator(draw.choice(["pause", "resume"])))
    return events


@pytest.mark.parametrize("seed", [3, 5, 19, 28, 39])
def test_any_settings_any_place(dicom: Callable[[str], Path], tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    volumes = read_series(dicom("siemens_mosaic_prisma_64x64x18"), ScannerConfig())
    plan, events = drawn_plan(draw, volumes[0]), drawn_events(draw, volumes)
    cut = draw.randrange(5, len(events) - 5)
    plan.save(tmp_path / "plan.json")
    session = SessionConfig.model_validate(
        {
            "name": "any",
            "plan": "plan.json",
            "runs": [{"name": "died"}, {"name": "lived"}],
            "folder": tmp_path,
            "engine": drawn_settings(draw),
        }
    )
    died, lived = session.runs
    with attempts.open_record(session, lived, plan) as record:
        running = attempts.begin(session, plan, record, volumes[0], 0.0)
        wanted = _feed(running, record, events)
    with attempts.open_record(session, died, plan) as record:
        _feed(attempts.begin(session, plan, record, volumes[0], 0.0), record, events[:cut])
    with attempts.open_record(session, died, plan) as record:
        resumed = attempts.resume(session, plan, record)
        assert resumed is not None
        assert _feed(resumed, record, events[cut:]) == wanted[cut:]
    for start in ("volumes", "rois"):
        verdict = verify(session.record_path(died), start)  # type: ignore[arg-type]
        assert verdict.identical, verdict.difference
        assert verdict.n_scores > 0


def _feed(running: attempts.Running, record: Record, events: list[Event]) -> list[bytes]:
    steps = []
    for event in events:
        step = running.engine.step(event)
        with record.transaction():
            record.add_event(running.attempt, event, step, Times(None, None, 1.0, 1.0))
        steps.append(encode(step))
    return steps
