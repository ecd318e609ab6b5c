"""Bad input: one line and exit status 2, or a stated policy; never a traceback or a wrong number.

Each of the issue's cases, and where else it is tested:

=====================================  ==========================================================
malformed and oversized messages       here; frame by frame in test_wire.py, test_link_protocol.py
wrong version                          here
NaN affine                             here; test_engine.py (refused), test_rois.py (grid)
shape change mid-run                   here; test_engine.py
labels off the grid                    here; test_rois.py
an atlas in another space              here, real atlas and EPI; test_rois.py
window longer than the run             here, through the command; test_plan.py
unknown ROI name                       here, through the command; test_plan.py
TR that disagrees with the plan        here, real series with its wrong header
unwritable record                      here (no room, folder taken); test_session.py (preflight)
port in use                            here (engine, command); test_session.py (preflight)
no display                             here, through the command; tests/stimuli/test_display.py
absent trigger                         tests/stimuli/test_trigger.py, test_display.py
damaged records                        test_replay.py
wrong session files                    here, through the command; test_session.py
=====================================  ==========================================================
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import nibabel
import numpy as np
import pytest
import zmq

from rtloop import process
from rtloop.events import encode as encode_step
from rtloop.journal import Record
from rtloop.link import StreamSource
from rtloop.link.protocol import peer_name
from rtloop.plan import Plan, file_digest
from rtloop.readers import ScannerConfig, read_series
from rtloop.replay import verify
from rtloop.volume import Volume
from rtloop.wire import Hello, VolumeItem, Welcome, decode, encode
from tests.rtloop.simulated import AFFINE, SHAPE, series, small_engine
from tests.rtloop.sites import Site
from tools.cli import run as fcnef
from tools.local import free_ports

VOLUMES = series(60)
PATIENCE_S = 30.0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def handlers() -> Iterator[None]:
    """The engine's entry takes signals over; the test runner gets them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Sender(threading.Thread):
    """A scanner that sends volumes to an engine until that has them or is gone."""

    def __init__(self, site: Site, volumes: list[Volume]) -> None:
        super().__init__(name="sender", daemon=True)
        self._site, self._volumes = site, volumes
        self.over = threading.Event()

    def run(self) -> None:
        with self._site.source() as source:
            for volume in self._volumes:
                source.send(volume)
            while source.unacknowledged and not self.over.is_set():
                source.poll(0.05)


def engine_says(
    site: Site, volumes: list[Volume], capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Exit status and words of the engine's program, fed with these volumes."""
    sender = Sender(site, volumes)
    sender.start()
    try:
        status = process.main([str(site.session), "run"])
    finally:
        sender.over.set()
        sender.join()
    return status, capsys.readouterr().err


def one_line(words: str) -> bool:
    return words.startswith("fcnef: ") and words.count("\n") == 1


# --- the stream ------------------------------------------------------------------------------


class Forger:
    """A source that can send what `StreamSource` would not."""

    def __init__(self, endpoint: str, name: str = "forger") -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.routing_id = peer_name(name, "epoch").encode()
        self._socket.connect(endpoint)
        self.name = name

    def send(self, frames: list[Any]) -> None:
        self._socket.send_multipart(frames)

    def hear(self, wanted: type) -> Any:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if self._socket.poll(100):
                message = decode(self._socket.recv_multipart())
                if isinstance(message, wanted):
                    return message
        raise AssertionError(f"no {wanted.__name__}")

    def greet(self) -> None:
        self.send(encode(Hello(self.name, "epoch")))
        self.hear(Welcome)

    def commit(self, frames: list[Any], seq: int) -> None:
        """Send an item and wait until the engine has it on record."""
        self.send(frames)
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if self._socket.poll(100):
                message = decode(self._socket.recv_multipart())
                if getattr(message, "seq", -1) == seq:
                    return
        raise AssertionError(f"item {seq} was not acknowledged")

    def close(self) -> None:
        self._socket.close()
        self._context.term()


def forged(frames: list[Any], **changes: Any) -> list[Any]:
    """The same message with other fields and a right checksum."""
    body = {**msgpack.unpackb(bytes(frames[0])[4:]), **changes}
    packed = msgpack.packb(body)
    return [zlib.crc32(packed).to_bytes(4, "big") + packed, *frames[1:]]


def nonsense() -> list[list[bytes]]:
    random = np.random.default_rng(3)
    hello = encode(Hello("x", "y"))
    return [
        [b""],
        [b"GET / HTTP/1.1\r\n\r\n"],
        [random.bytes(500)],
        [b"a"] * 40,
        forged(hello, v=2),
        forged(hello, v=None),
        forged(hello, type="surprise"),
        forged(hello, source=["a"] * 1000),
        forged(hello, epoch="e" * 10_000),
        [b"\0" * 4 + b"\x81" * 100],
        [random.bytes(70_000)],
        [bytes(hello[0]), random.bytes(3_000_000)],
    ]


def test_nonsense_beside_a_run_changes_nothing(site: Site) -> None:
    """Malformed, oversized and of another version, while a run is going on."""
    endpoint = f"tcp://127.0.0.1:{site.ports[0]}"
    with site.start() as run, site.source() as source:
        site.feed(source, VOLUMES[:20])
        for number, frames in enumerate(nonsense()):
            with contextlib.closing(Forger(endpoint, f"forger{number}")) as forger:
                forger.send(frames)
                source.poll(0.02)
        with socket.create_connection(("127.0.0.1", site.ports[0])) as raw:
            raw.sendall(np.random.default_rng(4).bytes(100_000))
        with contextlib.closing(Forger(endpoint, "large")) as forger:
            forger.send([bytes(70 * 1024 * 1024)])
            site.feed(source, VOLUMES[20:40])
        for port in site.ports[1:]:
            with contextlib.closing(Forger(f"tcp://127.0.0.1:{port}")) as forger:
                forger.send([b"nonsense"])
        with zmq.Context() as context, context.socket(zmq.PUSH) as push:
            push.linger = 0
            push.connect(f"tcp://127.0.0.1:{site.ports[3]}")
            for frames in nonsense():
                push.send_multipart(frames)
            site.feed(source, VOLUMES[40:])
            assert run.wait(PATIENCE_S) == 0
    engine = small_engine()
    assert site.steps() == [encode_step(engine.step(volume)) for volume in VOLUMES]
    with Record.open(site.record) as record:
        reasons = [row["reason"] for row in record.rows("fault") if row["kind"] == "malformed"]
    assert any("wire version 1, found 2" in reason for reason in reasons)
    assert any("found 70000" in reason for reason in reasons)
    assert any("checksum failed" in reason for reason in reasons)
    assert len(reasons) >= 6
    assert verify(site.record).identical


def test_items_that_are_no_volumes_are_recorded_and_count_as_missing(site: Site) -> None:
    """NaN affine, another shape than said, a negative index: each keeps its place, none is used."""
    items = [encode(VolumeItem("epoch", seq, VOLUMES[seq])) for seq in range(30)]
    nan = [*AFFINE.ravel()[:3].tolist(), float("nan"), *AFFINE.ravel()[4:].tolist()]
    items[10] = forged(items[10], affine=nan)
    items[12] = forged(items[12], shape=[12, 12, 9])
    items[14] = forged(items[14], index=-1)
    items[16] = forged(items[16], dtype="float64")
    items[18] = forged(items[18], tr_s=0.0)
    with site.start() as run:
        site.child("engine")
        with contextlib.closing(Forger(f"tcp://127.0.0.1:{site.ports[0]}")) as forger:
            forger.greet()
            for seq, frames in enumerate(items):
                forger.commit(frames, seq)
        run.send_signal(signal.SIGTERM)
        assert run.wait(PATIENCE_S) == 0
    with Record.open(site.record) as record:
        faults = [(row["kind"], row["volume_index"], row["reason"]) for row in record.rows("fault")]
    refused = [reason for kind, _, reason in faults if kind == "malformed"]
    assert [next(w for w in ("affine", "bytes", "index", "dtype", "tr_s") if w in r)
            for r in refused] == ["affine", "bytes", "index", "dtype", "tr_s"]  # fmt: skip
    assert [index for kind, index, _ in faults if kind == "missing"] == [10, 12, 14, 16, 18]
    assert verify(site.record).identical


def test_another_shape_in_the_middle_is_refused(site: Site) -> None:
    """By the engine: the wire cannot know which shape the run has."""
    small = replace(VOLUMES[20], data=np.asfortranarray(VOLUMES[20].data[:, :6]))
    large = replace(VOLUMES[25], data=np.zeros((20, 20, 20), np.int16, order="F"))
    with site.start() as run, site.source() as source:
        site.feed(source, [*VOLUMES[:20], small, *VOLUMES[21:25], large, *VOLUMES[26:]])
        assert run.wait(PATIENCE_S) == 0
    assert [fault for fault in site.faults() if fault[0] == "refused"] == [
        ("refused", 20), ("refused", 25),
    ]  # fmt: skip
    assert site.outcomes() == ["complete"]
    assert verify(site.record).identical


# --- plan against scanner ----------------------------------------------------------------------


def atlas_plan(path: Path, tr_s: float = 1.0) -> Plan:
    image = nibabel.load(path)
    values = [int(v) for v in np.unique(np.asanyarray(image.dataobj)) if v][:2]
    names = [f"roi{value}" for value in values]
    return Plan.create(
        participant="p01",
        rois={
            "kind": "atlas",
            "path": str(path),
            "sha256": file_digest(path),
            "labels": dict(zip(values, names, strict=True)),
        },
        edges=[{"a": names[0], "b": names[1]}],
        tr_s=tr_s,
        n_volumes=60,
        window_s=12 * tr_s,
        timeline={"kind": "continuous", "rest_s": 24 * tr_s},
        calibration={"kind": "linear", "center": 0.2, "sd": 0.3},
    )


@pytest.mark.usefixtures("handlers")
def test_labels_off_the_grid(site: Site, capsys) -> None:
    labels = np.zeros(SHAPE, np.int16)
    labels[2:4], labels[8:10] = 1, 2
    off = AFFINE.copy()
    off[0, 3] = 1.5
    path = site.folder / "labels.nii.gz"
    nibabel.save(nibabel.Nifti1Image(labels, off), path)
    atlas_plan(path).save(site.folder / "plan.json")
    status, words = engine_says(site, VOLUMES[:1], capsys)
    assert status == 2
    assert one_line(words)
    assert "expected volumes in the ROI labels' space, found them up to 1.5 mm apart" in words


@pytest.mark.usefixtures("handlers")
def test_an_atlas_in_another_space(site: Site, data: Path, capsys) -> None:
    """A real MNI atlas against a real EPI in the scanner's space."""
    atlas = next((data / "atlas" / "MNI152NLin6").glob("*chaefer*200*.nii.gz"))
    atlas_plan(atlas, tr_s=2.0).save(site.folder / "plan.json")
    bold = next((data / "bold").glob("*_bold.nii.gz"))
    volumes = read_series(bold, ScannerConfig(tr_s=2.0))[:1]
    status, words = engine_says(site, volumes, capsys)
    assert status == 2
    assert one_line(words)
    assert "ROI labels' grid" in words


@pytest.mark.usefixtures("handlers")
def test_a_header_whose_tr_is_not_the_plans(tmp_path: Path, data: Path, capsys) -> None:
    """The localizer says 1.7935 s where 2.0 s is true: nothing is scored with a wrong TR."""
    bold = next((data / "bold").glob("*_bold.nii.gz"))
    volumes = read_series(bold, ScannerConfig())[:1]
    site = Site(tmp_path, tr_s=2.0, window_s=24.0, timeline={"kind": "continuous", "rest_s": 48.0})
    status, words = engine_says(site, volumes, capsys)
    assert status == 2
    assert one_line(words)
    assert "expected the plan's 2 s, found 1.79355 s" in words
    assert "scanner.toml" in words


# --- records, ports, screens -------------------------------------------------------------------

LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from rtloop.process import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limits here")
def test_a_record_that_can_grow_no_more_stops_the_run(site: Site) -> None:
    """As on a full disk: what is committed stays, the run ends in one line, nothing is shown."""
    command = [sys.executable, "-c", LIMITED, "1500000", str(site.session), "run"]
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as engine,
        site.source() as source,
    ):
        for volume in VOLUMES:
            source.send(volume)
        until = time.monotonic() + PATIENCE_S
        while engine.poll() is None and time.monotonic() < until:
            source.poll(0.1)
        committed = source.acknowledged + 1
        assert engine.stderr is not None
        words = engine.stderr.read()
    assert engine.returncode == 2, words
    assert one_line(words)
    assert "feedback stops until the record can be written" in words
    assert 5 < committed < 60
    verdict = verify(site.record)
    assert verdict.identical
    assert committed <= verdict.n_events <= committed + 1


@pytest.mark.usefixtures("handlers")
def test_a_port_that_was_taken_meanwhile(site: Site, capsys) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", site.ports[2]))
        other.listen()
        status = process.main([str(site.session), "run"])
    words = capsys.readouterr().err
    assert status == 2
    assert one_line(words)
    assert f"tcp://127.0.0.1:{site.ports[2]}: the port is in use" in words


def change_plan(site: Site, **changes: object) -> None:
    entries = {**site.plan.model_dump(mode="json"), **changes}
    (site.folder / "plan.json").write_text(json.dumps(entries))


def change_session(site: Site, old: str, new: str) -> None:
    text = site.session.read_text()
    assert old in text
    site.session.write_text(text.replace(old, new, 1))


def take_port(site: Site) -> None:
    site.other = socket.socket()  # type: ignore[attr-defined]
    site.other.bind(("127.0.0.1", site.ports[0]))  # type: ignore[attr-defined]
    site.other.listen()  # type: ignore[attr-defined]


MISTAKES = {
    "window": (lambda s: change_plan(s, window_s=99.0), "expected shorter than the run of 60 s"),
    "roi": (lambda s: change_plan(s, edges=[{"a": "A", "b": "Z"}]), "unknown ROI name 'Z'"),
    "plan": (lambda s: (s.folder / "plan.json").unlink(), "expected a readable file"),
    "no json": (lambda s: (s.folder / "plan.json").write_text("{"), "expected JSON"),
    "session": (lambda s: s.session.unlink(), "expected a readable file"),
    "toml": (lambda s: change_session(s, "[source]", "[source"), "expected TOML"),
    "entry": (lambda s: change_session(s, "[display]", "[display]\nsize = 3"), "size"),
    "records": (lambda s: (s.folder / "records").write_text("x"), "expected a writable folder"),
    "port": (take_port, "expected a free port"),
    "display": (lambda s: change_session(s, "[display]\nenabled = false", ""), "display: expected"),
    "export": (
        lambda s: change_session(s, '"stream"', '"folder"'),
        "expected the scanner's export",
    ),
    "open": (lambda s: change_session(s, "127.0.0.1", "0.0.0.0"), "expected keys"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_command_says_a_mistake_in_one_line(
    site: Site, mistake: str, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    make, expected = MISTAKES[mistake]
    make(site)
    try:
        status = fcnef(["run", str(site.session)])
    finally:
        if hasattr(site, "other"):
            site.other.close()
    words = capfd.readouterr().err
    assert status == 2, words
    assert one_line(words), words
    assert expected in words


def test_a_run_that_nobody_named(site: Site, capsys) -> None:
    assert fcnef(["run", str(site.session), "--run", "other"]) == 2
    assert "expected one of run" in capsys.readouterr().err


def test_a_source_says_what_the_wire_cannot_carry() -> None:
    """NaN in an affine never leaves: the gateway sends a note instead."""
    (port,) = free_ports(1)
    bad = replace(VOLUMES[0], affine=np.full((4, 4), np.nan))
    with contextlib.closing(StreamSource(f"tcp://127.0.0.1:{port}")) as source:
        with pytest.raises(ValueError, match="affine"):
            source.send(bad)
        assert source.unacknowledged == 0
