"""The fingerprint changes with what changes bits, and with nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from rtloop import fingerprint as module
from rtloop.fingerprint import fingerprint


def test_says_what_decides_the_bits():
    content = fingerprint()
    assert content["cpu"]
    assert content["cpu_features"] == sorted(set(content["cpu_features"]))
    assert content["cpu_features"]
    for name in ("python", "numpy", "numba", "llvmlite"):
        assert re.match(r"\d+\.\d+", content[name])
    assert re.fullmatch(r"[0-9a-f]{64}", content["digest"])


def test_is_plain_data_and_the_same_in_another_process():
    command = (
        "import json; from rtloop.fingerprint import fingerprint; print(json.dumps(fingerprint()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == fingerprint()


def test_another_version_is_another_fingerprint(monkeypatch):
    before = fingerprint()["digest"]
    monkeypatch.setattr(module, "version", lambda name: "0.0.1" if name == "numba" else "2.0")
    assert fingerprint()["digest"] != before


@pytest.mark.parametrize("name", ["NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_OPT"])
def test_other_code_generation_is_another_fingerprint(monkeypatch, name):
    monkeypatch.delenv(name, raising=False)
    before = fingerprint()["digest"]
    monkeypatch.setenv(name, "1")
    assert fingerprint()["digest"] != before


def test_other_cpu_features_are_another_fingerprint(monkeypatch):
    before = fingerprint()
    features = dict.fromkeys(before["cpu_features"][1:], True)
    monkeypatch.setattr(module.llvm, "get_host_cpu_features", lambda: features)
    assert fingerprint()["digest"] != before["digest"]
