"""What waits for what, on a clock the test moves; the files' meaning is made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtloop.gateway.intake import Intake
from rtloop.gateway.series import Publisher, without_names
from rtloop.gateway.watch import Arrival
from rtloop.readers.outcome import Complete, Outcome, Refused, Skipped, Taken
from rtloop.volume import Volume
from rtloop.wire import Note

TR_S = 1.0
WAIT_S = 5.0


def volume(index: int, attempt: str = "a", n_volumes: int | None = None) -> Volume:
    data = np.zeros((2, 2, 2), np.int16, order="F")
    return Volume(attempt, index, data, np.eye(4), TR_S, 0.0, n_volumes=n_volumes)


class Answers:
    """Readers whose answer stands in the file's name: `v3` a volume, `s2.1` a slice of one."""

    def __init__(self) -> None:
        self.abandoned: list[tuple[str, int]] = []
        self.parts: dict[int, int] = {}

    def add(self, path: Path, received_s: float) -> Outcome:
        kind, number = path.name[0], path.name[1:]
        if kind == "v":
            return Complete(volume(int(number)))
        if kind == "r":
            return Refused(f"{path} is broken", "a", int(number))
        if kind == "x":
            return Skipped("of another protocol", "other")
        index = int(number.split(".")[0])
        self.parts[index] = self.parts.get(index, 0) + 1
        return Complete(volume(index)) if self.parts[index] == 3 else Taken("a", index)

    def abandon(self, attempt: str, index: int) -> None:
        self.abandoned.append((attempt, index))


class Scene:
    """An intake, and what left it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.left: list[Volume | Note] = []
        self.dropped: list[str] = []
        self.answers = Answers()
        publisher = Publisher(lambda item, _: self.left.append(item), self.dropped.extend, None)
        self.publisher = publisher
        self.intake = Intake(self.answers, publisher, None, WAIT_S)

    def arrive(self, *names: str, now_s: float) -> None:
        for name in names:
            (self.folder / name).write_text("x")
        arrivals = [Arrival(str(self.folder / name), 0.0, True, None) for name in names]
        self.intake.arrived(arrivals, now_s)

    def read_all(self, now_s: float) -> None:
        while self.intake.work(now_s):
            self.intake.tick(now_s)
        self.intake.tick(now_s)

    @property
    def volumes(self) -> list[int]:
        return [item.index for item in self.left if isinstance(item, Volume)]

    @property
    def notes(self) -> list[tuple[str, int | None]]:
        return [(item.kind, item.index) for item in self.left if isinstance(item, Note)]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_gap_is_not_over_while_files_wait_to_be_read(scene: Scene) -> None:
    """The engine was slow, so reading paused: what is missing lies in the folder."""
    scene.arrive("v1", "v0", now_s=0.0)
    assert scene.intake.work(0.0)
    scene.intake.tick(10 * TR_S)
    assert scene.volumes == []
    scene.read_all(10 * TR_S)
    assert scene.volumes == [0, 1]


def test_a_slice_set_is_not_given_up_while_files_wait_to_be_read(scene: Scene) -> None:
    scene.arrive("s0.0", "s0.1", "s0.2", now_s=0.0)
    assert scene.intake.work(0.0)
    scene.intake.tick(10 * WAIT_S)
    assert scene.answers.abandoned == []
    scene.read_all(10 * WAIT_S)
    assert scene.volumes == [0]


def test_half_a_tr_is_waited_by_default(scene: Scene) -> None:
    scene.arrive("v0", "v2", now_s=0.0)
    scene.read_all(0.0)
    assert scene.intake.due_s() == pytest.approx(0.5 * TR_S)
    scene.read_all(0.49 * TR_S)
    assert scene.volumes == [0]
    scene.read_all(0.5 * TR_S)
    assert scene.volumes == [0, 2]


def test_progress_prolongs_a_slice_sets_time_and_its_end_is_told_once(scene: Scene) -> None:
    scene.arrive("s0.0", now_s=0.0)
    scene.read_all(0.0)
    scene.arrive("s0.1", now_s=0.9 * WAIT_S)
    scene.read_all(0.9 * WAIT_S)
    scene.read_all(1.5 * WAIT_S)
    assert scene.answers.abandoned == []
    scene.read_all(2.0 * WAIT_S)
    assert scene.answers.abandoned == [("a", 0)]
    scene.arrive("r0", now_s=2.1 * WAIT_S)
    scene.read_all(2.1 * WAIT_S)
    assert scene.notes == [("series_opened", None), ("refused", 0)]
    assert scene.dropped == [str(scene.folder / "r0")]


def test_a_refused_volume_holds_nobody_up(scene: Scene) -> None:
    scene.arrive("v0", "r1", "v2", now_s=0.0)
    scene.read_all(0.0)
    assert scene.volumes == [0, 2]
    (refused,) = [i for i in scene.left if isinstance(i, Note) and i.kind == "refused"]
    assert (refused.attempt, refused.index, refused.reason) == ("a", 1, "a file is broken")


def test_a_skipped_series_is_named_once_and_its_files_let_go(scene: Scene) -> None:
    scene.arrive("x0", "x1", "x2", now_s=0.0)
    scene.read_all(0.0)
    assert scene.notes == [("skipped", None)]
    assert len(scene.dropped) == 2


@pytest.mark.parametrize(
    ("n_volumes", "sent", "reason"),
    [
        (None, [0, 1], "ended or aborted: 2 volumes, their number was not announced"),
        (9, [0, 1], "aborted: 2 of 9 volumes"),
        (4, [0, 3], "complete but for some: 2 of 4 volumes"),
        (2, [0, 1], "complete: 2 of 2 volumes"),
    ],
)
def test_how_a_series_ended(scene: Scene, n_volumes: int | None, sent: list[int], reason) -> None:
    for index in sent:
        scene.publisher.volume(volume(index, n_volumes=n_volumes), (), now_s=0.0)
    scene.publisher.volume(volume(0, "b"), (), now_s=0.0)
    closed = [
        item for item in scene.left if isinstance(item, Note) and item.kind == "series_closed"
    ]
    assert [note.reason for note in closed] == [reason]
    assert scene.left.index(closed[0]) == len(sent) + 1, "held volumes leave before it"


def test_what_the_record_holds_is_not_sent_again(scene: Scene) -> None:
    scene.publisher.resume({"a": [(0, 4)]})
    scene.arrive("v3", "v4", "v5", now_s=0.0)
    scene.read_all(0.0)
    assert scene.volumes == [5]
    assert isinstance(scene.left[0], Note)
    assert scene.left[0].reason == "resumed: 5 volumes on record"
    assert len(scene.dropped) == 2


def test_names_are_taken_out_of_reasons() -> None:
    path = "/export/DOE^JANE/19700101_DOE.dcm"
    reason = f"{path}: 19700101_DOE is cut; in DOE^JANE; in /export/DOE^JANE; not in /exports"
    assert without_names(reason, [path]) == (
        "a file: a file is cut; in a file; in a file; not in /exports"
    )
