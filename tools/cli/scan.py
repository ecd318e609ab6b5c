"""`fcnef scan`: play a series as a scanner does."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tools.faults import FaultScript
from tools.scanner import FeedbackEar, open_outlet, open_series, play

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
    series = open_series(source, tr, volumes, repeat)
    script = FaultScript() if faults is None else FaultScript.load(faults)
    with ExitStack() as stack:
        outlet = open_outlet(to, as_export, keys, stack)
        ear = stack.enter_context(closing(FeedbackEar(feedback, series, keys)))
        errors = Console(stderr=True)
        silent = not errors.is_terminal
        bar = stack.enter_context(Progress(transient=True, console=errors, disable=silent))
        task = bar.add_task("scan", total=series.n_volumes)
        steps = (lambda one: bar.update(task, completed=one.index), lambda _: ear.listen())
        played = play(series, outlet, script, speed=speed, before=steps)
    print(f"{series.n_volumes} volumes played in {played.n_deliveries} deliveries")
