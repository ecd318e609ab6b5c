"""Plans by hand: one chosen connection, no offline side; and anchors from recorded rest."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np
from pydantic import ValidationError

from rtloop import __version__
from rtloop.config import read_toml
from rtloop.errors import ConfigError, PlanError, RoiError
from rtloop.feedback import ScoreMap, anchors_from_rest
from rtloop.journal import Record
from rtloop.plan import BlockTimeline, Plan, Provenance, explain, file_digest

__all__ = ["RECOMMENDED_REST_S", "calibrated_plan", "new_plan", "save_plan"]

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
    if len(names) < 2:
        raise PlanError(f"ROIs: expected at least two, found {len(names)}; name another")
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
    values = _label_values(path)
    labels = {value: f"label-{value}" for value in values}
    names = _label_names(
        path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".tsv")
    )
    labels |= {value: names[value] for value in values if value in names}
    place, near = path.resolve(), base.resolve()
    text = str(place.relative_to(near)) if place.is_relative_to(near) else str(place)
    return {"kind": "atlas", "path": text, "sha256": file_digest(path), "labels": labels}


def _label_values(path: Path) -> list[int]:
    """Labels of an image, ascending, without the background's 0."""
    if not path.is_file():
        raise RoiError(f"--atlas {path}: expected a label image, found no file; check the path")
    try:
        image: Any = nibabel.load(path)  # its type says no more than that it is an image
        values = np.unique(np.asarray(image.dataobj))
    except (OSError, nibabel.filebasedimages.ImageFileError) as error:
        raise RoiError(
            f"--atlas {path}: expected a NIfTI label image, found: {error}; name another"
        ) from error
    if not (np.isfinite(values) & (values == np.round(values))).all():
        raise RoiError(
            f"--atlas {path}: expected whole numbers, one per region, found others; give a label "
            "image, not probabilities"
        )
    return [int(value) for value in values if value != 0]


def _label_names(table: Path) -> dict[int, str]:
    """Names of labels from the table beside the image; empty where there is none."""
    if not table.is_file():
        return {}
    try:
        with table.open(encoding="utf-8", newline="") as stream:
            return {
                int(row["index"]): row["name"] for row in csv.DictReader(stream, delimiter="\t")
            }
    except (KeyError, TypeError, ValueError) as error:
        raise RoiError(
            f"{table}: expected tab-separated columns index (whole numbers) and name, found "
            "others; correct or remove it"
        ) from error


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
    """Length of the score phase of a block timeline."""
    try:
        block = BlockTimeline.model_validate(times)
        start_s, end_s = block.span_s(block.score_phase)
    except ValidationError as error:
        raise ConfigError(f"timeline {path}: {explain(error)}") from error
    except ValueError as error:
        raise ConfigError(f"timeline {path}: score_phase: {error}; correct it") from error
    return end_s - start_s


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
    runs = [_rest_run(plan, path) for path in rest]
    anchors = anchors_from_rest([score for run in runs for score in run.scores])
    rest_s = sum(run.duration_s for run in runs)
    words = [f"anchors {anchors.center:.3f} ± {anchors.sd:.3f} from {rest_s / 60:.1f} min of rest"]
    if rest_s < RECOMMENDED_REST_S or len(runs) < 2:
        words.append("WARNING: at least 20 minutes over two runs are recommended")
    if len(runs) > 1:
        held_out = _held_out_means(runs)
        words.append("held-out rest means " + ", ".join(f"{mean:.0f}" for mean in held_out))
        if not all(HELD_OUT_RANGE[0] <= mean <= HELD_OUT_RANGE[1] for mean in held_out):
            words.append("WARNING: a held-out mean lies outside 40..60")
    return plan.model_copy(update={"calibration": anchors}), "; ".join(words)


@dataclass(frozen=True, slots=True)
class _RestRun:
    """Raw scores of the windows of one resting run, and how long it was."""

    scores: list[float]
    duration_s: float


def _rest_run(plan: Plan, path: Path) -> _RestRun:
    with Record.open(path) as record:
        recorded = Plan.model_validate(record.about()["plan"])
        if _target(recorded) != _target(plan):
            raise PlanError(
                f"rest {path}: expected scores of the plan's own circuit and window, found others; "
                "rescore it with `fcnef replay --config`"
            )
        steps = [e.step for a in record.attempts() for e in record.events(a)]
    came = [step for step in steps if step.status in ("dummy", "used", "censored")]
    # A window counts when a good volume ends it: once, and never one that is only held.
    scores = [step.scores[0].value for step in came if step.status == "used"]
    return _RestRun([score for score in scores if math.isfinite(score)], len(came) * plan.tr_s)


def _target(plan: Plan) -> tuple[object, ...]:
    """What raw scores of two runs must have in common to be compared."""
    return plan.edges, plan.rois, plan.window, plan.tr_s


def _held_out_means(runs: Sequence[_RestRun]) -> list[float]:
    """Mean feedback of each rest run under anchors from all the others."""
    means = []
    for i, run in enumerate(runs):
        others = [score for j, other in enumerate(runs) if j != i for score in other.scores]
        score_map = ScoreMap(anchors_from_rest(others))
        values = [value for score in run.scores if (value := score_map(score)) is not None]
        means.append(math.fsum(values) / len(values) if values else math.nan)
    return means


def save_plan(plan: Plan, out: Path) -> None:
    """Write a plan where a person asked for it.

    Raises
    ------
    PlanError
        If the file cannot be written.
    """
    try:
        plan.save(out)
    except OSError as error:
        raise PlanError(
            f"plan {out}: expected a file that can be written, found: {error.strerror}; "
            "name another place"
        ) from error
