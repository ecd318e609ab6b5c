"""`fcnef scan`: play a series as a scanner does."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

from rich.progress import Progress

from rtloop.errors import ConfigError
from rtloop.link import StreamSource, load_keys
from tools.faults import Delivery, FaultScript
from tools.scanner import ExportFolder, FeedbackEar, Outlet, StreamOut, open_series, play

__all__ = ["scan"]


def scan(
    source: str,
    /,
    *,
    to: str | None = None,
    as_export: Path | None = None,
    tr: float | None = None,
    speed: float = 1.0,
    faults: Path | None = None,
    volumes: int | None = None,
    repeat: int = 1,
    feedback: str | None = None,
    keys: Path | None = None,
) -> None:
    """Play a recorded or simulated series exactly as a scanner hands it out.

    Parameters
    ----------
    source
        Folder of DICOM, PAR/REC or NIfTI files, a 4-D NIfTI file, or `participant[:SEED]`.
    to
        The engine's volume endpoint, such as tcp://127.0.0.1:5555.
    as_export
        Folder to write files into, the way the vendor does.
    tr
        Repetition time, seconds, where the files say none or a wrong one.
    speed
        1 for true time, K for K times as fast, 0 for as fast as volumes are taken.
    faults
        Fault script (TOML; see `configs/faults.toml`).
    volumes
        How many; all of a recorded series if not given.
    repeat
        Play a recorded series so many times in a row, counting on.
    feedback
        The engine's feedback endpoint: a simulated participant learns from what is shown.
    keys
        Key file, for endpoints beyond this machine.

    Example
    -------
    fcnef scan participant:3 --volumes 200 --tr 1 --as-export export --speed 10
    """
    if (to is None) == (as_export is None):
        raise ConfigError("scan: expected one of --to and --as-export; give one of them")
    series = open_series(source, tr, volumes, repeat)
    script = FaultScript() if faults is None else FaultScript.load(faults)
    pair = None if keys is None else load_keys(keys)
    with ExitStack() as stack:
        outlet: Outlet
        if as_export is not None:
            outlet = ExportFolder(as_export)
        else:
            outlet = StreamOut(stack.enter_context(StreamSource(str(to), pair, source="scanner")))
        ear = stack.enter_context(closing(FeedbackEar(feedback, series, pair)))
        bar = stack.enter_context(Progress(transient=True))
        task = bar.add_task("scan", total=series.n_volumes)

        def before(delivery: Delivery) -> None:
            ear.listen()
            bar.update(task, completed=delivery.index)

        played = play(series, outlet, script, speed=speed, before=before)
    print(f"{played.n_deliveries} deliveries of {series.n_volumes} volumes played")
