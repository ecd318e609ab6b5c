"""Models on disk: nothing that was changed is read, nothing half written is left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from offline.errors import TwinError
from offline.model_file import DIGEST, HEADER, ModelFile, write_arrays

FILES = ModelFile("model", ("Model",), 1, TwinError)
ARRAYS = {
    "a": np.linspace(0.0, 1.0, 500),
    "big": np.arange(3, dtype=">i4"),
    "empty": np.zeros((0, 2), np.float32),
    "one": np.array(2.5),
}


def changed(path: Path, header: Any, **arrays: Any) -> None:
    """Put another header and other arrays into a file."""
    with safe_open(path, framework="numpy") as file:
        tensors = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    save_file({**tensors, **arrays}, path, metadata={HEADER: json.dumps(header)})


def header_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="numpy") as file:
        header: dict[str, Any] = json.loads(file.metadata()[HEADER])
    return header


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return FILES.write(tmp_path / "model", "Model", ARRAYS, {"known": 3})


def test_a_model_comes_back_and_nothing_else_is_there(path: Path) -> None:
    kind, arrays, header = FILES.read(path)
    assert (kind, header["known"]) == ("Model", 3)
    for name, values in ARRAYS.items():
        assert np.array_equal(arrays[name].reshape(values.shape), values)
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]


def test_the_digest_stays_what_it_is(path: Path) -> None:
    """Files that exist are read by it."""
    write_arrays(path, ARRAYS, {"known": 3})
    expected = "5d49faab35bf8605a902c12c5f871c6c6e431ec7ef4c60000940eda23ef1ced7"
    assert header_of(path)[DIGEST] == expected


def test_the_same_content_has_the_same_bytes(path: Path) -> None:
    for number in range(8):
        again = FILES.write(path.with_name(f"{number}"), "Model", ARRAYS, {"known": 3})
        assert again.read_bytes() == path.read_bytes()


def test_changed_bytes_are_refused(path: Path) -> None:
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    path.write_bytes(content[:-2000] + rng.bytes(2000))
    with pytest.raises(TwinError, match="found it changed; take another copy"):
        FILES.read(path)


@pytest.mark.parametrize(
    "other",
    [
        {"a": np.full(500, np.nan)},
        {"a": ARRAYS["a"].reshape(250, 2)},
        {"a": ARRAYS["a"].view(np.int64)},
        {"b": np.zeros(1)},
    ],
    ids=["values", "shape", "dtype", "name"],
)
def test_other_arrays_are_refused(path: Path, other: dict[str, Any]) -> None:
    changed(path, header_of(path), **other)
    with pytest.raises(TwinError, match="expected what was written, found it changed"):
        FILES.read(path)


@pytest.mark.parametrize("change", [{"known": 4}, {"other": 1}, {"versions": {}}], ids=str)
def test_another_header_is_refused(path: Path, change: dict[str, Any]) -> None:
    changed(path, header_of(path))
    assert FILES.read(path)[2]["known"] == 3
    changed(path, header_of(path) | change)
    with pytest.raises(TwinError, match="expected what was written, found it changed"):
        FILES.read(path)


def test_a_file_without_its_digest_is_refused(path: Path) -> None:
    header = header_of(path)
    del header[DIGEST]
    changed(path, header)
    with pytest.raises(TwinError, match="or make it anew with this version"):
        FILES.read(path)


@pytest.mark.parametrize("header", [[], None, 3, "text", {}, [{"kind": "Model"}]])
def test_a_header_that_is_none_is_refused(path: Path, header: Any) -> None:
    changed(path, header)
    with pytest.raises(TwinError, match="expected a model, found a file without its header"):
        FILES.read(path)


@pytest.mark.parametrize("made", [None, [], "1", {}])
def test_another_format_is_refused_whatever_made_it(path: Path, made: Any) -> None:
    changed(path, {"kind": "Model", "format": 0, "versions": made})
    with pytest.raises(TwinError, match="found 0 written by fcnef an unknown version"):
        FILES.read(path)


def test_json_that_is_too_deep_and_numbers_that_numpy_has_not_are_refused(path: Path) -> None:
    save_file({}, path, metadata={"fcnef": "[" * 100_000})
    with pytest.raises(TwinError, match="expected safetensors"):
        FILES.read(path)
    table = json.dumps({"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    path.write_bytes(len(table).to_bytes(8, "little") + table + b"\0\0")
    with pytest.raises(TwinError, match="expected safetensors"):
        FILES.read(path)


@pytest.mark.parametrize("name", ["", ".", "/", "..", "a/.."])
def test_a_name_of_no_file_is_refused(name: str) -> None:
    with pytest.raises(TwinError, match="expected the name of a file, found that of a folder"):
        FILES.path(name)
    with pytest.raises(TwinError, match="expected the name of a file"):
        FILES.write(name, "Model", ARRAYS, {})


def test_what_is_no_file_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "taken.safetensors").mkdir()
    with pytest.raises(TwinError, match="expected to be able to write it, found Is a directory"):
        FILES.write(tmp_path / "taken", "Model", ARRAYS, {})
    assert [file.name for file in tmp_path.iterdir()] == ["taken.safetensors"]
    with pytest.raises(TwinError, match="expected safetensors, found Is a directory"):
        FILES.read(tmp_path / "taken")
    with pytest.raises(TwinError, match="expected to be able to write it"):
        FILES.write(tmp_path / ("n" * 300), "Model", ARRAYS, {})
    with pytest.raises(TwinError, match="found File name too long"):
        FILES.read(tmp_path / ("n" * 300))


def test_a_disk_that_is_full_leaves_the_file_that_was_there(path: Path) -> None:
    before = path.read_bytes()
    code = (
        "import sys, numpy as np; from tests.offline.test_model_file import FILES\n"
        "from offline.errors import TwinError\n"
        "try: FILES.write(sys.argv[1], 'Model', {'a': np.zeros(10_000)}, {})\n"
        "except TwinError as error: print(error)"
    )
    command = ["bash", "-c", 'ulimit -f 8; exec "$@"', "-", sys.executable, "-B", "-c", code]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "expected to be able to write it, found" in done.stdout
    assert "File too large" in done.stdout
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]
