"""Faces/shapes matching: of two pictures below, the one that is like the one above.

After Hariri et al. 2002 (doi:10.1006/nimg.2002.1179), with the timing of OpenNeuro ds005237
(Chopra et al. 2024, doi:10.1101/2024.06.18.24309054): a countdown of four screens of 2 s, then 18
blocks, shapes and faces in turn, each a cue of 3 s and six trials 3 s apart, a trial's pictures on
the screen for 1.9 s: 108 trials, 54 of each kind, the first 11 s after the start. Answers count
until the next trial or cue.

Shapes (a circle and two ellipses) are drawn here. No face comes with this program: the lab gives
a folder of pictures named `EXPRESSION_PERSON.png` (or `.jpg`), such as `anger_04.png`; at least two
expressions with two people each. The face above and the right one below show one expression, by
two people; the wrong one another expression. Without faces, only the blocks of shapes can be
shown, and only if that is asked for.

`python -m stimuli.matching --config J` shows it; J is JSON or the path of a JSON file.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import PositiveFloat, PositiveInt, model_validator

from rtloop.errors import ConfigError
from stimuli.pen import Look, Pen
from stimuli.room import Draw, Room, TaskConfig
from stimuli.scenes import Cross
from stimuli.taskmain import Task, command_line, perform, run_of
from stimuli.taskrun import Paper, Shown, Trial

__all__ = ["SHAPES", "MatchingConfig", "find_faces", "main", "matching_run"]

SHAPES = {"circle": (0.105, 0.105), "upright": (0.075, 0.135), "flat": (0.135, 0.075)}
"""Half axes of the ellipses, shares of the window's height."""

CHOICES = ("left", "right")
SUFFIXES = (".png", ".jpg", ".jpeg")

PLACES = {"top": (0.0, 0.21), "left": (-0.30, -0.19), "right": (0.30, -0.19)}
FACE_HEIGHT = 0.34
CUE_SIZE = 0.06
COUNT_SIZE = 0.17
LEGEND_Y = -0.43

COLUMNS = {
    "onset": "Flip that showed the pictures, seconds from the start of the run.",
    "duration": "How long the pictures were on the screen, seconds.",
    "trial_type": "shape or face.",
    "response_time": "Key press less the pictures' flip, seconds; n/a if there was none.",
    "response": "Side whose key was pressed; n/a if there was none.",
    "answer": "Side of the picture that matches the one above.",
    "correct": "1 if the answer was right; 0 if it was wrong or there was none.",
    "block": "Number of the block, from 1.",
    "stim_top": "Picture above.",
    "stim_left": "Picture below left.",
    "stim_right": "Picture below right.",
}


class MatchingConfig(TaskConfig):
    """Settings of the matching task; `TaskConfig` has those of every task.

    `keys` are for left and right. `faces` is the lab's folder of pictures; without it,
    `shapes_only` must be set.
    """

    keys: tuple[str, ...] = ("1", "2")
    faces: Path | None = None
    shapes_only: bool = False
    n_blocks: PositiveInt = 18
    trials_per_block: PositiveInt = 6
    count_s: PositiveFloat = 2.0
    cue_s: PositiveFloat = 3.0
    soa_s: PositiveFloat = 3.0
    picture_s: PositiveFloat = 1.9
    n_practice: PositiveInt = 6

    @model_validator(mode="after")
    def _sound(self) -> MatchingConfig:
        if len(self.keys) != len(CHOICES):
            raise ValueError(f"two keys, for left and right, found {len(self.keys)}")
        if self.picture_s > self.soa_s:
            raise ValueError("pictures that are gone before the next ones come")
        return self


def find_faces(config: MatchingConfig) -> dict[str, list[Path]]:
    """Pictures of every expression, in order of their names; empty for shapes only.

    Raises
    ------
    ConfigError
        If there is no folder, or not enough pictures in it.
    """
    if config.shapes_only:
        return {}
    if config.faces is None:
        raise ConfigError(
            "matching: expected a folder of faces, found none: no faces come with this program;"
            " give --faces DIR with pictures named EXPRESSION_PERSON.png, or --shapes-only"
        )
    if not config.faces.is_dir():
        raise ConfigError(f"matching: expected a folder of faces, found none at {config.faces}")
    found: dict[str, list[Path]] = {}
    for path in sorted(config.faces.iterdir()):
        expression, joint, person = path.stem.partition("_")
        if path.suffix.lower() in SUFFIXES and joint and person:
            found.setdefault(expression, []).append(path)
    if len([name for name, paths in found.items() if len(paths) > 1]) < 2:
        seen = ", ".join(f"{len(paths)} {name}" for name, paths in found.items()) or "none"
        raise ConfigError(
            f"matching: expected pictures EXPRESSION_PERSON.png of at least two expressions with"
            f" two people each in {config.faces}, found {seen}; add pictures"
        )
    return {name: paths for name, paths in found.items() if len(paths) > 1}


def matching_run(
    config: MatchingConfig, faces: Mapping[str, Sequence[Path]], seed: int
) -> tuple[list[Trial], list[tuple[float, str]]]:
    """Trials of a run in order, and when each block's cue comes and of what kind it is.

    Blocks of shapes and faces take turns, shapes first; where there are no faces, their blocks
    are left out. The right answer is as often left as right, to within one, in each block.
    """
    rng = np.random.default_rng(seed)
    kinds = ["shape" if k % 2 == 0 else "face" for k in range(config.n_blocks)]
    kinds = [kind for kind in kinds if kind == "shape" or faces]
    trials: list[Trial] = []
    cues: list[tuple[float, str]] = []
    begin_s = 4 * config.count_s
    for block, kind in enumerate(kinds, start=1):
        cues.append((begin_s, kind))
        begin_s += config.cue_s
        sides = [CHOICES[k % 2] for k in range(config.trials_per_block)]
        for side in rng.permutation(sides):
            same, match, other = _three(kind, faces, rng)
            names = {"top": same, str(side): match}
            names["right" if side == "left" else "left"] = other
            columns: dict[str, Any] = {f"stim_{place}": name for place, name in names.items()}
            columns |= {"trial_type": kind, "block": block}
            closes_s = begin_s + config.soa_s
            trials.append(Trial(begin_s, config.picture_s, closes_s, str(side), columns))
            begin_s = closes_s
    return trials, cues


def main(config: MatchingConfig) -> int:
    """Instructions, practice if asked for, the run; exit status 0, also when it was stopped."""
    faces = find_faces(config)
    path, seed = run_of(config, "matching")
    trials, cues = matching_run(config, faces, seed)
    with contextlib.ExitStack() as undo:
        room = Room.open(config, Look(), undo)
        pictures = Pictures(room.pen, faces)
        pictures.prepare()
        task = Task(
            name="matching",
            seed=seed,
            choices=CHOICES,
            columns=COLUMNS,
            instructions=_instructions(config),
            trials=trials,
            paper=Paper(pictures.trial, pictures.cross),
            practice=_practice(config, seed),
            legend_y=LEGEND_Y,
            shown=pictures.shown(config, cues),
            about={"Faces": sorted(path.name for paths in faces.values() for path in paths)},
        )
        return perform(room, task, path)


class Pictures:
    """Shapes, faces and cues, made once."""

    def __init__(self, pen: Pen, faces: Mapping[str, Sequence[Path]]) -> None:
        self._pen, self._cross = pen, Cross(pen)
        self._pictures: dict[tuple[str, str], Any] = {}
        for place, (x, y) in PLACES.items():
            for name, (across, up) in SHAPES.items():
                self._pictures[place, name] = self._ellipse(across, up, x, y)
            for path in (path for paths in faces.values() for path in paths):
                self._pictures[place, path.name] = self._face(path, x, y)

    def prepare(self) -> None:
        """Draw everything once: the first drawing takes tens of milliseconds."""
        for picture in self._pictures.values():
            picture.draw()
        for kind in ("shape", "face"):
            self._cue(kind)()
        for number in range(1, 5):
            self._count(number)()
        self._pen.window.clearBuffer()

    def trial(self, trial: Trial) -> Draw:
        names = [(place, trial.columns[f"stim_{place}"]) for place in PLACES]
        pictures = [self._pictures[name] for name in names]

        def draw() -> None:
            for picture in pictures:
                picture.draw()

        return draw

    def cross(self) -> None:
        self._cross.draw()

    def shown(self, config: MatchingConfig, cues: Sequence[tuple[float, str]]) -> list[Shown]:
        """Countdown and cues."""
        counts = [
            Shown(number * config.count_s, config.count_s, self._count(number + 1))
            for number in range(4)
        ]
        return [*counts, *(Shown(at_s, config.cue_s, self._cue(kind)) for at_s, kind in cues)]

    def _cue(self, kind: str) -> Draw:
        words = "Match the shapes" if kind == "shape" else "Match the faces"
        return lambda: self._pen.write(words, CUE_SIZE, 0.0, self._pen.look.ink)

    def _count(self, number: int) -> Draw:
        return lambda: self._pen.write(str(number), COUNT_SIZE, 0.0, self._pen.look.ink)

    def _ellipse(self, across: float, up: float, x: float, y: float) -> Any:
        angles = np.linspace(0.0, 2.0 * np.pi, 128, endpoint=False)
        pen = self._pen
        outline = np.column_stack([pen.px(across) * np.cos(angles), pen.px(up) * np.sin(angles)])
        shape = pen.shape(outline, pen.look.ink)
        shape.pos = (round(pen.px(x)), round(pen.px(y)))
        return shape

    def _face(self, path: Path, x: float, y: float) -> Any:
        from psychopy.visual import ImageStim

        pen = self._pen
        try:
            face = ImageStim(pen.window, image=str(path), units="pix", autoLog=False)
        except Exception as error:  # PsychoPy and Pillow raise what they like
            raise ConfigError(
                f"matching: expected a picture, found {path.name} unreadable ({error}); replace it"
            ) from error
        wide, high = face.size
        face.size = (pen.px(FACE_HEIGHT) * float(wide) / float(high), pen.px(FACE_HEIGHT))
        face.pos = (round(pen.px(x)), round(pen.px(y)))
        return face


def _instructions(config: MatchingConfig) -> str:
    left, right = config.keys
    faces = "" if config.shapes_only else "\nOf faces: who shows the same expression?"
    return (
        "You will see one picture above and two below.\n\n"
        f"Which of the two is like the one above?{faces}\nBe quick and correct.\n\n"
        f"left:  {left}\nright:  {right}\n\nPress a key to go on."
    )


def _practice(config: MatchingConfig, seed: int) -> list[Trial]:
    """One block of shapes after a short wait; in another order than the run's."""
    practice = config.model_copy(
        update={"n_blocks": 1, "trials_per_block": config.n_practice, "count_s": 0.25}
    )
    return matching_run(practice, {}, seed + 1)[0]


def _three(
    kind: str, faces: Mapping[str, Sequence[Path]], rng: np.random.Generator
) -> tuple[str, str, str]:
    """The picture above, the one that matches it, and the one that does not."""
    if kind == "shape":
        same, other = rng.permutation(list(SHAPES))[:2]
        return str(same), str(same), str(other)
    shown, foil = rng.permutation(list(faces))[:2]
    above, below = rng.choice(len(faces[shown]), 2, replace=False)
    wrong = faces[foil][int(rng.integers(len(faces[foil])))]
    return faces[shown][above].name, faces[shown][below].name, wrong.name


if __name__ == "__main__":
    sys.exit(command_line(sys.argv[1:], "stimuli.matching", MatchingConfig, main, __doc__))
