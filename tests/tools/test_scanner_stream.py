"""The simulated scanner over real sockets, read at the engine's end. Simulated data."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from rtloop.errors import LinkError
from rtloop.link import Broadcaster, Malformed, StreamSink, StreamSource
from rtloop.volume import Volume
from rtloop.wire import Feedback, Note, NoteItem, VolumeItem
from tools.cli import run
from tools.faults import FaultScript, expected
from tools.participant import Grid, Nuisance, Participant, Scripted
from tools.scanner import FeedbackEar, SimulatedSeries, StreamOut, play

TINY = Grid.axial((20, 24, 10), (9.0, 9.0, 12.0))


def person(**changes: Any) -> Participant:
    return Participant(1, TINY, tr_s=1.0, nuisance=Nuisance.none(), **changes)


class Engine:
    """The receiving end in a thread of its own: takes everything, acknowledges each item."""

    def __init__(self) -> None:
        self.items: list[Volume | Note] = []
        self._sink = StreamSink("tcp://127.0.0.1:*")
        self.endpoint = self._sink.endpoint
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while not self._over.is_set():
            event = self._sink.receive(0.02)
            assert not isinstance(event, Malformed)
            if isinstance(event, VolumeItem | NoteItem):
                item = event.volume if isinstance(event, VolumeItem) else event.note
                self.items.append(item)
                self._sink.acknowledge(event.epoch, event.seq)

    def volumes(self) -> list[Volume]:
        return [item for item in self.items if isinstance(item, Volume)]

    def notes(self) -> list[tuple[str, int | None]]:
        return [(item.kind, item.index) for item in self.items if isinstance(item, Note)]

    def __enter__(self) -> Engine:
        self._thread.start()
        return self

    def __exit__(self, *about: object) -> None:
        self._over.set()
        self._thread.join(5.0)
        self._sink.close()


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


def stream(engine: Engine, n_volumes: int, *faults: dict[str, Any], speed: float = 0.0) -> None:
    script = FaultScript.model_validate({"fault": faults})
    with contextlib.closing(StreamSource(engine.endpoint, source="scanner")) as link:
        play(SimulatedSeries(person(), n_volumes), StreamOut(link), script, speed=speed)


def test_volumes_arrive_whole_and_in_order(engine: Engine) -> None:
    before_s = time.time()
    stream(engine, 20)
    found, made = engine.volumes(), person()
    assert [volume.index for volume in found] == list(range(20))
    for volume in found:
        twin = made.volume(volume.index)
        np.testing.assert_array_equal(volume.data, twin.data)
        np.testing.assert_array_equal(volume.affine, twin.affine)
        assert volume.slice_times_s == twin.slice_times_s
        assert before_s <= volume.received_s <= time.time()
        assert volume.n_volumes == 20
    assert engine.notes() == [("series_opened", None), ("series_closed", None)]
    last = engine.items[-1]
    assert isinstance(last, Note)
    assert last.reason == "complete"


def test_faults_arrive_as_a_gateway_would_say_them(engine: Engine) -> None:
    faults = (
        {"kind": "drop", "volume": 1},
        {"kind": "duplicate", "volume": 3},
        {"kind": "truncate", "volume": 5},
        {"kind": "wrong_series", "volume": 7},
        {"kind": "nan", "volume": 8},
        {"kind": "wrong_shape", "volume": 9},
        {"kind": "wrong_affine", "volume": 10},
        {"kind": "reorder", "volume": 11},
        {"kind": "partial", "volume": 13},
        {"kind": "restart", "volume": 14},
    )
    stream(engine, 16, *faults)
    script = FaultScript.model_validate({"fault": faults})
    first, second = expected(script, 16)
    found = engine.volumes()
    names = list(dict.fromkeys(volume.attempt for volume in found))
    of_first = [volume for volume in found if volume.attempt == names[0]]
    assert [volume.index for volume in of_first] == [0, 2, 3, 3, 4, 6, 7, 8, 9, 10, 12, 11, 13, 14]
    by_index = {volume.index: volume for volume in of_first}
    assert np.isnan(by_index[8].data).all()
    assert by_index[9].shape == (20, 12, 10)
    np.testing.assert_allclose(by_index[10].affine - by_index[0].affine, _shifted(10.0))
    assert [v.index for v in found if v.attempt == names[1]] == second.with_fate("used")
    assert engine.notes() == [
        ("series_opened", None),
        ("refused", 5),
        ("skipped", None),
        ("series_closed", None),
        ("series_opened", None),
        ("series_closed", None),
    ]
    assert first.with_fate("refused") == [5, 9, 10]


def _shifted(by_mm: float) -> np.ndarray[Any, Any]:
    shift = np.zeros((4, 4))
    shift[2, 3] = by_mm
    return shift


def test_pace_is_kept_on_the_stream(engine: Engine) -> None:
    stream(engine, 12, speed=25.0)
    received = np.array([volume.received_s for volume in engine.volumes()])
    # One volume every 40 ms, by absolute deadlines: none can come early.
    assert received[-1] - received[0] >= 11 * 0.04 - 0.02
    assert len(received) == 12


def test_without_an_engine_there_is_no_scan() -> None:
    with (
        contextlib.closing(StreamSource("tcp://127.0.0.1:9", source="scanner")) as link,
        pytest.raises(LinkError, match=r"expected an engine .* start `fcnef run`"),
    ):
        play(SimulatedSeries(person(), 2), StreamOut(link, patience_s=0.3), speed=0)


def test_command_plays_over_the_stream(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["scan", "participant:2", "--volumes", "3", "--to", engine.endpoint, "--speed", "0"]
    assert run(arguments) == 0
    assert [volume.index for volume in engine.volumes()] == [0, 1, 2]
    assert engine.volumes()[0].shape == (64, 64, 33)
    assert "3 volumes played" in capsys.readouterr().out


class Notebook(Scripted):
    """A script that writes down what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[int, float]] = []

    def hear(self, index: int, value: float) -> None:
        self.heard.append((index, value))


def message(number: int, scene: Any, value: float | None) -> Feedback:
    return Feedback(number, "a", number, scene, value, "", None, 0.0, None)


def test_participant_hears_each_shown_value_once() -> None:
    notebook = Notebook()
    series = SimulatedSeries(person(script=notebook), 5)
    with contextlib.ExitStack() as stack:
        broadcaster = stack.enter_context(contextlib.closing(Broadcaster("tcp://127.0.0.1:*")))
        ear = stack.enter_context(contextlib.closing(FeedbackEar(broadcaster.endpoint, series)))
        until_s = time.monotonic() + 10
        while not notebook.heard and time.monotonic() < until_s:
            broadcaster.publish(message(1, "feedback", 40.0))
            time.sleep(0.02)
            ear.listen()
        for again in (1, 2, 2, 3, 4):
            scene = {3: "hold", 4: "rest"}.get(again, "feedback")
            broadcaster.publish(message(again, scene, None if again == 4 else 10.0 * again))
        while len(notebook.heard) < 2 and time.monotonic() < until_s:
            time.sleep(0.02)
            ear.listen()
        time.sleep(0.1)
        assert ear.listen() == 0
    assert notebook.heard == [(1, 40.0), (2, 20.0)]
    assert FeedbackEar(None, series).listen() == 0
