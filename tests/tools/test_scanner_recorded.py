"""Recorded series played by the simulated scanner. Real data, but for the 4-D images."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rtloop.errors import ConfigError
from rtloop.readers import (
    Assembler,
    Complete,
    Refused,
    ScannerConfig,
    Skipped,
    Taken,
    Unfinished,
    read_series,
)
from rtloop.volume import Volume
from tests.tools.playing import BINDING, answers, exported, four_dimensional, script
from tools.faults import Delivery
from tools.scanner import (
    RecordedSeries,
)
from tools.scanner.recording import Recording


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "form", "n_volumes", "n_files", "pattern"),
    [
        ("siemens_mosaic_skyra", "siemens", 10, 1, r"001_000013_\d{6}\.dcm"),
        ("siemens_xa30_enhanced", "xa", 20, 1, r"\d{4}_[\d.]+\.dcm"),
        ("mr_0004", "ge", 10, 15, r"i\d+\.MRDC\.\d+"),
        ("philips_ingenia", "philips", 12, 63, r"2101_\d{4}\.dcm"),
    ],
)
def test_real_dicom_is_exported_byte_for_byte(
    dicom: Callable[[str], Path], tmp_path: Path, name: str, form: str, n_volumes: int,
    n_files: int, pattern: str,
) -> None:  # fmt: skip
    series = RecordedSeries(dicom(name))
    assert (series.form, series.n_volumes) == (form, n_volumes)
    files = exported(tmp_path, series)
    assert len(files) == n_volumes * n_files
    assert all(re.fullmatch(pattern, path.name) for path in files)
    originals = [path for volume in Recording.open(dicom(name)).volumes for path in volume]
    assert [digest(path) for path in files] == [digest(path) for path in originals]
    done = [one.volume.index for one in answers(files) if isinstance(one, Complete)]
    assert done == list(range(n_volumes))


def test_order_is_the_scanners_not_the_names(dicom: Callable[[str], Path], tmp_path: Path) -> None:
    originals = [path for (path,) in Recording.open(dicom("siemens_mosaic_skyra")).volumes]
    for place, path in enumerate(reversed(originals)):
        (tmp_path / f"{place:03d}.dcm").write_bytes(path.read_bytes())
    found = [path for (path,) in Recording.open(tmp_path).volumes]
    assert [digest(path) for path in found] == [digest(path) for path in originals]


def same_volumes(found: list[Volume], original: list[Volume]) -> None:
    assert [volume.index for volume in found] == list(range(len(found)))
    for volume in found:
        twin = original[volume.index % len(original)]
        np.testing.assert_array_equal(volume.data, twin.data)
        np.testing.assert_allclose(volume.affine, twin.affine, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["siemens_mosaic_skyra", "siemens_xa30_enhanced", "mr_0004", "philips_ingenia"]
)
def test_repeated_real_series_counts_on(
    dicom: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    # A short series of the same files: the repetition begins at its fourth volume.
    source = tmp_path / "short"
    source.mkdir()
    for path in (path for volume in Recording.open(dicom(name)).volumes[:3] for path in volume):
        (source / path.name).write_bytes(path.read_bytes())
    original = read_series(source, BINDING)
    n = len(original) + 2
    series = RecordedSeries(source, n_volumes=n, repeat=2)
    files = exported(tmp_path / "out", series)
    assert len(set(files)) == len(files)
    found = read_series(tmp_path / "out", BINDING)
    assert len(found) == n
    same_volumes(found, original)
    lap_s = len(original) * original[0].tr_s
    if original[0].acquired_s is not None:
        assert found[-2].acquired_s == pytest.approx(original[0].acquired_s + lap_s, abs=1e-3)
        streamed = series.volume(Delivery(0.0, 0, n - 2))
        assert streamed.acquired_s == pytest.approx(found[-2].acquired_s, abs=1e-3)
    if name in ("siemens_xa30_enhanced", "mr_0004", "philips_ingenia"):
        assert found[0].n_volumes == n


@pytest.mark.parametrize("name", ["siemens_xa30_enhanced", "mr_0004"])
def test_faults_in_real_dicom(dicom: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    faults = script(
        {"kind": "wrong_shape", "volume": 2},
        {"kind": "wrong_affine", "volume": 3, "shift_mm": 7.0},
        {"kind": "wrong_series", "volume": 4},
        {"kind": "truncate", "volume": 5},
        {"kind": "restart", "volume": 6},
    )
    files = exported(tmp_path, RecordedSeries(dicom(name), n_volumes=8), faults)
    said = [one for one in answers(files) if not isinstance(one, Taken)]
    volumes = [one.volume for one in said if isinstance(one, Complete)]
    assert [volume.index for volume in volumes] == [0, 1, 3, 4, 6, *range(8)]
    assert len({volume.attempt for volume in volumes}) == 2
    moved = volumes[2].affine[:3, 3] - volumes[0].affine[:3, 3]
    np.testing.assert_allclose(moved, [0, 0, 7], atol=1e-3)
    others = {type(one) for one in said} - {Complete}
    assert others == {Refused, Skipped, Unfinished}


def test_par_rec_pairs(data: Path, tmp_path: Path) -> None:
    source = data / "dicom" / "philips_par_rec"
    with pytest.raises(ConfigError, match="give it with --tr"):
        RecordedSeries(source)
    binding = ScannerConfig(tr_s=1.0)
    original = read_series(source, binding)
    series = RecordedSeries(source, tr_s=1.0, repeat=2)
    files = exported(tmp_path / "twice", series)
    assert [path.suffix for path in files[:4]] == [".par", ".rec", ".par", ".rec"]
    assert digest(files[0]) == digest(source / "Dump-0000.par")
    assert digest(files[3]) == digest(source / "Dump-0001.rec")
    same_volumes(read_series(tmp_path / "twice", binding), original)
    faults = script(
        {"kind": "wrong_affine", "volume": 1, "shift_mm": 5.0}, {"kind": "wrong_shape", "volume": 2}
    )
    bad = exported(tmp_path / "bad", RecordedSeries(source, tr_s=1.0), faults)
    door = Assembler(binding, b"test")
    said = [door.add(path, 0.0) for path in bad]
    assert isinstance(said[5], Refused)
    shift = said[3].volume.affine - said[1].volume.affine
    np.testing.assert_allclose(shift[:3, 3], [0, 0, 5], atol=1e-3)


@pytest.mark.parametrize("scaled", [False, True])
def test_four_dimensional_image_becomes_a_folder_of_volumes(tmp_path: Path, scaled: bool) -> None:
    path = four_dimensional(tmp_path, scaled)
    faults = script({"kind": "nan", "volume": 5}, {"kind": "wrong_affine", "volume": 6})
    series = RecordedSeries(path, repeat=2)
    assert (series.n_volumes, series.tr_s) == (8, 1.25)
    files = exported(tmp_path / "out", series, faults)
    found = [one.volume for one in answers(files)]
    original = read_series(path, BINDING)
    same_volumes(found[:5], original)
    assert found[0].tr_s == 1.25
    assert np.isnan(found[5].data).all()
    assert found[6].affine[2, 3] - found[0].affine[2, 3] == pytest.approx(10.0)
    np.testing.assert_allclose(found[6].data, original[2].data)
    again = RecordedSeries(tmp_path / "out", tr_s=2.5)
    assert (again.form, again.n_volumes, again.tr_s) == ("nifti", 8, 2.5)


def test_the_stream_gets_the_readers_volumes_counted_on(tmp_path: Path) -> None:
    series = RecordedSeries(four_dimensional(tmp_path, scaled=False), tr_s=2.0, repeat=3)
    original = read_series(tmp_path / "bold.nii.gz", BINDING)
    volume = series.volume(Delivery(0.0, 0, 9))
    np.testing.assert_array_equal(volume.data, original[1].data)
    assert (volume.index, volume.tr_s, volume.n_volumes) == (9, 2.0, 12)
    halved = series.volume(Delivery(0.0, 0, 1, change="wrong_shape"))
    assert halved.shape == (6, 3, 5)
    assert math.isnan(series.volume(Delivery(0.0, 0, 1, change="nan")).data[0, 0, 0])
    assert series.volume(Delivery(0.0, 1, 0)).attempt != volume.attempt
