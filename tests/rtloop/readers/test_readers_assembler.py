"""Files in any order, twice, cut, of other series: what the assembler answers."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from rtloop.errors import ConfigError
from rtloop.readers import (
    Assembler,
    Complete,
    Refused,
    Repeat,
    ScannerConfig,
    Skipped,
    Taken,
    Unfinished,
    assembler,
)
from tests.rtloop.readers.conftest import SECRET, SMALL, assembled, edited, same

Files = Callable[[str], list[Path]]
N_SLICES = {"s1925": 18, "mr_0004": 15, "philips_ingenia": 63}


@pytest.mark.parametrize(
    ("name", "n_volumes"),
    [
        ("siemens_mosaic_prisma_64x64x18", 60),
        ("siemens_xa30_enhanced", 20),
        ("s1925", 5),
        ("mr_0004", 10),
        ("philips_ingenia", 3),
    ],
)
def test_the_order_of_files_does_not_matter(name: str, n_volumes: int, files: Files) -> None:
    paths = files(name)[: n_volumes * N_SLICES.get(name, 1)]
    in_order, outcomes = assembled(paths)
    assert [volume.index for volume in in_order] == list(range(n_volumes))
    assert all(isinstance(outcome, Complete | Taken) for outcome in outcomes)
    shuffled = random.Random(3).sample(paths, len(paths))
    by_index = {volume.index: volume for volume in assembled(shuffled)[0]}
    assert sorted(by_index) == list(range(n_volumes))
    assert all(same(volume, by_index[volume.index]) for volume in in_order)


def test_names_mean_nothing(files: Files, tmp_path: Path) -> None:
    """GE's numbers sort wrongly as text; the header's instance number decides."""
    for path in files("s1925")[:36]:
        (tmp_path / f"i.MRDC{path.suffix}").write_bytes(path.read_bytes())
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[1] == "i.MRDC.10"
    volumes, _ = assembled([tmp_path / name for name in names])
    by_index = {volume.index: volume for volume in volumes}
    expected, _ = assembled(files("s1925")[:36])
    assert len(expected) == 2
    assert all(same(volume, by_index[volume.index]) for volume in expected)


def test_the_repeated_file_of_the_skyra_series(dicom: Callable[[str], Path]) -> None:
    paths = sorted(dicom("siemens_mosaic_skyra").iterdir())
    volumes, outcomes = assembled(paths)
    assert [volume.index for volume in volumes] == [9, *range(9)]
    assert outcomes[-1] == Repeat(volumes[0].attempt, 9)


@pytest.mark.parametrize("name", SMALL)
def test_a_completed_volume_is_not_given_twice(name: str, files: Files) -> None:
    paths = files(name)[: N_SLICES.get(name, 1)]
    volumes, outcomes = assembled(paths * 2)
    assert len(volumes) == 1
    repeat = Repeat(volumes[0].attempt, volumes[0].index)
    assert outcomes[len(paths) :] == [repeat] * len(paths)


def test_a_slice_sent_twice_counts_once(files: Files) -> None:
    paths = files("mr_0004")[:15]
    volumes, outcomes = assembled([paths[0], *paths])
    assert isinstance(outcomes[1], Taken)
    assert len(volumes) == 1


def test_pending_tells_what_is_missing_and_can_be_given_up(files: Files) -> None:
    paths = files("mr_0004")
    reader = Assembler(ScannerConfig(), SECRET)
    for path in [*paths[:10], *paths[15:20]]:
        assert isinstance(reader.add(path, 0.0), Taken)
    attempt = reader.pending()[0][0]
    assert reader.pending() == [(attempt, 0, 10, 15), (attempt, 1, 5, 15)]
    reader.abandon(attempt, 0)
    late = reader.add(paths[10], 0.0)
    assert isinstance(late, Refused)
    assert (late.attempt, late.index) == (attempt, 0)
    assert reader.pending() == [(attempt, 1, 5, 15)]
    outcomes = [reader.add(path, 7.0) for path in paths[20:30]]
    assert isinstance(outcomes[-1], Complete)
    assert outcomes[-1].volume.received_s == 7.0
    assert reader.pending() == []


def test_memory_is_bounded(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembler, "MAX_PENDING_VOLUMES", 3)
    first_slices = files("mr_0004")[::15]
    reader = Assembler(ScannerConfig(), SECRET)
    for path in first_slices[:5]:
        reader.add(path, 0.0)
    assert [index for _, index, _, _ in reader.pending()] == [2, 3, 4]


def test_a_restarted_series_is_a_new_attempt(files: Files, tmp_path: Path) -> None:
    paths = files("siemens_xa30_enhanced")[:3]

    def restart(dataset: pydicom.Dataset) -> None:
        dataset.SeriesInstanceUID += ".1"

    again = [edited(path, tmp_path / path.name, restart) for path in paths]
    volumes, _ = assembled([paths[0], again[0], paths[1], *again[1:], paths[2]])
    attempts = [volume.attempt for volume in volumes]
    assert len(set(attempts)) == 2
    for attempt in set(attempts):
        assert [v.index for v in volumes if v.attempt == attempt] == [0, 1, 2]


def test_interoperability_mode_renews_the_study_with_every_volume(
    files: Files, tmp_path: Path
) -> None:
    copies = []
    for number, path in enumerate(files("siemens_xa30_enhanced")[:3]):

        def renew(dataset: pydicom.Dataset, number: int = number) -> None:
            dataset.StudyInstanceUID += f".{number}"

        copies.append(edited(path, tmp_path / path.name, renew))
    volumes, _ = assembled(copies)
    assert len({volume.attempt for volume in volumes}) == 1
    assert len(volumes) == 3


def test_the_attempt_is_a_keyed_hash(files: Files) -> None:
    path = files("siemens_mosaic_skyra")[1]
    attempts = set()
    for secret in (b"one", b"two", b"one"):
        outcome = Assembler(ScannerConfig(), secret).add(path, 0.0)
        assert isinstance(outcome, Complete)
        attempts.add(outcome.volume.attempt)
    assert len(attempts) == 2
    assert all(len(attempt) == 16 and int(attempt, 16) >= 0 for attempt in attempts)


@pytest.mark.parametrize("secret", [b"", b"x" * 65])
def test_a_secret_that_cannot_be_a_key_is_refused(secret: bytes) -> None:
    with pytest.raises(ConfigError, match="1 to 64 bytes"):
        Assembler(ScannerConfig(), secret)


def test_other_series_in_the_same_folder_are_kept_out(
    dicom: Callable[[str], Path], files: Files, tmp_path: Path
) -> None:
    task_run = set(files("siemens_xa30_enhanced"))
    field_maps = [p for p in dicom("siemens_xa30_enhanced").rglob("*.dcm") if p not in task_run]

    def moco(dataset: pydicom.Dataset) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "NORM", "MOCO", "MOSAIC"]
        dataset.SeriesInstanceUID += ".2"

    twin = edited(files("siemens_mosaic_skyra")[1], tmp_path / "moco.dcm", moco)
    volumes, outcomes = assembled([*field_maps, twin])
    assert volumes == []
    assert len(outcomes) == 4
    assert all(isinstance(o, Skipped) and o.attempt is not None for o in outcomes)
    assert "MOCO" in outcomes[-1].reason


def test_a_file_of_other_shape_is_refused(files: Files, tmp_path: Path) -> None:
    paths = files("siemens_mosaic_skyra")
    large = files("siemens_mosaic_prisma_64x64x18")[4]
    uid = pydicom.dcmread(paths[1], stop_before_pixels=True).SeriesInstanceUID

    def join(dataset: pydicom.Dataset) -> None:
        dataset.SeriesInstanceUID = uid

    odd = edited(large, tmp_path / "odd.dcm", join)
    volumes, outcomes = assembled([paths[1], odd, paths[2]])
    assert len(volumes) == 2
    assert isinstance(outcomes[1], Refused)
    assert (outcomes[1].attempt, outcomes[1].index) == (volumes[0].attempt, 4)
    assert "shape" in outcomes[1].reason


def test_slices_of_one_volume_that_do_not_fit_are_refused(files: Files, tmp_path: Path) -> None:
    paths = list(files("mr_0004")[:15])

    def move(dataset: pydicom.Dataset) -> None:
        dataset.ImagePositionPatient[2] += 2.0

    paths[7] = edited(paths[7], tmp_path / "moved.dcm", move)
    volumes, outcomes = assembled(paths)
    assert volumes == []
    assert isinstance(outcomes[-1], Refused)
    assert "spacing" in outcomes[-1].reason
    assert outcomes[-1].index == 0


def test_a_file_that_is_gone_may_come_back(tmp_path: Path) -> None:
    outcome = Assembler(ScannerConfig(), SECRET).add(tmp_path / "patient-name.dcm", 0.0)
    assert isinstance(outcome, Unfinished)
    assert "patient" not in outcome.reason


@pytest.mark.parametrize("name", SMALL)
def test_no_truncated_file_ever_gives_a_volume(name: str, files: Files, tmp_path: Path) -> None:
    """Cuts at random and at the edges; the finished file is then taken as if nothing were."""
    *others, path = files(name)[: N_SLICES.get(name, 1)]
    reader = Assembler(ScannerConfig(), SECRET)
    for other in others:
        reader.add(other, 0.0)
    whole = path.read_bytes()
    rng = random.Random(11)
    cuts = [0, 1, 127, 131, 132, 133, 140, 300, len(whole) // 2, len(whole) - 2, len(whole) - 1]
    growing = tmp_path / path.name
    for cut in cuts + [rng.randrange(len(whole)) for _ in range(60)]:
        growing.write_bytes(whole[:cut])
        assert isinstance(reader.add(growing, 0.0), Unfinished), cut
    growing.write_bytes(whole)
    assert isinstance(reader.add(growing, 0.0), Complete)


def test_the_truncated_file_of_the_data_is_unfinished(data: Path) -> None:
    (path,) = (data / "dicom" / "siemens_truncated").glob("*.dcm")
    assert isinstance(Assembler(ScannerConfig(), SECRET).add(path, 0.0), Unfinished)


def test_voxels_survive_the_file(files: Files, tmp_path: Path) -> None:
    """A volume owns its voxels: nothing of the file's bytes is shared or kept."""
    volume = assembled(files("siemens_mosaic_skyra")[1:2])[0][0]
    assert volume.data.base is None
    assert volume.data.flags.writeable
    assert np.abs(volume.affine).max() < 1000
