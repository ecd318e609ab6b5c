"""`fcnef task`: what a wrong command says."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.cli import run


def mistake(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line


@pytest.mark.parametrize("name", ["stroop", "matching"])
def test_help_has_an_example(name, capsys):
    assert run(["task", name, "--help"]) == 0
    assert f"fcnef task {name} --participant p01" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["stroop", "--participant", "p01"], "--out"),
        (["stroop", "--participant", "p01", "--out", "x", "--keys", "1,2"], "three keys"),
        (["stroop", "--participant", "p01", "--out", "x", "--keys", "1,2,"], "by its name"),
        (["stroop", "--participant", "p01", "--out", "x", "--keys", "5,1,2"], "start the run"),
        (["stroop", "--participant", "p 1", "--out", "x"], "letters and digits"),
        (["matching", "--participant", "p01", "--out", "x"], "--faces DIR"),
        (["matching", "--participant", "p01", "--out", "x", "--faces", "none"], "found none at"),
        (["flanker", "--participant", "p01", "--out", "x"], "flanker"),
    ],
)
def test_a_mistake_is_one_line(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in mistake(["task", *arguments], capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [["stroop"], ["matching", "--shapes-only"]])
def test_a_folder_that_cannot_be_written_is_told_before_the_window_opens(
    name, capsys, tmp_path, monkeypatch
):
    opened = []
    monkeypatch.setattr("stimuli.room.Room.open", lambda *given: opened.append(given))
    (tmp_path / "afile").write_text("kept")
    arguments = ["--participant", "p01", "--window", "--out", str(tmp_path / "afile")]
    assert "Not a directory; name another" in mistake(["task", *name, *arguments], capsys)
    assert not opened
    assert (tmp_path / "afile").read_text() == "kept"


@pytest.mark.parametrize(
    ("name", "keys", "more"),
    [("stroop", "a, b,c", []), ("matching", "a, b", ["--shapes-only"])],
)
def test_options_reach_the_task(name, keys, more, monkeypatch, tmp_path):
    asked = []
    module = importlib.import_module(f"stimuli.{name}")
    monkeypatch.setattr(module, "main", lambda config: asked.append(config) or 0)
    options = ["--participant", "p01", "--out", str(tmp_path), "--session", "2", "--screen", "1"]
    assert run(["task", name, *options, "--keys", keys, "--window", "--practice", *more]) == 0
    (config,) = asked
    assert (config.participant, config.session, config.out) == ("p01", "2", tmp_path)
    assert (config.screen, config.fullscreen, config.practice) == (1, False, True)
    assert config.keys == tuple(key.strip() for key in keys.split(","))
    assert getattr(config, "shapes_only", True)


def test_no_display_is_one_line(tmp_path: Path):
    pytest.importorskip("pyglet", reason="PsychoPy is not installed")
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    command = [sys.executable, "-m", "tools.cli", "task", "stroop", "--participant", "p01"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path), "--window"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "expected a display" in done.stderr
    assert not list(tmp_path.iterdir())
