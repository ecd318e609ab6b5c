"""`fcnef plan`: a plan by hand, for one chosen connection."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cyclopts

from rtloop.plan import Plan
from tools.planning import calibrated_plan, new_plan, save_plan

__all__ = ["plan"]

plan = cyclopts.App(
    name="plan",
    help="Make, calibrate and show plans.",
    help_epilogue="Example:\n\n```text\nfcnef plan show plan.json\n```",
)


@plan.command
def new(
    out: Path,
    /,
    *,
    participant: str,
    tr: float,
    volumes: int,
    sphere: list[str] | None = None,
    atlas: Path | None = None,
    edge: list[str] | None = None,
    direction: Literal["up", "down"] = "up",
    window: float = 40.0,
    delay: float = 6.0,
    rest: float = 60.0,
    timeline: Path | None = None,
    mean: float | None = None,
    sd: float | None = None,
    feedback: bool = True,
) -> None:
    """Write a plan by hand: one connection between two ROIs or spheres, or a few.

    Parameters
    ----------
    out
        The plan to write (JSON).
    participant
        Participant's code.
    tr
        Repetition time, s.
    volumes
        Planned length of a run, volumes, dummies included.
    sphere
        `NAME:x,y,z[:radius]` in the run's own mm, at least two.
    atlas
        Label image on the run's grid; names in a `.tsv` beside it (columns `index`, `name`).
    edge
        `A,B[,WEIGHT]` by ROI name; the first two ROIs if not given.
    direction
        Whether the connection is trained up or down.
    window
        Window, s; with a block timeline the score phase decides.
    delay
        Haemodynamic delay, s.
    rest
        First rest without feedback, s (continuous timeline).
    timeline
        TOML of a block timeline (see `configs/timelines/block.toml`).
    mean
        Mean raw score of the participant's resting windows; with `--sd` fixes the anchors.
    sd
        Their SD. Without both, anchors come from the run's own first rest.
    feedback
        `--no-feedback` plans a run of the same timeline without any value shown.

    Example
    -------
    fcnef plan new plan.json --participant p01 --tr 1.0 --volumes 420 \\
        --sphere "DLPFC:-42,32,30:6" --sphere "PCC:0,-52,26:6" --direction down
    """
    made = new_plan(
        participant=participant,
        tr_s=tr,
        n_volumes=volumes,
        spheres=sphere or [],
        atlas=atlas,
        base=out.parent,
        edges=edge or [],
        direction=1 if direction == "up" else -1,
        window_s=window,
        haemodynamic_delay_s=delay,
        rest_s=rest,
        timeline=timeline,
        anchors=(mean, sd),
        feedback=feedback,
    )
    save_plan(made, out)
    print(f"{out}: {len(made.edges)} edge(s), window {made.window} volumes, {made.digest[:12]}")


@plan.command
def calibrate(source: Path, /, *, rest: list[Path], out: Path) -> None:
    """Fix a plan's anchors on recorded rest: mean and SD of its windows' raw scores.

    Parameters
    ----------
    source
        The plan.
    rest
        Records of resting runs made with the same target, at least 20 minutes together.
    out
        The calibrated plan.

    Example
    -------
    fcnef plan calibrate plan.json --rest rest-1.sqlite --rest rest-2.sqlite --out plan-cal.json
    """
    made, words = calibrated_plan(Plan.load(source), rest)
    save_plan(made, out)
    print(f"{out}: {words}")


@plan.command
def show(source: Path, /) -> None:
    """Print a plan, checked.

    Parameters
    ----------
    source
        The plan.

    Example
    -------
    fcnef plan show plan.json
    """
    loaded = Plan.load(source)
    print(loaded.model_dump_json(indent=2))
    print(f"digest {loaded.digest}")
