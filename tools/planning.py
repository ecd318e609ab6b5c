"""Plans by hand: one chosen connection, no offline side; and anchors from recorded rest."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np

from rtloop import __version__
from rtloop.config import read_toml
from rtloop.errors import ConfigError, PlanError, RoiError
from rtloop.feedback import ScoreMap, anchors_from_rest
from rtloop.journal import Record
from rtloop.plan import Plan, Provenance, file_digest

__all__ = ["RECOMMENDED_REST_S", "calibrated_plan", "new_plan"]

RECOMMENDED_REST_S = 1200.0
HELD_OUT_RANGE = (40.0, 60.0)


def new_plan(
    *,
    participant: str,
    tr_s: float,
    n_volumes: int,
    spheres: Sequence[str],
    atlas: Path | None,
    base: Path,
    edges: Sequence[str],
    direction: Literal[1, -1],
    window_s: float,
    haemodynamic_delay_s: float,
    rest_s: float,
    timeline: Path | None,
    anchors: tuple[float | None, float | None],
    feedback: bool,
) -> Plan:
    """A plan from what a person types; see `fcnef plan new --help`.

    Raises
    ------
    PlanError, RoiError, ConfigError
        If an entry is wrong or entries contradict each other.
    """
    if (atlas is None) == (not spheres):
        raise PlanError("ROIs: expected either --atlas or --sphere, found both or none; give one")
    rois = _atlas(atlas, base) if atlas is not None else _spheres(spheres)
    names = [s["name"] for s in rois["spheres"]] if spheres else list(rois["labels"].values())
    times: dict[str, Any] = {"kind": "continuous", "rest_s": rest_s}
    if timeline is not None:
        times = read_toml(timeline)
        window_s = _score_phase_s(timeline, times)
    return Plan.create(
        participant=participant,
        rois=rois,
        edges=_edges(edges, names, direction),
        tr_s=tr_s,
        n_volumes=n_volumes,
        window_s=window_s,
        haemodynamic_delay_s=haemodynamic_delay_s,
        timeline=times,
        calibration=_calibration(*anchors),
        control={"arm": "real" if feedback else "none"},
        provenance=Provenance(made_by="hand", version=__version__),
    )


def _spheres(texts: Sequence[str]) -> dict[str, Any]:
    spheres = []
    for text in texts:
        name, _, place = text.partition(":")
        numbers, _, radius = place.partition(":")
        try:
            center = tuple(float(number) for number in numbers.split(","))
            radius_mm = float(radius) if radius else 6.0
        except ValueError:
            center, radius_mm = (), math.nan
        if len(center) != 3 or not name:
            raise PlanError(
                f"--sphere: expected NAME:x,y,z[:radius] in mm, found {text!r}; correct it"
            )
        spheres.append({"name": name, "center_mm": center, "radius_mm": radius_mm})
    return {"kind": "spheres", "spheres": spheres}


def _atlas(path: Path, base: Path) -> dict[str, Any]:
    if not path.is_file():
        raise RoiError(f"--atlas {path}: expected a label image, found no file; check the path")
    table = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".tsv")
    values = np.unique(np.asarray(nibabel.load(path).dataobj))
    labels = {int(value): f"label-{int(value)}" for value in values if value != 0}
    if table.is_file():
        with table.open(encoding="utf-8", newline="") as stream:
            named = {
                int(row["index"]): row["name"] for row in csv.DictReader(stream, delimiter="\t")
            }
        labels = {value: named.get(value, name) for value, name in labels.items()}
    place = path.resolve()
    near = base.resolve()
    text = str(place.relative_to(near)) if place.is_relative_to(near) else str(place)
    return {"kind": "atlas", "path": text, "sha256": file_digest(path), "labels": labels}


def _edges(texts: Sequence[str], names: Sequence[str], direction: int) -> list[dict[str, Any]]:
    if not texts:
        return [{"a": names[0], "b": names[1], "direction": direction}]
    edges = []
    for text in texts:
        parts = [part.strip() for part in text.split(",")]
        try:
            weight = float(parts[2]) if len(parts) == 3 else 1.0
        except ValueError:
            weight = math.nan
        if len(parts) not in (2, 3) or not weight > 0:
            raise PlanError(f"--edge: expected A,B[,WEIGHT>0], found {text!r}; correct it")
        edges.append({"a": parts[0], "b": parts[1], "weight": weight, "direction": direction})
    return edges


def _score_phase_s(path: Path, times: dict[str, Any]) -> float:
    for phase in times.get("phases", []):
        if phase.get("name") == times.get("score_phase"):
            return float(phase["duration_s"])
    raise ConfigError(
        f"timeline {path}: expected score_phase to name one of its phases, found "
        f"{times.get('score_phase')!r}; correct it"
    )


def _calibration(mean: float | None, sd: float | None) -> dict[str, Any]:
    if (mean is None) != (sd is None):
        raise PlanError("anchors: expected --mean and --sd together, found one; give both or none")
    if mean is None:
        return {"kind": "run_baseline"}
    return {"kind": "linear", "center": mean, "sd": sd}


def calibrated_plan(plan: Plan, rest: Sequence[Path]) -> tuple[Plan, str]:
    """The plan with linear anchors from recorded rest, and a sentence on how good they are.

    Parameters
    ----------
    plan : Plan
        The plan to calibrate.
    rest : sequence of Path
        Records of resting runs of the same target and window.

    Raises
    ------
    PlanError
        If a record scored another circuit or window.
    ConfigError
        If there are too few scored windows.
    """
    runs = [_rest_scores(plan, path) for path in rest]
    anchors = anchors_from_rest([score for run in runs for score in run])
    rest_s = sum(len(run) for run in runs) * plan.tr_s
    words = [f"anchors {anchors.center:.3f} ± {anchors.sd:.3f} from {rest_s / 60:.1f} min of rest"]
    if rest_s < RECOMMENDED_REST_S or len(runs) < 2:
        words.append("WARNING: at least 20 minutes over two runs are recommended")
    if len(runs) > 1:
        held_out = _held_out_means(runs)
        words.append("held-out rest means " + ", ".join(f"{mean:.0f}" for mean in held_out))
        if any(not HELD_OUT_RANGE[0] <= mean <= HELD_OUT_RANGE[1] for mean in held_out):
            words.append("WARNING: a held-out mean lies outside 40..60")
    return plan.model_copy(update={"calibration": anchors}), "; ".join(words)


def _rest_scores(plan: Plan, path: Path) -> list[float]:
    with Record.open(path) as record:
        recorded = Plan.model_validate(record.about()["plan"])
        if (recorded.edges, recorded.rois, recorded.window) != (plan.edges, plan.rois, plan.window):
            raise PlanError(
                f"rest {path}: expected scores of the plan's own circuit and window, found others; "
                "rescore it with `fcnef replay --config`"
            )
        return [
            score
            for attempt in record.attempts()
            for event in record.events(attempt)
            if math.isfinite(score := event.step.scores[0].value)
        ]


def _held_out_means(runs: Sequence[list[float]]) -> list[float]:
    """Mean feedback of each rest run under anchors from all the others."""
    means = []
    for i, run in enumerate(runs):
        others = [score for j, other in enumerate(runs) if j != i for score in other]
        score_map = ScoreMap(anchors_from_rest(others))
        values = [value for score in run if (value := score_map(score)) is not None]
        means.append(math.fsum(values) / len(values) if values else math.nan)
    return means
