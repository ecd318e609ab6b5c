"""What the gateway's tests share: waiting with a deadline, an engine, no threads left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rtloop.gateway import GatewayConfig
from tests.rtloop.gateway.loopback import Engine, Running

DEADLINE_S = 20.0


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    until_s = time.monotonic() + 5.0
    while (left := set(threading.enumerate()) - before) and time.monotonic() < until_s:
        time.sleep(0.01)
    assert not left, f"threads left behind: {left}"


@pytest.fixture
def until() -> Callable[[Callable[[], object], str], None]:
    """Wait for a condition; fail with what it is when the deadline is over."""

    def wait(condition: Callable[[], object], what: str) -> None:
        end_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end_s, f"waited {DEADLINE_S} s for: {what}"
            time.sleep(0.002)

    return wait


@pytest.fixture
def engine() -> Iterator[Engine]:
    one = Engine()
    one.start()
    yield one
    one.close()


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """The folder the scanner exports into."""
    folder = tmp_path / "export"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(tmp_path: Path, engine: Engine) -> Callable[..., GatewayConfig]:
    """A configuration for `export` and `engine`, with quick rescans."""

    def make(**entries: Any) -> GatewayConfig:
        given: dict[str, Any] = {
            "engine": engine.endpoint,
            "secret": str(tmp_path / "secret"),
            "rescan_s": 0.05,
            "parent_pid": 0,
        }
        if "listen" not in entries:
            given["watch"] = str(tmp_path / "export")
        return GatewayConfig.model_validate(given | entries)

    return make


@pytest.fixture
def run(settings: Callable[..., GatewayConfig]) -> Iterator[Callable[..., Running]]:
    """Start a gateway in a thread; it is ended, and must have run without error, afterwards."""
    gateways: list[Running] = []

    def begin(**entries: Any) -> Running:
        gateways.append(Running(settings(**entries)))
        return gateways[-1]

    yield begin
    for gateway in gateways:
        gateway.close()
        assert gateway.error is None
