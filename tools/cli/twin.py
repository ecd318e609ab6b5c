"""`fcnef twin`: people's twins, fitted, judged, asked, and asked what would change.

A source of people is a cohort with trials, a folder of the public release, trials alone (baselines
only), or `synthetic:FORM:SEED:PEOPLE:ROIS`. Trials are a joined table, or a folder of BIDS events.
"""

from __future__ import annotations

import json
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import cyclopts
import numpy as np
import pandas as pd

from offline.errors import TwinError
from tools.output import require_file, require_folder
from tools.twins.files import about_file, kind, load, say, write
from tools.twins.intervening import Asked, Edit, edited, screened
from tools.twins.people import People, known_names

__all__ = ["twin"]

twin = cyclopts.App(
    name="twin",
    help="Twins: a connectome generates a person who does the task.",
    help_epilogue="Example:\n\n```text\nfcnef twin fit synthetic:gated:1 --out t\n```",
)

NO_EDIT = Edit()
EVERYBODY = People()


@cyclopts.Parameter(name="*")
@dataclass(frozen=True)
class Training:
    """How it is trained.

    Parameters
    ----------
    form
        Low-rank offsets to a shared network, or all weights of every person, as published.
    units
        Of the recurrent network.
    epochs
        At most.
    folds, seeds
        A member for each of both.
    seed
        Of everything drawn.
    without
        People who are left out, so that all members may tell of them.
    device
        `cpu` or `cuda`.
    threads
        Of the CPU.
    checkpoint
        Folder to keep unfinished work in; the same call goes on from there.
    """

    form: Literal["low_rank", "whole"] = "low_rank"
    units: int = 32
    epochs: int = 60
    folds: int = 5
    seeds: int = 1
    seed: int = 0
    without: Annotated[list[str] | None, cyclopts.Parameter(consume_multiple=True)] = None
    device: str = "cpu"
    threads: int = 1
    checkpoint: Path | None = None


@twin.command
def fit(
    source: str,
    /,
    *,
    out: Path,
    who: Annotated[People, cyclopts.Parameter(name="*")] = EVERYBODY,
    training: Annotated[Training, cyclopts.Parameter(name="*")] = Training(),
) -> None:
    """Fit a twin to people's connectomes and trials.

    Parameters
    ----------
    source
        People, as above.
    out
        The twin (`.safetensors`); learning curves and cost lie beside it.

    Example
    -------
    fcnef twin fit my-cohort --trials trials.tsv --out twin --seeds 5
    fcnef twin fit synthetic:gated:1:228:100 --out synthetic-twin
    """
    from rich.progress import Progress

    from offline.twin.files import TWINS, save_twin
    from offline.twin.model import Settings
    from offline.twin.twin import Twin

    require_file(TWINS.path(out))
    study = who.open(source)
    if training.without:
        gone = known_names(study, training.without)
        study = study.of([name for name in study.examples.people if name not in gone])
    edges, atlas = study.connectomes, study.atlas
    assert atlas is not None  # it comes with connectomes
    settings = Settings(
        form=training.form, units=training.units, epochs=training.epochs, folds=training.folds,
        seeds=training.seeds, seed=training.seed,
    )  # fmt: skip
    start = time.perf_counter(), time.process_time()
    with Progress(transient=True) as progress:
        bar = progress.add_task("training", total=settings.folds * settings.seeds)

        def watch(fold: int, seed: int, line: dict[str, float]) -> None:
            done = seed * settings.folds + fold + line["epoch"] / settings.epochs
            progress.update(bar, completed=done)

        found = Twin.fit(
            edges, study.examples, atlas, study.provenance, settings, sites=study.sites,
            device=training.device, threads=training.threads, checkpoint=training.checkpoint,
            watch=watch,
        )  # fmt: skip
    path = save_twin(found, out)
    lines = [{"fold": m.fold, "seed": m.seed, **line} for m in found.members for line in m.curve]
    curves = path.with_name(f"{path.stem}-curves.tsv")
    pd.DataFrame(lines).to_csv(curves, sep="\t", index=False, na_rep="n/a")
    cost = {
        "wall_s": round(time.perf_counter() - start[0], 1),
        "cpu_s": round(time.process_time() - start[1], 1),
        "memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "epochs": [len(member.curve) for member in found.members],
    }
    path.with_name(f"{path.stem}-cost.json").write_text(json.dumps(cost, indent=2) + "\n")
    print(
        f"{path}: {kind(found.provenance)} twin of {len(found.people)} people,"
        f" {len(found.members)} members, {len(study.left_out)} entries left out,"
        f" {cost['cpu_s']} s CPU"
    )


@twin.command
def evaluate(
    source: str,
    /,
    *,
    out: Path,
    twin: Path | None = None,
    who: Annotated[People, cyclopts.Parameter(name="*")] = EVERYBODY,
    seed: int = 0,
    threads: int = 1,
) -> None:
    """Judge a twin beside every baseline: HTML, JSON and tables.

    Parameters
    ----------
    source
        The twin's training people, new people, or both.
    out
        Folder of the report.
    twin
        The twin; without one the baselines alone.
    seed
        Of exchanges and of the draws of intervals.
    threads
        Of the CPU.

    Example
    -------
    fcnef twin evaluate my-cohort --trials trials.tsv --twin twin --out twin-report
    fcnef twin evaluate trials.tsv.gz --people participants.tsv --out baselines
    """
    from offline.report.twins import twin_verdict, write_twin_report
    from offline.twin.evaluate import evaluate_twin

    require_folder(out)
    study = who.open(source)
    fitted = None if twin is None else load(twin)
    evaluation = evaluate_twin(study, fitted, seed=seed, threads=threads, say=say)
    about = None if twin is None or fitted is None else about_file(twin, fitted)
    report = write_twin_report(evaluation, out, about_twin=about)
    said = twin_verdict(evaluation)
    print(said.sentence)
    print(said.reading)
    print(report)


@twin.command
def simulate(
    source: str,
    /,
    *,
    twin: Path,
    out: Path,
    who: Annotated[People, cyclopts.Parameter(name="*")] = EVERYBODY,
    seen: int = 0,
    threads: int = 1,
) -> None:
    """Let people's twins do their tasks: response times and errors.

    Parameters
    ----------
    source
        People; those of the training data are told by members that never saw them.
    twin
        The twin.
    out
        Table (`.tsv`), one row a person; with `response REGION` where the twin has BOLD.
    seen
        Correct trials of the person that are known already (k-shot).
    threads
        Of the CPU.

    Example
    -------
    fcnef twin simulate my-cohort --trials trials.tsv --twin twin --seen 10 --out told.tsv
    """
    from offline.twin.intervene import ask

    require_file(out)
    fitted = load(twin)
    study = who.open(source)
    study.require_kind_of(fitted)
    edges, task = study.connectomes, study.examples
    known = task.first(seen) if seen else None
    told = fitted.simulate(edges, task, known, threads=threads)
    table = pd.DataFrame({"participant_id": [f"sub-{name}" for name in told.people]})
    table["rt_s"] = told.rt_s
    members = np.isfinite(told.mean_rt_s).sum(axis=0)
    # one member has no spread, which is not to be read as certainty
    table["rt_sd_members_s"] = np.where(members > 1, np.nanstd(told.mean_rt_s, axis=0), np.nan)
    for k, name in enumerate(told.conditions):
        table[f"rt_s {name}"] = np.nanmean(told.condition_rt_s[:, :, k], axis=0)
    table["missed"] = np.nanmean(told.probabilities[..., -1], axis=(1, 2))
    responses = [f"response:{region}" for region in fitted.regions]
    if responses:
        betas = ask(fitted, edges, task, responses, known, threads=threads)
        for name, values in zip(fitted.regions, np.nanmean(betas, axis=1), strict=True):
            table[f"response {name}"] = values
    table["members"] = members
    table["outside"] = fitted.outside(edges, told.people)
    write(table, out)
    print(f"{out}: {len(table)} people, {kind(fitted.provenance)} twin")


@twin.command
def intervene(
    source: str,
    /,
    *,
    twin: Path,
    out: Path,
    who: Annotated[People, cyclopts.Parameter(name="*")] = EVERYBODY,
    edit: Annotated[Edit, cyclopts.Parameter(name="*")] = NO_EDIT,
    plan: str | None = None,
    threads: int = 1,
) -> None:
    """Edit connections and run the twins again: what would change, and for whom.

    Without `--edge` all edges of each person are screened, the surest are run exactly, and few or
    none qualify against a null.

    Parameters
    ----------
    source
        People, the training people among them.
    twin
        The twin.
    out
        Folder of tables and the figure.
    plan
        Participant whose edges are printed as `fcnef plan new` takes them; needs `--edge`, and is
        refused for a synthetic twin, where the interval covers 0, and where members disagree.
    threads
        Of the CPU.

    Example
    -------
    fcnef twin intervene my-cohort --trials trials.tsv --twin twin --edge ROI1--ROI2 --size-sd 1 \\
        --out effects
    fcnef twin intervene my-cohort --trials trials.tsv --twin twin --person p01 --out screened
    """
    if plan is not None and not edit.edge:
        raise TwinError("expected --edge with --plan, found none; screen first, then name the edge")
    require_folder(out)
    fitted = load(twin)
    everybody = who.everybody(source)
    asked = Asked(fitted, who.chosen(everybody), everybody, edit, threads)
    if edit.edge:
        edited(asked, out, plan)
    else:
        screened(asked, out)


@twin.command
def reproduce(
    release: Path,
    /,
    *,
    out: Path,
    atlas: Path | None = None,
    folds: int = 10,
    repeats: int = 5,
    seed: int = 0,
) -> None:
    """Write the tables that the public release gives without a twin.

    Who is left out; behaviour told by own trials, seen and held out; by connectivity of people
    never seen, their own and others'; activation maps told by the group's.

    Parameters
    ----------
    release
        Folder of OpenNeuro ds005237.
    out
        Folder of the tables (`.tsv`).
    atlas
        Table of its region labels in the order of its files; numbered if not given.
    folds
        Of people.
    repeats
        Times people are dealt to folds anew.
    seed
        Of folds and exchanges.

    Example
    -------
    fcnef twin reproduce ds005237 --out tables
    """
    from offline.atlas import Atlas
    from offline.twin.reproduce import reproduce as tables_of

    require_folder(out)
    labels = None if atlas is None else Atlas.load(atlas).labels
    for name, table in tables_of(release, labels, folds, repeats, seed).items():
        write(table, out / f"{name}.tsv")
        print(f"{out / name}.tsv: {len(table)} rows")
