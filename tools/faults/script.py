"""Fault scripts of the simulated scanner: what goes wrong, and at which volume.

A script is a list of faults, each naming a volume index, in TOML as `[[fault]]` tables (see
configs/faults.toml). Times are in repetition times (`_tr`), so that a script means the same at
every speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, model_validator

from rtloop.config import read_toml
from rtloop.errors import ConfigError
from rtloop.plan import explain

__all__ = [
    "KINDS",
    "Abort",
    "Burst",
    "Delay",
    "Drop",
    "Duplicate",
    "Fault",
    "FaultScript",
    "Nan",
    "Partial",
    "Reorder",
    "Restart",
    "Truncate",
    "WrongAffine",
    "WrongSeries",
    "WrongShape",
    "random_faults",
]

Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=1000)]
Index = Annotated[int, Field(ge=0)]


class Named(BaseModel):
    """The volume a fault befalls; `attempt` counts restarts of the series from 0."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    volume: Index
    attempt: Index = 0


class Drop(Named):
    """The volume never comes."""

    kind: Literal["drop"] = "drop"


class Duplicate(Named):
    """The volume comes again, `after` volumes later."""

    kind: Literal["duplicate"] = "duplicate"
    after: Index = 0


class Reorder(Named):
    """The volume comes right after its successor."""

    kind: Literal["reorder"] = "reorder"


class Delay(Named):
    """The volume comes `by_tr` repetition times too late; the others do not wait for it."""

    kind: Literal["delay"] = "delay"
    by_tr: PositiveFloat = 0.5


class Burst(Named):
    """`n_volumes` volumes, from this one on, are held back and come at once with the last."""

    kind: Literal["burst"] = "burst"
    n_volumes: Count = 3


class Partial(Named):
    """The file is written in two parts, the second `pause_tr` later."""

    kind: Literal["partial"] = "partial"
    keep: Share = 0.5
    pause_tr: PositiveFloat = 0.5


class Truncate(Named):
    """The file is cut short and never completed."""

    kind: Literal["truncate"] = "truncate"
    keep: Share = 0.6


class Nan(Named):
    """The volume's voxels are NaN (NIfTI and stream alone: DICOM integers cannot say so)."""

    kind: Literal["nan"] = "nan"


class WrongShape(Named):
    """The volume has half its rows."""

    kind: Literal["wrong_shape"] = "wrong_shape"


class WrongAffine(Named):
    """The volume claims to lie `shift_mm` further along z."""

    kind: Literal["wrong_affine"] = "wrong_affine"
    shift_mm: PositiveFloat = 10.0


class WrongSeries(Named):
    """`n_volumes` volumes of another series come just before this volume."""

    kind: Literal["wrong_series"] = "wrong_series"
    n_volumes: Count = 1


class Abort(Named):
    """The series ends after this volume."""

    kind: Literal["abort"] = "abort"


class Restart(Named):
    """The series ends after this volume; `pause_tr` later it starts anew as another series."""

    kind: Literal["restart"] = "restart"
    pause_tr: PositiveFloat = 2.0


Fault = Annotated[
    Drop | Duplicate | Reorder | Delay | Burst | Partial | Truncate | Nan | WrongShape
    | WrongAffine | WrongSeries | Abort | Restart,
    Field(discriminator="kind"),
]  # fmt: skip

KINDS = (
    "drop", "duplicate", "reorder", "delay", "burst", "partial", "truncate", "nan",
    "wrong_shape", "wrong_affine", "wrong_series", "abort", "restart",
)  # fmt: skip


class FaultScript(BaseModel):
    """All faults of one run; `[[fault]]` tables in TOML."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fault: tuple[Fault, ...] = ()

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        named = [(fault.attempt, fault.volume) for fault in self.fault]
        twice = sorted({place for place in named if named.count(place) > 1})
        if twice:
            attempt, volume = twice[0]
            raise ValueError(
                f"expected one fault per volume, found several for volume {volume} of attempt "
                f"{attempt}; remove all but one"
            )
        return self

    @classmethod
    def load(cls, path: Path | str) -> FaultScript:
        """Read a script.

        Raises
        ------
        ConfigError
            If the file is missing, is no TOML, or any entry is wrong (all are named at once).
        """
        try:
            return cls.model_validate(read_toml(Path(path)))
        except ValidationError as error:
            raise ConfigError(f"faults {path}: {explain(error)}") from error

    def of(self, attempt: int) -> tuple[Fault, ...]:
        """Faults of one attempt."""
        return tuple(fault for fault in self.fault if fault.attempt == attempt)


def random_faults(
    seed: int,
    n_volumes: int,
    kinds: Sequence[str] = KINDS,
    first: int = 1,
    apart: int = 4,
) -> FaultScript:
    """A script drawn by chance: one fault per `2 * apart` volumes or so, none next to another.

    Parameters
    ----------
    seed : int
        Which one.
    n_volumes : int
        Volumes of the series.
    kinds : sequence of str
        Admissible kinds; an abort or restart comes last and in one script of three at most.
    first : int
        First volume that may be hit: those before it make the reference.
    apart : int
        Volumes from one fault to the next, at least.
    """
    random = np.random.default_rng([seed, 11])
    ends = [kind for kind in kinds if kind in ("abort", "restart")]
    others = [kind for kind in kinds if kind not in ends]
    places = []
    place = first + int(random.integers(0, apart))
    while place < n_volumes - apart:
        places.append(place)
        place += apart + int(random.integers(0, 2 * apart))
    end = places.pop() if ends and places and random.random() < 1 / 3 else None
    faults = [_drawn(str(random.choice(others)), volume, random) for volume in places if others]
    if end is not None:
        faults.append(_drawn(str(random.choice(ends)), end, random))
    return FaultScript.model_validate({"fault": faults})


def _drawn(kind: str, volume: int, random: np.random.Generator) -> dict[str, object]:
    """Entries of one fault with amplitudes drawn by chance."""
    fault: dict[str, object] = {"kind": kind, "volume": volume}
    share, short_tr, n = random.uniform(0.1, 0.9), random.uniform(0.1, 2.5), random.integers(1, 4)
    match kind:
        case "delay":
            fault["by_tr"] = round(float(short_tr), 2)
        case "partial":
            fault |= {"keep": round(float(share), 2), "pause_tr": round(float(short_tr), 2)}
        case "truncate":
            fault["keep"] = round(float(share), 2)
        case "burst" | "wrong_series":
            fault["n_volumes"] = int(n)
        case "duplicate":
            fault["after"] = int(n) - 1
    return fault
