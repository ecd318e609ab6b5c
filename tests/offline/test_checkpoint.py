"""What is kept of finished work, and what it refuses to be taken for."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.linear_model import LogisticRegression

from offline import checkpoint
from offline.atlas import Atlas
from offline.checkpoint import Checkpoint, digest_of
from offline.errors import ExecutorError
from tests.offline.work import correlate, square

RESULTS: list[Any] = [
    None,
    True,
    3,
    0.1,
    float("inf"),
    "text with \u00e9 and \n",
    np.float32(0.1),
    np.arange(6).reshape(2, 3),
    np.array(["a", "longer"]),
    (1, [2.5, (np.zeros(0), "x")], {"a": np.array([np.nan]), "b": {}}),
    {"list": [], "tuple": (), "dict": {}},
]


@pytest.mark.parametrize("result", RESULTS, ids=lambda r: type(r).__name__)
def test_results_come_back_as_they_were(result: Any, tmp_path: Path) -> None:
    kept = Checkpoint.open(tmp_path / "kept", square)
    kept.write("x.npz", result)
    found = kept.read("x.npz")
    assert type(found) is type(result)
    np.testing.assert_equal(found, result)
    assert not list((tmp_path / "kept").glob(".*"))  # no half-written file is left


@pytest.mark.parametrize("result", [object(), {1: 2}, {1, 2}, np.array([object()])])
def test_what_cannot_be_kept_is_said(result: Any, tmp_path: Path) -> None:
    with pytest.raises(ExecutorError, match=r"found|objects"):
        Checkpoint.open(tmp_path / "kept", square).write("x.npz", result)
    assert not list((tmp_path / "kept").glob("*.npz"))


@dataclasses.dataclass(frozen=True)
class Settings:
    a: int
    b: Any


TABLE = pd.DataFrame({"age": [30.5, np.nan], "sex": pd.array(["F", pd.NA], "string")})
VALUES: list[Any] = [
    None,
    0,
    0.0,
    False,
    "",
    "0",
    b"0",
    (),
    (0,),
    ((0,),),
    (0, 0),
    {"a": 0},
    {"a": (0,)},
    np.zeros(2),
    np.zeros(2, np.float32),
    np.zeros((2, 1)),
    np.array(["ab", "c"]),
    np.array(["a", "bc"]),
    np.array([None, "a"], object),
    slice(0, 2),
    slice(0, 2, 2),
    Settings(1, 2),
    Settings(2, 1),
    Settings(1, np.ones(2)),
    Atlas("x", ("A", "B")),
    TABLE,
    TABLE.rename(columns={"age": "years"}),
    TABLE.iloc[::-1],
    TABLE["age"],
    scipy.sparse.eye_array(3, format="csr"),
    LogisticRegression(),
    LogisticRegression(C=2.0),
    square,
    correlate,
    partial(correlate, np.zeros(3)),
    partial(correlate, np.ones(3)),
    {1, 2},
]


def test_digests_tell_values_apart() -> None:
    digests = [digest_of(value) for value in VALUES]
    assert len(set(digests)) == len(VALUES)
    assert digests == [digest_of(value) for value in VALUES]


def test_digests_say_the_same_for_the_same_content() -> None:
    assert digest_of(np.int64(3)) == digest_of(3)
    assert digest_of([1, "a"]) == digest_of((1, "a"))
    assert digest_of(np.arange(12).reshape(3, 4)[:, ::2]) == digest_of(
        np.arange(12).reshape(3, 4)[:, ::2].copy()
    )
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert digest_of(Path("x/y")) == digest_of("x/y")


def test_digests_are_the_same_in_another_process() -> None:
    code = (
        "from offline.checkpoint import digest_of; import numpy as np;"
        "print(digest_of(({'a', 'b', 'c'}, {'x': np.arange(3)}, 0.1)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest_of(({"a", "b", "c"}, {"x": np.arange(3)}, 0.1))


@pytest.mark.parametrize("value", [object(), lambda x: x, np.random.default_rng(0)])
def test_what_has_no_content_is_refused(value: Any) -> None:
    with pytest.raises(ExecutorError, match="whose content can be told"):
        digest_of(value)


def test_other_work_is_refused(tmp_path: Path) -> None:
    shared = partial(correlate, np.zeros((2, 2)))
    Checkpoint.open(tmp_path / "kept", shared)
    Checkpoint.open(tmp_path / "kept", partial(correlate, np.zeros((2, 2))))
    with pytest.raises(ExecutorError, match=r"work of .*square, found .*correlate; remove"):
        Checkpoint.open(tmp_path / "kept", square)
    with pytest.raises(ExecutorError, match="found the same with other parameters"):
        Checkpoint.open(tmp_path / "kept", partial(correlate, np.ones((2, 2))))


def test_work_of_another_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(checkpoint, "__version__", "0.0.1")
        kept = Checkpoint.open(tmp_path / "kept", square)
        kept.write(kept.name(2), 5)  # what that version took for the square of 2
    with pytest.raises(ExecutorError, match=r"work of .*square, found that of fcnef 0\.0\.1; rem"):
        Checkpoint.open(tmp_path / "kept", square)
    about = tmp_path / "kept" / "checkpoint.json"
    named = json.loads(about.read_text())
    about.write_text(json.dumps({key: named[key] for key in ("function", "digest")}))
    with pytest.raises(ExecutorError, match="found that of fcnef before versions were kept"):
        Checkpoint.open(tmp_path / "kept", square)


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    kept = Checkpoint.open(tmp_path / "kept", square)
    kept.write("x.npz", np.arange(1000))
    path = tmp_path / "kept" / "x.npz"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ExecutorError, match="found a damaged file"):
        kept.read("x.npz")
    (tmp_path / "kept" / "checkpoint.json").write_text("{")
    with pytest.raises(ExecutorError, match="found unknown work"):
        Checkpoint.open(tmp_path / "kept", square)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    kept = Checkpoint.open(tmp_path / "kept", square)
    kept.write("x.npz", {"a": [np.arange(3), "text"]})
    with np.load(tmp_path / "kept" / "x.npz", allow_pickle=False) as stored:
        assert json.loads(str(stored["result"]))
        assert all(not stored[name].dtype.hasobject for name in stored.files)


@pytest.mark.parametrize("about", ["[]", "null", "3", '"text"', "[{}]"])
def test_an_account_of_work_that_is_none_is_refused(about: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.json").write_text(about)
    with pytest.raises(ExecutorError, match="found unknown work; remove the folder"):
        Checkpoint.open(tmp_path, square)


def test_a_file_is_no_folder_to_keep_work_in(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    for folder in (tmp_path / "taken", tmp_path / "taken" / "in", tmp_path / ("n" * 300)):
        with pytest.raises(ExecutorError, match="expected a folder to write in, found"):
            Checkpoint.open(folder, square)


@pytest.mark.parametrize("text", ['{"tuple": 3}', '{"array": 9, "scalar": false}', "{}", "[{]"])
def test_a_result_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    kept = Checkpoint.open(tmp_path, square)
    np.savez(tmp_path / "x.npz", result=np.array(text))
    with pytest.raises(ExecutorError, match="found a damaged file"):
        kept.read("x.npz")


def test_nothing_is_left_of_what_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Checkpoint.open(tmp_path, square)

    def fill(file: Any, **_: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fill)
    with pytest.raises(OSError, match="No space left"):
        kept.write("x.npz", 3)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.json"]
