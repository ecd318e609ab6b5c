"""What the loop tells consoles, and what a run refuses of its addresses beforehand."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rtloop.config import SessionConfig
from rtloop.console.hub import plain
from rtloop.errors import FcnefError
from rtloop.link import Listener
from rtloop.session import preflight
from rtloop.telemetry import ready_body, step_body, volume_faults
from rtloop.wire import Telemetry, pack
from tests.rtloop import sites
from tests.rtloop.consoles import PATIENCE_S, STEPS
from tests.rtloop.simulated import series, small_plan

ENDPOINTS = ("volumes", "feedback", "telemetry", "reports")


def test_a_blinded_run_tells_no_score() -> None:
    step = STEPS[-1]
    assert math.isfinite(step.scores[0].value)
    body = step_body(step, None, blinded=True)
    assert not {"raw_score", "standard_error", "correlations"} & set(body)
    text = json.dumps(plain(body))
    assert f"{step.scores[0].value:.6f}"[:6] not in text
    assert body["feedback"] == step.screen.value
    sealed = small_plan(control={"allocation": "a1"})
    assert ready_body(sealed)["blinded"]
    assert not ready_body(small_plan())["blinded"]


def test_a_steps_faults_are_told_with_what_was_done() -> None:
    found = {step.index: volume_faults(step) for step in STEPS}
    assert [(f.index, f.kind) for f in found[32]] == [(30, "missing"), (31, "missing")]
    assert found[33] == []
    censored = replace(STEPS[33], status="censored", reasons=("motion", "signal lost"))
    (fault,) = volume_faults(censored)
    assert (fault.kind, fault.reason, fault.action) == (
        "censored", "motion; signal lost", "weight 0",
    )  # fmt: skip


def test_a_large_plan_and_a_large_gap_fit_the_wire() -> None:
    """Messages have bounds; what exceeds them would stop the loop."""
    spheres = [{"name": f"ROI {k}", "center_mm": [k, 0, 0]} for k in range(120)]
    edges = [{"a": f"ROI {a}", "b": f"ROI {b}"} for a in range(120) for b in range(a)][:5000]
    plan = small_plan(rois={"kind": "spheres", "spheres": spheres}, edges=edges)
    gap = replace(STEPS[40], missing=tuple(range(50_000)))
    assert len(pack(Telemetry("ready", ready_body(plan)))) < 16_384
    body = step_body(gap, None, False)
    assert len(pack(Telemetry("step", body))) < 32_768
    assert body["n_missing"] == 50_000


def test_the_loop_tells_every_fault_with_what_was_done(tmp_path: Path) -> None:
    """A straggler of an aborted series, and a restart: the page hears what the record says."""
    site = sites.Site(tmp_path)
    heard: list[dict[str, Any]] = []
    done = threading.Event()

    def listen() -> None:
        endpoint = f"tcp://127.0.0.1:{site.ports[2]}"
        with contextlib.closing(Listener(endpoint)) as listener:
            while not done.is_set():
                message = listener.receive(0.1)
                if isinstance(message, Telemetry) and message.kind == "fault":
                    heard.append(message.body)

    ear = threading.Thread(target=listen)
    ear.start()
    volumes, again = series(60), series(60, attempt="two", seed=8)
    try:
        with site.start() as run, site.source() as source:
            site.feed(source, volumes[:20])
            site.feed(source, [*again[:10], volumes[20]])
            run.send_signal(signal.SIGTERM)
            assert run.wait(PATIENCE_S) == 0
    finally:
        done.set()
        ear.join(PATIENCE_S)
    late = {"kind": "late", "index": 20, "action": "recorded, not used"}
    assert {**late, "reason": "volume of an attempt that is closed"} in heard
    assert all(body.get("action") for body in heard)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"console": "0.0.0.0:8080"}, "expected a loopback address"),
        ({"console": "127.0.0.1"}, "expected tcp://HOST:PORT"),
        ({"console": "127.0.0.1:{taken}"}, "expected a free port"),
        ({"feedback": "tcp://127.0.0.1:99999"}, "expected tcp://HOST:PORT"),
        ({"feedback": "tcp://127.0.0.1:*"}, "expected a port that others can be told"),
    ],
)
def test_preflight_finds_a_wrong_address(
    tmp_path: Path, network: dict[str, str], words: str
) -> None:
    """Not the console's own death, amid a run that goes on without a page."""
    small_plan().save(tmp_path / "plan.json")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        session = SessionConfig.model_validate(
            {
                "name": "test",
                "plan": "plan.json",
                "runs": [{"name": "run"}],
                "folder": tmp_path,
                "source": {"kind": "stream"},
                "display": {"enabled": False},
                "network": {
                    **{name: f"ipc://{tmp_path}/{name}" for name in ENDPOINTS},
                    **{name: value.format(taken=taken) for name, value in network.items()},
                },
            }
        )
        with pytest.raises(FcnefError, match=words) as caught:
            preflight(session, session.runs[0])
    assert "\n" not in str(caught.value)
