"""How a session is run: source of volumes, processing, display, network. Read from TOML.

The plan says what is trained; the configuration says with which settings and on which machine.
`EngineConfig` is the part that decides numbers: it is recorded with every run and is all, with
the plan, that a score depends on.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, ValidationError

from rtloop.errors import ConfigError
from rtloop.plan import explain

__all__ = [
    "ConnectivityConfig",
    "DenoiseConfig",
    "DisplaySettings",
    "EngineConfig",
    "MotionConfig",
    "Network",
    "QualityConfig",
    "RunEntry",
    "SessionConfig",
    "Source",
    "read_toml",
]

Endpoint = Annotated[str, Field(pattern=r"^(tcp|ipc)://.+")]


class Section(BaseModel):
    """A table of the file: unknown entries are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class MotionConfig(Section):
    """Motion correction; `enabled = false` samples the labels where they are."""

    enabled: bool = True
    reference: str | None = None
    """NIfTI of the reference image; None takes the first volume after the dummies."""


class DenoiseConfig(Section):
    """Causal nuisance regression over the whole run so far."""

    motion: Literal[0, 6, 12, 24] = 6
    drift_order: Annotated[int, Field(ge=0, le=8)] = 2
    tissue: tuple[Literal["white_matter", "csf", "global_signal"], ...] = ()
    tissue_derivatives: bool = False
    volumes_per_regressor: Annotated[float, Field(ge=1)] = 5.0
    tissue_image: str | None = None
    """Label image with 1 = white matter, 2 = CSF on the run's grid, for `tissue`."""
    seed: tuple[str, ...] = ()
    """Records of the day's rest, whose motion and tissue effects the regression starts from."""


class QualityConfig(Section):
    """When a volume is censored (weight 0)."""

    fd_threshold_mm: PositiveFloat = 0.5
    fd_weight_from_mm: PositiveFloat | None = None
    """FD from which a volume counts less, down to 0 at the threshold; None censors only."""
    fd_window_s: PositiveFloat = 2.0
    template_correlation_min: Annotated[float, Field(ge=-1, le=1)] = 0.7
    coverage_min: Annotated[float, Field(gt=0, le=1)] = 0.9
    effective_share_min: Annotated[float, Field(gt=0, le=1)] = 0.8
    confound_limit: Annotated[float, Field(gt=0, le=1)] = 0.3


class ConnectivityConfig(Section):
    """Edges followed during the run: only the circuits' own, or all of them."""

    edges: Literal["circuit", "all"] = "circuit"
    slice_alignment_above_s: NonNegativeFloat = 0.5


class EngineConfig(Section):
    """Everything besides the plan that a score depends on."""

    dummies_s: NonNegativeFloat = 10.0
    motion: MotionConfig = MotionConfig()
    denoise: DenoiseConfig = DenoiseConfig()
    quality: QualityConfig = QualityConfig()
    connectivity: ConnectivityConfig = ConnectivityConfig()


class Source(Section):
    """Where volumes come from: a folder, DICOM C-STORE, or a stream somebody else sends."""

    kind: Literal["folder", "dicom", "stream"] = "folder"
    watch: str | None = None
    listen: str = "dicom://127.0.0.1:11112"
    allowed_callers: tuple[str, ...] = ()
    scanner: str | None = None
    spool: str | None = None
    secret: str | None = None
    """File of the key that identifiers are hashed with; made beside the records if not named."""
    latency_p99_s: PositiveFloat = 0.5
    """Longest usual time from the end of a volume's acquisition to its arrival (99 %)."""
    restart_wait_s: PositiveFloat = 120.0
    """How long an unfinished series is waited for before the run closes as incomplete."""


class Network(Section):
    """Endpoints of the loop. Beyond loopback, `keys` and `allow` are required."""

    volumes: Endpoint = "tcp://127.0.0.1:5555"
    feedback: Endpoint = "tcp://127.0.0.1:5556"
    telemetry: Endpoint = "tcp://127.0.0.1:5557"
    reports: Endpoint = "tcp://127.0.0.1:5558"
    keys: str | None = None
    allow: tuple[str, ...] = ()
    console: str | None = None
    """`host:port` of the operator's page; None for no page."""


class DisplaySettings(Section):
    """The participant's screen; `options` is handed to the display as it is."""

    enabled: bool = True
    options: dict[str, Any] = {}


class RunEntry(Section):
    """One run of the session; its record is `<records>/<session>_<name>.sqlite`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$", max_length=60)]
    plan: str | None = None


class SessionConfig(Section):
    """A session file: one visit, its runs, and everything they share."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$", max_length=60)]
    plan: str
    records: str = "records"
    runs: Annotated[tuple[RunEntry, ...], Field(min_length=1)]
    source: Source = Source()
    engine: EngineConfig = EngineConfig()
    display: DisplaySettings = DisplaySettings()
    network: Network = Network()
    folder: Path = Path()
    """Folder of the session file, from which relative paths are taken; set by `load`."""

    @classmethod
    def load(cls, path: Path | str) -> SessionConfig:
        """Read a session file.

        Raises
        ------
        ConfigError
            If the file is missing, is no TOML, or any entry is wrong (all are named at once).
        """
        path = Path(path)
        entries = read_toml(path)
        entries["folder"] = path.resolve().parent
        try:
            return cls.model_validate(entries)
        except ValidationError as error:
            raise ConfigError(f"session {path}: {explain(error)}") from error

    def resolve(self, relative: str) -> Path:
        """A path of the file, relative ones taken from the file's folder."""
        return self.folder / relative

    def for_run(self, run: RunEntry) -> SessionConfig:
        """The session as one of its runs sees it: with that run's own plan, where it has one."""
        return self if run.plan is None else self.model_copy(update={"plan": run.plan})

    def record_path(self, run: RunEntry) -> Path:
        return self.resolve(self.records) / f"{self.name}_{run.name}.sqlite"


def read_toml(path: Path) -> dict[str, Any]:
    """Entries of a TOML file.

    Raises
    ------
    ConfigError
        If the file cannot be read or is no TOML.
    """
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigError(
            f"{path}: expected a readable file, found {error.strerror}; check the path"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected TOML, found {error}; correct the file") from error
