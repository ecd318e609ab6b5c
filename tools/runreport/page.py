"""The report's page: a self-contained HTML file that needs no network."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np
from numpy.typing import NDArray

from rtloop.config import EngineConfig
from rtloop.plan import LinearAnchors, Plan, RunBaseline
from tools.runreport import figures
from tools.runreport.course import Course, load
from tools.runreport.figures import Truth

__all__ = ["write_report"]

TEMPLATE = Path(__file__).with_name("report.html.j2")

NEWS = frozenset({"series_opened", "series_closed", "skipped"})
"""Kinds of the record's faults that are mere news: listed, not counted."""

MOST_OF_A_KIND = 8
"""Faults of one kind that are listed one by one."""


def write_report(
    record: Path,
    out: Path,
    *,
    replay: str = "",
    screenshots: Sequence[Path] = (),
    truth: Truth | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write a run's report.

    Parameters
    ----------
    record : Path
        The run's record.
    out : Path
        HTML file to write.
    replay : str
        What a replay of the record said.
    screenshots : sequence of Path
        PNG files of the participant's screen.
    truth : ndarray, shape (n_volumes,), or None
        Known Fisher z, for a simulated participant.
    notes : sequence of str
        Sentences to show at the top.
    """
    course = load(record)
    config = EngineConfig.model_validate(course.about["engine"])
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        course=course,
        tiles=_tiles(course),
        summary=_summary(course),
        settings=json.dumps({name: course.about[name] for name in ("plan", "engine")}, indent=2),
        replay=replay,
        notes=notes,
        figures={
            "score": figures.score(course, truth),
            "connectivity": figures.connectivity(course),
            "motion": figures.motion(course, config.quality.fd_threshold_mm),
            "latency": figures.latency(course),
        },
        faults=_faults(course),
        pictures=[(path.stem, _data_uri(path)) for path in screenshots],
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")


def _tiles(course: Course) -> list[tuple[str, str]]:
    """What a reader wants to know first, in a word each."""
    used = course.status.count("used")
    scored = int(np.isfinite(course.score).sum())
    return [
        ("outcome", course.attempts[-1].outcome or "open"),
        (f"of {course.plan.n_volumes} volumes used", str(used)),
        ("windows scored", str(scored)),
        ("values shown, each with its flip time", str(course.values_shown)),
        ("volume → feedback, median", _median_ms(course.latency_ms)),
        ("feedback → flip, median", _median_ms(course.flip_ms)),
    ]


def _median_ms(values_ms: NDArray[np.float64]) -> str:
    return f"{np.median(values_ms):.1f} ms" if len(values_ms) else "–"


def _summary(course: Course) -> list[tuple[str, str]]:
    counts = {name: course.status.count(name) for name in sorted(set(course.status)) if name}
    silent = course.status.count("")
    words = [f"{count} {name}" for name, count in counts.items()]
    finite = course.score[np.isfinite(course.score)]
    plan = course.plan
    faults = Counter(row["kind"] for row in course.tables["fault"] if row["kind"] not in NEWS)
    rows = [
        ("Participant", plan.participant),
        ("Volumes", ", ".join(words + ([f"{silent} not reached"] if silent else []))),
        ("Faults", ", ".join(f"{n} {kind}" for kind, n in faults.items()) or "none"),
        ("TR, window", f"{plan.tr_s:g} s, {plan.window} volumes"),
        (
            "Raw score",
            f"mean {finite.mean():.3f}, SD {finite.std():.3f}" if len(finite) else "none",
        ),
        ("Anchors", _anchors(plan)),
        ("fcnef", f"{course.about['version']}, plan {course.about['plan_digest'][:12]}"),
    ]
    if len(course.attempts) > 1:
        former = ", ".join(attempt.outcome or "open" for attempt in course.attempts[:-1])
        shown = f"attempt {len(course.attempts)}, the last one; before it: {former}"
        rows.insert(1, ("Shown", shown))
    return rows


def _anchors(plan: Plan) -> str:
    """Where feedback 0 and 100 come from."""
    anchors = plan.calibration
    if isinstance(anchors, LinearAnchors):
        reach = anchors.span_sd * anchors.sd
        low, high = anchors.center - reach, anchors.center + reach
        return f"feedback 0 at {low:.3f}, 100 at {high:.3f}, from recorded rest or set by hand"
    if isinstance(anchors, RunBaseline):
        return "from the first rest of this run alone: a minute or two is unsteady"
    return f"percentiles of {len(anchors.rest_scores)} resting windows"


def _faults(course: Course) -> list[dict[str, str]]:
    """One line per fault; a kind that came often is one line in all."""
    table = course.tables["fault"]
    count = Counter(row["kind"] for row in table)
    rows, folded = [], set()
    for row in table:
        kind, index, reason = row["kind"], row["volume_index"], row["reason"]
        volume = "" if index is None else str(index)
        if count[kind] > MOST_OF_A_KIND:
            if kind in folded:
                continue
            folded.add(kind)
            volume, reason = f"{volume} …", f"{reason} (the first of {count[kind]})"
        clock = time.strftime("%H:%M:%S", time.localtime(row["time_s"]))
        what = kind.replace("_", " ")
        entries = {"time": clock, "volume": volume, "kind": what, "reason": reason}
        rows.append({**entries, "action": row["action"]})
    return rows


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
