"""Checkpoints of training: what is damaged or cannot be written is said in one line."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (fcnef[offline])")

from safetensors.numpy import save_file  # noqa: E402

from offline.errors import TwinError  # noqa: E402
from offline.model_file import read_arrays, write_arrays  # noqa: E402
from offline.twin.basis import fit_basis  # noqa: E402
from offline.twin.model import Settings  # noqa: E402
from offline.twin.train import deal_people, deterministic, fit_member  # noqa: E402
from tests.offline.twin.tasks_of import small  # noqa: E402

SETTINGS = Settings(units=5, rank=2, epochs=1, segments=1, batch=12, check_every=1, folds=2)
TENSORS = ("codes", "parameters.rt", "best.left", "adam.first.codes")


def trained(folder):
    people, examples = small(n_people=24)
    folds = deal_people(None, 24, 2, 0)
    with deterministic(1):
        basis = fit_basis(people.edges[folds != 0])
        return fit_member(
            people.edges, examples, folds, SETTINGS, 0, 0, basis, checkpoint=folder
        )  # fmt: skip


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """State and arrays of a checkpoint, not to be changed."""
    folder = tmp_path_factory.mktemp("kept")
    trained(folder)
    (path,) = folder.iterdir()
    arrays, state = read_arrays(path)
    return state, arrays


def put(folder, state, arrays):
    path = folder / "member-0-0.safetensors"
    if isinstance(state, dict):
        write_arrays(path, arrays, state)
    else:
        save_file(arrays, path, metadata={"fcnef": json.dumps(state)})
    return path


def refused(path, message="expected a whole file, found .*; remove it"):
    with pytest.raises(TwinError, match=message) as caught:
        trained(path.parent)
    assert str(caught.value).startswith(f"checkpoint {path}: expected ")


def test_a_state_that_was_finished_is_taken(kept, tmp_path):
    path = put(tmp_path, *kept)
    before = path.read_bytes()
    trained(tmp_path)
    assert path.read_bytes() == before  # all was done


@pytest.mark.parametrize("state", [[], None, 3, "text", {}, ["digest"]])
def test_a_state_that_is_none_is_refused(kept, tmp_path, state):
    refused(put(tmp_path, state, kept[1]))


@pytest.mark.parametrize("name", ["epoch", "best_loss", "since_best", "steps", "curve", "digest"])
def test_a_state_without_an_entry_or_with_another_kind_is_refused(kept, tmp_path, name):
    state, arrays = kept
    refused(
        put(tmp_path, {k: v for k, v in state.items() if k != name}, arrays), f"none of '{name}'"
    )
    if name != "digest":
        for value in (None, [3], {"a": {}}):
            refused(put(tmp_path, {**state, name: value}, arrays))


@pytest.mark.parametrize("name", TENSORS)
def test_a_state_without_a_tensor_or_with_another_is_refused(kept, tmp_path, name):
    state, arrays = kept
    refused(put(tmp_path, state, {k: v for k, v in arrays.items() if k != name}))
    for other in (arrays[name][:-1].copy(), arrays[name].astype(np.float64)):
        refused(put(tmp_path, state, {**arrays, name: other}), f"{name} of another shape")


def test_changed_bytes_are_refused(tmp_path):
    trained(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-500] + np.random.default_rng(0).bytes(500))
    refused(path, "found other content than was written")


def test_what_is_no_folder_or_no_file_is_refused(tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("a file")
    for folder in (taken, taken / "in", tmp_path / ("n" * 300)):
        with pytest.raises(TwinError, match=r"expected a folder to write in, found .*; give"):
            trained(folder)
    path = tmp_path / "member-0-0.safetensors"
    path.mkdir()
    refused(path)


FULL = """
import sys
from pathlib import Path
from types import SimpleNamespace
import torch
from offline.errors import TwinError
from offline.twin.resume import Resume
run = SimpleNamespace(
    codes=torch.zeros(5000), parameters={}, best={}, adam=SimpleNamespace(moments={}, steps={}),
    epoch=1, best_loss=0.0, since_best=0, curve=[],
)
try:
    Resume(Path(sys.argv[1]), "digest").keep(run)
except TwinError as error:
    print(error)
"""


def test_a_disk_that_is_full_is_one_line_and_nothing_is_left(tmp_path):
    command = ["bash", "-c", 'ulimit -f 8; exec "$@"', "-", sys.executable, "-B", "-c", FULL]
    path = tmp_path / "member-0-0.safetensors"
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"checkpoint {path}: expected to be able to write it, found" in done.stdout
    assert "File too large" in done.stdout
    assert list(tmp_path.iterdir()) == []
