"""`fcnef task`: reaction-time tasks before and after training, as BIDS events."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cyclopts

__all__ = ["task"]

task = cyclopts.App(
    name="task",
    help="Show a reaction-time task and record it.",
    help_epilogue=(
        "Example:\n\n```text\nfcnef task stroop --participant p01 --session 1 --out bids\n```"
    ),
)


@cyclopts.Parameter(name="*")
@dataclass(frozen=True)
class Sitting:
    """Who does the task, and where it is shown and kept.

    Parameters
    ----------
    participant
        Participant's code.
    out
        BIDS folder; events go to `sub-*/ses-*/beh/`.
    session
        Session's name.
    practice
        Begin with a few trials with feedback.
    window
        A window instead of the whole screen.
    screen
        Number of the participant's screen.
    """

    participant: str
    out: Path
    session: str = "1"
    practice: bool = False
    window: bool = False
    screen: int = 0

    def entries(self, keys: str) -> dict[str, Any]:
        """What every task's configuration has in common; `keys` are names joined by commas."""
        return {
            "participant": self.participant,
            "out": self.out,
            "session": self.session,
            "keys": tuple(name.strip() for name in keys.split(",")),
            "practice": self.practice,
            "fullscreen": not self.window,
            "screen": self.screen,
        }


@task.command
def stroop(
    *, sitting: Annotated[Sitting, cyclopts.Parameter(name="*")], keys: str = "1,2,3"
) -> int:
    """Show the colour–word Stroop task: 78 words, 6.5 minutes; 12 more to practise.

    The task starts with the scanner's pulse (5 or t), space or return; escape ends it and keeps
    what was recorded.

    Parameters
    ----------
    keys
        For red, green and blue, as PsychoPy names them; other keys than those above.

    Example
    -------
    fcnef task stroop --participant p01 --session 1 --out bids --practice
    """
    from stimuli.room import read_task
    from stimuli.stroop import StroopConfig, main

    return main(read_task(StroopConfig, sitting.entries(keys)))


@task.command
def matching(
    *,
    sitting: Annotated[Sitting, cyclopts.Parameter(name="*")],
    keys: str = "1,2",
    faces: Path | None = None,
    shapes_only: bool = False,
) -> int:
    """Show the faces/shapes matching task: 108 trials, 6.5 minutes; six more to practise.

    The task starts with the scanner's pulse (5 or t), space or return; escape ends it and keeps
    what was recorded.

    Parameters
    ----------
    keys
        For left and right, as PsychoPy names them; other keys than those above.
    faces
        Folder of the lab's pictures, `EXPRESSION_PERSON.png`; none come with this program.
    shapes_only
        Show the blocks of shapes alone.

    Example
    -------
    fcnef task matching --participant p01 --session 1 --out bids --faces faces/
    """
    from stimuli.matching import MatchingConfig, main
    from stimuli.room import read_task

    entries = {**sitting.entries(keys), "faces": faces, "shapes_only": shapes_only}
    return main(read_task(MatchingConfig, entries))
