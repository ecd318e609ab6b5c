"""Attempts at a run: opening one on its first volume, and building one again from the record.

An engine is a function of the plan, the configuration and the events, so an attempt that a dead
process left open continues with the same bits: its recorded observations are stepped again,
without touching an image except the reference.
"""

from __future__ import annotations

import contextlib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from rtloop import __version__
from rtloop.config import EngineConfig, RunEntry, SessionConfig
from rtloop.engine import Engine
from rtloop.errors import ConfigError, RecordError, RoiError
from rtloop.events import Deadline, Event, Operator, Step, Unseen
from rtloop.fingerprint import fingerprint
from rtloop.journal import Attempt, Record, Recorded
from rtloop.observer import Geometry
from rtloop.plan import AtlasRois, Plan
from rtloop.readers.binding import ScannerConfig
from rtloop.rois import RoiSet
from rtloop.schema import is_blank
from rtloop.seeding import SeedRun, pack_seeds, read_seed, reference_bytes, unpack_seeds
from rtloop.volume import Volume

__all__ = [
    "Running",
    "Setup",
    "about",
    "begin",
    "build_engine",
    "is_complete",
    "is_over",
    "load_plan",
    "open_record",
    "rebuild",
    "recorded_elsewhere",
    "resume",
    "scanner_of",
    "settle",
    "substitute",
]

TISSUE_LABELS = {1: "white_matter", 2: "csf"}


@dataclass(slots=True)
class Running:
    """An attempt under way: its row in the record and its engine."""

    attempt: Attempt
    engine: Engine
    last_step: Step | None = None
    n_events: int = 0


@dataclass(frozen=True, slots=True)
class Setup:
    """What a run needs besides its volumes: reference, tissue masks, seeding runs."""

    reference: NDArray[Any] | None
    tissue: RoiSet | None
    seeds: list[SeedRun]


def settle(session: SessionConfig) -> SessionConfig:
    """The session with what the scanner's own file decides of the engine's settings.

    Where the scanner keeps its dummy volumes to itself, none of the exported ones is a dummy.
    """
    if scanner_of(session).dummies_exported:
        return session
    engine = session.engine.model_copy(update={"dummies_s": 0.0})
    return session.model_copy(update={"engine": engine})


def scanner_of(session: SessionConfig) -> ScannerConfig:
    """How the site's scanner counts: its own file, or the defaults.

    Raises
    ------
    ConfigError
        If the file cannot be read or has wrong entries.
    """
    if session.source.scanner is None:
        return ScannerConfig()
    return ScannerConfig.load(session.resolve(session.source.scanner))


def load_plan(session: SessionConfig, entry: RunEntry) -> Plan:
    """The plan of a run: its own, or the session's."""
    return Plan.load(session.resolve(entry.plan or session.plan))


def open_record(session: SessionConfig, entry: RunEntry, plan: Plan) -> Record:
    """The run's record, new or left by a process that died.

    Raises
    ------
    RecordError
        If the run is already recorded as complete, or was recorded with another plan.
    """
    path = session.record_path(entry)
    if is_blank(path):
        return Record.create(path, about(session, entry, plan))
    record = Record.open(path, writable=True)
    recorded = record.about()
    if recorded["plan"] != plan.model_dump(mode="json"):
        raise RecordError(
            f"record {path}: expected the plan it was begun with, found another; "
            "restore the plan or name a new run"
        )
    if recorded["engine"] != session.engine.model_dump(mode="json"):
        raise RecordError(
            f"record {path}: expected the [engine] settings it was begun with, found others; "
            "restore them or name a new run"
        )
    if any(attempt.outcome == "complete" for attempt in record.attempts()):
        raise RecordError(
            f"record {path}: expected an unfinished run, found a complete one; name a new run"
        )
    return record


def about(session: SessionConfig, entry: RunEntry, plan: Plan) -> dict[str, Any]:
    """What a record says of its run: plan, settings, versions, machine."""
    return {
        "session": session.name,
        "run": entry.name,
        "plan": plan.model_dump(mode="json"),
        "engine": session.engine.model_dump(mode="json"),
        "configuration": session.model_dump(mode="json", exclude={"folder"}),
        "version": __version__,
        "python": platform.python_version(),
        "fingerprint": fingerprint(),
        "plan_digest": plan.digest,
    }


def is_complete(path: Path) -> bool:
    """Whether a record holds a complete attempt."""
    if is_blank(path):
        return False
    with Record.open(path) as record:
        return any(attempt.outcome == "complete" for attempt in record.attempts())


def is_over(path: Path, since_s: float) -> bool:
    """Whether the run of a record has ended, by its plan or by a stop, since then (Unix s)."""
    if is_blank(path):
        return False
    with Record.open(path) as record:
        rows = record.rows("attempt")
    ended = bool(rows) and rows[-1]["outcome"] in ("complete", "stopped")
    return ended and bool(rows[-1]["closed_s"] >= since_s)


def recorded_elsewhere(session: SessionConfig, entry: RunEntry) -> list[str]:
    """Attempts of the session's other runs, whose files may lie in the same export folder."""
    names: list[str] = []
    for other in session.runs:
        path = session.record_path(other)
        if other.name != entry.name and not is_blank(path):
            # A damaged record of another run is no reason against this one.
            with contextlib.suppress(RecordError), Record.open(path) as record:
                names += [attempt.name for attempt in record.attempts()]
    return names


def begin(
    session: SessionConfig,
    plan: Plan,
    record: Record,
    volume: Volume,
    time_s: float,
    former: Attempt | None = None,
) -> Running:
    """Open an attempt on its first volume; `former`, which ran before it, was aborted.

    Raises
    ------
    RoiError, PlanError, ConfigError
        If ROIs, TR or images named in the configuration do not fit the volume.
    """
    geometry = Geometry.of(volume)
    rois = _rois(session, plan, geometry)
    setup = _setup(session, plan, rois, geometry)
    engine = build_engine(plan, session.engine, rois, geometry, setup)
    entries = geometry.to_json()
    with record.transaction():
        if former is not None:
            record.close_attempt(former, time_s, "aborted")
        attempt = record.open_attempt(volume.attempt, time_s, rois.to_bytes(), entries)
        if setup.tissue is not None:
            record.keep("tissue", setup.tissue.to_bytes())
        if setup.reference is not None:
            record.keep("reference", reference_bytes(setup.reference))
        if setup.seeds:
            record.keep("seeds", pack_seeds(setup.seeds))
    return Running(attempt, engine)


def resume(session: SessionConfig, plan: Plan, record: Record) -> Running | None:
    """The attempt that a dead process left open, as far as the record holds it."""
    left = [attempt for attempt in record.attempts() if attempt.outcome is None]
    return rebuild(plan, session.engine, record, left[-1]) if left else None


def rebuild(plan: Plan, config: EngineConfig, record: Record, attempt: Attempt) -> Running:
    """An engine in the state in which the record leaves this attempt."""
    running = Running(attempt, recorded_engine(plan, config, record, attempt))
    trusted: NDArray[np.float64] | None = None
    for recorded in record.events(attempt):
        running.last_step = running.engine.step(substitute(recorded))
        running.n_events += 1
        observation = running.last_step.observation
        if observation is not None and not observation.failure:
            trusted = observation.parameters
    _restore_observer(running, record, trusted)
    return running


def recorded_engine(plan: Plan, config: EngineConfig, record: Record, attempt: Attempt) -> Engine:
    """A fresh engine for an attempt of the record, before its first event."""
    geometry = Geometry.from_json(attempt.geometry)
    tissue, reference, seeds = map(record.kept, ("tissue", "reference", "seeds"))
    setup = Setup(
        None
        if reference is None
        else np.frombuffer(bytearray(reference), "<f4").reshape(geometry.shape, order="F"),
        None if tissue is None else RoiSet.from_bytes(tissue),
        [] if seeds is None else unpack_seeds(seeds),
    )
    return build_engine(plan, config, RoiSet.from_bytes(attempt.rois), geometry, setup)


def _restore_observer(
    running: Running, record: Record, trusted: NDArray[np.float64] | None
) -> None:
    index = running.engine.reference_index
    if index is not None and not running.engine.observer.has_reference:
        for recorded in record.events(running.attempt):
            if recorded.kind == "volume" and recorded.index == index:
                volume = record.event(recorded)
                assert isinstance(volume, Volume)
                running.engine.observer.adopt(volume.data)
                break
    if trusted is not None:
        running.engine.observer.restore(trusted)


def substitute(recorded: Recorded) -> Event:
    """The event with its recorded observation in place of its image."""
    if recorded.kind == "deadline":
        return Deadline(recorded.index)
    if recorded.kind == "operator":
        return Operator(recorded.header["action"])
    step = recorded.step
    if step.observation is not None:
        return step.observation
    return Unseen(recorded.index, step.reasons[0] if step.reasons else "")


def build_engine(
    plan: Plan, config: EngineConfig, rois: RoiSet, geometry: Geometry, setup: Setup
) -> Engine:
    return Engine(plan, config, rois, setup.reference, geometry, setup.tissue, setup.seeds)


def _rois(session: SessionConfig, plan: Plan, geometry: Geometry) -> RoiSet:
    """The plan's ROIs on the run's grid; only those of its circuits where no others are asked."""
    if isinstance(plan.rois, AtlasRois):
        base = session.resolve(session.plan).parent
        rois = RoiSet.from_label_file(plan.rois.locate(base), plan.rois.labels)
    else:
        spheres = [(s.name, s.center_mm, s.radius_mm) for s in plan.rois.spheres]
        rois = RoiSet.from_spheres(spheres, geometry.shape, geometry.matrix)
    if session.engine.connectivity.edges == "all":
        return rois
    edges = plan.edges + plan.sham_edges
    wanted = {name for edge in edges for name in (edge.a, edge.b)}
    return rois.select([name for name in rois.names if name in wanted])


def _setup(session: SessionConfig, plan: Plan, rois: RoiSet, geometry: Geometry) -> Setup:
    reference, tissue = None, None
    if session.engine.motion.reference is not None:
        path = session.resolve(session.engine.motion.reference)
        image = _load_image(path)
        rois.check_grid(image.shape, image.affine)
        reference = np.asfortranarray(image.get_fdata(dtype=np.float32))
    wanted = [name for name in session.engine.denoise.tissue if name != "global_signal"]
    if wanted:
        if session.engine.denoise.tissue_image is None:
            raise ConfigError(
                f"denoise.tissue_image: expected a label image for {', '.join(wanted)}, found "
                "none; name one or take them out of denoise.tissue"
            )
        names = {value: name for value, name in TISSUE_LABELS.items() if name in wanted}
        tissue = RoiSet.from_label_file(session.resolve(session.engine.denoise.tissue_image), names)
        tissue.check_grid(geometry.shape, geometry.matrix)
    paths = [session.resolve(path) for path in session.engine.denoise.seed]
    squares = session.engine.denoise.motion == 24
    seeds = [read_seed(path, rois, plan, tissue, reference, squares) for path in paths]
    return Setup(reference, tissue, seeds)


def _load_image(path: Path) -> Any:
    try:
        return nibabel.as_closest_canonical(nibabel.load(path))  # type: ignore[no-untyped-call]
    except (OSError, nibabel.filebasedimages.ImageFileError) as error:
        raise RoiError(f"image {path}: expected a NIfTI file, found: {error}") from error
