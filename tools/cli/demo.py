"""`fcnef demo`: the whole loop on a simulated participant, ending in a report."""

from __future__ import annotations

from pathlib import Path

from tools.demo import SPEED, Demo

__all__ = ["demo"]


def demo(*, out: Path = Path("demo-report"), speed: float = SPEED, window: bool = False) -> int:
    """Run the loop from export folder to display on a simulated participant, and report.

    One volume is dropped and the engine is killed once on the way; the replay has to find all
    scores identical.

    Parameters
    ----------
    out
        Folder of the report.
    speed
        Scanner's pace, in multiples of true time.
    window
        Show the participant's screen on this desktop.

    Example
    -------
    fcnef demo --out demo-report
    """
    verdict = Demo(out, speed=speed, window=window).run()
    return 0 if verdict.identical else 1
