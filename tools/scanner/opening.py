"""From what a person types to the series that is played and where it goes."""

from __future__ import annotations

import re
from contextlib import ExitStack, closing
from pathlib import Path

from rtloop.errors import ConfigError
from rtloop.link import StreamSource
from rtloop.plan import MAX_TR_S, MAX_VOLUMES
from tools.scanner.export import ExportFolder
from tools.scanner.series import RecordedSeries
from tools.scanner.simulated import SimulatedSeries
from tools.scanner.stream import StreamOut

__all__ = ["open_outlet", "open_series"]

DEFAULT_TR_S = 2.0


def open_series(
    source: str, tr_s: float | None = None, n_volumes: int | None = None, repeat: int = 1
) -> RecordedSeries | SimulatedSeries:
    """The series a source names.

    Parameters
    ----------
    source : str
        A folder or 4-D NIfTI file, or `participant[:SEED]`.
    tr_s : float or None
        Repetition time; None for what the files say, 2 s for a participant.
    n_volumes : int or None
        Volumes to play; a participant needs to be told.
    repeat : int
        How often a recorded series is played in a row.

    Raises
    ------
    ConfigError
        If a number is out of range, or the source cannot be played.
    """
    numbers: tuple[tuple[str, float | None, float], ...] = (
        ("--tr", tr_s, MAX_TR_S),
        ("--volumes", n_volumes, MAX_VOLUMES),
        ("--repeat", repeat, MAX_VOLUMES),
    )
    for name, value, most in numbers:
        if value is not None and not 0 < value <= most:
            raise ConfigError(
                f"{name}: expected a positive number up to {most:.6g}, found {value:g}; correct it"
            )
    simulated = re.fullmatch(r"participant(?::(\d+))?", source)
    if simulated is None:
        return RecordedSeries(source, tr_s, n_volumes, repeat)
    if n_volumes is None or repeat != 1:
        raise ConfigError(
            "scan participant: expected --volumes and no --repeat: a participant can be scanned "
            "for as long as wanted; say how long"
        )
    try:
        from tools.participant import Learner, Participant
    except ImportError as error:
        raise ConfigError(
            f"scan participant: expected nilearn's templates, found no {error.name}; "
            "install fcnef[demo]"
        ) from error
    seed = int(simulated[1] or 0)
    person = Participant(seed, tr_s=tr_s or DEFAULT_TR_S, script=Learner(seed=seed))
    return SimulatedSeries(person, n_volumes)


def open_outlet(
    endpoint: str | None, folder: Path | None, keys: Path | None, stack: ExitStack
) -> StreamOut | ExportFolder:
    """Where the volumes go: over the stream or into a folder, exactly one of the two.

    Parameters
    ----------
    endpoint : str or None
        The engine's volume endpoint.
    folder : Path or None
        Export folder.
    keys : Path or None
        Key file for endpoints beyond this machine.
    stack : ExitStack
        Closes what is opened.

    Raises
    ------
    ConfigError
        If none or both are given.
    """
    if folder is not None and endpoint is None:
        return ExportFolder(folder)
    if endpoint is None or folder is not None:
        raise ConfigError(
            f"scan: expected one of --to and --as-export, found {'both' if folder else 'none'}; "
            "give one of them"
        )
    link = StreamSource(endpoint, keys, source="scanner")
    return StreamOut(stack.enter_context(closing(link)))
