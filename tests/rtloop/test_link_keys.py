"""Keys and who may come in: files, allow-lists, and what happens without either."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from rtloop.errors import KeyFileError, LinkError
from rtloop.link import (
    Broadcaster,
    Keys,
    Listener,
    Reporter,
    ReportSink,
    StreamSink,
    StreamSource,
    create_keys,
    endpoint,
    is_local,
    load_keys,
    load_public,
    public_key,
)
from rtloop.wire import Telemetry, Trigger
from tests.rtloop.links import LOOPBACK, Clock, meet, tidy, until
from tools.cli import run

__all__ = ["tidy"]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pairs of an engine, a gateway that knows it, and somebody else who does too."""
    create_keys("engine", tmp_path)
    create_keys("gateway", tmp_path, tmp_path / "engine.pub")
    create_keys("stranger", tmp_path, tmp_path / "engine.pub")
    return tmp_path


# --- files -------------------------------------------------------------------------------------


def test_a_pair_is_written_for_its_owner_alone_and_read_back(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        secret, public = create_keys("engine", tmp_path)
    finally:
        os.umask(before)
    assert (secret.name, public.name) == ("engine.key", "engine.pub")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    keys = load_keys(secret)
    assert keys.engine is None
    assert load_public(public) == load_public(secret) == keys.public
    assert keys.secret.decode() not in public.read_text()
    assert keys.secret.decode() not in repr(keys)
    assert public_key(public) == public_key(str(public)) == public_key(keys.public) == keys.public


def test_a_pair_may_name_the_engine(folder: Path) -> None:
    assert load_keys(folder / "gateway.key").engine == load_public(folder / "engine.pub")


@pytest.mark.parametrize("existing", ["engine.key", "engine.pub"])
def test_nothing_is_overwritten(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("mine")
    with pytest.raises(KeyFileError, match="nothing was changed"):
        create_keys("engine", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "mine"


@pytest.mark.parametrize("name", ["", "../engine", "a/b", ".hidden", "a" * 65, "a b"])
def test_names_are_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyFileError):
        create_keys(name, tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_secret_that_others_can_reach_is_refused(folder: Path, mode: int) -> None:
    (folder / "engine.key").chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_keys(folder / "engine.key")


@pytest.mark.parametrize(
    "change",
    [
        lambda _: "",
        lambda _: "\0",
        lambda text: text.replace("secret", "secre"),
        lambda text: text.replace("secret = '", "secret = ' "),
        lambda text: text.replace("public = '", "public = 'ä"),
        lambda text: text[:-3],
        lambda _: "public = 1\nsecret = 2\n",
        lambda text: text.replace("public = '", "old = '", 1) + "public = '" + "0" * 40 + "'\n",
    ],
    ids=["empty", "binary", "no secret", "space", "no ascii", "cut", "numbers", "no pair"],
)
def test_what_is_no_key_file_is_refused_in_one_line(
    folder: Path, change: Callable[[str], str]
) -> None:
    path = folder / "engine.key"
    path.write_text(change(path.read_text()))
    with pytest.raises(KeyFileError) as caught:
        load_keys(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    for load in (load_keys, load_public, public_key):
        with pytest.raises(KeyFileError, match="absent"):
            load(tmp_path / "absent")


def test_the_command_makes_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = tmp_path / "new" / "keys"
    assert run(["keys", "engine", "--dir", str(keys)]) == 0
    assert load_public(keys / "engine.pub").decode() in capsys.readouterr().out
    assert run(["keys", "gw", "--dir", str(keys), "--engine", str(keys / "engine.pub")]) == 0
    assert load_keys(keys / "gw.key").engine == load_public(keys / "engine.pub")
    assert run(["keys", "engine", "--dir", str(keys)]) == 2
    assert run(["keys", "other", "--dir", str(keys), "--engine", str(keys / "none")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert not (keys / "other.key").exists()


# --- where keys are needed ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("tcp://127.0.0.1:5555", True),
        ("tcp://127.8.0.1:*", True),
        ("tcp://localhost:5555", True),
        ("tcp://[::1]:5555", True),
        ("ipc:///run/fcnef/volumes", True),
        ("inproc://volumes", True),
        ("tcp://*:5555", False),
        ("tcp://0.0.0.0:5555", False),
        ("tcp://[::]:5555", False),
        ("tcp://192.168.1.5:5555", False),
        ("tcp://eth0:5555", False),
        ("tcp://scanner.hospital:5555", False),
        ("tcp://localhost.evil.example:5555", False),
        ("tcp://127.0.0.1.example:5555", False),
    ],
)
def test_what_counts_as_this_machine(name: str, local: bool) -> None:
    assert is_local(name) is local


@pytest.mark.parametrize(
    "name",
    [
        "",
        "5555",
        "tcp://127.0.0.1",
        "tcp://:5555",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:5555;10.0.0.1:5555",
        "tcp://10.0.0.1:1;127.0.0.1:5555",
        "udp://127.0.0.1:5555",
        "epgm://eth0;239.0.0.1:5555",
        "http://127.0.0.1:5555",
        "ipc://",
        "tcp://127.0.0.1:5555\n",
    ],
)
def test_what_is_no_endpoint_is_refused(name: str) -> None:
    with pytest.raises(LinkError, match="expected tcp://HOST:PORT"):
        is_local(name)


@pytest.mark.parametrize(
    "open_one", [StreamSink, StreamSource, Broadcaster, Listener, ReportSink, Reporter]
)
@pytest.mark.parametrize("name", ["tcp://0.0.0.0:5999", "tcp://*:5999", "tcp://192.0.2.1:5999"])
def test_without_keys_nothing_opens_beyond_this_machine(
    open_one: Callable[[str], Any], name: str
) -> None:
    with pytest.raises(LinkError, match="expected keys beyond this machine") as caught:
        open_one(name)
    assert "\n" not in str(caught.value)


def test_with_keys_it_does(folder: Path) -> None:
    with closing(StreamSink("tcp://0.0.0.0:*", folder / "engine.key")) as sink:
        assert sink.endpoint.startswith("tcp://0.0.0.0:")


# --- who comes in ------------------------------------------------------------------------------


def knocking(stack: ExitStack, sink: StreamSink, keys: Any, **options: Any) -> StreamSource:
    source = stack.enter_context(closing(StreamSource(sink.endpoint, keys, **options)))
    until(
        lambda: bool(source.trouble) or source.connected,
        lambda: sink.receive(0.002),
        lambda: source.poll(0.002),
    )
    return source


@pytest.mark.parametrize("form", ["path", "text", "key"])
def test_a_key_on_the_allow_list_opens_the_stream(
    stack: ExitStack, folder: Path, form: str
) -> None:
    entry: Any = {
        "path": folder / "gateway.pub",
        "text": str(folder / "gateway.pub"),
        "key": load_public(folder / "gateway.pub").decode(),
    }[form]
    sink = stack.enter_context(closing(StreamSink(LOOPBACK, folder / "engine.key", [entry])))
    assert knocking(stack, sink, folder / "gateway.key").connected


def test_programs_of_one_machine_share_the_engine_s_key(stack: ExitStack, folder: Path) -> None:
    keys = load_keys(folder / "engine.key")
    sink = stack.enter_context(closing(StreamSink(LOOPBACK, keys)))
    assert knocking(stack, sink, keys).connected


def test_an_unknown_key_is_refused_and_told_why(stack: ExitStack, folder: Path) -> None:
    allow = [folder / "gateway.pub"]
    sink = stack.enter_context(closing(StreamSink(LOOPBACK, folder / "engine.key", allow)))
    source = knocking(stack, sink, folder / "stranger.key")
    assert "does not know our key" in source.trouble
    assert not source.connected


def test_no_key_is_refused_and_told_why(stack: ExitStack, folder: Path) -> None:
    sink = stack.enter_context(closing(StreamSink(LOOPBACK, folder / "engine.key")))
    assert "no agreement on keys" in knocking(stack, sink, None).trouble


def test_an_engine_without_keys_is_not_trusted(stack: ExitStack, folder: Path) -> None:
    sink = stack.enter_context(closing(StreamSink(LOOPBACK)))
    assert "no agreement on keys" in knocking(stack, sink, folder / "gateway.key").trouble


def test_another_engine_is_not_trusted(stack: ExitStack, folder: Path) -> None:
    sink = stack.enter_context(
        closing(StreamSink(LOOPBACK, folder / "stranger.key", [folder / "gateway.pub"]))
    )
    source = knocking(stack, sink, folder / "gateway.key")
    assert "no agreement on keys" in source.trouble
    assert not source.connected


def test_the_engine_s_key_can_be_named_beside_the_own_pair(stack: ExitStack, folder: Path) -> None:
    keys = load_keys(folder / "gateway.key")
    alone = Keys(keys.public, keys.secret)
    allow = [keys.public]
    sink = stack.enter_context(closing(StreamSink(LOOPBACK, folder / "engine.key", allow)))
    assert knocking(stack, sink, alone, server_key=folder / "engine.pub").connected


@pytest.mark.parametrize("own", ["gateway.key", None])
def test_a_refused_source_is_let_in_once_the_engine_agrees(
    stack: ExitStack, folder: Path, own: str | None
) -> None:
    sink = stack.enter_context(closing(StreamSink(LOOPBACK, folder / "engine.key")))
    clock = Clock()
    name = sink.endpoint
    source = knocking(stack, sink, own and folder / own, clock=clock)
    assert source.trouble
    sink.close()
    keys = (folder / "engine.key", [folder / "gateway.pub"]) if own else ()
    again = stack.enter_context(closing(StreamSink(name, *keys)))
    clock.ahead_s = 2.0
    meet(again, source)
    assert source.trouble == ""


def test_nobody_comes_in_when_nobody_minds_the_gate(
    stack: ExitStack, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nobody:
        def __init__(self, *_: Any) -> None: ...

        def join(self) -> None: ...

    monkeypatch.setattr(endpoint, "_Gate", Nobody)
    sink = stack.enter_context(
        closing(StreamSink(LOOPBACK, folder / "engine.key", [folder / "gateway.pub"]))
    )
    source = stack.enter_context(closing(StreamSource(sink.endpoint, folder / "gateway.key")))
    for _ in range(30):
        source.poll(0.01)
        sink.receive(0.01)
    assert not source.connected


def test_a_failed_bind_leaves_no_gate_behind(stack: ExitStack, folder: Path) -> None:
    sink = stack.enter_context(closing(StreamSink(LOOPBACK, folder / "engine.key")))
    with pytest.raises(LinkError, match="in use"):
        StreamSink(sink.endpoint, folder / "engine.key")
    with pytest.raises(KeyFileError):
        StreamSink(LOOPBACK, folder / "engine.key", ["neither key nor file"])


def test_broadcast_and_reports_are_guarded_too(stack: ExitStack, folder: Path) -> None:
    keys, allow = folder / "engine.key", [folder / "gateway.pub"]
    broadcaster = stack.enter_context(closing(Broadcaster(LOOPBACK, keys, allow)))
    reports = stack.enter_context(closing(ReportSink(LOOPBACK, keys, allow)))
    heard: dict[str, list[Any]] = {"gateway": [], "stranger": []}
    for name, messages in heard.items():
        own = folder / f"{name}.key"
        listener = stack.enter_context(closing(Listener(broadcaster.endpoint, False, own)))
        reporter = stack.enter_context(closing(Reporter(reports.endpoint, own)))
        reporter.send(Trigger(1, 1.7e9, name))

        def listen(listener: Listener = listener, messages: list[Any] = messages) -> None:
            broadcaster.publish(Telemetry("step", {}))
            messages.extend(filter(None, [listener.receive(0.01)]))

        def settled(listener: Listener = listener, messages: list[Any] = messages) -> bool:
            return bool(messages or listener.trouble)

        until(settled, listen)
    assert heard["gateway"]
    assert not heard["stranger"]
    report = reports.receive(1.0)
    assert isinstance(report, Trigger)
    assert report.source == "gateway"
    assert reports.receive(0.2) is None
