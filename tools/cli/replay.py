"""`fcnef replay`: compute a record again, score it another way, or play it back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.progress import Progress

from rtloop.config import SessionConfig
from rtloop.errors import ConfigError
from rtloop.replay import Verdict, rescore, verify
from tools.playback import play

__all__ = ["replay"]


def replay(
    record: Path,
    /,
    *,
    start: Annotated[Literal["volumes", "rois"], Parameter(name="--from")] = "volumes",
    config: Path | None = None,
    out: Path | None = None,
    console: bool = False,
    display: bool = False,
    speed: float = 1.0,
) -> int:
    """Recompute every score of a run record; exit 1 at the first difference.

    Parameters
    ----------
    record
        The run's record (`run.sqlite`).
    start
        `--from volumes` recomputes all of it; `--from rois` begins at the recorded ROI signals.
    config
        Session file with another plan or other `[engine]` settings: scores the same volumes anew
        into the record `--out`.
    out
        The new record; `<record>-rescored.sqlite` if not given.
    console
        Play the run back to the operator's page.
    display
        Play the run back to the participant's display.
    speed
        Pace of the playback, in multiples of the recorded one.

    Example
    -------
    fcnef replay records/ses-01_run-01.sqlite --from rois
    """
    if console or display:
        return play(record, console=console, display=display, speed=speed)
    errors = Console(stderr=True)
    with Progress(transient=True, console=errors, disable=not errors.is_terminal) as bar:
        task = bar.add_task("replay", total=None)
        if config is not None:
            target = out or record.with_name(f"{record.stem}-rescored.sqlite")
            done = rescore(
                record, SessionConfig.load(config), target, lambda n: bar.update(task, completed=n)
            )
            print(f"{done} events scored anew into {target}")
            return 0
        if out is not None:
            raise ConfigError("--out: expected together with --config, found alone; add --config")
        verdict = verify(record, start, lambda n: bar.update(task, completed=n))
    print(_say(verdict))
    return 0 if verdict.acceptable else 1


def _say(verdict: Verdict) -> str:
    counts = f"{verdict.n_events} events, {verdict.n_scores} scores"
    if verdict.identical:
        return f"identical: {counts} recomputed bit for bit"
    machine = "" if verdict.same_machine else " (recorded on a machine with another fingerprint)"
    return (
        f"different{machine}: largest difference in raw score {verdict.largest:.3g} "
        f"after {counts}; first: {verdict.difference}"
    )
