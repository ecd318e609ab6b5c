"""`fcnef doctor`: is this machine fit for a run?"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from tools.doctor import Line, as_json, examine, fit, table

__all__ = ["doctor"]


def doctor(
    *, flips: Literal[120, 600] = 120, records: Path = Path("records"), json: bool = False
) -> int:
    """Look at system, packages, fingerprint, keyboard, display timing, disk and ports.

    Exit status 1 if a line says `fail`; its last column says what to do.

    Parameters
    ----------
    flips
        Frames of the display timing: 120 for a look, 600 before a study.
    records
        Folder in which run records will be written (it need not exist yet).
    json
        Print JSON instead of a table, for support mail.

    Example
    -------
    fcnef doctor --flips 600 --records /data/records
    """
    lines: list[Line] = []
    errors = Console(stderr=True)
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), console=errors) as progress:
        task = progress.add_task("looking at this machine", total=None)
        for topic, found in examine(flips, records):
            progress.update(task, description=f"{topic} looked at")
            lines += found
    if json:
        print(as_json(lines))
    else:
        Console().print(table(lines))
    return 0 if fit(lines) else 1
