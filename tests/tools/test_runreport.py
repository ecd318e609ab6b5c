"""A run's report: sound HTML that fetches nothing, and figures that are the record's own."""

from __future__ import annotations

import html.parser
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtloop import attempts
from rtloop.errors import RecordError
from rtloop.journal import Record
from rtloop.wire import Shown
from tests.rtloop.simulated import series, small_plan
from tests.tools.recorded import FLIP_S, LATENCY_S, rest_plan, session_for, write_record
from tools.runreport import write_report
from tools.runreport.course import load

VOID = {"meta", "img", "br", "hr", "link", "input"}
LOST = (30, 31, 45)


class Page(html.parser.HTMLParser):
    """Tags in order, text by tile and table, and everything that is not closed as it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()
        self.wrong += [f"{tag} is never closed" for tag in self.open]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("src", "href", "xlink:href", "srcset", "data", "action"):
                self.links.append(value or "")
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if self.rows and self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    @property
    def table(self) -> dict[str, str]:
        """The two-column summary."""
        return {row[0]: row[1] for row in self.rows if len(row) == 2}

    @property
    def faults(self) -> list[list[str]]:
        return [row for row in self.rows if len(row) == 5][1:]


def report(record: Path, **options: Any) -> tuple[str, Page]:
    out = record.with_suffix(".html")
    write_report(record, out, **options)
    text = out.read_text(encoding="utf-8")
    page = Page(text)
    assert page.wrong == []
    return text, page


def tiles(text: str) -> dict[str, str]:
    found = re.findall(r'<div class="tile"><b>(.*?)</b><span>(.*?)</span></div>', text)
    return {name: value for value, name in found}


def ask(record: Path, question: str) -> Any:
    with closing(sqlite3.connect(record)) as db:
        return db.execute(question).fetchone()[0]


@pytest.fixture
def record(tmp_path: Path) -> Path:
    volumes = [volume for volume in series() if volume.index not in LOST]
    return write_record(tmp_path / "run.sqlite", events=volumes)


def test_numbers_are_the_records(record: Path) -> None:
    text, page = report(record)
    shown = tiles(text)
    assert shown["outcome"] == "complete"
    used = ask(record, "SELECT count(*) FROM step WHERE status = 'used'")
    assert shown["of 60 volumes used"] == str(used)
    scored = "SELECT count(*) FROM step WHERE raw_score IS NOT NULL AND status = 'used'"
    assert shown["windows scored"] == str(ask(record, scored))
    values = "SELECT count(*) FROM shown WHERE value IS NOT NULL AND status = 'shown'"
    assert ask(record, values) > 20
    assert shown["values shown, each with its flip time"] == str(ask(record, values))
    assert shown["volume → feedback, median"] == f"{1e3 * LATENCY_S:.1f} ms"
    assert shown["feedback → flip, median"] == f"{1e3 * FLIP_S:.1f} ms"
    assert page.table["Volumes"] == f"3 dummy, 3 missing, {used} used"
    assert page.table["Faults"] == "3 missing"
    mean = ask(record, "SELECT avg(raw_score) FROM step WHERE status = 'used'")
    assert page.table["Raw score"].startswith(f"mean {mean:.3f}, SD ")
    assert page.table["Anchors"].startswith("feedback 0 at -0.400, 100 at 0.800")
    assert [row[1:] for row in page.faults] == [
        [str(index), "missing", "never arrived in time", "weight 0, feedback holds"]
        for index in LOST
    ]


def test_nothing_is_fetched(record: Path, tmp_path: Path) -> None:
    picture = tmp_path / "feedback.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    text, page = report(record, screenshots=[picture], truth=np.zeros(60))
    assert all(link.startswith(("#", "data:")) for link in page.links), page.links
    assert page.tags.count("img") == 1
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"@import|url\((?!#)", text)
    addresses = set(re.findall(r"https?://[^\"'<>\s]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_ids_are_unique_and_every_reference_has_one(record: Path) -> None:
    text, page = report(record)
    assert len(set(page.ids)) == len(page.ids)
    used = set(re.findall(r"url\(#(.+?)\)", text)) | {
        link[1:] for link in page.links if link.startswith("#")
    }
    assert used
    assert used <= set(page.ids)


def test_words_are_escaped(record: Path) -> None:
    text, _ = report(record, replay="<b>identical</b>", notes=("1 < 2 & 3",))
    assert "&lt;b&gt;identical" in text
    assert "1 &lt; 2 &amp; 3" in text


def test_the_same_record_gives_the_same_report(record: Path) -> None:
    assert report(record)[0] == report(record)[0]


def test_the_course_is_scanner_time(record: Path) -> None:
    """Row i is volume i, whatever was lost before it."""
    course = load(record)
    assert [i for i, status in enumerate(course.status) if status == "missing"] == list(LOST)
    for index in (29, 32, 46, 59):
        question = f"SELECT raw_score FROM step WHERE volume_index = {index}"
        assert course.score[index] == pytest.approx(ask(record, question), abs=1e-12)
    assert np.isnan(course.score[list(LOST)]).all()
    assert course.scene[10] == "rest"
    assert course.scene[40] == "feedback"


# --- records that lack something ----------------------------------------------------------------


def test_a_run_without_any_score(tmp_path: Path) -> None:
    record = write_record(tmp_path / "run.sqlite", events=series(12), outcome="incomplete")
    text, page = report(record)
    assert tiles(text)["windows scored"] == "0"
    assert page.table["Raw score"] == "none"
    assert page.table["Volumes"] == "3 dummy, 9 used, 48 not reached"


def test_a_run_without_feedback_or_display(tmp_path: Path) -> None:
    record = write_record(tmp_path / "run.sqlite", rest_plan())
    with closing(sqlite3.connect(record)) as db, db:
        db.execute("DELETE FROM shown")
        db.execute("UPDATE times SET received_s = NULL")
    text, _ = report(record)
    shown = tiles(text)
    assert shown["values shown, each with its flip time"] == "0"
    assert shown["volume → feedback, median"] == "–"
    assert shown["feedback → flip, median"] == "–"


def test_dummies_alone(tmp_path: Path) -> None:
    text, page = report(write_record(tmp_path / "run.sqlite", events=series(2), outcome=None))
    assert tiles(text)["outcome"] == "open"
    assert page.table["Volumes"] == "2 dummy, 58 not reached"


def test_a_run_without_volumes_is_refused(tmp_path: Path) -> None:
    path, session = tmp_path / "run.sqlite", session_for(tmp_path)
    Record.create(path, attempts.about(session, session.runs[0], small_plan())).close()
    with pytest.raises(RecordError, match="expected a run with volumes"):
        write_report(path, tmp_path / "report.html")


def test_a_value_that_expired_was_not_shown(record: Path) -> None:
    before = load(record).values_shown
    with Record.open(record, writable=True) as opened, opened.transaction():
        opened.add_shown(Shown(50, "one", "feedback", 50.0, 900.0, "expired"))
        opened.add_shown(Shown(51, "one", "feedback", 50.0, 900.0, "failed"))
    course = load(record)
    assert course.values_shown == before
    assert len(course.flip_ms) == 60 - len(LOST)


def test_a_kind_of_fault_that_came_often_is_one_line(record: Path) -> None:
    with Record.open(record, writable=True) as opened, opened.transaction():
        for index in range(20, 40):
            opened.add_fault(0.0, "clock", f"{index} ms off", "recorded", "one", index)
    _, page = report(record)
    assert page.table["Faults"] == "3 missing, 20 clock"
    assert [row[1:4] for row in page.faults if row[2] == "clock"] == [
        ["20 …", "clock", "20 ms off (the first of 20)"]
    ]


def test_news_is_listed_and_is_no_fault(record: Path) -> None:
    with Record.open(record, writable=True) as opened, opened.transaction():
        opened.add_fault(0.0, "series_opened", "first of its files", "followed", "one", None)
    _, page = report(record)
    assert page.table["Faults"] == "3 missing"
    assert ["", "series opened", "first of its files", "followed"] in [r[1:] for r in page.faults]


def test_the_last_attempt_is_shown_and_the_others_named(record: Path) -> None:
    session, plan = session_for(record.parent), small_plan()
    with Record.open(record, writable=True) as opened:
        volume = series(1, attempt="two")[0]
        attempts.begin(session, plan, opened, volume, 0.0)
    text, page = report(record)
    assert page.table["Shown"] == "attempt 2, the last one; before it: complete"
    assert tiles(text)["outcome"] == "open"


def test_a_block_runs_trials_are_in_the_course(tmp_path: Path) -> None:
    phases = [("regulate", 12.0, "instruction"), ("wait", 6.0, "fixation"), ("show", 2.0, "score")]
    block = {
        "kind": "block",
        "rest_s": 10.0,
        "phases": [{"name": n, "duration_s": s, "scene": scene} for n, s, scene in phases],
        "n_trials": 2,
        "score_phase": "regulate",
        "feedback_phase": "show",
    }
    record = write_record(tmp_path / "run.sqlite", small_plan(timeline=block))
    course = load(record)
    # rest, haemodynamic delay of 6 s, twelve volumes; the next one a trial of 20 s later
    assert [trial.index for trial in course.trials] == [27, 47]
    for trial in course.trials:
        assert trial.score == pytest.approx(course.score[trial.index])
    text, _ = report(record)
    assert "trial" in text


def test_a_large_circuit_stays_readable(tmp_path: Path) -> None:
    """A hundred edges make no figure of a hundred lines of labels."""
    spheres = [
        {"name": f"R{k}", "center_mm": [6 + 2 * k, 15, 12], "radius_mm": 3.5} for k in range(11)
    ]
    edges = [{"a": f"R{a}", "b": f"R{b}"} for a in range(11) for b in range(a)]
    plan = small_plan(rois={"kind": "spheres", "spheres": spheres}, edges=edges)
    text, _ = report(write_record(tmp_path / "run.sqlite", plan, series(40)))
    assert "55 edges, as in the plan" in text
