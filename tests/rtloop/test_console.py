"""The operator's page by a plain client: its WebSocket, its process, what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from rtloop.console import ConsoleConfig, make_app
from rtloop.console.hub import Hub, plain
from rtloop.errors import ConfigError, LinkError
from rtloop.link import Broadcaster
from rtloop.telemetry import step_body
from rtloop.wire import Command, Telemetry
from tests.rtloop.consoles import PATIENCE_S, STEPS, Site, closing_code, next_message, next_of, site
from tools.local import free_ports


@pytest.fixture(scope="module")
def shared() -> Iterator[Site]:
    with site() as made:
        yield made


# --- the protocol ---------------------------------------------------------------------------------


def test_a_page_gets_the_course_so_far_and_then_every_step(shared: Site) -> None:
    shared.tell_run(40)
    shared.tell("shown", {"value": 63.0, "scene": "feedback"})
    last = STEPS[39].index
    found = shared.heard(lambda all: any(m["body"].get("index") == last for m in all))
    assert found["run"] == "ses · run"
    assert [m["body"]["index"] for m in found["course"]] == [s.index for s in STEPS[:40]]
    newest = {m["kind"]: m["body"] for m in found["newest"]}
    assert newest["ready"]["edges"] == ["A – B"]
    with shared.connect() as client:
        assert next_message(client)["kind"] == "snapshot"
        shared.tell("step", step_body(STEPS[40], None, False))
        step = next_of(client, "step")["body"]
    assert step["index"] == STEPS[40].index
    assert step["raw_score"] == pytest.approx(STEPS[40].scores[0].value, abs=0)


def test_a_new_attempt_begins_a_new_course(shared: Site) -> None:
    shared.tell_run(5)
    shared.tell("attempt", {"name": "two"})
    shared.tell("step", step_body(STEPS[0], None, False))
    found = shared.heard(
        lambda all: (
            [m["body"].get("name") for m in all if m["kind"] == "attempt"][-1:] == ["two"]
            and any(m["kind"] == "step" for m in all)
        )
    )
    assert len(found["course"]) == 1


def test_nan_becomes_null(shared: Site) -> None:
    first = STEPS[0]
    assert math.isnan(first.scores[0].value)
    with shared.connect() as client:
        next_message(client)
        shared.tell("step", step_body(first, math.inf, False))
        body = next_of(client, "step")["body"]
    assert (body["raw_score"], body["fd_mm"], body["latency_ms"]) == (None, None, None)
    assert plain({"a": [math.nan, (1.5, -math.inf)]}) == {"a": [None, [1.5, None]]}


def test_a_fault_keeps_its_own_kind(shared: Site) -> None:
    with shared.connect() as client:
        next_message(client)
        shared.tell("fault", {"kind": "clock", "reason": "21 ms", "action": "told", "index": 3})
        message = next_of(client, "fault")
    assert message["body"]["kind"] == "clock"


def test_commands_reach_the_engine(shared: Site) -> None:
    with shared.connect() as client:
        for action in ("pause", "resume", "stop"):
            client.send(json.dumps({"action": action}))
        client.send(json.dumps({"action": "note", "text": "head moved " + "x" * 1000}))
        # JSON can hold half a character, the wire cannot
        client.send('{"action": "note", "text": "half \\ud800"}')
        got = [shared.reports.receive(PATIENCE_S) for _ in range(5)]
    assert all(isinstance(command, Command) and command.by == "operator" for command in got)
    assert [command.action for command in got] == [  # type: ignore[union-attr]
        *("pause", "resume", "stop", "note", "note")
    ]
    assert got[3].text.startswith("head moved x")  # type: ignore[union-attr]
    assert len(got[3].text) == 400  # type: ignore[union-attr]
    assert got[4].text == "half ?"  # type: ignore[union-attr]
    assert abs(got[0].time_s - time.time()) < 60  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "garbage",
    [
        *("", "{", "7", "[]", "null", '{"action": 1}', '{"action": ["stop"]}', '{"action": "fly"}'),
        *('{"text": "stop"}', b"\x00\xff", "[" * 10_000),
    ],
)
def test_garbage_is_ignored(shared: Site, garbage: str | bytes) -> None:
    with shared.connect() as client:
        client.send(garbage)
        client.send('{"action": "note", "text": "still here"}')
        command = shared.reports.receive(PATIENCE_S)
    assert isinstance(command, Command)
    assert (command.action, command.text) == ("note", "still here")
    assert shared.reports.receive(0.0) is None


def test_an_endless_message_ends_the_connection_alone(shared: Site) -> None:
    with shared.connect() as client:
        client.send("x" * 100_000)
        assert closing_code(client) == 1009
    with shared.connect() as client:
        assert next_message(client)["kind"] == "snapshot"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
        # a name that a foreign page lets point to this machine
        {"Origin": "http://rebound.example:{port}", "Host": "rebound.example:{port}"},
        {"Host": "rebound.example"},
        {"Host": ""},
    ],
)
def test_other_pages_are_refused(shared: Site, headers: dict[str, str]) -> None:
    port = shared.page.rpartition(":")[2]
    lines = {"Host": shared.page, **{k: v.format(port=port) for k, v in headers.items()}}
    assert handshake(shared.page, lines).startswith("HTTP/1.1 4")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_the_own_page_is_let_in(shared: Site, host: str) -> None:
    """Also through a tunnel, where the port is another."""
    lines = {"Host": f"{host}:9000", "Origin": f"http://{host}:9000"}
    assert handshake(shared.page, lines).startswith("HTTP/1.1 101")


def handshake(page: str, headers: dict[str, str]) -> str:
    """First line of the answer to a WebSocket request with these headers."""
    host, _, port = page.rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE_S) as link:
        link.sendall(request(headers))
        return link.recv(4096).decode("latin-1").partition("\r\n")[0]


def request(headers: dict[str, str]) -> bytes:
    """A browser's request for the page's WebSocket."""
    lines = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **headers,
    }
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"GET /live HTTP/1.1\r\n{text}\r\n".encode()


def test_a_browsers_origin_is_checked_by_a_real_client_too(shared: Site) -> None:
    with pytest.raises(InvalidStatus):
        shared.connect(origin="http://elsewhere.example")
    with shared.connect(origin=f"http://{shared.page}") as client:
        assert next_message(client)["kind"] == "snapshot"


def test_everything_the_page_loads_is_served_here(shared: Site) -> None:
    with urllib.request.urlopen(f"http://{shared.page}/", timeout=PATIENCE_S) as answer:
        html = answer.read().decode()
    assert "http://" not in html
    assert "https://" not in html
    for name in ("uPlot.min.css", "console.css", "uPlot.iife.min.js", "console.js"):
        assert f"/static/{name}" in html
        address = f"http://{shared.page}/static/{name}"
        with urllib.request.urlopen(address, timeout=PATIENCE_S) as answer:
            assert answer.status == 200


# --- slow pages ---------------------------------------------------------------------------------


def test_a_page_that_falls_behind_is_dropped_and_told() -> None:
    async def scene() -> None:
        hub = Hub("run", queue_length=10)
        slow, quick = hub.join(), hub.join()
        for count in range(50):
            hub.take(Telemetry("step", {"index": count}), 0.0)
            assert json.loads(quick.get_nowait() or "")["body"]["index"] == count
        left = [slow.get_nowait() for _ in range(slow.qsize())]
        assert left[-1] is None
        assert len(left) == 10
        assert len(json.loads(hub.snapshot(0.0))["body"]["course"]) == 50
        hub.leave(slow)

    asyncio.run(scene())


def test_a_slow_client_slows_nobody(tmp_path: Path) -> None:
    """Over real sockets: one page never reads; the other one hears everything, and soon."""
    hub = Hub("run", queue_length=20)
    page = f"127.0.0.1:{free_ports(1)[0]}"
    config = ConsoleConfig(
        run="run", telemetry=f"ipc://{tmp_path}/telemetry", reports=f"ipc://{tmp_path}/reports"
    )
    host, _, port = page.rpartition(":")
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(config, hub), host=host, port=int(port), log_level="warning",
            timeout_graceful_shutdown=1,
        )
    )  # fmt: skip
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with contextlib.closing(Broadcaster(config.telemetry)) as telemetry:
            _compare_pages(page, server, hub, telemetry)
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def _compare_pages(page: str, server: uvicorn.Server, hub: Hub, telemetry: Broadcaster) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not server.started and time.monotonic() < give_up:
        time.sleep(0.01)
    body = {"text": "x" * 16_000}
    with stuck(page) as slow, connect(f"ws://{page}/live") as quick:
        next_message(quick)
        while len(hub._pages) < 2:
            time.sleep(0.01)
        worst_s, count = 0.0, 0
        while len(hub._pages) > 1:
            assert time.monotonic() < give_up, "the slow page was never dropped"
            start = time.monotonic()
            telemetry.publish(Telemetry("note", {**body, "count": count}))
            with contextlib.suppress(TimeoutError):
                assert json.loads(quick.recv(1.0))["body"]["count"] == count
                worst_s, count = max(worst_s, time.monotonic() - start), count + 1
        assert count > 20
        # far below the second that one blocked message would take
        assert worst_s < 0.9
        assert slow.fileno() >= 0


@contextlib.contextmanager
def stuck(page: str) -> Iterator[socket.socket]:
    """A page that is open and never reads."""
    host, _, port = page.rpartition(":")
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect((host, int(port)))
        link.sendall(request({"Host": page}))
        yield link


# --- the process ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_and_at_once_with_a_page_open(number: int) -> None:
    with site() as made, made.connect() as client:
        assert made.process is not None
        next_message(client)
        start = time.monotonic()
        made.process.send_signal(number)
        assert closing_code(client) == 1012
        assert made.process.wait(PATIENCE_S) == 0
        assert time.monotonic() - start < 1.0


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    """The parent is killed and can tell nobody."""
    port = free_ports(1)[0]
    config = {
        "run": "run",
        "telemetry": f"ipc://{tmp_path}/telemetry",
        "reports": f"ipc://{tmp_path}/reports",
        "page": f"127.0.0.1:{port}",
    }
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'rtloop.console', sys.argv[1]])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(config)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        give_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up and not answers(port):
            time.sleep(0.05)
        assert answers(port)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    give_up = time.monotonic() + 5.0
    while time.monotonic() < give_up and answers(port):
        time.sleep(0.05)
    assert not answers(port)
    assert gone(child, give_up)


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def gone(pid: int, give_up: float) -> bool:
    while time.monotonic() < give_up:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                time.sleep(0.05)
                continue
        return True
    return False


def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        page = f"127.0.0.1:{other.getsockname()[1]}"
        config = {"run": "r", "telemetry": "ipc://t", "reports": "ipc://r", "page": page}
        done = subprocess.run(
            [sys.executable, "-m", "rtloop.console", json.dumps(config)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith(f"fcnef: console {page}: expected a free port")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"page": "0.0.0.0:8080"}, ConfigError, "expected a loopback address"),
        ({"page": "192.168.1.20:8080"}, ConfigError, "SSH tunnel"),
        ({"page": "console.example:8080"}, ConfigError, "expected a loopback address"),
        ({"page": "127.0.0.1:*"}, ConfigError, "with a port"),
        ({"page": "127.0.0.1"}, LinkError, "expected tcp://HOST:PORT"),
        ({"surprise": 1}, ConfigError, "surprise"),
        ({"run": None}, ConfigError, "run"),
    ],
)
def test_a_wrong_setting_is_refused(
    change: dict[str, Any], error: type[Exception], words: str
) -> None:
    entries = {"run": "r", "telemetry": "t", "reports": "r", "page": "127.0.0.1:8080"}
    with pytest.raises(error, match=words) as caught:
        ConsoleConfig.read(json.dumps({**entries, **change}))
    assert "\n" not in str(caught.value)


def test_an_ipv6_page_has_its_host_and_port() -> None:
    config = ConsoleConfig.read(
        json.dumps({"run": "r", "telemetry": "t", "reports": "r", "page": "[::1]:8080"})
    )
    assert (config.host, config.port) == ("::1", 8080)
