"""The command line as a person types it: help with an example, one line for every mistake."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import json
import os
import select
import sqlite3
import subprocess
import sys
import types
from pathlib import Path

import pytest

import tools.cli
from rtloop import __version__
from rtloop.errors import PlanError
from rtloop.plan import BlockTimeline, LinearAnchors, Plan
from tests.rtloop.simulated import series, small_plan
from tests.tools.recorded import rest_plan, write_record
from tools.bench import table
from tools.cli import COMMANDS, run

BLOCK = Path(__file__).parents[2] / "configs" / "timelines" / "block.toml"
NEW = ["plan", "new", "plan.json", "--participant", "p01", "--tr", "1", "--volumes", "500"]
PAIR = ["--sphere", "A:-40,10,20", "--sphere", "B:0,-50,30:8"]

Said = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def mistake(arguments: list[str], capsys: Said) -> str:
    """The one line that a user's mistake ends in."""
    capsys.readouterr()
    assert run(arguments) == 2, arguments
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("fcnef: ")
    return lines[0]


# --- the machine ------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["ENOSPC", "EROFS", "EACCES"])
def test_what_a_disk_refuses_is_one_line(
    reason: str, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = getattr(errno, reason)

    def refuse(arguments: list[str]) -> int:
        raise OSError(number, os.strerror(number), "out/edges")

    monkeypatch.setattr(tools.cli, "_call", refuse)
    line = mistake(["cohort", "show", "x"], capsys)
    assert line.startswith(
        f"fcnef: expected to read and write out/edges, found {os.strerror(number)}"
    )


def losing(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command finds that there is no file of this name."""

    def lose(arguments: list[str]) -> int:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)

    monkeypatch.setattr(tools.cli, "_call", lose)


@pytest.mark.parametrize("name", ["/proc/nope", "no/such/folder", "../x", "x\n"])
def test_a_file_of_the_users_that_is_not_there_is_one_line(
    name: str, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    losing(name, monkeypatch)
    assert "found No such file or directory; check" in mistake(["cohort", "show", "x"], capsys)


@pytest.mark.parametrize(
    "name",
    [
        str(Path(tools.cli.__file__).with_name("none.toml")),
        str(Path(pytest.__file__).with_name("none.txt")),
        str(Path(json.__file__).with_name("none.txt")),
        None,
    ],
    ids=["fcnef", "package", "python", "nameless"],
)
def test_a_fault_of_ours_is_not_taken_for_the_disks(
    name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    losing(name, monkeypatch)
    with pytest.raises(FileNotFoundError):
        run(["cohort", "show", "x"])


def test_an_output_folder_that_is_a_file_is_one_line(
    folder: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "afile").write_text("")

    def make(arguments: list[str]) -> int:
        Path("afile").mkdir(parents=True, exist_ok=True)
        return 0

    monkeypatch.setattr(tools.cli, "_call", make)
    line = mistake(["cohort", "show", "x"], capsys)
    assert line.startswith("fcnef: expected to read and write afile, found File exists")


@pytest.mark.skipif(not hasattr(select, "poll"), reason="needs poll")
def test_output_that_nobody_reads_ends_quietly() -> None:
    command = [sys.executable, "-u", "-m", "tools.cli", "--help"]
    root = Path(__file__).parents[2]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, cwd=root)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


# --- help -------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_overview_names_every_command_and_what_it_is_for(flag: str, capsys: Said) -> None:
    assert run([flag]) == 0
    shown = capsys.readouterr().out
    for name in COMMANDS:
        (line,) = [line for line in shown.splitlines() if line.startswith(f"│ {name} ")]
        assert len(line.strip("│ ").split()) > 3, line


@pytest.mark.parametrize(
    "words", [[name] for name in COMMANDS] + [["plan", s] for s in ("new", "calibrate", "show")]
)
def test_help_has_an_example(words: list[str], capsys: Said) -> None:
    assert run([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: fcnef {words[0]}")
    example = shown.partition("Example:")[2]
    assert f"fcnef {' '.join(words)}" in example


def test_help_of_the_overview_imports_no_command() -> None:
    """A person who asks for help does not wait for numba."""
    code = (
        "import sys, tools.cli; tools.cli.run(['--help']); "
        "sys.exit(any(name in sys.modules for name in ('numba', 'nibabel', 'tools.cli.run')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: fcnef" in done.stdout


def test_the_installed_command() -> None:
    """The entry point as a process: version on standard output, a mistake on standard error."""
    command = [sys.executable, "-m", "tools.cli"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, __version__)
    done = subprocess.run(
        [*command, "replay", "none.sqlite"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "fcnef: record none.sqlite: expected a file, found none; check the path\n"
    )


# --- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_one_line(name: str, capsys: Said) -> None:
    assert "--hlep" in mistake([name, "--hlep"], capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rnu"], "found 'rnu'; did you mean run?"),
        (["xyz"], "found 'xyz'; see `fcnef --help`"),
        (["--hlep"], "found '--hlep'"),
        (["plan", "nwe"], 'Did you mean "new"'),
        (["run"], "SESSION requires an argument"),
        (["run", "none.toml"], "none.toml: expected a readable file"),
        (["run", "junk"], "junk: expected TOML"),
        (["run", "."], "expected a readable file, found Is a directory"),
        (["replay", "none.sqlite"], "expected a file, found none"),
        (["replay", "junk"], "expected a run record"),
        (["replay", "run.sqlite", "--out", "new.sqlite"], "--config"),
        (["replay", "run.sqlite", "--config", "none.toml"], "none.toml: expected a readable file"),
        (["replay", "run.sqlite", "--from", "start"], "--from"),
        (["replay", "none.sqlite", "--console"], "expected a file, found none"),
        (["replay", "run.sqlite", "--console", "--speed", "0"], "--speed: expected a positive"),
        (["read", "none"], "expected a folder of scanner files"),
        (["read", ".", "--scanner", "junk"], "junk: expected TOML"),
        (["scan", "none", "--as-export", "export"], "check the path"),
        (["scan", "participant", "--volumes", "2"], "--to"),
        (["scan", "junk.nii.gz", "--as-export", "export"], "expected a NIfTI image"),
        (["keys", "a b"], "expected letters"),
        (["gateway", "none"], "expected the folder"),
        (["bench", "everything"], "Choose from"),
        (["doctor", "--flips", "7"], "Choose from"),
        (["demo", "--out", "junk"], "expected a folder to write in"),
        (["plan", "show", "none.json"], "expected a readable file"),
        (["plan", "show", "junk"], "expected JSON"),
        (["plan", "show", "list.json"], "plan list.json"),
        (NEW, "either --atlas or --sphere"),
        ([*NEW, "--sphere", "A:1,2"], "found 'A:1,2'"),
        ([*NEW, *PAIR, "--mean", "0.2"], "--mean and --sd together"),
        ([*NEW, *PAIR, "--edge", "A,C"], "unknown ROI name 'C'"),
        ([*NEW, *PAIR, "--direction", "sideways"], "Choose from"),
        ([*NEW, *PAIR, "--timeline", "none.toml"], "expected a readable file"),
        (["plan", "new", "no/plan.json", *NEW[3:], *PAIR], "expected a file that can be written"),
        (["plan", "calibrate", "none.json", "--rest", "r", "--out", "o"], "expected a readable"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], words: str, folder: Path, capsys: Said
) -> None:
    (folder / "junk").write_bytes(b"\x91\xff\x00")
    (folder / "junk.nii.gz").write_bytes(b"no image")
    (folder / "list.json").write_text("[]")
    write_record(folder / "run.sqlite", events=series(3), outcome=None)
    assert words in mistake(arguments, capsys)
    assert not (folder / "plan.json").exists()


def test_a_package_that_is_not_installed_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    """The core install has no jinja2; `fcnef demo` there says what to install."""
    for name in [name for name in sys.modules if name.startswith(("tools.cli.demo", "tools.demo"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tools.runreport", None)
    with pytest.raises(ImportError):  # a module of fcnef's own: a fault, not a mistake
        run(["demo"])
    monkeypatch.delitem(sys.modules, "tools.runreport")
    for name in [name for name in sys.modules if name.startswith("tools.runreport")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert "package jinja2, found none; install fcnef[" in mistake(["demo"], capsys)


REQUIRES = [
    "numpy>=2.1",
    "Jinja2>=3.1; extra == 'all'",
    "torch==2.13.0; extra == 'all'",
    "distributed>=2025.1; extra == 'all'",
    "antspyx>=0.5; extra == 'all'",
    "scikit-learn>=1.6; extra == 'all'",
    "Jinja2>=3.1 ; extra == 'offline'",
    "scikit_learn>=1.6 ; extra == 'offline'",
    'torch==2.13.0; python_version < "4" and extra == "offline"',
    "jinja2>=3.1; extra == 'demo'",
    "distributed>=2025.1; extra == 'scale'",
    "antspyx>=0.5; extra == 'prepare'",
]


@pytest.mark.parametrize(
    ("package", "extra"),
    [
        ("jinja2", "demo"),
        ("torch", "offline"),
        ("sklearn", "offline"),
        ("scipy", "offline"),
        ("distributed", "scale"),
        ("dask", "scale"),
        ("ants", "prepare"),
        ("unheard_of", "all"),
        ("numpy", "all"),
    ],
)
def test_the_extra_that_holds_a_package_is_named(
    package: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    def lack(arguments: list[str]) -> int:
        raise ModuleNotFoundError(f"No module named '{package}'", name=f"{package}.part")

    monkeypatch.setattr(tools.cli, "_call", lack)
    monkeypatch.setattr("importlib.metadata.requires", lambda name: REQUIRES)
    line = mistake(["twin"], capsys)
    assert line == f"fcnef: expected the package {package}, found none; install fcnef[{extra}]"


def test_without_an_installed_fcnef_all_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.requires", unknown)
    assert tools.cli._extra_of("torch") == "all"


def test_errors_are_folded_to_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PlanError("two\n   lines")

    monkeypatch.setattr(tools.cli, "_call", fail)
    assert mistake(["plan"], capsys) == "fcnef: two lines"


def test_an_interruption_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tools.cli, "_call", interrupt)
    assert run(["run"]) == 130
    assert capsys.readouterr().err == "fcnef: interrupted\n"


# --- plan -------------------------------------------------------------------------------------


def test_plan_new_and_show(folder: Path, capsys: Said) -> None:
    assert run([*NEW, *PAIR, "--direction", "down", "--mean", "0.2", "--sd", "0.1"]) == 0
    plan = Plan.load("plan.json")
    assert plan.edges[0].direction == -1
    assert plan.calibration == LinearAnchors(center=0.2, sd=0.1)
    assert "1 edge(s), window 40 volumes" in capsys.readouterr().out
    assert run(["plan", "show", "plan.json"]) == 0
    shown, _, digest = capsys.readouterr().out.partition("digest ")
    assert json.loads(shown) == plan.model_dump(mode="json")
    assert digest.strip() == plan.digest


def test_plan_new_with_a_block_timeline_and_no_feedback(folder: Path) -> None:
    assert run([*NEW, *PAIR, "--timeline", str(BLOCK), "--no-feedback"]) == 0
    plan = Plan.load("plan.json")
    assert isinstance(plan.timeline, BlockTimeline)
    assert (plan.timeline.n_trials, plan.window, plan.control.arm) == (6, 40, "none")


def test_plan_calibrate(folder: Path, capsys: Said) -> None:
    small_plan().save("plan.json")
    for seed in (7, 8):
        write_record(folder / f"rest-{seed}.sqlite", rest_plan(), series(60, seed=seed))
    rests = ["--rest", "rest-7.sqlite", "--rest", "rest-8.sqlite"]
    assert run(["plan", "calibrate", "plan.json", *rests, "--out", "new.json"]) == 0
    said = capsys.readouterr().out
    assert "WARNING: at least 20 minutes over two runs are recommended" in said
    assert "held-out rest means" in said
    assert Plan.load("new.json").calibration != small_plan().calibration
    assert Plan.load("plan.json") == small_plan()
    small_plan(window_s=14.0).save("other.json")
    line = mistake(["plan", "calibrate", "other.json", *rests, "--out", "no.json"], capsys)
    assert "the plan's own circuit and window" in line


# --- replay and bench -------------------------------------------------------------------------


def test_replay_says_identical(folder: Path, capsys: Said) -> None:
    write_record(folder / "run.sqlite", events=series(30))
    assert run(["replay", "run.sqlite"]) == 0
    assert "identical: 30 events" in capsys.readouterr().out
    assert run(["replay", "run.sqlite", "--from", "rois"]) == 0


def test_replay_exits_1_at_a_difference(folder: Path, capsys: Said) -> None:
    record = write_record(folder / "run.sqlite", events=series(30))
    with contextlib.closing(sqlite3.connect(record)) as db, db:
        db.execute(
            "UPDATE image SET voxels = (SELECT voxels FROM image WHERE event = 24) WHERE event = 25"
        )
    assert run(["replay", "run.sqlite"]) == 1
    assert "event 25 (volume 24)" in capsys.readouterr().out


def rows(part: table.Part) -> list[table.Row]:
    return [
        table.Row(part, "fcnef", "small", 2.0, 3.0, "us", None),
        table.Row(part, "naive", "small", 400.0, 1234.5, "us", 200.0),
    ]


def test_bench_as_table_and_json(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    monkeypatch.setattr("tools.cli.bench.measure", rows)
    assert run(["bench", "denoise"]) == 0
    shown = capsys.readouterr().out
    assert "1,234" in shown
    assert shown.count("small") == 1
    assert run(["bench", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = [row for part in table.PARTS if not table.obstacle(part) for row in rows(part)]
    assert [row["part"] for row in found["rows"]] == [row.part for row in expected]
    assert found["rows"][1]["times_fcnef"] == 200.0
    assert {"cpu", "numpy"} <= set(found["machine"])


def test_rows_compare_within_their_case(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Said
) -> None:
    """fcnef's row comes first in each; what has no time or is about accuracy is left out."""
    asked: dict[str, object] = {}

    def entry(series: str, case: str, method: str, median_ms: float | None) -> dict[str, object]:
        times = {} if median_ms is None else {"median_ms": median_ms, "p99_ms": 2 * median_ms}
        return {"series": series, "case": case, "method": method, **times}

    def measured(**size: object) -> list[dict[str, object]]:
        asked.update(size)
        return [
            entry("small", "walk", "fcnef", 2.0),
            entry("small", "walk", "SPM", 100.0),
            entry("small", "walk", "not corrected", None),
            entry("small", "jumps", "fcnef", 5.0),
            entry("large", "walk", "fcnef", 4.0),
            entry("large", "walk", "SPM", 120.0),
        ]

    module = types.SimpleNamespace(measure=measured, RIVAL=tmp_path)
    monkeypatch.setitem(sys.modules, "tools.bench.motion", module)
    table.main("motion")
    found = [table.Row(**row) for row in json.loads(capsys.readouterr().out)]
    assert [(row.case.split(",")[0], row.method, row.times_fcnef) for row in found] == [
        ("small", "fcnef", None),
        ("small", "SPM", 50.0),
        ("large", "fcnef", None),
        ("large", "SPM", 30.0),
    ]
    assert asked["rival"] is False
    (tmp_path / "ready").touch()
    table.main("motion")
    assert asked["rival"] is True


def test_a_part_that_cannot_be_measured_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.delenv("FCNEF_DATA", raising=False)
    assert run(["bench", "motion"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.strip() == table.obstacle("motion")
    assert "set FCNEF_DATA" in said.err


def test_a_measured_part_compares_within_its_case() -> None:
    """The real measurement, small, in its own process with one thread."""
    found = table.measure("record")
    ours, naive = found
    assert ours.times_fcnef is None
    assert naive.times_fcnef == pytest.approx(naive.median / ours.median)
    assert {row.unit for row in found} == {"ms"}
    assert all(0 < row.median <= row.p99 for row in found)
