"""The simulated scanner, read with the loop's own readers. Real data where it says so."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dcm2niix
import nibabel as nib
import numpy as np
import pytest

from rtloop.errors import ConfigError
from rtloop.readers import (
    Complete,
    Refused,
    Repeat,
    Skipped,
    Unfinished,
    read_series,
)
from tests.tools.playing import BINDING, answers, exported, four_dimensional, script
from tools.cli import run
from tools.faults import Delivery
from tools.participant import Grid, Nuisance, Participant
from tools.scanner import (
    ExportFolder,
    SimulatedSeries,
    open_series,
    play,
)

SMALL = Grid.axial((40, 48, 20), (4.5, 4.5, 6.0), tilt_rad=-0.2)


def person(seed: int = 3, **changes: Any) -> Participant:
    return Participant(seed, SMALL, tr_s=1.5, **changes)


# --- pace ------------------------------------------------------------------------------------


@dataclass
class FakeClock:
    """Time that passes only when somebody waits or works."""

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += min(seconds, 0.4)  # waking up early is allowed


@dataclass
class Watcher:
    """An outlet that notes when it is served, and takes its time."""

    clock: FakeClock
    work_s: float = 0.0
    busy: int = 0
    at_s: list[tuple[int, float]] = field(default_factory=list)
    complete: bool | None = None

    def check(self, series: Any, deliveries: list[Delivery]) -> None: ...

    def start(self) -> None: ...

    def prepare(self, series: Any, delivery: Delivery) -> int:
        self.clock.now_s += self.work_s
        return delivery.index

    def deliver(self, series: Any, delivery: Delivery, content: int) -> None:
        self.at_s.append((content, self.clock() - 100.0))

    def idle(self, seconds: float) -> None:
        self.clock.wait(seconds)

    def is_ready(self) -> bool:
        self.busy -= 1
        return self.busy < 0

    def finish(self, series: Any, complete: bool) -> None:
        self.complete = complete


@dataclass
class Bare:
    """A series of nothing but numbers."""

    n_volumes: int = 500
    tr_s: float = 0.7


@pytest.mark.parametrize("speed", [1.0, 10.0])
@pytest.mark.parametrize("work", [0.0, 0.9])
def test_deadlines_are_absolute(speed: float, work: float) -> None:
    clock = FakeClock()
    series = Bare()
    watcher = Watcher(clock, work_s=work * series.tr_s / speed)
    played = play(series, watcher, speed=speed, clock=clock)  # type: ignore[arg-type]
    found = np.array([at_s for _, at_s in watcher.at_s])
    np.testing.assert_allclose(found, np.arange(1, 501) * 0.7 / speed, atol=1e-9)
    assert max(played.late_s) < 1e-9
    assert watcher.complete


def test_a_slow_volume_is_caught_up_with() -> None:
    clock = FakeClock()
    watcher = Watcher(clock)

    def stall(delivery: Delivery) -> None:
        clock.now_s += 3.0 if delivery.index == 5 else 0.0

    series = Bare(n_volumes=20)
    play(series, watcher, clock=clock, before=[stall])  # type: ignore[arg-type]
    at_s = dict(watcher.at_s)
    assert at_s[5] == pytest.approx(5 * 0.7 + 3.0)
    assert at_s[19] == pytest.approx(20 * 0.7)


def test_without_a_pace_it_waits_until_the_outlet_is_ready() -> None:
    clock = FakeClock()
    watcher = Watcher(clock, busy=7)
    play(Bare(n_volumes=3), watcher, speed=0, clock=clock)  # type: ignore[arg-type]
    assert watcher.at_s[0][1] == pytest.approx(7 * 0.02)
    faults = script({"kind": "abort", "volume": 1})
    play(Bare(n_volumes=3), watcher, faults, speed=0, clock=clock)  # type: ignore[arg-type]
    assert watcher.complete is False


def test_faulty_timetable_is_played_on_time() -> None:
    clock = FakeClock()
    watcher = Watcher(clock)
    faults = script(
        {"kind": "drop", "volume": 2},
        {"kind": "delay", "volume": 4, "by_tr": 0.5},
        {"kind": "burst", "volume": 6, "n_volumes": 2},
    )
    play(Bare(n_volumes=9), watcher, faults, speed=2, clock=clock)  # type: ignore[arg-type]
    in_tr = [(index, round(at_s / 0.35, 6)) for index, at_s in watcher.at_s]
    assert in_tr == [(0, 1), (1, 2), (3, 4), (4, 5.5), (5, 6), (6, 8), (7, 8), (8, 9)]


# --- a simulated participant's export ----------------------------------------------------------


def test_exported_participant_is_read_back_as_it_was(tmp_path: Path) -> None:
    subject = person()
    files = exported(tmp_path, SimulatedSeries(subject, 4))
    assert [path.name for path in files] == [f"001_000005_{i:06d}.dcm" for i in range(1, 5)]
    found = read_series(tmp_path, BINDING)
    assert [volume.index for volume in found] == [0, 1, 2, 3]
    for volume in found:
        made = subject.volume(volume.index)
        np.testing.assert_array_equal(volume.data, made.data)
        np.testing.assert_allclose(volume.affine, made.affine, atol=1e-4)
        assert volume.tr_s == made.tr_s
        assert volume.acquired_s == pytest.approx(made.acquired_s, abs=1e-5)
        assert volume.slice_times_s == pytest.approx(made.slice_times_s, abs=1e-5)
        assert volume.slice_axis == made.slice_axis
        assert volume.n_volumes == 4
        assert volume.protocol == made.protocol


@pytest.mark.slow
def test_dcm2niix_reads_the_export_to_the_same_values(tmp_path: Path) -> None:
    subject = person()
    exported(tmp_path / "in", SimulatedSeries(subject, 3))
    (tmp_path / "out").mkdir()
    subprocess.run(
        [dcm2niix.bin, "-p", "n", "-z", "n", "-f", "x", "-o", tmp_path / "out", tmp_path / "in"],
        check=True,
        capture_output=True,
    )
    (path,) = (tmp_path / "out").glob("*.nii")
    image = nib.as_closest_canonical(nib.load(path))
    np.testing.assert_allclose(image.affine, SMALL.affine, atol=1e-3)
    assert image.header.get_zooms()[3] == pytest.approx(1.5)
    for index in range(3):
        np.testing.assert_array_equal(image.dataobj[..., index], subject.volume(index).data)


def test_roi_signals_survive_the_export(tmp_path: Path) -> None:
    subject = person(nuisance=Nuisance.none(), baseline=4000)
    exported(tmp_path, SimulatedSeries(subject, 40))
    found = read_series(tmp_path, BINDING)
    true = subject.truth.signals(40)
    for k in range(len(subject.spheres)):
        inside = subject.truth.labels == k + 1
        measured = [volume.data[inside].mean() for volume in found]
        assert np.corrcoef(measured, true[:, k])[0, 1] > 0.95


def test_every_content_fault_shows_in_the_export(tmp_path: Path) -> None:
    faults = script(
        {"kind": "truncate", "volume": 1},
        {"kind": "wrong_shape", "volume": 2},
        {"kind": "wrong_affine", "volume": 3, "shift_mm": 7.0},
        {"kind": "duplicate", "volume": 4},
        {"kind": "wrong_series", "volume": 5, "n_volumes": 2},
        {"kind": "partial", "volume": 6},
    )
    subject = person()
    files = exported(tmp_path, SimulatedSeries(subject, 8), faults)
    assert len(set(files)) == len(files)
    first, cut, narrow, moved, fourth, again, *rest = answers(files)
    assert isinstance(first, Complete)
    assert isinstance(cut, Unfinished)
    assert isinstance(narrow, Refused)
    assert narrow.index == 2
    np.testing.assert_allclose(
        moved.volume.affine[:3, 3] - first.volume.affine[:3, 3], [0, 0, 7], atol=1e-4
    )
    assert isinstance(again, Repeat)
    assert again.index == fourth.volume.index == 4
    assert [type(one) for one in rest] == [Skipped, Skipped, *[Complete] * 3]
    np.testing.assert_array_equal(rest[3].volume.data, subject.volume(6).data)


def test_partial_file_is_not_whole_until_its_rest_has_come(tmp_path: Path) -> None:
    faults = script({"kind": "partial", "volume": 1, "keep": 0.4, "pause_tr": 0.5})
    outlet = ExportFolder(tmp_path)
    sizes = {}

    def look(delivery: Delivery) -> None:
        path = tmp_path / "001_000005_000002.dcm"
        if delivery.part == "rest":
            sizes["before"] = path.stat().st_size
            assert isinstance(answers([path])[0], Unfinished)

    play(SimulatedSeries(person(), 3), outlet, faults, speed=0, before=[look])
    whole = (tmp_path / "001_000005_000002.dcm").stat().st_size
    assert sizes["before"] / whole == pytest.approx(0.4, abs=0.01)
    assert len(read_series(tmp_path, BINDING)) == 3


def test_restart_is_another_series_from_zero(tmp_path: Path) -> None:
    faults = script({"kind": "restart", "volume": 1})
    files = exported(tmp_path, SimulatedSeries(person(), 3), faults)
    found = [one.volume for one in answers(files)]
    assert [volume.index for volume in found] == [0, 1, 0, 1, 2]
    assert found[0].attempt == found[1].attempt != found[2].attempt == found[4].attempt


def test_nan_is_refused_where_files_hold_integers(tmp_path: Path) -> None:
    faults = script({"kind": "nan", "volume": 1})
    with pytest.raises(ConfigError, match=r"fault nan at volume 1: .* integers"):
        exported(tmp_path, SimulatedSeries(person(), 3), faults)


def test_renamed_files_are_never_seen_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tools.scanner import export

    seen = []

    def replace(temporary: Path, final: Path) -> None:
        seen.append((temporary.name, temporary.stat().st_size, final.exists()))
        temporary.rename(final)

    monkeypatch.setattr(export.os, "replace", replace)
    files = exported(tmp_path, SimulatedSeries(person(), 2))
    assert seen == [(f"{path.name}.tmp", path.stat().st_size, False) for path in files]
    assert sorted(tmp_path.iterdir()) == sorted(files)


# --- what people type --------------------------------------------------------------------------


def test_sources_are_told_apart(tmp_path: Path) -> None:
    series = open_series("participant:7", tr_s=1.0, n_volumes=3)
    assert isinstance(series, SimulatedSeries)
    assert (series.participant.seed, series.n_volumes, series.tr_s) == (7, 3, 1.0)
    recorded = open_series(str(four_dimensional(tmp_path, scaled=False)), n_volumes=2)
    assert (recorded.form, recorded.n_volumes) == ("nifti4d", 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("participant",), "expected --volumes"),
        (("participant", None, 5, 2), "no --repeat"),
        (("nowhere",), "found nothing"),
        (("participant", 1.0, 0), "--volumes: expected a positive number up to 100000, found 0"),
        (("participant", -1.0, 5), "--tr: expected a positive number up to 20, found -1"),
        (("participant", float("inf"), 5), "--tr: expected a positive number up to 20, found inf"),
        (("participant", 1.0, 10**20), "--volumes: expected a positive number up to 100000"),
    ],
)
def test_wrong_sources_are_named(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_series(*arguments)


def test_folders_without_a_series_and_too_short_ones(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ConfigError, match="found none among 1"):
        open_series(str(tmp_path))
    path = four_dimensional(tmp_path, scaled=False)
    with pytest.raises(ConfigError, match="found 4 played 2 times"):
        open_series(str(path), n_volumes=9, repeat=2)
    with pytest.raises(ConfigError, match="name the 4-D file itself"):
        open_series(str(tmp_path))


def test_command_plays_into_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = four_dimensional(tmp_path, scaled=False)
    folder = tmp_path / "export"
    assert run(["scan", str(source), "--as-export", str(folder), "--speed", "0"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == [f"vol_{i:04d}.nii" for i in range(4)]
    assert "4 volumes played" in capsys.readouterr().out
    assert run(["scan", str(source)]) == 2
    assert "found none" in capsys.readouterr().err
    blocked = tmp_path / "bold.nii.gz" / "folder"
    assert run(["scan", str(source), "--as-export", str(blocked)]) == 2
    assert "expected a folder" in capsys.readouterr().err
    recorded = ["scan", str(source), "--as-export", str(folder), "--feedback", "tcp://127.0.0.1:9"]
    assert run(recorded) == 2
    assert "cannot learn" in capsys.readouterr().err
