"""Folders: what is found, which series is read, and `fcnef read`'s image and exit status."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from rtloop.errors import ReaderError
from rtloop.readers import ScannerConfig, as_nifti, read_series, survey, the_series
from tests.rtloop.readers.conftest import Reference
from tools.cli import run


def test_every_series_is_named_with_its_reason(dicom: Callable[[str], Path]) -> None:
    found = survey(dicom("siemens_xa30_enhanced"), ScannerConfig())
    assert [(one.number, one.taken, one.n_files) for one in found] == [
        (7, True, 20),
        (8, False, 2),
        (9, False, 1),
    ]
    task, field_map, phase = found
    assert (task.n_volumes, task.n_announced, task.shape) == (20, 20, (64, 64, 33))
    assert task.tr_s == 1.0
    assert "echo-planar" in field_map.reason
    assert "P" in phase.reason
    lines = str(phase).splitlines()
    assert lines[0].startswith("series 9: gre_field_mapping, Siemens enhanced, 1 files")
    assert lines[1].strip() == f"not taken: {phase.reason}"


def test_files_that_lie_slice_by_slice_are_put_in_order(dicom: Callable[[str], Path]) -> None:
    (found,) = survey(dicom("philips_ingenia"), ScannerConfig())
    assert (found.n_files, found.n_volumes, found.n_announced) == (756, 12, 75)
    assert found.shape == (96, 96, 63)
    first = {int(path.stem[-4:]) % 75 for path in found.paths[:63]}
    assert first == {1}


def test_a_mixed_folder(data: Path, dicom: Callable[[str], Path], tmp_path: Path) -> None:
    for number, path in enumerate(sorted(dicom("siemens_mosaic_skyra").iterdir())[1:4]):
        (tmp_path / f"{number}.dcm").write_bytes(path.read_bytes())
    whole = (tmp_path / "2.dcm").read_bytes()
    (tmp_path / "2.dcm").write_bytes(whole[:-100])
    (tmp_path / "notes.txt").write_text("subject moved")
    (tmp_path / ".hidden").write_text("x")
    pair = data / "dicom" / "philips_par_rec" / "Dump-0001.par"
    (tmp_path / "Dump-0001.par").write_bytes(pair.read_bytes())
    found = survey(tmp_path, ScannerConfig())
    assert (found[0].form, found[0].taken, found[0].n_files) == ("Siemens mosaic", True, 2)
    reasons = {one.reason for one in found if not one.taken}
    assert len(reasons) == 3
    assert any("half of a PAR/REC pair" in reason for reason in reasons)
    assert len(read_series(tmp_path, ScannerConfig())) == 2


def test_progress_counts_all_files(dicom: Callable[[str], Path]) -> None:
    seen: list[tuple[int, int]] = []
    survey(dicom("mr_0004"), ScannerConfig(), lambda done, of: seen.append((done, of)))
    assert seen == [(number, 150) for number in range(1, 151)]


def test_no_series_or_two_is_an_error(dicom: Callable[[str], Path], tmp_path: Path) -> None:
    folder = dicom("siemens_xa30_enhanced")
    with pytest.raises(ReaderError, match="found none"):
        read_series(folder, ScannerConfig(protocol_name="absent"))
    both = tmp_path / "both"
    both.mkdir()
    for path in [*dicom("mr_0004").iterdir(), *dicom("siemens_mosaic_skyra").iterdir()]:
        (both / path.name).symlink_to(path)
    with pytest.raises(ReaderError, match="numbers 4, 13"):
        read_series(both, ScannerConfig())
    assert the_series(survey(both, ScannerConfig()), 13).form == "Siemens mosaic"
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ReaderError, match="found none; check the path"):
        survey(empty, ScannerConfig())
    with pytest.raises(ReaderError, match="expected a folder"):
        survey(tmp_path / "absent", ScannerConfig())


def test_a_gap_in_time_makes_no_image(dicom: Callable[[str], Path]) -> None:
    volumes = read_series(dicom("mr_0004"), ScannerConfig())
    with pytest.raises(ReaderError, match="missing or unreadable: 3, 5;"):
        as_nifti([volume for volume in volumes if volume.index not in (3, 5)])
    with pytest.raises(ReaderError, match="found none"):
        as_nifti([])


@pytest.mark.parametrize("name", ["siemens_mosaic_skyra", "siemens_xa30_enhanced", "mr_0004"])
def test_fcnef_read_writes_what_dcm2niix_would(
    name: str,
    dicom: Callable[[str], Path],
    reference: Callable[[str], Reference],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "read.nii.gz"
    assert run(["read", str(dicom(name)), "--out", str(out)]) == 0
    image, expected = nib.load(out), reference(name)
    np.testing.assert_array_equal(np.asarray(image.dataobj), expected.data)
    assert image.get_data_dtype() == np.int16
    np.testing.assert_allclose(image.affine, expected.affine, atol=1e-3)
    np.testing.assert_allclose(image.get_qform(), expected.affine, atol=1e-3)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert image.header.get_zooms()[3] == pytest.approx(expected.sidecar["RepetitionTime"])
    assert "taken: matches the binding" in capsys.readouterr().out


def test_fcnef_read_with_a_binding(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = str(data / "dicom" / "philips_par_rec"), tmp_path / "dump.nii"
    assert run(["read", folder, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "set tr_s in scanner.toml" in error
    assert error.count("\n") == 1
    (tmp_path / "scanner.toml").write_text("tr_s = 1.0\n")
    binding = ["--scanner", str(tmp_path / "scanner.toml")]
    assert run(["read", folder, "--out", str(out), *binding]) == 0
    assert nib.load(out).shape == (80, 80, 15, 4)


def test_fcnef_read_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["read", str(tmp_path / "absent")],
        ["read", str(tmp_path), "--out", str(tmp_path / "x.img")],
        ["read", str(tmp_path), "--scanner", str(tmp_path / "absent.toml")],
    ):
        assert run(arguments) == 2
        assert capsys.readouterr().err.count("\n") == 1
