"""`fcnef task`: reaction-time tasks before and after training, as BIDS events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cyclopts

__all__ = ["task"]

task = cyclopts.App(
    name="task",
    help="Show a reaction-time task and record it.",
    help_epilogue=(
        "Example:\n\n```text\nfcnef task stroop --participant p01 --session 1 --out bids\n```"
    ),
)


@task.command
def stroop(
    *,
    participant: str,
    out: Path,
    session: str = "1",
    keys: str = "1,2,3",
    practice: bool = False,
    window: bool = False,
    screen: int = 0,
) -> int:
    """Show the colour–word Stroop task: 78 words, 6.5 minutes.

    The task starts with the scanner's pulse (5 or t), space or return; escape ends it and keeps
    what was recorded.

    Parameters
    ----------
    participant
        Participant's code.
    out
        BIDS folder; events go to `sub-*/ses-*/beh/`.
    session
        Session's name.
    keys
        For red, green and blue, as PsychoPy names them.
    practice
        Begin with 12 words with feedback.
    window
        A window instead of the whole screen.
    screen
        Number of the participant's screen.

    Example
    -------
    fcnef task stroop --participant p01 --session 1 --out bids --practice
    """
    from stimuli.room import read_task
    from stimuli.stroop import StroopConfig, main

    options = _options(participant, out, session, keys, practice, window, screen)
    return main(read_task(StroopConfig, options))


@task.command
def matching(
    *,
    participant: str,
    out: Path,
    session: str = "1",
    keys: str = "1,2",
    faces: Path | None = None,
    shapes_only: bool = False,
    practice: bool = False,
    window: bool = False,
    screen: int = 0,
) -> int:
    """Show the faces/shapes matching task: 108 trials, 6.5 minutes.

    The task starts with the scanner's pulse (5 or t), space or return; escape ends it and keeps
    what was recorded.

    Parameters
    ----------
    participant
        Participant's code.
    out
        BIDS folder; events go to `sub-*/ses-*/beh/`.
    session
        Session's name.
    keys
        For left and right, as PsychoPy names them.
    faces
        Folder of the lab's pictures, `EXPRESSION_PERSON.png`; none come with this program.
    shapes_only
        Show the blocks of shapes alone.
    practice
        Begin with six trials with feedback.
    window
        A window instead of the whole screen.
    screen
        Number of the participant's screen.

    Example
    -------
    fcnef task matching --participant p01 --session 1 --out bids --faces faces/
    """
    from stimuli.matching import MatchingConfig, main
    from stimuli.room import read_task

    options = _options(participant, out, session, keys, practice, window, screen)
    return main(read_task(MatchingConfig, {**options, "faces": faces, "shapes_only": shapes_only}))


def _options(
    participant: str,
    out: Path,
    session: str,
    keys: str,
    practice: bool,
    window: bool,
    screen: int,
) -> dict[str, Any]:
    return {
        "participant": participant,
        "out": out,
        "session": session,
        "keys": tuple(name.strip() for name in keys.split(",")),
        "practice": practice,
        "fullscreen": not window,
        "screen": screen,
    }
