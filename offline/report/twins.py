"""What a twin reached, as one page and as tables: real people's, or simulated ones', never both."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas

from offline.drawing import ACCENT, HALF_PAGE_IN, INK, PAGE_IN, QUIET, WARM, svg
from offline.numerals import DASH, interval, number
from offline.report.page import STYLE
from offline.report.words import Verdict, versions
from offline.twin.evaluate import Evaluation

__all__ = ["group_figure", "twin_verdict", "write_twin_report"]

TEMPLATE = Path(__file__).with_name("twin.html.j2")


HEADS = {"auprc": "average precision", "r_least": "smallest r", "rmse": "error"}
HEADS |= {"rmse_group": "error of the group's mean", "gain_own": "gain over own rates"}


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    number: bool


@dataclass(frozen=True)
class Table:
    """A table of the page."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    heading: str
    words: str
    tables: list[Table]
    drawing: str = ""
    alt: str = ""
    caption: str = ""


def write_twin_report(
    evaluation: Evaluation, folder: str | Path, *, about_twin: dict[str, Any] | None = None
) -> Path:
    """Write `report.html`, `results.json` and one `.tsv` a table.

    Parameters
    ----------
    evaluation : Evaluation
    folder : str or Path
    about_twin : dict or None
        Settings and provenance of the twin, shown as they are.

    Returns
    -------
    Path
        Of the page.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in evaluation.tables.items():
        text = table.to_csv(sep="\t", index=False, na_rep="n/a", lineterminator="\n")
        (folder / f"{name}.tsv").write_text(text, encoding="utf-8")
    settings = {**evaluation.settings, "twin": about_twin or {}, "versions": versions()}
    said = twin_verdict(evaluation)
    results = {
        "name": evaluation.name,
        "provenance": evaluation.provenance,
        "verdict": said.sentence,
        "reading": said.reading,
        "tables": {
            name: json.loads(table.to_json(orient="records"))
            for name, table in evaluation.tables.items()
        },
        "settings": settings,
    }
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    n_people = evaluation.settings["n_people"]
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        style=STYLE.read_text(encoding="utf-8"),
        name=evaluation.name,
        about=f"{evaluation.name} · {n_people:,} {_kind(evaluation)} people",
        synthetic=evaluation.provenance == "synthetic",
        verdict=said,
        tiles=_tiles(evaluation),
        sections=list(_sections(evaluation)),
        methods=_methods(evaluation),
        settings=json.dumps(settings, indent=2),
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def twin_verdict(evaluation: Evaluation) -> Verdict:
    """Where the twin adds something, and in one line where it does not."""
    better, nothing = evaluation.adds
    if evaluation.measured and not better and not nothing:
        return Verdict(
            False,
            "The twin was not compared.",
            "Its training people are not in this source: baselines had fewer people to learn from."
            " Give a source that has them all.",
        )
    if not better and not nothing:
        return Verdict(
            False,
            "The twin was not measured.",
            "Baselines alone are shown: what a twin would have to beat.",
        )
    if not better:
        return Verdict(
            False,
            "The twin adds nothing beyond the best baseline in any case.",
            f"Cases: {'; '.join(nothing)}.",
        )
    reading = (
        f"The twin adds nothing beyond the best baseline in: {'; '.join(nothing)}."
        if nothing
        else "There is no case in which a baseline is as good."
    )
    return Verdict(
        True, f"The twin is better than every baseline in: {'; '.join(better)}.", reading
    )


def group_figure(view: pd.DataFrame, unit: str, name: str) -> str:
    """Everybody before and after an edit, as a line each; who is predicted to respond in colour.

    Parameters
    ----------
    view : pandas.DataFrame
        Of `intervene.group_view`.
    unit : str
        Of the target.
    name : str
        Of the target.

    Returns
    -------
    str
        SVG.
    """
    known = view[np.isfinite(view["after"].to_numpy(float))]

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        for row in known.itertuples():
            colour, width = (WARM, 1.4) if row.responds else (QUIET, 0.7)
            axes.plot([0, 1], [row.before, row.after], color=colour, lw=width, alpha=0.7)
        for place, column in ((0, "before"), (1, "after")):
            axes.plot([place], [known[column].mean()], "o", color=INK, ms=7, zorder=4)
        axes.set_xticks([0, 1], ["as they are", "connection edited"])
        axes.set_xlim(-0.25, 1.25)
        axes.set_ylabel(f"{name}, {unit}")

    return svg("group", draw, HALF_PAGE_IN, 3.4)


def _kind(evaluation: Evaluation) -> str:
    return "real" if evaluation.provenance == "real" else "simulated"


def _tiles(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Error of the twin and of the best baseline in every case of the first run."""
    table = evaluation.tables["response_times"]
    first = table[(table["task"] == table["task"].iloc[0]) & (table["run"] == table["run"].iloc[0])]
    tiles = []
    for seen, rows in first.groupby("seen", sort=False):
        twin = rows[rows["predictor"] == "twin"].iloc[0]
        others = rows[(rows["predictor"] != "twin") & rows["rmse_ms"].notna()]
        best = others.loc[others["rmse_ms"].idxmin()]
        measured = np.isfinite(twin["rmse_ms"])
        value = f"{number(twin['rmse_ms'], 0)} ms" if measured else "not measured"
        against = f"{best['predictor']}: {number(best['rmse_ms'], 0)} ms"
        tiles.append((f"error of the twin, {seen} ({against})", value))
    return tiles


def _sections(evaluation: Evaluation) -> Iterator[Section]:
    tables = evaluation.tables
    times = tables["response_times"]
    yield Section(
        "Response times",
        "Mean RT of the later half (or of the run named), of people whom neither twin nor"
        " baselines were fitted to. Gain: error of the row less error of the twin, of the same"
        " people; above 0 the twin is better.",
        [
            Table(f"{task} {run}", *_response_rows(rows))
            for (task, run), rows in times.groupby(["task", "run"], sort=False)
        ],
        _gains(times),
        "Intervals of the twin's gain in error over each baseline, case by case.",
        "The twin's gain over each baseline, ms, with 95 % interval over people; right of 0 the"
        " twin is better."
        if _gains(times)
        else "",
    )
    for heading, name, words in (
        (
            "Matched and exchanged connectomes", "matched",
            "A twin that knows the person fails when connectomes are exchanged between people of"
            " one fold; the gap is to be above 0.",
        ),
        (
            "Choices", "choices",
            "Log loss of correct, wrong and missed, a trial of the later half; less is better."
            " Gain: over the rates of the condition among others, and over the person's own rates"
            " in the first half. Error calibration: mean gap between the told and the found share"
            " of trials that were not correct.",
        ),
        ("Calibration of errors", "calibration", "Trials in five bins of what was told."),
        (
            "BOLD", "bold",
            "Response of each region of each person, told from the connectome alone. Gain: error"
            " of the group's mean less error of the twin.",
        ),
        (
            "Stability", "stability",
            "Correlation over people of the mean RT that members of other seeds or folds, or"
            " another scan of the same people, lead to.",
        ),
        (
            "Edges against known truth", "edges",
            "Average precision of planted edges among all.",
        ),
        (
            "Interventions against known truth", "interventions",
            "True and predicted change of RT when all edges of a planted circuit are moved by one"
            " random dose within 1 SD; covered: share of people whose true change lies in their"
            " 90 % interval.",
        ),
        ("Cost", "cost", "On this machine, CPU time."),
        ("Left out", "left_out", "Who and what is not used."),
    ):  # fmt: skip
        yield Section(heading, words, [_plain(tables[name])])


def _response_rows(rows: pd.DataFrame) -> tuple[list[str], list[list[Cell]]]:
    columns = ["seen of a person", "predictor", "n", "r", "95 %", "error, ms", "gain, ms", "95 %"]
    out = []
    for row in rows.itertuples():
        measured = np.isfinite(row.rmse_ms)
        gained = np.isfinite(row.rmse_gain_ms)
        out.append(
            [
                Cell(str(row.seen), False),
                Cell(str(row.predictor), False),
                Cell(str(int(row.n)), True),
                Cell(number(row.r) if measured else str(row.note), measured),
                Cell(interval(row.r_low, row.r_high), True),
                Cell(number(row.rmse_ms, 0), True),
                Cell(number(row.rmse_gain_ms, 1) if gained else DASH, True),
                Cell(interval(row.rmse_gain_low_ms, row.rmse_gain_high_ms, 1), True),
            ]
        )
    return columns, out


def _gains(times: pd.DataFrame) -> str:
    rows = times[times["rmse_gain_low_ms"].notna()]
    rows = rows[(rows["task"] == times["task"].iloc[0]) & (rows["run"] == times["run"].iloc[0])]
    if not len(rows):
        return ""

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.axvline(0.0, color=QUIET, lw=0.9, ls="--")
        place = np.arange(len(rows))[::-1]
        low, high = rows["rmse_gain_low_ms"].to_numpy(), rows["rmse_gain_high_ms"].to_numpy()
        value = rows["rmse_gain_ms"].to_numpy()
        colours = [
            ACCENT if a > 0 else WARM if b < 0 else INK for a, b in zip(low, high, strict=True)
        ]
        for y, v, a, b, colour in zip(place, value, low, high, colours, strict=True):
            axes.plot([a, b], [y, y], color=colour, lw=1.4)
            axes.plot([v], [y], "o", color=colour, ms=4)
        labels = rows["seen"].astype(str) + ": " + rows["predictor"].astype(str)
        axes.set_yticks(place, labels.tolist())
        axes.set_xlabel("gain of the twin, ms")

    return svg("gains", draw, PAGE_IN, 0.8 + 0.21 * len(rows))


def _plain(table: pd.DataFrame) -> Table:
    """Any table, numbers in the digits they deserve; ends of an interval are one column."""
    if not len(table):
        return Table("", ["note"], [[Cell("nobody and nothing", False)]])
    empty = table.isna() | (table.astype(str) == "")
    said = [c for c in table.columns if not empty[c].all()]
    ends = {c: f"{c.removesuffix('low')}high" for c in said if c.endswith("low")}
    kept = [c for c in said if c not in ends.values() and c != "note"] + ["note"] * ("note" in said)
    digits = {c: _digits(table[c]) for c in kept}
    rows = [
        [
            Cell(interval(row[c], row[ends[c]], digits[c]), True)
            if c in ends
            else _cell(row[c], digits[c])
            for c in kept
        ]
        for row in table.to_dict("records")
    ]
    return Table("", ["95 %" if c in ends else _head(c) for c in kept], rows)


def _head(column: str) -> str:
    return HEADS.get(column, column.replace("_ms", ", ms").replace("_", " "))


def _cell(value: Any, digits: int) -> Cell:
    if isinstance(value, int | float | np.integer | np.floating):
        whole = digits <= 1 and value == np.round(value)
        return Cell(number(float(value), 0 if whole else digits), True)
    return Cell(DASH if value is None else str(value), False)


def _digits(column: pd.Series) -> int:
    """After the point: none where all are whole or large, fewer where the unit is small."""
    if not pd.api.types.is_numeric_dtype(column):
        return 0
    values = column[np.isfinite(column)]
    if (values == values.round()).all() or (values.abs() >= 100).all():
        return 0
    return 1 if str(column.name).endswith("_ms") or (values.abs() >= 1.5).any() else 3


def _methods(evaluation: Evaluation) -> Sequence[str]:
    ks = ", ".join(map(str, evaluation.settings["ks"]))
    return (
        "A twin is an ensemble of recurrent networks that do the task, one for all people, made a"
        " person's own by a few codes that follow from the connectome; members are trained on"
        " folds of people. Everybody in the training data is told by members that were not trained"
        " with them; baselines are fitted in the same folds.",
        f"Seen of a person: the connectome alone, the first {ks} correct trials, the first half,"
        " or another run. Own mean: mean of the trials seen. James–Stein: the same, shrunk to the"
        " group by its reliability (doi:10.1080/01621459.1975.10479864). k-shot estimator:"
        " conditional mean of a model of level, drift and trial, with the participants table."
        " Kernel ridge (doi:10.1016/j.neuroimage.2019.116276) and CPM"
        " (doi:10.1038/nprot.2016.178) on the connectome.",
        f"Intervals are 95 % percentiles over {evaluation.settings['n_draws']:,} draws of people,"
        " the same people for both sides of a comparison. They do not cover what another training"
        " sample would have changed.",
    )
