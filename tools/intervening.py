"""What `fcnef twin intervene` does: an edit of named edges or a screening of all, and its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
import numpy as np
import pandas as pd

from offline.errors import TwinError
from offline.twin.study import Study

__all__ = ["Edit", "edited", "kind", "require_edges_of", "say", "screened", "write"]


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


def edited(
    fitted: Any, study: Study, everybody: Study, edges: Any, edit: Edit, sign: int,
    behaviour: Any, plan: str | None, out: Path, threads: int,
) -> None:  # fmt: skip
    """Edit the edges named, and write effects and the group's figure."""
    from offline.report.twins import group_figure
    from offline.twin.background import backgrounds_of
    from offline.twin.files import require_real
    from offline.twin.intervene import edge_places, spread_of_edges
    from offline.twin.responders import group_view, plan_edges

    if plan is not None:
        require_real(fitted, "a plan")
    places = edge_places(fitted, edit.edge or [])
    delta = edit.size_sd * spread_of_edges(fitted)[1][places]
    known = None
    if edit.size == "own":
        training = _training(fitted, everybody)
        training_edges, _ = require_edges_of(training)
        known = backgrounds_of(fitted, training_edges, training.examples, threads=threads)
    found = fitted.intervene(
        edges, places, delta, study.examples, behaviour, backgrounds=known, threads=threads
    )
    view = group_view(found, edit.target, sign)
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
    print(out / "effects.tsv")
    if plan is not None:
        for one in plan_edges(fitted, found, plan.removeprefix("sub-"), edit.target):
            up = "up" if one.direction > 0 else "down"
            print(f"--edge '{one.a},{one.b},{one.weight:g}' --direction {up}")


def screened(
    fitted: Any, study: Study, everybody: Study, edges: Any, edit: Edit, sign: int,
    behaviour: Any, out: Path, threads: int,
) -> None:  # fmt: skip
    """Screen all edges of each person, and write what qualifies and what does not."""
    from offline.twin.screen import permutation_null, recommend

    training = _training(fitted, everybody)
    training_edges, _ = require_edges_of(training)
    null = permutation_null(
        fitted, training_edges, training.examples, edges, study.examples, edit.target,
        edit.permutations, behaviour=behaviour, sites=training.sites, say=say, threads=threads,
    )  # fmt: skip
    table = recommend(
        fitted, edges, study.examples, null, sign, edit.exact, behaviour,
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
    print(out / "recommended.tsv")


def _training(fitted: Any, everybody: Study) -> Study:
    """Those of a study whom the twin was trained with."""
    from offline.twin.twin import digest_of_name

    trained = set(fitted.people)
    names = [n for n in everybody.examples.people if digest_of_name(n) in trained]
    return everybody.of(names)


def require_edges_of(study: Study) -> tuple[Any, Any]:
    """Edges and atlas of a study that has them."""
    if study.edges is None or study.atlas is None:
        raise TwinError(
            f"expected connectomes, found behaviour alone in {study.name}; give a cohort or a"
            " release"
        )
    return study.edges, study.atlas


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a table, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, sep="\t", index=False, na_rep="n/a", lineterminator="\n")


def kind(provenance: str) -> str:
    """How a twin is spoken of."""
    return "SIMULATED" if provenance == "synthetic" else "real"


def say(text: str) -> None:
    """Print a line of progress at once."""
    print(text, flush=True)
