"""What enters the engine and what leaves it, and both as bytes.

The engine's state depends on its events alone, in their journaled order. `encode` is canonical:
equal steps have equal bytes, so that a replay is compared bit by bit, nan included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import msgpack
import numpy as np
from numpy.typing import NDArray

from rtloop.circuit import Score
from rtloop.volume import Volume
from rtloop.wire import Scene

__all__ = [
    "Deadline",
    "Event",
    "Observation",
    "Operator",
    "Screen",
    "Step",
    "Unseen",
    "VolumeStatus",
    "Watch",
    "decode",
    "encode",
]


@dataclass(frozen=True, slots=True)
class Deadline:
    """Volume `index` can no longer arrive in time."""

    index: int


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody acted: stop, pause or resume."""

    action: Literal["stop", "pause", "resume"]


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What image processing makes of one volume; the engine needs nothing else of it.

    Attributes
    ----------
    index : int
        Volume index.
    parameters : ndarray, shape (6,), float64
        Motion: three translations (mm), three rotations (rad); nan where the estimate failed.
    failure : str
        Why the motion estimate is not to be trusted; empty if it is.
    signals : ndarray, shape (n_rois,), float64
        ROI means; nan where an ROI was lost.
    tissue : ndarray, shape (n_tissues + 1,), float64
        Means of the tissue regressors' voxels; the global signal comes last.
    likeness : float
        Correlation of the labelled voxels with those of the reference.
    """

    index: int
    parameters: NDArray[np.float64]
    failure: str
    signals: NDArray[np.float64]
    tissue: NDArray[np.float64]
    likeness: float


@dataclass(frozen=True, slots=True)
class Unseen:
    """A volume that came but was not processed: refused, and why. Stands for it in a replay."""

    index: int
    reason: str


Event = Volume | Observation | Unseen | Deadline | Operator

VolumeStatus = Literal[
    "used", "dummy", "censored", "missing", "late", "duplicate", "refused", "ignored", "none"
]
"""What became of the event's volume. ignored: after a stop or beyond the planned end; none: the
event carried no volume."""


@dataclass(frozen=True, slots=True)
class Screen:
    """What shall be shown from now on; `valid_for_s` is scanner time, None if it may stay."""

    scene: Scene
    value: float | None
    text: str
    trial: int | None
    valid_for_s: float | None


@dataclass(frozen=True, slots=True)
class Watch:
    """Correlation of the score with what should not drive it; `alarms` names those above limit."""

    fd: float = math.nan
    global_signal: float = math.nan
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """The engine's answer to one event.

    `index` is the volume index the event speaks of (the last processed one for an operator's
    act). `missing` lists indices that this event declared missing. `correlations` are those of
    the circuits' edges, A then B. `scores` holds circuit A and, if planned, B. `trial_score` is
    the score of the trial whose window ended with this event.
    """

    index: int
    status: VolumeStatus
    reasons: tuple[str, ...]
    missing: tuple[int, ...]
    observation: Observation | None
    weight: float
    fd_mm: float
    n_samples: float
    correlations: NDArray[np.float64]
    scores: tuple[Score, ...]
    warming_up: str
    trial: int | None
    trial_score: Score | None
    screen: Screen
    watch: Watch


def encode(value: Any) -> bytes:
    """Canonical bytes of a step or a part of one."""
    packed: bytes = msgpack.packb(_plain(value), use_bin_type=True)
    return packed


def decode(body: bytes) -> Step:
    """A step from its bytes."""
    return _step(msgpack.unpackb(body, raw=False, strict_map_key=True))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value, dtype="<f8").tobytes()
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.floating):
        return float(value)
    return value


def _array(body: bytes) -> NDArray[np.float64]:
    return np.frombuffer(body, dtype="<f8")


def _step(entries: dict[str, Any]) -> Step:
    observation = entries["observation"]
    if observation is not None:
        arrays = {name: _array(observation[name]) for name in ("parameters", "signals", "tissue")}
        observation = Observation(**{**observation, **arrays})
    trial_score = entries["trial_score"]
    watch = entries["watch"]
    return Step(
        **{
            **entries,
            "reasons": tuple(entries["reasons"]),
            "missing": tuple(entries["missing"]),
            "observation": observation,
            "correlations": _array(entries["correlations"]),
            "scores": tuple(Score(**score) for score in entries["scores"]),
            "trial_score": None if trial_score is None else Score(**trial_score),
            "screen": Screen(**entries["screen"]),
            "watch": Watch(**{**watch, "alarms": tuple(watch["alarms"])}),
        }
    )
