"""Whom `fcnef twin` is asked about: a source, what lies beside it, and who of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cyclopts

from offline.errors import TwinError
from offline.twin.study import Study, open_study
from offline.twin.taskspec import MATCHING, STROOP, TaskSpec

__all__ = ["People", "known_names"]


@cyclopts.Parameter(name="*")
@dataclass(frozen=True)
class People:
    """Who.

    Parameters
    ----------
    trials
        Beside a cohort: table of trials (`.tsv`, BIDS events joined), or folder of BIDS events.
    people
        Participants table beside trials alone.
    task
        TOML of a task that is neither the published matching nor Stroop; several may be given.
    person
        Only these; everybody if not given.
    region
        Regions of the release whose BOLD is predicted.
    atlas
        Table of the release's region labels in the order of its files; numbered if not given.
    bold
        Of simulated people: with BOLD of two regions.
    """

    trials: Path | None = None
    people: Path | None = None
    task: Annotated[list[Path] | None, cyclopts.Parameter(consume_multiple=True)] = None
    person: Annotated[list[str] | None, cyclopts.Parameter(consume_multiple=True)] = None
    region: Annotated[list[str] | None, cyclopts.Parameter(consume_multiple=True)] = None
    atlas: Path | None = None
    bold: bool = False

    def open(self, source: str) -> Study:
        """The study, those of `person` only."""
        return self.chosen(self.everybody(source))

    def everybody(self, source: str) -> Study:
        """The study, whoever is asked for."""
        return open_study(
            source,
            self.trials,
            self.people,
            tasks=(MATCHING, STROOP, *map(TaskSpec.load, self.task or ())),
            regions=self.region or (),
            labels=self.atlas,
            bold=self.bold,
        )

    def chosen(self, study: Study) -> Study:
        """Those of `person` only."""
        if not self.person:
            return study
        return study.of(known_names(study, self.person))


def known_names(study: Study, given: Sequence[str]) -> list[str]:
    """People of a study by the names a user gave, with or without `sub-`.

    Raises
    ------
    TwinError
        If somebody is not in the study, or named twice.
    """
    names = [name.removeprefix("sub-") for name in given]
    for place, name in enumerate(names):
        if name not in study.examples.people:
            raise TwinError(
                f"expected people with usable trials (and connectome), found no sub-{name}; see who"
                " is left out with `fcnef twin evaluate`"
            )
        if name in names[:place]:
            raise TwinError(f"expected everybody once, found sub-{name} twice; name them once")
    return names
