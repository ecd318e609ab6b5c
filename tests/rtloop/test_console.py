"""The operator's page: its WebSocket by a plain client, its process, its looks in a browser."""

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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from rtloop.config import SessionConfig
from rtloop.console import ConsoleConfig, make_app
from rtloop.console.hub import Hub, plain
from rtloop.errors import ConfigError, FcnefError, LinkError
from rtloop.events import Step
from rtloop.link import Broadcaster, ReportSink
from rtloop.session import preflight
from rtloop.telemetry import ready_body, step_body, volume_faults
from rtloop.wire import Command, Telemetry, pack
from tests.rtloop.browser import Page, browser
from tests.rtloop.simulated import series, small_engine, small_plan
from tools.local import free_ports

PATIENCE_S = 20.0
ENDPOINTS = ("volumes", "feedback", "telemetry", "reports")
LOST = (30, 31)


def steps(n: int = 60) -> list[Step]:
    """A small run; its scores get the standard error that only longer runs have."""
    engine = small_engine()
    found = [engine.step(volume) for volume in series(n) if volume.index not in LOST]
    return [
        replace(step, scores=tuple(replace(score, standard_error=0.25) for score in step.scores))
        for step in found
    ]


STEPS = steps()


@dataclass
class Site:
    """A console, and the test in the engine's place."""

    page: str
    telemetry: Broadcaster
    reports: ReportSink
    process: subprocess.Popen[bytes] | None = None

    def tell(self, kind: str, body: dict[str, Any]) -> None:
        self.telemetry.publish(Telemetry(kind, body))

    def tell_run(self, count: int, blinded: bool = False) -> None:
        """A run as the loop tells it."""
        self.tell("ready", {**ready_body(small_plan()), "blinded": blinded})
        self.tell("attempt", {"name": "one"})
        for step in STEPS[:count]:
            self.tell("step", step_body(step, 4.5, blinded))
            # the broadcast drops what a listener is too slow for; a scanner is slower than this
            time.sleep(0.002)

    def connect(self, **options: Any) -> ClientConnection:
        return connect(f"ws://{self.page}/live", open_timeout=PATIENCE_S, **options)

    def heard(self, wanted: Callable[[list[dict[str, Any]]], bool]) -> dict[str, Any]:
        """A snapshot of which something is true; the console hears asynchronously."""
        give_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up:
            with self.connect() as client:
                body = next_message(client)["body"]
            if wanted([*body["newest"], *body["events"], *body["course"]]):
                return dict(body)
            time.sleep(0.05)
        raise AssertionError("never heard")


def next_message(client: ClientConnection) -> dict[str, Any]:
    return dict(json.loads(client.recv(PATIENCE_S)))


def closing_code(client: ClientConnection) -> int | None:
    """Why the other side closed, once it has."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            client.recv(PATIENCE_S)
    return client.close_code


def next_of(client: ClientConnection, kind: str) -> dict[str, Any]:
    while (message := next_message(client))["kind"] != kind:
        pass
    return message


@contextlib.contextmanager
def site(page: str = "") -> Iterator[Site]:
    """A console as a process of its own, which hears the test's broadcast."""
    telemetry, reports, free = (f"127.0.0.1:{port}" for port in free_ports(3))
    page = page or free
    config = {"run": "ses · run", "telemetry": f"tcp://{telemetry}", "reports": f"tcp://{reports}"}
    command = [sys.executable, "-m", "rtloop.console", json.dumps({**config, "page": page})]
    with (
        contextlib.closing(Broadcaster(config["telemetry"])) as broadcaster,
        contextlib.closing(ReportSink(config["reports"])) as sink,
    ):
        process = subprocess.Popen(command)
        try:
            made = Site(page, broadcaster, sink, process)
            wait_until_open(made)
            yield made
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def wait_until_open(made: Site) -> None:
    """Served, and listening: what is told before is not heard."""
    assert made.process is not None
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        assert made.process.poll() is None
        with contextlib.suppress(OSError), made.connect() as client:
            next_message(client)
            made.tell("ping", {})
            with contextlib.suppress(TimeoutError):
                client.recv(0.2)
                return
    raise AssertionError("the console did not open")


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
        config = {"run": "r", "telemetry": "ipc:///tmp/t", "reports": "ipc:///tmp/r", "page": page}
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


# --- what is told ---------------------------------------------------------------------------------


def test_a_blinded_run_tells_no_score() -> None:
    step = STEPS[-1]
    assert math.isfinite(step.scores[0].value)
    body = step_body(step, None, blinded=True)
    assert not {"raw_score", "standard_error", "correlations"} & set(body)
    text = json.dumps(plain(body))
    assert f"{step.scores[0].value:.6f}"[:6] not in text
    assert body["feedback"] == step.screen.value
    sealed = small_plan(control={"allocation": "a1"})
    assert ready_body(sealed)["blinded"]
    assert not ready_body(small_plan())["blinded"]


def test_a_steps_faults_are_told_with_what_was_done() -> None:
    found = {step.index: volume_faults(step) for step in STEPS}
    assert [(f.index, f.kind) for f in found[32]] == [(30, "missing"), (31, "missing")]
    assert found[33] == []
    censored = replace(STEPS[33], status="censored", reasons=("motion", "signal lost"))
    (fault,) = volume_faults(censored)
    assert (fault.kind, fault.reason, fault.action) == (
        "censored", "motion; signal lost", "weight 0",
    )  # fmt: skip


def test_a_large_plan_and_a_large_gap_fit_the_wire() -> None:
    """Messages have bounds; what exceeds them would stop the loop."""
    spheres = [{"name": f"ROI {k}", "center_mm": [k, 0, 0]} for k in range(120)]
    edges = [{"a": f"ROI {a}", "b": f"ROI {b}"} for a in range(120) for b in range(a)][:5000]
    plan = small_plan(rois={"kind": "spheres", "spheres": spheres}, edges=edges)
    gap = replace(STEPS[40], missing=tuple(range(50_000)))
    assert len(pack(Telemetry("ready", ready_body(plan)))) < 16_384
    body = step_body(gap, None, False)
    assert len(pack(Telemetry("step", body))) < 32_768
    assert body["n_missing"] == 50_000


# --- in a browser -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium")) as page:
        page.size(1200, 900)
        yield page


def shows(page: Page, made: Site, count: int) -> None:
    page.open(f"http://{made.page}/")
    page.until(f"course.index.length > 0 && course.index.at(-1) === {STEPS[count - 1].index}")


def test_the_page_shows_the_run(shared: Site, chromium: Page) -> None:
    count = len(STEPS) - 1
    shared.tell_run(count)
    shows(chromium, shared, count)
    last = STEPS[count - 1]
    assert chromium.evaluate("document.title") == "ses · run · fcnef"
    score = f"{last.scores[0].value:.2f}".replace("-", "−")
    error = f"{last.scores[0].standard_error:.2f}"
    assert chromium.text("#score") == f"{score} ± {error}"
    assert last.screen.value is not None
    assert chromium.text("#feedback") == f"{last.screen.value:.0f}"
    assert chromium.text("#latency") == "4.5"
    assert chromium.text("#lost") == "2"
    assert chromium.text("#volume") == "volume 59 of 60: used"
    assert chromium.text("#scene") == "feedback"
    r = f"{last.correlations[0]:.2f}".replace("-", "−")
    assert chromium.text("#edges").split("\n") == ["A – B", r]
    bar = chromium.evaluate("document.querySelector('.bar i').style.width")
    assert float(bar.rstrip("%")) == pytest.approx(50 * abs(last.correlations[0]), abs=1e-3)
    faults = chromium.text("#faults")
    assert "31\tmissing\tnever arrived in time → weight 0, feedback holds" in faults
    # a line for each volume of scanner time, also for those that never came
    assert chromium.evaluate("course.index.length") == 59
    assert chromium.evaluate("course.score[30]") is None
    assert chromium.evaluate("course.scene[30]") == "hold"
    # the standard error's band is what the plot is given
    assert chromium.evaluate("plots.score.data[2][58] - plots.score.data[1][58]") == pytest.approx(
        last.scores[0].standard_error
    )
    assert chromium.evaluate("plots.score.data[1][58] - plots.score.data[3][58]") == pytest.approx(
        last.scores[0].standard_error
    )
    assert chromium.evaluate("document.querySelectorAll('canvas').length") == 3


def test_the_page_follows_live(shared: Site, chromium: Page) -> None:
    shared.tell_run(20)
    shows(chromium, shared, 20)
    assert "No score yet" in chromium.text("#banners") or STEPS[19].warming_up == ""
    warm = next(step for step in STEPS[:20] if step.warming_up)
    shared.tell("attempt", {"name": "again"})
    shared.tell("step", step_body(warm, None, False))
    chromium.until(f"document.querySelector('#banners').innerText.includes({warm.warming_up!r})")
    held = replace(STEPS[-1], screen=replace(STEPS[-1].screen, scene="hold"), missing=(7,))
    shared.tell("step", step_body(held, None, False))
    chromium.until("document.querySelector('#scene').innerText === 'hold'")
    banner = "Feedback is held: never arrived in time."
    chromium.until(f"document.querySelector('#banners').innerText.includes('{banner}')")
    alarmed = replace(STEPS[-1], watch=replace(STEPS[-1].watch, alarms=("fd",)))
    shared.tell("step", step_body(alarmed, None, False))
    chromium.until("document.querySelector('#banners').innerText === 'The score follows fd.'")
    shared.tell("attempt closed", {"name": "one", "outcome": "complete"})
    chromium.until("document.querySelector('#link').innerText === 'complete'")
    assert not chromium.evaluate("document.querySelector('main').classList.contains('stale')")


def test_a_late_volume_does_not_disturb_the_course(shared: Site, chromium: Page) -> None:
    shared.tell_run(40)
    late = replace(STEPS[39], index=30, status="late", reasons=("volume 41 was processed before",))
    shared.tell("step", step_body(late, None, False))
    shared.tell("step", step_body(STEPS[40], None, False))
    shows(chromium, shared, 41)
    indices = chromium.evaluate("course.index")
    assert indices == list(range(STEPS[40].index + 1))
    assert "30\tlate\tvolume 41 was processed before → recorded, not used" in chromium.text(
        "#faults"
    )


def test_a_blinded_run_shows_no_score(shared: Site, chromium: Page) -> None:
    count = len(STEPS) - 1
    shared.tell_run(count, blinded=True)
    shows(chromium, shared, count)
    visible = chromium.text("body")
    assert "Blinded run" in visible
    assert "raw score ±" not in visible
    assert "Correlation" not in visible
    assert chromium.evaluate("course.score.every((value) => value === null)")
    value = STEPS[count - 1].screen.value
    assert value is not None
    assert chromium.text("#feedback") == f"{value:.0f}"


def test_buttons_reach_the_engine(shared: Site, chromium: Page) -> None:
    shared.tell_run(5)
    shows(chromium, shared, 5)
    for name, answer in (("pause", None), ("resume", None), ("note", "moved"), ("stop", "")):
        chromium.click(f"#{name}", answer)
        command = shared.reports.receive(PATIENCE_S)
        assert isinstance(command, Command)
        assert (command.action, command.text) == (name, "moved" if name == "note" else "")
    assert "Stop the run?" in chromium.dialogs[-1]


def test_silence_greys_the_page_and_says_how_long(chromium: Page) -> None:
    stale = "document.querySelector('main').classList.contains('stale')"
    with site() as made:
        assert made.process is not None
        made.tell_run(30)
        shows(chromium, made, 30)
        assert not chromium.evaluate(stale)
        # the loop still speaks, but no volume comes: TR 1 s
        give_up = time.monotonic() + PATIENCE_S
        while not chromium.evaluate(stale) and time.monotonic() < give_up:
            made.tell("ready", ready_body(small_plan()))
            time.sleep(0.1)
        assert chromium.text("#banners").startswith("No volume for ")
        assert chromium.text("#link") == "stale"
        # a volume comes, and all is well
        made.tell("step", step_body(STEPS[30], None, False))
        chromium.until(f"!{stale}")
        # the console dies
        made.process.send_signal(signal.SIGKILL)
        chromium.until("document.querySelector('#link').innerText === 'no link'")
        words = chromium.text("#banners")
        assert words.startswith("No link to the console. The last volume came ")
        assert chromium.evaluate("document.querySelector('#stop').disabled")
        assert chromium.evaluate(stale)


def test_the_page_reconnects(chromium: Page) -> None:
    page = f"127.0.0.1:{free_ports(1)[0]}"
    with site(page=page) as made:
        made.tell_run(30)
        shows(chromium, made, 30)
    chromium.until("document.querySelector('#link').innerText === 'no link'")
    with site(page=page) as made:
        made.tell_run(10)
        chromium.until(f"linked && course.index.at(-1) === {STEPS[9].index}")
        assert chromium.text("#link") == "live"


# --- before a run ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"console": "0.0.0.0:8080"}, "expected a loopback address"),
        ({"console": "127.0.0.1"}, "expected tcp://HOST:PORT"),
        ({"console": "127.0.0.1:{taken}"}, "expected a free port"),
        ({"feedback": "tcp://127.0.0.1:99999"}, "expected tcp://HOST:PORT"),
        ({"feedback": "tcp://127.0.0.1:*"}, "expected a port that others can be told"),
    ],
)
def test_preflight_finds_a_wrong_address(
    tmp_path: Path, network: dict[str, str], words: str
) -> None:
    """Not the console's own death, amid a run that goes on without a page."""
    small_plan().save(tmp_path / "plan.json")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        session = SessionConfig.model_validate(
            {
                "name": "test",
                "plan": "plan.json",
                "runs": [{"name": "run"}],
                "folder": tmp_path,
                "source": {"kind": "stream"},
                "display": {"enabled": False},
                "network": {
                    **{name: f"ipc://{tmp_path}/{name}" for name in ENDPOINTS},
                    **{name: value.format(taken=taken) for name, value in network.items()},
                },
            }
        )
        with pytest.raises(FcnefError, match=words) as caught:
            preflight(session, session.runs[0])
    assert "\n" not in str(caught.value)
