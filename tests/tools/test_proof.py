"""Proofs leave what they found, with commit and command; what is not reached is said so."""

from __future__ import annotations

import ast
import json
import math
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rtloop.errors import ConfigError
from tools.proof import __main__ as proof

ROOT = Path(__file__).parents[2]
Prove = Callable[[], tuple[dict[str, Any], dict[str, bool]]]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a made-up proof named `small` in the list, and the results in a folder of the test."""
    monkeypatch.setattr(proof, "FOLDER", tmp_path / "docs" / "proof")

    def install(prove: Prove, name: str = "small") -> None:
        module = types.ModuleType(f"tests.tools.{name}_proof")
        module.prove = prove  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(proof.PROOFS, name, module.__name__)

    return install


def document(tmp_path: Path, name: str = "small") -> dict[str, Any]:
    text = (tmp_path / "docs" / "proof" / f"{name}.json").read_text()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return dict(json.loads(text, parse_constant=refuse))


def test_a_proof_leaves_its_figures(
    play: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play(lambda: ({"rows": [{"median_us": 1.5, "error": math.nan}]}, {"fast": True, "exact": True}))
    assert proof.main(["small"]) == 0
    found = document(tmp_path)
    assert found["proof"] == "small"
    assert found["command"] == "make proof small"
    assert found["figures"] == {"rows": [{"median_us": 1.5, "error": None}]}
    assert found["reached"] == {"fast": True, "exact": True}
    assert found["verdict"] == "reached"
    assert {"platform", "cpu", "numpy", "digest"} <= set(found["machine"])
    assert len(found["date"]) == len("2026-01-01")
    said = capsys.readouterr().out
    assert "reached      fast" in said
    assert "NOT" not in said


def test_an_unreached_claim_is_written_down_and_exits_1(
    play: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play(lambda: ({}, {"fast": True, "exact": False}))
    play(lambda: ({}, {"fine": True}), "other")
    assert proof.main(["small", "other"]) == 1
    assert document(tmp_path)["verdict"] == "not reached"
    assert document(tmp_path, "other")["verdict"] == "reached"
    assert "NOT REACHED  exact" in capsys.readouterr().out


def test_a_proof_of_nothing_is_not_reached(play: Callable[..., None], tmp_path: Path) -> None:
    play(lambda: ({}, {}))
    assert proof.main(["small"]) == 1
    assert document(tmp_path)["verdict"] == "not reached"


def test_the_commit_is_the_one_the_proof_began_with(
    play: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proof may run for an hour, and the tree may move on meanwhile."""
    monkeypatch.setattr(proof, "_commit", lambda: "before")

    def prove() -> tuple[dict[str, Any], dict[str, bool]]:
        monkeypatch.setattr(proof, "_commit", lambda: "after")
        return {}, {"fast": True}

    play(prove)
    assert proof.main(["small"]) == 0
    assert document(tmp_path)["commit"] == "before"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ("", "abc123"),
        (" M docs/proof/fc.json\n", "abc123"),
        (" M docs/proof/fc.json\n M rtloop/loop.py\n", "abc123+changes"),
        ("?? new.py\n", "abc123+changes"),
    ],
)
def test_changes_of_the_tree_mark_the_commit(
    changes: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other proofs' results are no change of what is proved."""
    answers = {"rev-parse": "abc123\n", "status": changes}

    def git(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, answers[command[1]], "")

    monkeypatch.setattr(proof.subprocess, "run", git)
    assert proof._commit() == expected


def test_a_users_mistake_exits_2(
    play: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def prove() -> tuple[dict[str, Any], dict[str, bool]]:
        raise ConfigError("motion: expected FCNEF_DATA, found none; set it")

    play(prove)
    assert proof.main(["small"]) == 2
    assert capsys.readouterr().err == "proof: motion: expected FCNEF_DATA, found none; set it\n"
    assert proof.main(["nothing"]) == 2
    assert "expected one of motion fc" in capsys.readouterr().err
    assert not (tmp_path / "docs").exists()


def test_an_unknown_name_runs_nothing(play: Callable[..., None], tmp_path: Path) -> None:
    play(lambda: ({}, {"fast": True}))
    assert proof.main(["small", "nothing"]) == 2
    assert not (tmp_path / "docs").exists()


def test_without_a_name_the_proofs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert proof.main([]) == 0
    assert capsys.readouterr().out == f"proofs: {' '.join(proof.PROOFS)}\n"


@pytest.mark.parametrize("name", sorted(proof.PROOFS))
def test_every_proof_of_the_list_is_there(name: str) -> None:
    """Its module has a `prove` that asks for nothing; whether it is reached is not asked here."""
    source = ROOT / Path(*proof.PROOFS[name].split(".")).with_suffix(".py")
    tree = ast.parse(source.read_text())
    (function,) = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "prove"
    ]
    assert len(function.args.args) == len(function.args.defaults)


def test_the_results_lie_in_the_repository() -> None:
    assert proof.FOLDER == ROOT / "docs" / "proof"
