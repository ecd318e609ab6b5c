"""Seeding the nuisance regression with a run that is over, such as the day's rest.

Betas of motion and tissue are the participant's; with them known from rest, a run has scores as
soon as its window is full. The seeding run is copied into the record, so a replay needs no other
file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from rtloop.errors import ConfigError, RoiError
from rtloop.journal import Attempt, Record
from rtloop.plan import Plan
from rtloop.rois import RoiSet

__all__ = ["SeedRun", "pack_seeds", "read_seed", "reference_bytes", "unpack_seeds"]


@dataclass(frozen=True, slots=True, eq=False)
class SeedRun:
    """Observations of a finished run, one row per volume that was observed.

    Attributes
    ----------
    n_planned : int
        Planned length of that run; scales its drift.
    indices : ndarray, shape (n,), int64
        Volume indices.
    parameters : ndarray, shape (n, 6), float64
        Motion, mm and rad.
    signals : ndarray, shape (n, n_rois), float64
        ROI means.
    tissue : ndarray, shape (n, n_tissues + 1), float64
        Tissue means; the global signal comes last.
    weights : ndarray, shape (n,), float64
        0 for censored volumes.
    """

    n_planned: int
    indices: NDArray[np.int64]
    parameters: NDArray[np.float64]
    signals: NDArray[np.float64]
    tissue: NDArray[np.float64]
    weights: NDArray[np.float64]


def read_seed(
    path: Path,
    rois: RoiSet,
    plan: Plan,
    tissue: RoiSet | None = None,
    reference: NDArray[Any] | None = None,
    squares: bool = False,
) -> SeedRun:
    """The last attempt of a record as a seed.

    Parameters
    ----------
    path : Path
        Record of the seeding run.
    rois : RoiSet
        ROIs of the run to be seeded; the record's have to be the same voxels.
    plan : Plan
        Its TR has to be the seeding run's.
    tissue : RoiSet or None
        White matter and CSF of the run to be seeded; they too have to be the same voxels.
    reference : ndarray, shape (x, y, z), or None
        Motion reference of the run to be seeded; None if it takes one of its own volumes.
    squares : bool
        Whether squared motion parameters are among the regressors. Those of another reference
        are not a level and a share of these, as the parameters themselves are: the betas would
        not be the same. So the reference has to be.

    Raises
    ------
    ConfigError
        If ROIs, TR, tissue or (with `squares`) the reference differ, or the record holds no
        observation.
    RecordError
        If the file is no record.
    """
    with Record.open(path) as record:
        theirs = Plan.model_validate(record.about()["plan"])
        attempts = record.attempts()
        if not attempts or not _alike(RoiSet.from_bytes(attempts[-1].rois), rois):
            raise ConfigError(
                f"seed {path}: expected a run with this run's ROIs on this run's grid, found "
                "others; record the rest with the same plan and position"
            )
        if theirs.tr_s != plan.tr_s:
            raise ConfigError(
                f"seed {path}: expected TR {plan.tr_s:g} s, found {theirs.tr_s:g} s; "
                "record the rest with the same protocol"
            )
        kept = record.kept("tissue")
        if not _alike(None if kept is None else RoiSet.from_bytes(kept), tissue):
            raise ConfigError(
                f"seed {path}: expected a run with this run's tissue regressors, found others; "
                "record the rest with the same denoise.tissue and tissue_image"
            )
        if squares and not _same_reference(record.kept("reference"), reference):
            raise ConfigError(
                f"seed {path}: expected a run with this run's motion reference, found another, "
                "which 24 motion columns cannot share; name one image for both in "
                "motion.reference, or use 12 columns"
            )
        return _collect(path, record, attempts[-1], theirs.n_volumes)


def _alike(theirs: RoiSet | None, ours: RoiSet | None) -> bool:
    """Whether both sets are the same voxels; headers may round the grid's place differently."""
    if theirs is None or ours is None:
        return theirs is ours
    try:
        theirs.check_grid(ours.shape, ours.affine)
    except RoiError:
        return False
    same = (
        np.array_equal(getattr(theirs, name), getattr(ours, name))
        for name in ("voxels", "starts", "members")
    )
    return theirs.names == ours.names and all(same)


def _same_reference(theirs: bytes | None, ours: NDArray[Any] | None) -> bool:
    """Whether both runs were given the same image; each one's own first volume is not the same."""
    if theirs is None or ours is None:
        return False
    return theirs == reference_bytes(ours)


def reference_bytes(reference: NDArray[Any]) -> bytes:
    """A motion reference as it is kept in a record: float32, x fastest."""
    return np.asarray(reference, "<f4").tobytes(order="F")


def _collect(path: Path, record: Record, attempt: Attempt, n_planned: int) -> SeedRun:
    steps = [recorded.step for recorded in record.events(attempt)]
    seen = [(step, step.observation) for step in steps if step.observation is not None]
    if not seen:
        raise ConfigError(f"seed {path}: expected observed volumes, found none; name another run")
    return SeedRun(
        n_planned=n_planned,
        indices=np.array([observation.index for _, observation in seen], np.int64),
        parameters=np.array([observation.parameters for _, observation in seen]),
        signals=np.array([observation.signals for _, observation in seen]),
        tissue=np.array([observation.tissue for _, observation in seen]),
        weights=np.array([step.weight for step, _ in seen]),
    )


def pack_seeds(seeds: Sequence[SeedRun]) -> bytes:
    """Seeds as bytes for the record."""
    body: bytes = msgpack.packb([_plain(seed) for seed in seeds])
    return body


def unpack_seeds(body: bytes) -> list[SeedRun]:
    """What `pack_seeds` wrote."""
    return [
        SeedRun(**{name: _entry(e) for name, e in run.items()}) for run in msgpack.unpackb(body)
    ]


def _entry(packed: Any) -> Any:
    if isinstance(packed, int):
        return packed
    return np.frombuffer(packed["bytes"], packed["dtype"]).reshape(packed["shape"])


def _plain(seed: SeedRun) -> dict[str, Any]:
    return {
        name: entry
        if name == "n_planned"
        else {"bytes": entry.tobytes(), "dtype": entry.dtype.str, "shape": list(entry.shape)}
        for name, entry in asdict(seed).items()
    }
