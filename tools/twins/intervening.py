"""What `fcnef twin intervene` does: an edit of named edges or a screening of all, and its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import cyclopts
import numpy as np

from offline.errors import TwinError
from offline.twin.outcomes import Target
from offline.twin.study import Study
from tools.twins.files import kind, say, write

if TYPE_CHECKING:
    from offline.twin.effects import Intervention
    from offline.twin.examples import Examples
    from offline.twin.twin import Twin

__all__ = ["Asked", "Edit", "edited", "screened"]

FEW_EDGES = 5
"""Fewer, whose effects `make proof twin-truth` finds told too large."""

FEWEST_PERMUTATIONS = 39
"""With fewer no edge can be beyond all but 2.5 % of exchanges (`offline.twin.screen`)."""


@cyclopts.Parameter(name="*")
@dataclass(frozen=True)
class Edit:
    """What is edited, and what is asked.

    Parameters
    ----------
    edge
        `A--B` by ROI labels; several are a circuit. Without any, all edges are screened.
    size_sd
        Of the edit, in SD of the edge between training people; at most 1, negative to lower it.
    target
        rt, rt:CONDITION, response:REGION or response:REGION:CONDITION.
    direction
        What is wanted: less of the target, or more.
    seen
        Correct trials of the person that are known already.
    size
        Of the effect: the edit's own, which needs the training people in the source, or the
        shrunken one of the twin's map.
    exact
        Edges of each person that are run exactly after screening.
    permutations
        Of the null of screening, at least 39.
    """

    edge: Annotated[list[str] | None, cyclopts.Parameter(consume_multiple=True)] = None
    size_sd: float = 1.0
    target: str = "rt"
    direction: Literal["down", "up"] = "down"
    seen: int = 0
    size: Literal["own", "shrunken"] = "own"
    exact: int = 3
    permutations: int = 99

    def require_sound(self) -> None:
        """Refuse what says nothing.

        Raises
        ------
        TwinError
            Naming the option.
        """
        if not 0.0 < abs(self.size_sd) <= 1.0:
            raise TwinError(
                f"expected --size-sd of -1 to 1 SD, not 0, found {self.size_sd:g}; edit less, or"
                " edit at all"
            )
        if self.exact < 1:
            raise TwinError(f"expected --exact of 1 or more edges, found {self.exact}; run one")
        if self.permutations < FEWEST_PERMUTATIONS:
            raise TwinError(
                f"expected --permutations of {FEWEST_PERMUTATIONS} or more, found"
                f" {self.permutations}; fewer cannot tell 2.5 %"
            )


@dataclass(frozen=True)
class Asked:
    """A twin, whom it is asked about, and what."""

    twin: Twin
    study: Study
    everybody: Study
    """The training people among them."""
    edit: Edit
    threads: int

    def __post_init__(self) -> None:
        # what is refused is refused before the work
        self.study.require_kind_of(self.twin)
        Target.parse(self.edit.target, self.twin.conditions, self.twin.regions)
        self.edit.require_sound()

    @property
    def sign(self) -> int:
        """Of the change of the target that is wanted."""
        return -1 if self.edit.direction == "down" else 1

    @property
    def behaviour(self) -> Examples | None:
        """Trials that are known already."""
        seen = self.edit.seen
        return self.study.examples.first(seen) if seen else None

    @property
    def training(self) -> Study:
        """Those whom the twin was trained with."""
        names = self.everybody.examples.people
        folds = self.twin.folds_of(names)
        return self.everybody.of([n for n, f in zip(names, folds, strict=True) if f >= 0])


def edited(asked: Asked, out: Path, plan: str | None = None) -> None:
    """Edit the edges named, and write effects and the group's figure."""
    from offline.report.twins import group_figure
    from offline.twin.background import backgrounds_of
    from offline.twin.files import require_real
    from offline.twin.responders import group_view

    fitted, study, edit = asked.twin, asked.study, asked.edit
    if plan is not None:
        require_real(fitted, "a plan")
        _require_person(study, plan)
    places = fitted.atlas.edge_places(edit.edge or [])
    delta = edit.size_sd * fitted.edge_spread()[1][places]
    known = None
    if edit.size == "own":
        training = asked.training
        known = backgrounds_of(
            fitted, training.connectomes, training.examples, threads=asked.threads
        )
    found = fitted.intervene(
        study.connectomes, places, delta, study.examples, asked.behaviour, backgrounds=known,
        threads=asked.threads,
    )  # fmt: skip
    view = group_view(found, edit.target, asked.sign)
    out.mkdir(parents=True, exist_ok=True)
    write(found.table(), out / "effects.tsv")
    write(view, out / "group.tsv")
    unit = "s" if edit.target.startswith("rt") else "unit of BOLD"
    if np.isfinite(view["after"].to_numpy(float)).any():
        (out / "group.svg").write_text(group_figure(view, unit, edit.target), encoding="utf-8")
    n = int(view["responds"].sum())
    print(f"{kind(fitted.provenance)} twin: {n} of {len(view)} people are predicted to respond")
    for why, count in view["why_not"].value_counts().items():
        if why:
            print(f"  {count}: {why}")
    if len(places) < FEW_EDGES:
        print(
            "NOTE: effects of so few edges are too large, edges that vary with them being part of"
            " them (docs/twins.md)"
        )
    print(out / "effects.tsv")
    if plan is not None:
        print(plan_words(asked, found, plan.removeprefix("sub-")))


def plan_words(asked: Asked, found: Intervention, person: str) -> str:
    """The edges of an edit as `fcnef plan new` takes them: all are trained the same way."""
    from offline.twin.responders import plan_edges

    made = plan_edges(asked.twin, found, person, asked.edit.target, asked.sign)
    words = [f"--edge '{one.a},{one.b},{one.weight:g}'" for one in made]
    return " ".join([*words, f"--direction {'up' if made[0].direction > 0 else 'down'}"])


def screened(asked: Asked, out: Path) -> None:
    """Screen all edges of each person, and write what qualifies and what does not."""
    from offline.twin.screen import permutation_null, recommend

    fitted, study, edit, training = asked.twin, asked.study, asked.edit, asked.training
    edges, behaviour, threads = study.connectomes, asked.behaviour, asked.threads
    null = permutation_null(
        fitted, training.connectomes, training.examples, edges, study.examples, edit.target,
        edit.permutations, behaviour=behaviour, sites=training.sites, say=say, threads=threads,
    )  # fmt: skip
    table = recommend(
        fitted, edges, study.examples, null, asked.sign, edit.exact, behaviour,
        size_sd=abs(edit.size_sd), threads=threads,
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    write(table, out / "recommended.tsv")
    n = int(table.groupby("person")["qualifies"].any().sum())
    people = table["person"].nunique()
    who = kind(fitted.provenance)
    print(
        f"{who} twin: no edge qualifies for any of {people} people"
        if not n
        else f"{who} twin: an edge qualifies for {n} of {people} people"
    )
    if n:
        print(
            "NOTE: such an edge goes with the target, and so does every edge that varies with it;"
            " which of them acts, and how much, these data cannot tell (docs/twins.md)"
        )
    print(out / "recommended.tsv")


def _require_person(study: Study, plan: str) -> None:
    if plan.removeprefix("sub-") not in study.examples.people:
        raise TwinError(
            f"expected a person of the source to plan for, found {plan!r}; name one with connectome"
            " and usable trials"
        )
