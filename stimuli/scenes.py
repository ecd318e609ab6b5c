"""What the participant sees, and nothing but drawing: a picture in, pixels in the back buffer out.

Calm, legible, colour-blind safe: light shapes on dark grey, blue against orange (Okabe and Ito's
palette, https://jfly.uni-koeln.de/color/), never red against green, and every difference in colour
is also one in shape. Lengths are shares of the window's height. The disc's **radius** is linear in
the feedback, so that equal steps of feedback are equal steps of its edge towards the reference
ring at 100; its area is not. A missing value is drawn as missing, never as 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from rtloop.wire import Scene

if TYPE_CHECKING:
    from psychopy.visual import Circle, Rect, ShapeStim, TextStim, Window

__all__ = ["Look", "Picture", "Scenes", "Texts", "clamped", "disc_radius_px", "fill_height_px"]

RING_RADIUS = 0.30
TUBE_WIDTH = 0.16
TUBE_HEIGHT = 0.60
BAR_WIDTH = 0.60
BAR_HEIGHT = 0.045
CROSS_LENGTH = 0.055
CROSS_WIDTH = 0.008
PAUSE_HEIGHT = 0.045
BELOW = -0.40
"""Height of the line beneath the feedback: the sign that it is old, and its words."""

SMOOTH_PX = 1.0
"""Width of the smoothed outline that softens a shape's edge; half of it lies outside the shape.
Multisampling looks the same and costs a software renderer four times as much."""

MAX_TEXT = 600
"""Longest text drawn, characters."""

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


@dataclass(frozen=True, slots=True)
class Picture:
    """One screen: its scene, its value (0..100, None for none) and its words.

    `old` marks a value that stays although a newer one was due.
    """

    scene: Scene
    value: float | None = None
    text: str = ""
    old: bool = False


def clamped(value: float | None) -> float | None:
    """The value as it is drawn: within 0..100; None for None and nan."""
    if value is None or math.isnan(value):
        return None
    return min(max(float(value), 0.0), 100.0)


def disc_radius_px(value: float, window_height_px: int) -> float:
    """Radius of the disc at a feedback of `value` (0..100), pixels: linear, the ring's at 100."""
    return RING_RADIUS * window_height_px * value / 100.0


def fill_height_px(value: float, window_height_px: int) -> float:
    """Height of the thermometer's column at a feedback of `value` (0..100), pixels."""
    return TUBE_HEIGHT * window_height_px * value / 100.0


class Scenes:
    """All scenes of one window, their shapes made once.

    Parameters
    ----------
    window : psychopy.visual.Window
        Window in pixel units.
    look : Look
        Style, colours, sizes, words.
    """

    def __init__(self, window: Window, look: Look) -> None:
        pen = Pen(window, look)
        words = look.texts
        cross = Cross(pen)
        hold = HoldSign(pen, words.hold)
        gauge = Disc(pen) if look.style == "disc" else Thermometer(pen)
        feedback = Feedback(pen, gauge, hold, words.feedback)
        self._scenes: dict[Scene, Callable[[Picture], None]] = {
            "wait": Words(pen, words.wait).draw,
            "rest": CrossWithWord(pen, cross, words.rest).draw,
            "instruction": Words(pen, words.instruction).draw,
            "fixation": lambda _: cross.draw(),
            "feedback": feedback.draw,
            "hold": feedback.draw_old,
            "score": Score(pen, words).draw,
            "neutral": lambda _: None,
            "end": Words(pen, words.end).draw,
        }
        self._with_hold_sign = frozenset({"rest", "instruction", "fixation", "score"})
        self._hold = hold

    def draw(self, picture: Picture) -> None:
        """Draw the picture into the back buffer; it shows at the next flip."""
        self._scenes[picture.scene](picture)
        if picture.old and picture.scene in self._with_hold_sign:
            self._hold.draw()


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
            if len(self._texts) >= 64:
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


class Words:
    """Nothing but text in the middle: wait, instruction, end."""

    def __init__(self, pen: Pen, text: str) -> None:
        self._pen, self._text = pen, text

    def draw(self, picture: Picture) -> None:
        look = self._pen.look
        self._pen.write(picture.text or self._text, look.text_size, 0.0, look.ink)


class Cross:
    """Fixation cross."""

    def __init__(self, pen: Pen) -> None:
        # An even length and width keep both bars centred on the pixel grid.
        long = 2 * round(pen.px(CROSS_LENGTH) / 2)
        wide = 2 * max(1, round(pen.px(CROSS_WIDTH) / 2))
        colour = pen.look.ink
        self._bars = (pen.box(long, wide, 0, 0, colour), pen.box(wide, long, 0, 0, colour))

    def draw(self) -> None:
        for bar in self._bars:
            bar.draw()


class CrossWithWord:
    """Rest: the cross to look at, and one quiet word beneath it."""

    def __init__(self, pen: Pen, cross: Cross, text: str) -> None:
        self._pen, self._cross, self._text = pen, cross, text

    def draw(self, picture: Picture) -> None:
        look = self._pen.look
        self._cross.draw()
        self._pen.write(picture.text or self._text, look.text_size, -0.13, look.faint)


class Disc:
    """Feedback as the radius of a disc inside the reference ring of 100."""

    def __init__(self, pen: Pen) -> None:
        self._pen = pen
        inside_px = pen.px(RING_RADIUS)
        # The ring lies just outside the disc of 100: the two touch and never overlap. It is a
        # filled band, because a thick outline is drawn in pieces that overlap and shimmer.
        outside_px = inside_px + max(2.0, pen.px(0.004))
        self._ring = pen.shape(_band(inside_px, outside_px), pen.look.faint)
        self._disc = pen.circle(pen.look.level)
        self._centre = pen.circle(pen.look.ink)
        pen.resize(self._centre, max(2.0, pen.px(0.006)))
        self._drawn: tuple[float, bool] | None = None

    def draw(self, value: float | None, old: bool) -> None:
        self._ring.draw()
        if value:
            if self._drawn != (value, old):
                self._change(value, old)
            self._disc.draw()
        self._centre.draw()

    def _change(self, value: float, old: bool) -> None:
        look = self._pen.look
        self._disc.fillColor = self._disc.lineColor = look.old_level if old else look.level
        self._pen.resize(self._disc, disc_radius_px(value, int(self._pen.window.size[1])))
        self._drawn = (value, old)


class Thermometer:
    """Feedback as the height of a column in a tube that is full at 100."""

    def __init__(self, pen: Pen) -> None:
        self._pen = pen
        height, width = pen.px(TUBE_HEIGHT), pen.px(TUBE_WIDTH)
        self._bottom = -height / 2
        self._inside = _rounded(width, height, pen.px(0.03))
        rim = max(2.0, pen.px(0.004))
        outside = _rounded(width + 2 * rim, height + 2 * rim, pen.px(0.03) + rim)
        self._rim = pen.shape(outside, pen.look.faint)
        self._tube = pen.shape(self._inside, pen.look.track)
        self._column = pen.shape(self._inside, pen.look.level)
        self._column.lineWidth = 0
        self._drawn: tuple[float, bool] | None = None
        across = width / 2 + rim + pen.px(0.025)
        self._marks = tuple(
            pen.box(pen.px(0.03), pen.px(0.004), across, y, pen.look.faint)
            for y in (-height / 2, 0.0, height / 2)
        )

    def draw(self, value: float | None, old: bool) -> None:
        for stimulus in (self._rim, self._tube, *self._marks):
            stimulus.draw()
        if value:
            if self._drawn != (value, old):
                self._change(value, old)
            self._column.draw()

    def _change(self, value: float, old: bool) -> None:
        look = self._pen.look
        top = self._bottom + fill_height_px(value, int(self._pen.window.size[1]))
        self._column.vertices = _below(self._inside, top)
        self._column.fillColor = look.old_level if old else look.level
        self._drawn = (value, old)


class HoldSign:
    """Two upright bars and a word: what is seen is old, the next value has not come."""

    def __init__(self, pen: Pen, text: str) -> None:
        self._pen, self._text = pen, text
        high, wide, apart = pen.px(PAUSE_HEIGHT), pen.px(0.012), pen.px(0.012)
        self._bars = tuple(
            pen.box(wide, high, x, pen.px(BELOW + 0.02), pen.look.sign) for x in (-apart, apart)
        )

    def draw(self) -> None:
        for bar in self._bars:
            bar.draw()
        look = self._pen.look
        self._pen.write(self._text, look.small_text_size, BELOW - 0.04, look.faint)


class Feedback:
    """The gauge with its words; with the hold sign where the value is old or missing."""

    def __init__(self, pen: Pen, gauge: Disc | Thermometer, hold: HoldSign, text: str) -> None:
        self._pen, self._gauge, self._hold, self._text = pen, gauge, hold, text

    def draw(self, picture: Picture) -> None:
        value = clamped(picture.value)
        if value is None or picture.old:
            self.draw_old(picture)
            return
        self._gauge.draw(value, old=False)
        self._write(picture)

    def draw_old(self, picture: Picture) -> None:
        self._gauge.draw(clamped(picture.value), old=True)
        self._hold.draw()
        self._write(picture)

    def _write(self, picture: Picture) -> None:
        look = self._pen.look
        self._pen.write(picture.text or self._text, look.small_text_size, 0.41, look.faint)


class Score:
    """A block's score: the number, and the same as a bar from 0 to 100."""

    def __init__(self, pen: Pen, words: Texts) -> None:
        self._pen, self._words = pen, words
        self._width, self._height = round(pen.px(BAR_WIDTH)), pen.px(BAR_HEIGHT)
        self._y = pen.px(-0.20)
        self._track = pen.box(self._width, self._height, 0, self._y, pen.look.track)
        self._bar = pen.box(1, self._height, 0, self._y, pen.look.level)

    def draw(self, picture: Picture) -> None:
        look, value = self._pen.look, clamped(picture.value)
        if value is None:
            words = picture.text or self._words.no_score
            self._pen.write(words, look.text_size, 0.0, look.ink)
            return
        self._pen.write(picture.text or self._words.score, look.text_size, 0.20, look.faint)
        self._pen.write(f"{value:.0f}", look.score_size, 0.02, look.ink)
        self._track.draw()
        length = round(self._width * value / 100.0)
        if length:
            self._bar.width = length
            self._bar.pos = (length / 2 - self._width / 2, round(self._y))
            self._bar.draw()


def _band(inside_px: float, outside_px: float) -> NDArray[np.float64]:
    """Outline of a ring around the origin, cut open at its right, shape (n, 2), pixels."""
    angles = np.linspace(0.0, 2 * np.pi, 129)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    smooth = SMOOTH_PX / 2
    return np.concatenate([(outside_px - smooth) * circle, (inside_px + smooth) * circle[::-1]])


def _rounded(width: float, height: float, corner: float) -> NDArray[np.float64]:
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


def _below(outline: NDArray[np.float64], top: float) -> NDArray[np.float64]:
    """The part of a convex outline that lies below `top`, shape (n, 2), pixels."""
    kept = []
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if y0 <= top:
            kept.append((x0, y0))
        if (y0 <= top) != (y1 <= top):
            share = (top - y0) / (y1 - y0)
            kept.append((x0 + share * (x1 - x0), top))
    return np.array(kept)
