"""What consoles are told: plain numbers and words of a run and of each of its steps.

In a blinded run (the plan's arm is a sealed allocation) scores and correlations are left out in
every arm, so that the operator cannot tell which circuit is shown.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rtloop.events import Step, VolumeStatus
from rtloop.plan import Plan

__all__ = ["VOLUME_FAULTS", "VolumeFault", "ready_body", "step_body", "volume_faults"]

MOST_NAMED = 64
"""Edges named and faults told in one message; a page shows no more, and messages have bounds."""

_ACTIONS: dict[VolumeStatus, str] = {
    "late": "recorded, not used",
    "duplicate": "ignored",
    "refused": "counts as missing",
    "censored": "weight 0",
    "ignored": "recorded, not used",
}
VOLUME_FAULTS = frozenset(("missing", *_ACTIONS))
"""Kinds of faults that a step tells by itself."""


@dataclass(frozen=True, slots=True)
class VolumeFault:
    """What was wrong with a volume, and what was done about it."""

    index: int
    kind: str
    reason: str
    action: str


def volume_faults(step: Step) -> list[VolumeFault]:
    """The faults of volumes that a step tells of, as record and page name them."""
    faults = [
        VolumeFault(index, "missing", "never arrived in time", "weight 0, feedback holds")
        for index in step.missing
    ]
    if step.status in _ACTIONS:
        reason = "; ".join(step.reasons)
        faults.append(VolumeFault(step.index, step.status, reason, _ACTIONS[step.status]))
    return faults


def ready_body(plan: Plan) -> dict[str, Any]:
    """The body of a `ready` message: what the run is; edges in the order of correlations."""
    edges = (*plan.edges, *plan.sham_edges)[:MOST_NAMED]
    return {
        "plan": plan.digest[:12],
        "n_volumes": plan.n_volumes,
        "tr_s": plan.tr_s,
        "edges": [f"{edge.a} – {edge.b}" for edge in edges],
        "blinded": plan.control.allocation is not None,
    }


def step_body(step: Step, latency_ms: float | None, blinded: bool) -> dict[str, Any]:
    """The body of a `step` message."""
    observation = step.observation
    faults = volume_faults(step)
    body: dict[str, Any] = {
        "index": step.index,
        "status": step.status,
        "reasons": list(step.reasons),
        "n_missing": len(step.missing),
        "faults": [asdict(fault) for fault in faults[-MOST_NAMED:]],
        "weight": step.weight,
        "fd_mm": step.fd_mm,
        "parameters": [] if observation is None else observation.parameters.tolist(),
        "n_samples": step.n_samples,
        "warming_up": step.warming_up,
        "scene": step.screen.scene,
        "feedback": step.screen.value,
        "trial": step.trial,
        "alarms": list(step.watch.alarms),
        "latency_ms": latency_ms,
    }
    if not blinded:
        body["raw_score"] = step.scores[0].value
        body["standard_error"] = step.scores[0].standard_error
        body["correlations"] = step.correlations.tolist()
    return body
