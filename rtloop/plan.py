"""The plan: what is trained in one person, and how it is scored. The contract offline -> online.

A plan is a JSON file that people can read and that says everything a run needs to know of the
person and the target: ROIs, circuit, window, timeline, calibration, control arm, expected
response, provenance. Nothing about machines, folders or sockets belongs here (see `config`).
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from rtloop.errors import PlanError, RoiError
from rtloop.wire import Scene

__all__ = [
    "MAX_TR_S",
    "MAX_VOLUMES",
    "AtlasRois",
    "BlockTimeline",
    "ContinuousTimeline",
    "Control",
    "ExpectedResponse",
    "LinearAnchors",
    "Percentiles",
    "Phase",
    "Plan",
    "PlanEdge",
    "Provenance",
    "RunBaseline",
    "Sphere",
    "SphereRois",
    "explain",
    "file_digest",
]

MAX_TR_S, MAX_VOLUMES = 20.0, 100_000

Name = Annotated[str, Field(min_length=1, max_length=120)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Part(BaseModel):
    """A piece of a plan: unknown entries are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Sphere(Part):
    """A ball of voxels around a centre in the run's own world coordinates (RAS+, mm)."""

    name: Name
    center_mm: tuple[float, float, float]
    radius_mm: PositiveFloat = 6.0


class SphereRois(Part):
    """ROIs given as spheres in the native space of the run."""

    kind: Literal["spheres"] = "spheres"
    spheres: Annotated[tuple[Sphere, ...], Field(min_length=2)]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sphere.name for sphere in self.spheres)


class AtlasRois(Part):
    """ROIs given as a label image on the grid of the run's volumes.

    `labels` maps label values to ROI names, in ascending value; the image is bound by its digest.
    """

    kind: Literal["atlas"] = "atlas"
    path: str
    sha256: Digest
    labels: Annotated[dict[int, Name], Field(min_length=2)]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.labels[value] for value in sorted(self.labels))

    def locate(self, base: Path) -> Path:
        """The label image, relative paths taken from `base`; its digest is checked."""
        path = Path(self.path)
        path = path if path.is_absolute() else base / path
        if not path.is_file():
            raise RoiError(
                f"label image {path}: expected a file, found none; check the plan's path"
            )
        found = file_digest(path)
        if found != self.sha256:
            raise RoiError(
                f"label image {path}: expected sha256 {self.sha256[:12]}…, found {found[:12]}…; "
                "the image changed since the plan was made: restore it or make a new plan"
            )
        return path


class PlanEdge(Part):
    """One connection of the circuit. `direction` +1 trains it up, -1 trains it down."""

    a: Name
    b: Name
    weight: PositiveFloat = 1.0
    direction: Literal[1, -1] = 1


class Phase(Part):
    """A stretch of a trial: what it is called, how long it lasts, what the screen shows."""

    name: Name
    duration_s: PositiveFloat
    scene: Scene
    text: Annotated[str, Field(max_length=400)] = ""


class ContinuousTimeline(Part):
    """Rest without feedback, then feedback after every volume until the planned end."""

    kind: Literal["continuous"] = "continuous"
    rest_s: Annotated[float, Field(ge=0)] = 60.0
    instruction: Annotated[str, Field(max_length=400)] = ""


class BlockTimeline(Part):
    """Rest, then equal trials; each trial's score is shown once, in its feedback phase.

    The score window is the score phase shifted by the haemodynamic delay; it has to end before
    the feedback phase begins, so no window contains a response to its own feedback.
    """

    kind: Literal["block"] = "block"
    rest_s: Annotated[float, Field(ge=0)] = 12.0
    phases: Annotated[tuple[Phase, ...], Field(min_length=2)]
    n_trials: PositiveInt
    score_phase: Name
    feedback_phase: Name

    @property
    def trial_s(self) -> float:
        return sum(phase.duration_s for phase in self.phases)

    def span_s(self, name: str) -> tuple[float, float]:
        """Start and end of a phase within the trial, s."""
        start_s = 0.0
        for phase in self.phases:
            if phase.name == name:
                return start_s, start_s + phase.duration_s
            start_s += phase.duration_s
        known = ", ".join(phase.name for phase in self.phases)
        raise ValueError(f"phase {name!r}: expected one of {known}")


class LinearAnchors(Part):
    """Feedback 0..100 is linear between `center` - `span_sd`·`sd` and `center` + `span_sd`·`sd`.

    The anchors come from the participant's own resting windows of the same length.
    """

    kind: Literal["linear"] = "linear"
    center: float
    sd: PositiveFloat
    span_sd: PositiveFloat = 2.0


class Percentiles(Part):
    """Feedback from this window's percentile p among resting windows: 100·clip((p-.3)/.4, 0, 1)."""

    kind: Literal["percentile"] = "percentile"
    rest_scores: Annotated[tuple[float, ...], Field(min_length=20)]


class RunBaseline(Part):
    """Anchors taken from the first rest of the run itself; a fallback that the report names.

    A minute or two of rest gives unsteady anchors; 20 minutes over two runs are recommended.
    """

    kind: Literal["run_baseline"] = "run_baseline"
    span_sd: PositiveFloat = 2.0


class Control(Part):
    """Which source of feedback the participant gets; `allocation` refers to a sealed entry."""

    arm: Literal["real", "none"] = "real"
    allocation: str | None = None


class ExpectedResponse(Part):
    """Forecast of one session's mean raw score with its intervals, locked before the session."""

    session: Name
    mean: float
    interval_80: tuple[float, float]
    interval_95: tuple[float, float]
    locked_s: float | None = None


class Provenance(Part):
    """What the plan was made from. Digests are None where a part was not used."""

    made_by: str = "hand"
    version: str = ""
    cohort: Digest | None = None
    harmonizer: Digest | None = None
    decoder: Digest | None = None
    twin: Digest | None = None
    seeds: tuple[int, ...] = ()
    note: Annotated[str, Field(max_length=2000)] = ""


class Plan(Part):
    """One person's training: target, timeline, calibration, forecast, origin."""

    schema_version: Literal[1] = 1
    participant: Name
    rois: Annotated[SphereRois | AtlasRois, Field(discriminator="kind")]
    edges: Annotated[tuple[PlanEdge, ...], Field(min_length=1)]
    sham_edges: tuple[PlanEdge, ...] = ()
    tr_s: Annotated[float, Field(gt=0.05, le=MAX_TR_S)]
    n_volumes: Annotated[int, Field(ge=2, le=MAX_VOLUMES)]
    window_s: PositiveFloat = 40.0
    haemodynamic_delay_s: Annotated[float, Field(ge=0, le=20)] = 6.0
    timeline: Annotated[ContinuousTimeline | BlockTimeline, Field(discriminator="kind")]
    calibration: Annotated[LinearAnchors | Percentiles | RunBaseline, Field(discriminator="kind")]
    control: Control = Control()
    expected_response: tuple[ExpectedResponse, ...] = ()
    provenance: Provenance = Provenance()

    @property
    def window(self) -> int:
        """Window length in volumes of scanner time."""
        return max(1, round(self.window_s / self.tr_s))

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_edges()
        run_s = self.n_volumes * self.tr_s
        if self.window >= self.n_volumes:
            raise ValueError(
                f"window_s: expected shorter than the run of {run_s:g} s, found {self.window_s:g} s"
            )
        if self.window < 4:
            raise ValueError(
                f"window_s: expected at least 4 volumes ({4 * self.tr_s:g} s), found "
                f"{self.window_s:g} s"
            )
        if isinstance(self.timeline, BlockTimeline):
            self._check_blocks(self.timeline, run_s)
        elif self.timeline.rest_s > run_s:
            raise ValueError(
                f"rest_s: expected no longer than the run of {run_s:g} s, found"
                f" {self.timeline.rest_s:g} s"
            )
        return self

    def _check_edges(self) -> None:
        known = set(self.rois.names)
        if len(known) != len(self.rois.names):
            raise ValueError("rois: expected unique names, found a name twice")
        for edges in (self.edges, self.sham_edges):
            pairs = [frozenset((edge.a, edge.b)) for edge in edges]
            if len(set(pairs)) != len(pairs):
                raise ValueError("edges: expected each connection once, found one twice")
            for edge in edges:
                for name in (edge.a, edge.b):
                    if name not in known:
                        some = ", ".join(sorted(known)[:8])
                        raise ValueError(f"edges: unknown ROI name {name!r}; known are {some}, …")
                if edge.a == edge.b:
                    raise ValueError(f"edges: expected two ROIs, found {edge.a!r} twice")

    def _check_blocks(self, timeline: BlockTimeline, run_s: float) -> None:
        score = timeline.span_s(timeline.score_phase)
        feedback = timeline.span_s(timeline.feedback_phase)
        if not math.isclose(score[1] - score[0], self.window_s):
            raise ValueError(
                f"window_s: expected the score phase's {score[1] - score[0]:g} s, found "
                f"{self.window_s:g} s"
            )
        if feedback[0] < score[1] + self.haemodynamic_delay_s:
            raise ValueError(
                f"feedback phase: expected to begin at least {self.haemodynamic_delay_s:g} s after "
                f"the score phase ends, found {feedback[0] - score[1]:g} s"
            )
        needed_s = timeline.rest_s + timeline.n_trials * timeline.trial_s
        if needed_s > run_s + self.tr_s:
            raise ValueError(
                f"n_volumes: expected a run of at least {needed_s:g} s for {timeline.n_trials} "
                f"trials, found {run_s:g} s"
            )

    @classmethod
    def load(cls, path: Path | str) -> Plan:
        """Read a plan.

        Raises
        ------
        PlanError
            If the file is missing, is no JSON, or any entry is wrong (all are named at once).
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise PlanError(
                f"plan {path}: expected a readable file, found {error.strerror}; check the path"
            ) from error
        except UnicodeDecodeError as error:
            raise PlanError(
                f"plan {path}: expected JSON, found no text; is it another kind of file?"
            ) from error
        try:
            return cls.model_validate(json.loads(text))
        except json.JSONDecodeError as error:
            raise PlanError(
                f"plan {path}: expected JSON, found an error at line {error.lineno}; "
                "make it anew with `fcnef plan new`"
            ) from error
        except ValidationError as error:
            raise PlanError(f"plan {path}: {explain(error)}") from error

    @classmethod
    def create(cls, **entries: Any) -> Plan:
        """Build a plan from its entries; as the constructor, with errors meant for the user."""
        try:
            return cls(**entries)
        except ValidationError as error:
            raise PlanError(f"plan: {explain(error)}") from error

    def save(self, path: Path | str) -> None:
        """Write the plan as indented JSON."""
        Path(path).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @property
    def digest(self) -> str:
        """sha256 of the plan's canonical JSON."""
        body = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(body.encode()).hexdigest()


def explain(error: ValidationError) -> str:
    """All of pydantic's findings in one line: entry, what is wrong, what was found."""
    parts = []
    for finding in error.errors():
        place = ".".join(str(step) for step in finding["loc"])
        text = finding["msg"].removeprefix("Value error, ")
        parts.append(f"{place}: {text}" if place else text)
    return "; ".join(parts)


def file_digest(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
