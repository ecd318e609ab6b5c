"""What consoles are told of a step: plain numbers and words.

In a blinded run (the plan's arm is a sealed allocation) scores and correlations are left out in
every arm, so that the operator cannot tell which circuit is shown.
"""

from __future__ import annotations

from typing import Any

from rtloop.events import Step

__all__ = ["step_body"]


def step_body(step: Step, latency_ms: float | None, blinded: bool) -> dict[str, Any]:
    """The body of a `step` message."""
    observation = step.observation
    body: dict[str, Any] = {
        "index": step.index,
        "status": step.status,
        "reasons": list(step.reasons),
        "missing": list(step.missing),
        "weight": step.weight,
        "fd_mm": step.fd_mm,
        "parameters": [] if observation is None else observation.parameters.tolist(),
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
