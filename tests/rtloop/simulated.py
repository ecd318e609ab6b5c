"""Small made-up volumes for tests of the loop's bookkeeping: cheap, deterministic, not brains."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtloop.config import EngineConfig
from rtloop.engine import Engine
from rtloop.observer import Geometry
from rtloop.plan import Plan
from rtloop.rois import RoiSet
from rtloop.volume import Volume

SHAPE = (12, 12, 8)
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
TR_S = 1.0
N_DUMMIES = 3


def small_plan(**changes: Any) -> Plan:
    """Two spheres, window 12 volumes, continuous feedback after 24 s of rest."""
    entries: dict[str, Any] = {
        "participant": "p01",
        "rois": {
            "kind": "spheres",
            "spheres": [
                {"name": "A", "center_mm": [9, 15, 12], "radius_mm": 4},
                {"name": "B", "center_mm": [24, 15, 12], "radius_mm": 4},
            ],
        },
        "edges": [{"a": "A", "b": "B"}],
        "tr_s": TR_S,
        "n_volumes": 60,
        "window_s": 12.0,
        "timeline": {"kind": "continuous", "rest_s": 24.0},
        "calibration": {"kind": "linear", "center": 0.2, "sd": 0.3},
    }
    return Plan.create(**{**entries, **changes})


def small_config(**changes: Any) -> EngineConfig:
    """No motion correction; level and linear drift; three dummies."""
    entries: dict[str, Any] = {
        "dummies_s": N_DUMMIES * TR_S,
        "motion": {"enabled": False},
        "denoise": {"motion": 0, "drift_order": 1},
    }
    return EngineConfig.model_validate({**entries, **changes})


def images(n_volumes: int, seed: int = 7) -> NDArray[np.int16]:
    """Noise around 1000 with one slow signal in common; shape (n_volumes, x, y, z)."""
    generator = np.random.default_rng(seed)
    head = generator.normal(1000, 100, SHAPE)
    common = np.cumsum(generator.normal(0, 1, n_volumes))
    noise = generator.normal(0, 5, (n_volumes, *SHAPE))
    return np.asarray(head + 3 * common[:, None, None, None] + noise, np.int16)


def series(n_volumes: int = 60, attempt: str = "one", seed: int = 7) -> list[Volume]:
    """Volumes of one attempt."""
    return [
        Volume(
            attempt=attempt,
            index=index,
            data=np.asfortranarray(image),
            affine=AFFINE,
            tr_s=TR_S,
            received_s=float(index),
        )
        for index, image in enumerate(images(n_volumes, seed))
    ]


def small_engine(plan: Plan | None = None, config: EngineConfig | None = None) -> Engine:
    """An engine for `series`."""
    plan = plan or small_plan()
    geometry = Geometry.of(series(1)[0])
    return Engine(plan, config or small_config(), small_rois(plan), None, geometry)


def small_rois(plan: Plan) -> RoiSet:
    spheres = [(s.name, s.center_mm, s.radius_mm) for s in plan.rois.spheres]  # type: ignore[union-attr]
    return RoiSet.from_spheres(spheres, SHAPE, AFFINE)
