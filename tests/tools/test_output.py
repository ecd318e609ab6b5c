"""Outputs that cannot be written are refused before the work, and what is there stays."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools.cli import _refuse
from tools.output import OutputError, require_file, require_folder


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").write_text("kept")
    return tmp_path


def refused(require: Callable[[Any], Path], out: str | Path, words: str) -> None:
    with pytest.raises(OutputError) as caught:
        require(out)
    assert words in str(caught.value)
    assert str(caught.value).startswith("output ")
    assert str(caught.value).endswith("; name another")
    assert _refuse(str(caught.value)) == 2


def test_folders_are_made_and_left_empty(folder: Path) -> None:
    assert require_folder("a/b") == Path("a/b")
    assert require_folder(Path()) == Path()
    assert require_file("c/d/out.tsv") == Path("c/d/out.tsv")
    assert not list((folder / "a" / "b").iterdir())
    assert not list((folder / "c" / "d").iterdir())


def test_what_is_there_stays(folder: Path) -> None:
    require_file("afile")
    require_folder(folder)
    assert (folder / "afile").read_text() == "kept"


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("afile", "output afile: expected a folder to write in, found a file"),
        ("afile/in", "found Not a directory"),
        ("n" * 300, "found File name too long"),
        ("/proc/nope", "found No such file or directory"),
    ],
)
def test_no_folder_to_write_in(out: str, words: str) -> None:
    refused(require_folder, out, words)


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("", "found no name of a file"),
        (".", "found no name of a file"),
        ("/", "found no name of a file"),
        ("..", "found no name of a file"),
        ("/tmp", "output /tmp: expected a file to write, found a folder"),
        ("afile/out.tsv", "expected a folder to write out.tsv in, found a file"),
        ("afile/in/out.tsv", "expected a folder to write out.tsv in, found Not a directory"),
        ("n" * 300, "found File name too long"),
        ("/proc/nope/out.tsv", "found No such file or directory"),
    ],
)
def test_no_file_to_write(out: str, words: str) -> None:
    refused(require_file, out, words)


def test_a_disk_that_takes_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run as root, whom no rights stop: the disk is said to be read-only."""

    def fail(dir: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    for require in (require_file, require_folder):
        refused(require, "a/out", "found Read-only file system")
    assert require_file(os.devnull) == Path(os.devnull)  # nothing is made beside a device


def test_a_file_that_may_not_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    refused(require_file, "afile", "expected a file to write, found one that may not be written")
    assert require_file("new") == Path("new")
