"""Folder watching: events, rescans where there are none, temporary names, new sub-folders."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rtloop.gateway.inotify import FileEvent, Inotify
from rtloop.gateway.tree import BREADTH, DEPTH, MOST_FOLDERS, FolderTree, is_temporary
from rtloop.gateway.watch import Arrival, FolderWatch, Watchfiles, events_for

Start = Callable[..., list[Arrival]]


class NoEvents:
    """A network share: what others write there comes without any event."""

    def __init__(self) -> None:
        self._woken = threading.Event()

    def watch(self, folders: list[str]) -> None: ...

    def wait(self, timeout_s: float) -> list[FileEvent] | None:
        self._woken.wait(max(0.0, timeout_s))
        return []

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None: ...


def inotify(_: str) -> Inotify:
    try:
        return Inotify()
    except OSError as error:
        pytest.skip(str(error))


KINDS = {"inotify": inotify, "watchfiles": Watchfiles, "share": lambda _: NoEvents()}


@pytest.fixture(params=list(KINDS))
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Begin a watch and return the list its arrivals go to; once for each source of events."""
    watches: list[FolderWatch] = []

    def begin(root: Path, rescan_s: float = 0.05) -> list[Arrival]:
        got: list[Arrival] = []
        events = KINDS[request.param](str(root))
        watches.append(FolderWatch(str(root), got.extend, rescan_s, events))
        watches[-1].start()
        assert watches[-1].ready.wait(20.0)
        return got

    yield begin
    for watch in watches:
        watch.close()


def names(arrivals: list[Arrival]) -> set[str]:
    return {os.path.basename(arrival.path) for arrival in arrivals}


def test_files_before_and_after_the_start(start: Start, tmp_path: Path, until) -> None:
    for name in ("i10.dcm", "i9.dcm"):
        (tmp_path / name).write_bytes(b"x")
    got = start(tmp_path)
    until(lambda: len(got) >= 2, "the files that were there")
    assert [os.path.basename(arrival.path) for arrival in got[:2]] == ["i9.dcm", "i10.dcm"]
    assert all(arrival.modified_ns for arrival in got[:2])
    (tmp_path / "i11.dcm").write_bytes(b"x")
    until(lambda: "i11.dcm" in names(got), "the new file")
    assert all(arrival.modified_ns is None for arrival in got if arrival.path.endswith("i11.dcm"))


def test_a_temporary_name_is_passed_over_until_renamed(start: Start, tmp_path: Path, until) -> None:
    got = start(tmp_path)
    temporary = ["a.dcm.tmp", "b.part", "c.dcm~", ".d.dcm", "e.filepart", "f.CRDOWNLOAD", "~g.dcm"]
    for name in temporary:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b.part").rename(tmp_path / "b.dcm")
    (tmp_path / ".d.dcm").rename(tmp_path / "d.dcm")
    until(lambda: {"b.dcm", "d.dcm"} <= names(got), "the renamed files")
    assert names(got) == {"b.dcm", "d.dcm"}


def test_a_burst_is_told_completely(start: Start, tmp_path: Path, until) -> None:
    got = start(tmp_path)
    for number in range(600):
        (tmp_path / f"{number}.dcm").write_bytes(b"x")
    until(lambda: len(names(got)) == 600, "all files of the burst")


def test_new_sub_folders_down_to_the_bound(start: Start, tmp_path: Path, until) -> None:
    got = start(tmp_path)
    inner = tmp_path.joinpath(*"abcd"[:DEPTH])
    inner.mkdir(parents=True)
    (inner / "in.dcm").write_bytes(b"x")
    too_deep = inner / "z"
    too_deep.mkdir()
    (too_deep / "too_deep.dcm").write_bytes(b"x")
    (tmp_path / "last.dcm").write_bytes(b"x")
    until(lambda: {"in.dcm", "last.dcm"} <= names(got), "files at both levels")
    assert all(arrival.modified_ns is None for arrival in got)
    assert "too_deep.dcm" not in names(got)


def test_a_folder_renamed_into_place(start: Start, tmp_path: Path, until) -> None:
    root = tmp_path / "export"
    root.mkdir()
    got = start(root)
    elsewhere = tmp_path / "series"
    elsewhere.mkdir()
    (elsewhere / "1.dcm").write_bytes(b"x")
    elsewhere.rename(root / "series")
    until(lambda: "1.dcm" in names(got), "the file that came with its folder")
    (root / "series" / "2.dcm").write_bytes(b"x")
    until(lambda: "2.dcm" in names(got), "the file after")


def test_the_folder_vanishes_and_comes_back(start: Start, tmp_path: Path, until) -> None:
    root = tmp_path / "share"
    root.mkdir()
    got = start(root)
    (root / "1.dcm").write_bytes(b"x")
    until(lambda: "1.dcm" in names(got), "the first file")
    root.rename(tmp_path / "away")
    other = tmp_path / "other"
    other.mkdir()
    (other / "2.dcm").write_bytes(b"x")
    other.rename(root)
    until(lambda: "2.dcm" in names(got), "the file in the folder that came back")


def test_old_sub_folders_are_not_walked(tmp_path: Path) -> None:
    for number in range(30):
        folder = tmp_path / f"patient{number:02d}" / "study" / "series"
        folder.mkdir(parents=True)
        (folder / "1.dcm").write_bytes(b"x")
        os.utime(folder.parent.parent, (number, number))
    tree = FolderTree(str(tmp_path))
    found = tree.scan()
    assert {Path(one.path).relative_to(tmp_path).parts[0] for one in found} == {
        f"patient{number:02d}" for number in range(30 - BREADTH, 30)
    }
    assert all(one.modified_ns is not None for one in found)
    assert not tree.scan()


def test_a_folder_born_later_is_new_and_the_number_of_folders_bounded(tmp_path: Path) -> None:
    tree = FolderTree(str(tmp_path))
    tree.scan()
    for number in range(2 * MOST_FOLDERS):
        folder = tmp_path / f"s{number}"
        folder.mkdir()
        (folder / "1.dcm").write_bytes(b"x")
        assert [(Path(one.path).parent.name, one.modified_ns) for one in tree.scan()] == [
            (f"s{number}", None)
        ]
    assert len(tree.folders) <= MOST_FOLDERS
    assert str(tmp_path) in tree.folders


def test_a_file_told_by_an_event_is_not_found_again(tmp_path: Path) -> None:
    tree = FolderTree(str(tmp_path))
    tree.scan()
    (tmp_path / "1.dcm").write_bytes(b"x")
    assert tree.saw(str(tmp_path / "1.dcm"))
    assert tree.scan() == []
    assert not tree.saw(str(tmp_path / "unknown" / "1.dcm"))


def test_links_of_folders_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "1.dcm").write_bytes(b"x")
    tree = FolderTree(str(tmp_path))
    assert [one.path for one in tree.scan()] == [str(tmp_path / "1.dcm")]
    assert tree.folders == [str(tmp_path)]


@pytest.mark.parametrize(
    "name", ["001_000013_000001.dcm", "i2862280.MRDC.1", "MR.1.2.3", "a.nii.gz"]
)
def test_scanners_names_are_not_temporary(name: str) -> None:
    assert not is_temporary(name)


def test_trouble_is_said_while_the_folder_is_away(tmp_path: Path, until) -> None:
    root = tmp_path / "share"
    root.mkdir()
    watch = FolderWatch(str(root), lambda _: None, 0.02, NoEvents())
    watch.start()
    root.rename(tmp_path / "away")
    until(lambda: watch.trouble, "the trouble")
    (tmp_path / "away").rename(root)
    until(lambda: not watch.trouble, "its end")
    watch.close()


def test_a_lost_event_leads_to_a_scan(tmp_path: Path, until) -> None:
    """inotify says that its queue overflowed: nothing but a listing tells what was lost."""
    lost = threading.Event()

    class Overflown(NoEvents):
        def wait(self, timeout_s: float) -> list[FileEvent] | None:
            if lost.is_set():
                lost.clear()
                return None
            return super().wait(min(timeout_s, 0.01))

    got: list[Arrival] = []
    watch = FolderWatch(str(tmp_path), got.extend, 1e6, Overflown())
    watch.start()
    assert watch.ready.wait(20.0)
    (tmp_path / "1.dcm").write_bytes(b"x")
    lost.set()
    until(lambda: got, "the file whose event was lost")
    watch.close()


def test_the_system_has_events(tmp_path: Path) -> None:
    events = events_for(str(tmp_path))
    assert isinstance(events, Inotify | Watchfiles)
    events.wake()
    events.close()
