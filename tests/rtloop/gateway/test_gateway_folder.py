"""A scanner's folder to the engine: real files, a real watch, a real stream, each hazard once."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

import rtloop.gateway.relay
from rtloop.gateway.config import read_secret
from rtloop.gateway.watch import FolderWatch, Watchfiles
from rtloop.readers import ScannerConfig, read_series
from rtloop.volume import Volume
from tests.rtloop.gateway.loopback import arrive, series
from tests.rtloop.gateway.test_gateway_watch import NoEvents

MOSAIC = "siemens_mosaic_prisma_64x64x18"
SKYRA = "siemens_mosaic_skyra"
ENHANCED = "siemens_xa30_enhanced"


@pytest.fixture(params=["system", "watchfiles", "share"])
def any_events(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each source of events in turn; `share` has none and is rescanned."""
    kinds = {"watchfiles": Watchfiles, "share": lambda _: NoEvents()}

    def watch(folder: str, arrived: Callable[..., None], rescan_s: float) -> FolderWatch:
        kind = kinds.get(request.param)
        return FolderWatch(folder, arrived, rescan_s, kind(folder) if kind else None)

    monkeypatch.setattr(rtloop.gateway.relay, "FolderWatch", watch)
    return str(request.param)


def assert_same(got: list[Volume], expected: list[Volume]) -> None:
    """The same volumes in the same order, but for the time they were received."""
    assert [(v.attempt, v.index) for v in got] == [(v.attempt, v.index) for v in expected]
    for one, other in zip(got, expected, strict=True):
        assert np.array_equal(one.data, other.data)
        assert np.array_equal(one.affine, other.affine)
        assert (one.tr_s, one.slice_times_s, one.n_volumes) == (
            other.tr_s,
            other.slice_times_s,
            other.n_volumes,
        )


def second_attempt(files: list[Path], folder: Path) -> list[Path]:
    """The same images as another series: what a restart of the protocol exports."""
    made = []
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.1"
        made.append(folder / f"second_{file.name}")
        dataset.save_as(made[-1])
    return made


FORMS = {
    MOSAIC: lambda folder: series(folder)[:12],
    ENHANCED: lambda folder: series(folder / "7_func-bold_task-fa_run-1"),
    "s1925": lambda folder: series(folder, "*")[: 3 * 18],
    "mr_0004": lambda folder: series(folder)[: 3 * 15],
    "philips_ingenia": lambda folder: [
        path for path in series(folder) if int(path.stem.split("_")[1]) % 75 in (1, 2, 3)
    ],
}


@pytest.mark.parametrize("name", list(FORMS))
def test_every_form_arrives_as_read_series_reads_it(
    name: str, dicom, export, run, engine, until, tmp_path
) -> None:
    run()
    until(lambda: engine.connected, "the gateway")
    arrive(FORMS[name](dicom(name)), export)
    expected = read_series(export, ScannerConfig(), read_secret(tmp_path / "secret"))
    assert len(expected) > 2
    until(lambda: len(engine.volumes) == len(expected), "all volumes")
    assert_same(engine.volumes, expected)
    assert engine.kinds()[0] == "series_opened"
    assert set(engine.kinds()) <= {"series_opened", "series_closed"}


def test_pairs_of_par_and_rec(data, export, run, engine, until, tmp_path) -> None:
    (tmp_path / "scanner.toml").write_text("tr_s = 1.0\n")
    run(scanner=str(tmp_path / "scanner.toml"))
    until(lambda: engine.connected, "the gateway")
    arrive(sorted((data / "dicom" / "philips_par_rec").iterdir()), export)
    until(lambda: len(engine.volumes) == 4, "four pairs")
    assert engine.indices() == [0, 1, 2, 3]


def test_a_folder_of_nifti_images(export, run, engine, until, tmp_path) -> None:
    rng = np.random.default_rng(0)
    run()
    until(lambda: engine.connected, "the gateway")
    for index in range(4):
        image = nibabel.Nifti1Image(rng.integers(0, 900, (6, 5, 4), np.int16), np.eye(4))
        image.header.set_zooms((1.0, 1.0, 1.0))
        image.header["pixdim"][4] = 1.5
        image.header.set_xyzt_units("mm", "sec")
        nibabel.save(image, export / f"vol_{index:04d}.nii")
    until(lambda: len(engine.volumes) == 4, "four images")
    assert engine.indices() == [0, 1, 2, 3]
    assert {volume.tr_s for volume in engine.volumes} == {1.5}


def test_partial_writes_are_not_taken_for_volumes(
    any_events, dicom, export, run, engine, until, tmp_path
) -> None:
    run()
    until(lambda: engine.connected, "the gateway")
    files = series(dicom(MOSAIC))[:3]
    for file in files:
        body = file.read_bytes()
        with (export / file.name).open("wb", buffering=0) as stream:
            for start in range(0, len(body), len(body) // 5):
                stream.write(body[start : start + len(body) // 5])
                time.sleep(0.02)
    until(lambda: len(engine.volumes) == 3, "three volumes")
    assert_same(
        engine.volumes, read_series(export, ScannerConfig(), read_secret(tmp_path / "secret"))
    )
    assert engine.kinds() == ["series_opened"]


def test_temporary_names_and_bursts(any_events, dicom, export, run, engine, until) -> None:
    run()
    until(lambda: engine.connected, "the gateway")
    files = series(dicom(MOSAIC))
    parts = [export / f"{file.name}.filepart" for file in files]
    for file, part in zip(files, parts, strict=True):
        shutil.copyfile(file, part)
    time.sleep(0.1)  # time enough for a watch that falls for them
    assert not engine.log
    random.Random(0).shuffle(parts)
    for part in parts:
        part.rename(part.with_suffix(""))
    until(lambda: "series_closed" in engine.kinds(), "the burst")
    assert engine.indices() == list(range(len(files)))
    assert engine.kinds() == ["series_opened", "series_closed"]
    assert engine.notes[-1].reason == "complete: 60 of 60 volumes"


def test_a_second_series_is_named_once(dicom, export, run, engine, until) -> None:
    run()
    until(lambda: engine.connected, "the gateway")
    source = dicom(ENHANCED)
    for folder in sorted(source.iterdir(), reverse=True):
        (export / folder.name).mkdir()
        arrive(series(folder), export / folder.name)
    (export / "report.txt").write_text("no image")
    until(lambda: len(engine.volumes) == 20 and engine.kinds().count("skipped") >= 3, "both")
    arrive(series(source / "8_gre_field_mapping"), export)
    (export / "last.txt").write_text("no image, either")
    until(lambda: engine.kinds().count("skipped") == 4 or time.sleep(0.3) is None, "more skips")
    skipped = [note for note in engine.notes if note.kind == "skipped"]
    attempts = [note.attempt for note in skipped if note.attempt is not None]
    assert len(attempts) == len(set(attempts)) == 2
    assert len({note.reason for note in skipped if note.attempt is None}) <= 2
    assert engine.indices() == list(range(20))


def test_a_watch_begun_midway_sends_what_was_there_first(
    any_events, dicom, export, run, engine, until
) -> None:
    files = series(dicom(MOSAIC))
    before, after = files[:30], files[30:]
    # Written in another order than acquired: the index decides, not name or time.
    arrive(random.Random(1).sample(before, len(before)), export)
    old = second_attempt(files[:2], export)
    for path in old:
        os.utime(path, (1e9, 1e9))
    run()
    until(lambda: len(engine.volumes) == 30, "the first half")
    arrive(after, export)
    until(lambda: len(engine.volumes) == 60, "the second half")
    assert engine.indices() == list(range(60))
    assert len({volume.attempt for volume in engine.volumes}) == 1
    assert "skipped" not in engine.kinds(), "a file of years ago was read"


def test_an_earlier_attempt_in_the_folder_is_named_and_left(
    dicom, export, run, engine, until
) -> None:
    files = series(dicom(MOSAIC))
    earlier = second_attempt(files[:4], export)
    for path in earlier:
        os.utime(path, (time.time() - 20,) * 2)
    arrive(files[:6], export)
    run()
    until(lambda: len(engine.volumes) == 6, "the series under way")
    arrive(files[6:8], export)
    until(lambda: len(engine.volumes) == 8, "its next volumes")
    assert engine.indices() == list(range(8))
    assert sorted(engine.kinds()) == ["series_opened", "skipped"]


def test_old_files_are_sent_once_their_series_goes_on(dicom, export, run, engine, until) -> None:
    """The file server's clock is an hour behind: only a live file tells what is under way."""
    files = series(dicom(MOSAIC))[:12]
    for place, path in enumerate(arrive(files[:8], export)):
        os.utime(path, (time.time() - 3600 + place,) * 2)
    gateway = run()
    until(lambda: any("is there" in line for line in gateway.said), "the engine")
    time.sleep(0.1)
    assert not engine.log
    arrive(files[8:], export)
    until(lambda: len(engine.volumes) == 12, "all volumes")
    assert engine.indices() == list(range(12))


def test_a_series_that_was_complete_before_is_over(dicom, export, run, engine, until) -> None:
    arrive(series(dicom(ENHANCED) / "7_func-bold_task-fa_run-1"), export)
    run()
    until(lambda: engine.kinds(), "a word about it")
    arrive(series(dicom(MOSAIC))[:2], export)
    until(lambda: len(engine.volumes) == 2, "the new series")
    assert engine.kinds() == ["skipped", "series_opened"]
    assert engine.notes[0].reason == "a series of before the watch began"


def test_an_aborted_and_restarted_series(dicom, export, run, engine, until) -> None:
    run()
    until(lambda: engine.connected, "the gateway")
    files = series(dicom(MOSAIC))
    arrive(files[:5], export)
    until(lambda: len(engine.volumes) == 5, "the first attempt")
    second_attempt(files[:4], export)
    until(lambda: len(engine.volumes) == 9, "the second attempt")
    assert engine.indices() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert engine.kinds() == ["series_opened", "series_closed", "series_opened"]
    first, closed, second = engine.notes
    assert first.attempt == closed.attempt == engine.volumes[0].attempt
    assert second.attempt == engine.volumes[-1].attempt != first.attempt
    assert closed.reason == "aborted: 5 of 60 volumes"
    # In the stream, the end of the one stands before the beginning of the other.
    assert engine.log.index(second) == engine.log.index(closed) + 1 == 7


def test_a_missing_volume_is_waited_for_briefly_and_sent_if_it_comes(
    dicom, export, run, engine, until
) -> None:
    run(gap_wait_s=0.3)
    until(lambda: engine.connected, "the gateway")
    files = series(dicom(MOSAIC))[:6]
    arrive([*files[:2], *files[3:5]], export)
    until(lambda: len(engine.volumes) == 4, "the volumes after the gap")
    arrive([files[2], files[5]], export)
    until(lambda: len(engine.volumes) == 6, "the straggler")
    assert engine.indices() == [0, 1, 3, 4, 2, 5]
    received = {volume.index: volume.received_s for volume in engine.volumes}
    assert received[3] < received[2]


def test_truncated_files_are_refused_after_their_time_and_taken_when_whole(
    any_events, data, dicom, export, run, engine, until
) -> None:
    run(unfinished_wait_s=0.5, gap_wait_s=0.1)
    until(lambda: engine.connected, "the gateway")
    files = {path.name: path for path in series(dicom(SKYRA))[1:]}
    cut = files.pop("001_000013_000005.dcm")
    shutil.copyfile(
        data / "dicom" / "siemens_truncated" / "trunc_001_000013_000005.dcm", export / cut.name
    )
    arrive(list(files.values()), export)
    until(lambda: "refused" in engine.kinds(), "the refusal")
    assert sorted(engine.indices()) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    (refused,) = [note for note in engine.notes if note.kind == "refused"]
    assert cut.name not in refused.reason
    shutil.copyfile(cut, export / cut.name)
    until(lambda: len(engine.volumes) == 10, "the whole file")
    assert engine.indices()[-1] == 4


def test_duplicates_are_told_once_and_touching_a_file_is_none(
    dicom, export, run, engine, until
) -> None:
    run()
    until(lambda: engine.connected, "the gateway")
    files = series(dicom(SKYRA))
    arrived = arrive(files[1:], export)
    until(lambda: len(engine.volumes) == 10, "the volumes")
    os.utime(arrived[3])
    shutil.copyfile(files[4], arrived[3])  # the same content again, under the same name
    arrive(files[:1], export)  # instance 10 under another name
    until(lambda: "duplicate" in engine.kinds(), "the duplicate")
    (told,) = [note for note in engine.notes if note.kind == "duplicate"]
    assert told.index == 9
    assert engine.indices() == list(range(10))


def test_a_slice_set_that_stays_incomplete(dicom, export, run, engine, until) -> None:
    run(unfinished_wait_s=0.5, gap_wait_s=0.2)
    until(lambda: engine.connected, "the gateway")
    files = series(dicom("mr_0004"))[: 4 * 15]
    lost = files.pop(15 + 7)
    arrive(files, export)
    until(lambda: "refused" in engine.kinds(), "the refusal")
    (refused,) = [note for note in engine.notes if note.kind == "refused"]
    assert refused.index == 1
    assert refused.reason == "incomplete: 14 of the volume's files came, no more"
    assert engine.indices() == [0, 2, 3]
    arrive([lost], export)
    arrive(series(dicom("mr_0004"))[4 * 15 : 5 * 15], export)
    until(lambda: len(engine.volumes) == 4, "the next volume")
    assert engine.indices() == [0, 2, 3, 4]
    assert engine.kinds().count("refused") == 1
