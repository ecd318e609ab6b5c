"""The shipped settings: every file loads, so does every entry that is commented out, and the
values shown are the defaults that the files say they are.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from rtloop.config import SessionConfig
from rtloop.plan import BlockTimeline
from rtloop.readers import ScannerConfig
from stimuli.display import DisplayConfig
from tests.rtloop.simulated import small_plan
from tools.faults import FaultScript

FOLDER = Path(__file__).parents[1] / "configs"
COMMENTED = re.compile(r"^# ?(?=\[\[?[a-z.]+\]|[a-z_]+ = )")
"""What makes an entry or a table of an entry that is commented out."""

REQUIRED = {"name", "plan", "runs", "source.watch"}
"""Entries of a session that have no default, or one nobody can use."""


def uncommented(path: Path) -> str:
    """The file's text with all its commented-out entries in force."""
    return "\n".join(COMMENTED.sub("", line) for line in path.read_text().splitlines())


def leaves(entries: dict[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """Every entry of a file by its dotted place."""
    for name, value in entries.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{place}{name}.")
        else:
            yield place + name, value


def fields(model: type[BaseModel], place: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting of a model with its default, by its dotted place."""
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            yield from fields(type(field.default), f"{place}{name}.")
        else:
            yield place + name, field.default


def as_toml(value: Any) -> Any:
    """A default as TOML would give it."""
    return list(value) if isinstance(value, tuple) else value


def test_every_file_is_tried_here() -> None:
    found = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.toml")}
    assert found == {"session.toml", "scanner.toml", "faults.toml", "timelines/block.toml"}


# --- session.toml -----------------------------------------------------------------------------


def test_the_session_loads(tmp_path: Path) -> None:
    session = SessionConfig.load(FOLDER / "session.toml")
    assert session.source.watch == "export"
    DisplayConfig(feedback="f", reports="r", **session.display.options)


def test_the_session_loads_with_everything_in_force(tmp_path: Path) -> None:
    path = tmp_path / "session.toml"
    path.write_text(uncommented(FOLDER / "session.toml"))
    session = SessionConfig.load(path)
    assert session.engine.denoise.seed == ("records/ses-01_rest.sqlite",)
    assert session.runs[0].plan == "plan-transfer.json"
    assert session.network.console == "127.0.0.1:8080"
    DisplayConfig(feedback="f", reports="r", **session.display.options)


def test_the_session_shows_defaults() -> None:
    shown = dict(leaves(tomllib.loads((FOLDER / "session.toml").read_text())))
    defaults = dict(fields(SessionConfig))
    display = dict(fields(DisplayConfig, "display.options."))
    for place, value in shown.items():
        if place not in REQUIRED:
            assert value == as_toml({**defaults, **display}[place]), place


def test_the_session_shows_every_setting() -> None:
    everything = dict(leaves(tomllib.loads(uncommented(FOLDER / "session.toml"))))
    shown = {re.sub(r"^display\.options\..*", "display.options", place) for place in everything}
    assert shown == {place for place, _ in fields(SessionConfig)} - {"folder"}


# --- scanner.toml -----------------------------------------------------------------------------


def test_the_binding_shows_defaults() -> None:
    assert ScannerConfig.load(FOLDER / "scanner.toml") == ScannerConfig()


def test_the_binding_shows_every_setting(tmp_path: Path) -> None:
    path = tmp_path / "scanner.toml"
    path.write_text(uncommented(FOLDER / "scanner.toml"))
    binding = ScannerConfig.load(path)
    assert set(tomllib.loads(path.read_text())) == set(ScannerConfig.model_fields)
    assert binding.n_slices == 33


# --- faults.toml and timelines ----------------------------------------------------------------


def test_the_fault_script_loads(tmp_path: Path) -> None:
    plain = FaultScript.load(FOLDER / "faults.toml")
    path = tmp_path / "faults.toml"
    path.write_text(uncommented(FOLDER / "faults.toml"))
    everything = FaultScript.load(path)
    added = {fault.kind for fault in everything.fault} - {fault.kind for fault in plain.fault}
    assert added == {"nan", "abort"}


@pytest.mark.parametrize(
    "path", sorted((FOLDER / "timelines").glob("*.toml")), ids=lambda p: p.stem
)
def test_a_timeline_fits_a_plan(path: Path) -> None:
    timeline = BlockTimeline.model_validate(tomllib.loads(path.read_text()))
    start_s, end_s = timeline.span_s(timeline.score_phase)
    n_volumes = int(timeline.rest_s + timeline.n_trials * timeline.trial_s) + 1
    plan = small_plan(timeline=timeline, window_s=end_s - start_s, n_volumes=n_volumes)
    assert isinstance(plan.timeline, BlockTimeline)
