"""How shapes and words are drawn: one look for all scenes, lengths as shares of window height.

Calm, legible, colour-blind safe: light shapes on dark grey, blue against orange (Okabe and Ito's
palette, https://jfly.uni-koeln.de/color/), never red against green.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from psychopy.visual import Circle, Rect, ShapeStim, TextStim, Window

__all__ = ["Look", "Pen", "Texts", "band", "below", "rounded"]

SMOOTH_PX = 1.0
"""Width of the smoothed outline that softens a shape's edge; half of it lies outside the shape.
Multisampling looks the same and costs a software renderer four times as much."""

MAX_TEXT = 600
"""Longest text drawn, characters."""

MAX_KEPT_TEXTS = 256
"""Prepared lines of text that are kept: all hundred scores and the words of many trials."""

Colour = Annotated[str, Field(pattern=r"^#[0-9A-Fa-f]{6}$")]
LetterHeight = Annotated[float, Field(gt=0.01, lt=0.4)]


class Texts(BaseModel):
    """Words on the screen, in the participant's language; a message's own text goes before."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wait: str = "We are about to begin.\nPlease lie still and relax."
    rest: str = "Rest"
    instruction: str = "Get ready"
    feedback: str = ""
    score: str = "Your score"
    no_score: str = "No score this time"
    hold: str = "One moment"
    end: str = "This part is over.\nThank you."


class Look(BaseModel):
    """How the scenes look.

    `style` is what the feedback is: the radius of a disc or the level of a thermometer. Text
    sizes are letter heights as shares of the window's height. `font_file` is for writing systems
    that Noto Sans, which PsychoPy brings, does not cover (Chinese, Japanese, Arabic, ...).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    style: Literal["disc", "thermometer"] = "disc"
    background: Colour = "#20242A"
    ink: Colour = "#D5DAE1"
    faint: Colour = "#7D8794"
    track: Colour = "#2D333C"
    level: Colour = "#56B4E9"
    old_level: Colour = "#5F7484"
    sign: Colour = "#E69F00"
    text_size: LetterHeight = 0.058
    small_text_size: LetterHeight = 0.040
    score_size: LetterHeight = 0.17
    font: str = "Noto Sans"
    font_file: str | None = None
    texts: Texts = Texts()


class Pen:
    """Makes shapes and keeps texts, all in one look; `px` turns shares of height into pixels."""

    def __init__(self, window: Window, look: Look) -> None:
        from psychopy import prefs

        self.window = window
        self.look = look
        self._texts: dict[tuple[str, float, float, str], TextStim] = {}
        shipped = f"{prefs.paths['assets']}/fonts/NotoSans-Regular.ttf"
        self._fonts = [look.font_file or shipped]

    def px(self, share: float) -> float:
        return share * float(self.window.size[1])

    def circle(self, colour: str) -> Circle:
        """A filled circle of radius 1 px with a smooth edge; set its size with `resize`."""
        from psychopy.visual import Circle

        return Circle(self.window, radius=1.0, edges=128, **self._filled(colour))

    def resize(self, circle: Circle, radius_px: float) -> None:
        inside = max(radius_px - SMOOTH_PX / 2, 0.01)
        circle.size = (inside, inside)

    def box(self, width_px: float, height_px: float, x: float, y: float, colour: str) -> Rect:
        """A filled rectangle around (x, y), edges on whole pixels."""
        from psychopy.visual import Rect

        options = self._filled(colour) | {"lineWidth": 0, "lineColor": None}
        size = (max(1, round(width_px)), max(1, round(height_px)))
        return Rect(self.window, width=size[0], height=size[1], pos=(round(x), round(y)), **options)

    def shape(self, vertices: NDArray[np.float64], colour: str) -> ShapeStim:
        from psychopy.visual import ShapeStim

        return ShapeStim(self.window, vertices=vertices, **self._filled(colour))

    def write(self, text: str, size: float, y: float, colour: str) -> None:
        """Draw centred lines of text around height `y`; sizes and heights are shares."""
        if not text:
            return
        key = (text[:MAX_TEXT], size, y, colour)
        if key not in self._texts:
            if len(self._texts) >= MAX_KEPT_TEXTS:
                self._texts.clear()
            self._texts[key] = self._text(*key)
        self._texts[key].draw()

    def _text(self, text: str, size: float, y: float, colour: str) -> TextStim:
        from psychopy.visual import TextStim

        return TextStim(
            self.window,
            text=text,
            font=self.look.font,
            fontFiles=self._fonts,
            height=self.px(size),
            wrapWidth=0.8 * float(self.window.size[0]),
            pos=(0, self.px(y)),
            color=colour,
            units="pix",
            autoLog=False,
        )

    def _filled(self, colour: str) -> dict[str, Any]:
        return {
            "units": "pix",
            "fillColor": colour,
            "lineColor": colour,
            "lineWidth": SMOOTH_PX,
            "autoLog": False,
        }


def band(inside_px: float, outside_px: float) -> NDArray[np.float64]:
    """Outline of a ring around the origin, cut open at its right, shape (n, 2), pixels."""
    angles = np.linspace(0.0, 2 * np.pi, 129)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    smooth = SMOOTH_PX / 2
    return np.concatenate([(outside_px - smooth) * circle, (inside_px + smooth) * circle[::-1]])


def rounded(width: float, height: float, corner: float) -> NDArray[np.float64]:
    """Outline of a rounded rectangle around the origin, shape (n, 2), pixels, from its lower
    right corner anticlockwise."""
    angles = np.linspace(0.0, np.pi / 2, 13)
    arc = corner * np.column_stack([np.cos(angles), np.sin(angles)])
    x, y = width / 2 - corner, height / 2 - corner
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    quarters = []
    for centre, quarter in (((x, y), 0), ((-x, y), 1), ((-x, -y), 2), ((x, -y), 3)):
        rotated = arc @ np.linalg.matrix_power(turn, quarter).T
        quarters.append(rotated + np.array(centre))
    return np.concatenate(quarters)


def below(outline: NDArray[np.float64], top: float) -> NDArray[np.float64]:
    """The part of a convex outline that lies below `top`, shape (n, 2), pixels."""
    kept = []
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if y0 <= top:
            kept.append((x0, y0))
        if (y0 <= top) != (y1 <= top):
            share = (top - y0) / (y1 - y0)
            kept.append((x0 + share * (x1 - x0), top))
    return np.array(kept)
