"""The spool: what is answered with success is on disk; what is on disk is removed when settled."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from rtloop.errors import ConfigError
from rtloop.gateway.spool import Ledger, Spool


def test_objects_are_private_numbered_and_whole(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    paths = [spool.put(bytes([number]) * 1000) for number in range(3)]
    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700
    assert [path.read_bytes()[0] for path in sorted(paths)] == [0, 1, 2]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in paths)
    assert sorted(os.listdir(spool.folder)) == [path.name for path in paths]


def test_it_is_synced_before_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that makes success true: content synced, renamed, folder synced."""
    spool = Spool(tmp_path)
    acts: list[str] = []
    sync, rename = os.fsync, Path.rename

    def synced(handle: int) -> None:
        acts.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "content")
        sync(handle)

    def renamed(self: Path, target: Path) -> Path:
        acts.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    spool.put(b"x")
    assert acts == ["content", "rename", "folder"]


def test_a_restart_counts_on_and_clears_what_was_never_answered(tmp_path: Path) -> None:
    first = Spool(tmp_path).put(b"x")
    (tmp_path / ".0000000007.dcm.part").write_bytes(b"half")
    second = Spool(tmp_path).put(b"y")
    assert second.name > first.name
    assert sorted(os.listdir(tmp_path)) == [first.name, second.name]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError) as raised:
        Spool(tmp_path, reserve_bytes=1 << 60).put(b"x")
    assert raised.value.errno == errno.ENOSPC

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        Spool(tmp_path).put(b"x")
    assert os.listdir(tmp_path) == []


def test_a_spool_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ConfigError, match="expected a folder of one's own"):
        Spool(tmp_path / "file")


def test_files_are_settled_with_their_items_and_not_before() -> None:
    ledger = Ledger()
    for item in (("a1", "a2"), (), ("b",), ("c",)):
        ledger.sent(item)
    assert ledger.settled(4) == []
    assert ledger.settled(3) == ["a1", "a2"]
    assert ledger.settled(1) == ["b"]
    assert ledger.settled(1) == []
    assert ledger.settled(0) == ["c"]
