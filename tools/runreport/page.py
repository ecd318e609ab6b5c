"""The report's page: a self-contained HTML file that needs no network."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np

from rtloop.config import EngineConfig
from tools.runreport import figures
from tools.runreport.course import Course, load
from tools.runreport.figures import Truth

__all__ = ["write_report"]

TEMPLATE = Path(__file__).with_name("report.html.j2")


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
        summary=_summary(course),
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


def _summary(course: Course) -> list[tuple[str, str]]:
    """What a reader wants to know first."""
    counts = {name: course.status.count(name) for name in sorted(set(course.status)) if name}
    finite = course.score[np.isfinite(course.score)]
    shown = [row for row in course.tables["shown"] if row["value"] is not None]
    latency_ms = course.latency_ms
    return [
        ("Run", f"{course.about['session']} · {course.about['run']}"),
        ("Participant", course.plan.participant),
        ("Outcome", course.attempt.outcome or "open"),
        ("Volumes", ", ".join(f"{count} {name}" for name, count in counts.items())),
        ("TR, window", f"{course.plan.tr_s:g} s, {course.plan.window} volumes"),
        ("Scores", f"{len(finite)}, mean {finite.mean():.3f}" if len(finite) else "none"),
        ("Values shown", f"{len(shown)}, each with its flip time"),
        (
            "Volume → feedback",
            f"median {np.median(latency_ms):.1f} ms, p99 {np.percentile(latency_ms, 99):.1f} ms"
            if len(latency_ms)
            else "none",
        ),
        ("fcnef", f"{course.about['version']}, plan {course.about['plan_digest'][:12]}"),
    ]


def _faults(course: Course) -> list[dict[str, str]]:
    rows = []
    for row in course.tables["fault"]:
        clock = time.strftime("%H:%M:%S", time.localtime(row["time_s"]))
        index = row["volume_index"]
        rows.append(
            {
                "time": clock,
                "volume": "" if index is None else str(index),
                "kind": row["kind"],
                "reason": row["reason"],
                "action": row["action"],
            }
        )
    return rows


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
