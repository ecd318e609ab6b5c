"""One function over many items: the same bits wherever it runs, and nothing done twice."""

from __future__ import annotations

import gc
import io
import logging
import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import offline.blocks
import offline.engines
from offline.blocks import open_executor
from offline.errors import DecodeError, ExecutorError
from tests.offline.work import correlate, count_calls, die_once, fail, square, threads

X = np.random.default_rng(0).standard_normal((60, 40))
SEEDS = range(16)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Threads and processes end with the block that opened them."""
    before = set(threading.enumerate())
    yield
    gc.collect()
    assert not [t for t in threading.enumerate() if t not in before and t.name.startswith("fcnef")]
    assert not [p for p in multiprocessing.active_children() if "Dask" not in p.name]


def results(**where: Any) -> list[dict[str, Any]]:
    with open_executor(**where) as executor:
        return list(executor.map(partial(correlate, X), SEEDS))


def same(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> bool:
    return all(
        x["seed"] == y["seed"] and x["products"].tobytes() == y["products"].tobytes()
        for x, y in zip(a, b, strict=True)
    )


@pytest.fixture(scope="module")
def one_by_one() -> list[dict[str, Any]]:
    return results(workers=1)


def test_threads_give_the_same_bits(one_by_one: list[dict[str, Any]]) -> None:
    assert same(results(workers=3), one_by_one)
    assert [found["seed"] for found in one_by_one] == list(SEEDS)


def test_processes_give_the_same_bits(one_by_one: list[dict[str, Any]]) -> None:
    assert same(results(workers=2, processes=True), one_by_one)


@pytest.mark.parametrize("where", [{}, {"workers": 1}, {"workers": 2, "processes": True}])
def test_linear_algebra_has_one_thread(where: dict[str, Any]) -> None:
    with open_executor(**where) as executor:
        for counts in executor.map(threads, range(3)):
            assert set(counts) == {1}


def test_few_items_are_under_way(tmp_path: Path) -> None:
    """Results are consumed while others are computed; not all are computed first."""
    with open_executor(workers=2) as executor:
        found = executor.map(partial(count_calls, tmp_path), range(100))
        next(found)
        assert len(list(tmp_path.iterdir())) < 20
        found.close()
    assert len(list(tmp_path.iterdir())) < 20


@pytest.mark.parametrize("where", [{"workers": 1}, {"workers": 2}])
def test_finished_items_are_not_run_again(where: dict[str, Any], tmp_path: Path) -> None:
    calls, kept = tmp_path / "calls", tmp_path / "kept"
    calls.mkdir()
    function = partial(count_calls, calls)
    with open_executor(**where) as executor:
        found = executor.map(function, range(40), checkpoint=kept)
        for _ in range(5):
            next(found)
        found.close()  # interrupted
        done = {path.name.split("-")[1] for path in calls.iterdir()}
        again = [result.tolist() for result in executor.map(function, range(40), checkpoint=kept)]
        assert again == [[k, k + 1] for k in range(40)]
        more = executor.map(function, range(38, 44), checkpoint=kept)
        assert [result[0] for result in more] == list(range(38, 44))
    counts = [len(list(calls.glob(f"call-{k}-*"))) for k in range(44)]
    assert set(counts[:5]) == {1}
    assert counts[40:] == [1] * 4
    assert all(count == 1 or str(k) in done for k, count in enumerate(counts))


def test_the_checkpoint_of_other_work_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with open_executor(workers=1) as executor:
        list(executor.map(square, range(2), checkpoint=tmp_path / "kept"))
        with pytest.raises(ExecutorError, match="expected the work of"):
            executor.map(partial(correlate, X), range(2), checkpoint=tmp_path / "kept")


@pytest.mark.parametrize("where", [{"workers": 1}, {"workers": 2}, {"processes": True}])
def test_an_item_s_error_comes_as_it_is(where: dict[str, Any]) -> None:
    found: list[int] = []
    with open_executor(**where) as executor, pytest.raises(DecodeError, match="found 3; give"):
        found.extend(executor.map(fail, range(10)))
    assert found == [0, 1, 2]


def test_a_dead_process_is_said(tmp_path: Path) -> None:
    with (
        open_executor(workers=2, processes=True) as executor,
        pytest.raises(ExecutorError, match="found one dead"),
    ):
        list(executor.map(partial(die_once, X, tmp_path), SEEDS))


def test_a_number_of_workers_that_is_none() -> None:
    with pytest.raises(ExecutorError, match="at least one worker, found 0"), open_executor(None, 0):
        pass


def test_no_dask_unless_asked_for() -> None:
    code = (
        "import sys; from offline.blocks import open_executor\n"
        "from tests.offline.work import square\n"
        "with open_executor() as executor: assert list(executor.map(square, [2])) == [4]\n"
        "sys.exit(any(name in sys.modules for name in ('dask', 'distributed', 'torch', 'zarr')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_only_for_long_work_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(after_s: float, stream: io.StringIO, label: str = "folds") -> str:
        monkeypatch.setattr(offline.blocks, "PROGRESS_AFTER_S", after_s)
        monkeypatch.setattr(sys, "stderr", stream)
        with open_executor(workers=1) as executor:
            assert len(list(executor.map(square, range(5), label))) == 5
        return stream.getvalue()

    monkeypatch.setenv("TERM", "xterm")
    assert "folds" in shown(-1.0, Terminal())
    assert shown(-1.0, io.StringIO()) == ""
    assert shown(-1.0, Terminal(), "") == ""
    assert shown(60.0, Terminal()) == ""


# --- Dask ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        host="127.0.0.1",
        silence_logs=logging.CRITICAL,
    ) as made:
        yield made
    assert not multiprocessing.active_children()


def test_dask_gives_the_same_bits_with_a_worker_killed_midway(
    cluster: Any, one_by_one: list[dict[str, Any]], tmp_path: Path
) -> None:
    with open_executor(cluster.scheduler_address) as executor:
        assert executor.n_workers == 2
        found = list(executor.map(partial(die_once, X, tmp_path), SEEDS))
    assert same(found, one_by_one)
    assert (tmp_path / "killed").exists()
    assert len(list(tmp_path.glob("killed-*"))) == 2  # run again by another process


def test_dask_resumes_and_tells_errors(cluster: Any, tmp_path: Path) -> None:
    calls, kept = tmp_path / "calls", tmp_path / "kept"
    calls.mkdir()
    function = partial(count_calls, calls)
    with open_executor(workers=1) as executor:
        found = executor.map(function, range(6), checkpoint=kept)
        for _ in range(4):
            next(found)
        found.close()
    with open_executor(cluster.scheduler_address) as executor:
        again = list(executor.map(function, range(6), checkpoint=kept))
        with pytest.raises(DecodeError, match="found 3; give"):
            list(executor.map(fail, range(10)))
    assert [result[0] for result in again] == list(range(6))
    assert len(list(calls.iterdir())) == 6


def test_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(offline.engines, "CONNECT_TIMEOUT_S", 0.3)
    with (
        pytest.raises(ExecutorError, match=r"expected a Dask scheduler at tcp://127\.0\.0\.1:9"),
        open_executor("tcp://127.0.0.1:9"),
    ):
        pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ExecutorError, match=r"install fcnef\[scale\]"), open_executor("tcp://x:1"):
        pass
