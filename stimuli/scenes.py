"""What the participant sees, and nothing but drawing: a picture in, pixels in the back buffer out.

Every difference in colour is also one in shape. The disc's **radius** is linear in the feedback,
so that equal steps of feedback are equal steps of its edge towards the reference ring at 100; its
area is not. A missing value is drawn as missing, never as 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rtloop.wire import Scene
from stimuli.pen import Look, Pen, Texts, band, below, rounded

if TYPE_CHECKING:
    from psychopy.visual import Window

__all__ = ["Picture", "Scenes", "clamped", "disc_radius_px", "fill_height_px"]

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
        self._ring = pen.shape(band(inside_px, outside_px), pen.look.faint)
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
        self._inside = rounded(width, height, pen.px(0.03))
        rim = max(2.0, pen.px(0.004))
        outside = rounded(width + 2 * rim, height + 2 * rim, pen.px(0.03) + rim)
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
        self._column.vertices = below(self._inside, top)
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
