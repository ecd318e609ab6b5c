"""Scenes are judged by the pixels on a real (virtual) screen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from stimuli.pen import Look
from stimuli.scenes import clamped

LOOK = Look()
HEIGHT, WIDTH = 768, 1024
CENTRE = (HEIGHT // 2, WIDTH // 2)


def rgb(colour: str) -> NDArray[np.int16]:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.int16)


def where(pixels: NDArray[np.int16], colour: str, tolerance: int = 12) -> NDArray[np.bool_]:
    """Pixels of that colour, shape (height, width)."""
    return (np.abs(pixels - rgb(colour)) <= tolerance).all(axis=-1)


def drawn(pixels: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Pixels that are not background."""
    return ~where(pixels, LOOK.background, 2)


@pytest.mark.parametrize("value", [0, 1, 25, 50, 75, 100])
def test_disc_radius_is_linear_in_the_feedback(draw, value):
    disc = where(draw("feedback", value), LOOK.level)
    radius_px = 0.30 * HEIGHT * value / 100
    # The centre dot lies on the disc and counts for its area.
    row, column = disc[CENTRE[0]], disc[:, CENTRE[1]]
    for line in (row, column):
        ends = np.flatnonzero(line)
        width = ends[-1] - ends[0] + 1 if ends.size else 0
        assert abs(width / 2 - radius_px) <= (1 if value != 1 else 4.7)
    if value >= 25:
        hole = math.pi * (0.006 * HEIGHT) ** 2
        area_radius = math.sqrt((disc.sum() + hole) / math.pi)
        assert abs(area_radius - radius_px) <= 1
    if value == 0:
        assert not disc.any()


def test_reference_ring_marks_100_and_touches_the_full_disc(draw):
    empty, full = draw("feedback", 0), draw("feedback", 100)
    ring = np.flatnonzero(where(empty, LOOK.faint, 40)[CENTRE[0]])
    inner = (ring[ring > CENTRE[1]].min() - ring[ring < CENTRE[1]].max() - 1) / 2
    assert abs(inner - 0.30 * HEIGHT) <= 1.5
    line = full[CENTRE[0], CENTRE[1] :]
    edge = np.flatnonzero(where(line[None], LOOK.level)[0]).max()
    assert not where(line[None, : edge + 5], LOOK.background, 2).any()


@pytest.mark.parametrize("value", [0, 2, 25, 50, 100])
def test_thermometer_column_is_linear_in_the_feedback(draw, value):
    column = where(draw("feedback", value, style="thermometer"), LOOK.level)[:, CENTRE[1]]
    rows = np.flatnonzero(column)
    assert abs(rows.size - 0.60 * HEIGHT * value / 100) <= 1
    if value:
        assert abs(rows.max() - (CENTRE[0] + 0.30 * HEIGHT)) <= 1.5


@pytest.mark.parametrize("style", ["disc", "thermometer"])
def test_values_are_clamped(draw, style):
    for beyond, limit in ((140, 100), (-40, 0)):
        assert (draw("feedback", beyond, style=style) == draw("feedback", limit, style=style)).all()


def test_clamped_knows_no_zero_for_nothing():
    assert clamped(None) is None
    assert clamped(math.nan) is None
    assert clamped(math.inf) == 100
    assert clamped(-3) == 0
    assert clamped(40) == 40


@pytest.mark.parametrize("style", ["disc", "thermometer"])
@pytest.mark.parametrize("value", [None, math.nan])
def test_missing_feedback_is_not_zero(draw, style, value):
    missing = draw("feedback", value, style=style)
    assert not where(missing, LOOK.level).any()
    assert where(missing, LOOK.sign).any()
    assert (missing != draw("feedback", 0, style=style)).any()


@pytest.mark.parametrize("style", ["disc", "thermometer"])
def test_hold_keeps_the_size_and_says_that_it_is_old(draw, style):
    fresh, held = draw("feedback", 60, style=style), draw("hold", 60, style=style)
    new, old = where(fresh, LOOK.level), where(held, LOOK.old_level)
    assert abs(int(new.sum()) - int(old.sum())) < 0.02 * new.sum()
    assert not where(held, LOOK.level).any()
    assert where(held, LOOK.sign).sum() > 100
    assert not where(fresh, LOOK.sign).any()
    assert (held == draw("feedback", 60, old=True, style=style)).all()


def test_neutral_is_empty(draw):
    assert (draw("neutral") == rgb(LOOK.background)).all()


def test_neutral_stays_empty_when_called_old(draw):
    assert (draw("neutral", old=True) == rgb(LOOK.background)).all()


def test_fixation_cross_is_centred_and_symmetric(draw):
    cross = drawn(draw("fixation"))
    rows, columns = np.nonzero(cross)
    assert rows.min() + rows.max() == HEIGHT - 1
    assert columns.min() + columns.max() == WIDTH - 1
    assert np.ptp(rows) == np.ptp(columns)


@pytest.mark.parametrize("scene", ["wait", "rest", "instruction", "end"])
def test_words_are_centred_inside_the_screen(draw, scene):
    ink = drawn(draw(scene))
    rows, columns = np.nonzero(ink)
    assert ink.sum() > 200
    assert rows.min() > 20
    assert rows.max() < HEIGHT - 20
    assert abs((columns.min() + columns.max()) / 2 - WIDTH / 2) < 8


def test_message_text_goes_before_the_configured_words(draw):
    own = draw("instruction", text="Stärke die Verbindung")
    assert (own == draw("instruction", texts={"instruction": "Stärke die Verbindung"})).all()
    assert (own != draw("instruction")).any()


def test_long_text_is_wrapped(draw):
    columns = np.nonzero(drawn(draw("instruction", text="word " * 60)))[1]
    assert columns.min() >= 0.09 * WIDTH
    assert columns.max() <= 0.91 * WIDTH


@pytest.mark.parametrize("value", [0, 33, 100])
def test_score_bar(draw, value):
    pixels = draw("score", value)
    row = round(HEIGHT / 2 + 0.20 * HEIGHT)
    bar = where(pixels, LOOK.level)[row].sum()
    track = where(pixels, LOOK.track, 4)[row].sum()
    assert abs(bar - 0.60 * HEIGHT * value / 100) <= 1
    assert abs(bar + track - 0.60 * HEIGHT) <= 1


def test_score_shows_its_number(draw):
    assert (draw("score", 33) != draw("score", 34)).any(axis=-1)[: HEIGHT // 2 + 60].any()


@pytest.mark.parametrize("value", [None, math.nan])
def test_missing_score_has_no_number_and_no_bar(draw, value):
    pixels = draw("score", value)
    assert not where(pixels, LOOK.level).any()
    # Letters have a few pixels of that grey on their edges; the track has fifteen thousand.
    assert where(pixels, LOOK.track, 2).sum() < 1000
    assert drawn(pixels).sum() > 200


@pytest.mark.parametrize("scene", ["rest", "instruction", "fixation", "score"])
def test_silence_is_signed_in_every_scene_that_waits_for_more(draw, scene):
    assert where(draw(scene, 50, old=True), LOOK.sign).sum() > 100


def test_colours_differ_for_the_colour_blind():
    """Level, old level and sign differ in luminance (CIE Y) from ground, and hold adds a shape."""
    weights = np.array([0.2126, 0.7152, 0.0722])

    def luminance(colour: str) -> float:
        linear = (rgb(colour) / 255.0) ** 2.2
        return float(linear @ weights)

    ground = luminance(LOOK.background) + 0.05
    for colour in (LOOK.ink, LOOK.level, LOOK.sign):
        assert (luminance(colour) + 0.05) / ground >= 4.5  # WCAG 2.1, 1.4.3
    for colour in (LOOK.faint, LOOK.old_level):
        assert (luminance(colour) + 0.05) / ground >= 3.0  # WCAG 2.1, 1.4.11: graphics


@pytest.mark.parametrize("entry", [{"level": "blue"}, {"text_size": 2}, {"colour": "#000000"}])
def test_wrong_look_is_refused(entry):
    with pytest.raises(ValidationError):
        Look(**entry)
