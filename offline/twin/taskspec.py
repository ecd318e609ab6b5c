"""What a task shows and which choices it offers: the published ones, and others by configuration.

`MATCHING` and `STROOP` are the published tasks; another is a TOML file of the same entries:

    name = "flanker"
    choices = ["left", "right"]
    response_window_s = 1.8
    stimulus_s = 1.0
    answer = "target"            # column that names the right choice
    response = "response"        # column that names the choice made
    [channels]
    "target left" = { target = "left" }
    "target right" = { target = "right" }
    "flankers incongruent" = { trial_type = ["incongruent"] }
    [conditions]                 # trial types that are one condition
    incongruent = "incongruent"
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, model_validator

from offline.errors import TaskError

__all__ = ["MATCHING", "STROOP", "TaskSpec"]


class TaskSpec(BaseModel):
    """What a task shows and which choices it offers.

    `aliases` are other names of the task in trial tables. An answer later than
    `response_window_s` after the onset is beyond what a segment is sure to hold. `channels` give
    for each channel the columns and values that switch it on; `condition` stands for
    `trial_type`. `answer` and `response` name the columns of the right choice and of the choice
    made, where the table has them; without a recorded response, a wrong choice is known only
    where there are two.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Annotated[str, Field(min_length=1)]
    aliases: tuple[str, ...] = ()
    choices: Annotated[tuple[str, ...], Field(min_length=2)]
    response_window_s: PositiveFloat
    stimulus_s: PositiveFloat
    channels: dict[str, dict[str, str | tuple[str, ...]]]
    conditions: dict[str, str] = {}
    answer: str | None = None
    response: str | None = None

    @model_validator(mode="after")
    def _sound(self) -> TaskSpec:
        if len(set(self.choices)) < len(self.choices):
            raise ValueError("each choice once")
        if not self.channels or not all(self.channels.values()):
            raise ValueError("at least one channel, each with a column and its values")
        return self

    @property
    def chance(self) -> float:
        """Share of right answers by guessing."""
        return 1.0 / len(self.choices)

    @classmethod
    def load(cls, path: str | Path) -> TaskSpec:
        """Read a task from TOML.

        Raises
        ------
        TaskError
            If it cannot be read or has a wrong entry; all are named.
        """
        try:
            return cls.model_validate(tomllib.loads(Path(path).read_text(encoding="utf-8")))
        except OSError as error:
            raise TaskError(f"task {path}: expected a file, found {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            raise TaskError(f"task {path}: expected TOML, found {error}; correct it") from error
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, entry['loc'])) or 'task'}: {entry['msg']}"
                for entry in error.errors()
            )
            raise TaskError(f"task {path}: {wrong}; correct it") from error

    def names(self, task: str) -> bool:
        """Whether a trial table's task is this one."""
        return task == self.name or task in self.aliases

    def condition_of(self, trial_types: pd.Series) -> pd.Series:
        """Condition of each trial; a trial type without one is its own."""
        return trial_types.map(lambda kind: self.conditions.get(kind, kind))


MATCHING = TaskSpec(
    name="matching",
    aliases=("hammer", "faces"),
    choices=("left", "right"),
    response_window_s=2.0,
    stimulus_s=1.9,
    channels={
        "face": {"condition": "face"},
        "shape": {"condition": "shape"},
        "match left": {"answer": "left"},
        "match right": {"answer": "right"},
    },
    answer="answer",
    response="response",
)
"""Faces and shapes: which of two lower pictures is the upper one (Hariri et al. 2002,
doi:10.1006/nimg.2002.1179). The public table does not tell the side: those channels stay 0."""

STROOP = TaskSpec(
    name="stroop",
    choices=("red", "green", "blue"),
    response_window_s=2.25,
    stimulus_s=2.0,
    channels={
        **{f"word {colour}": {"stimulus_text": colour} for colour in ("red", "green", "blue")},
        **{f"ink {colour}": {"stimulus_color": colour} for colour in ("red", "green", "blue")},
    },
    conditions={
        **{f"con{k}": "congruent" for k in (1, 2, 3)},
        **{f"inc{k}": "incongruent" for k in range(1, 7)},
    },
    answer="stimulus_color",
    response="response",
)
"""Colour of a word that names the same or another colour (Stroop 1935, doi:10.1037/h0054651)."""
