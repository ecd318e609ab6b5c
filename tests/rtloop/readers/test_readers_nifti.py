"""NIfTI images in any orientation and voxel type, against nibabel."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from rtloop.readers import (
    Assembler,
    Complete,
    Refused,
    ScannerConfig,
    Skipped,
    Unfinished,
    read_series,
)
from tests.rtloop.readers.conftest import SECRET, assembled

RNG = np.random.default_rng(1)


def image(
    data: np.ndarray[Any, Any], affine: np.ndarray[Any, Any] | None = None, tr_s: float = 1.5
) -> nib.Nifti1Image:
    made = nib.Nifti1Image(data, np.diag([-3.0, 3, 4, 1]) if affine is None else affine)
    made.header.set_xyzt_units("mm", "sec")
    made.header["pixdim"][4] = tr_s
    return made


def test_every_orientation(tmp_path: Path) -> None:
    turn = np.linalg.qr(np.eye(3) + RNG.normal(0, 0.1, (3, 3)))[0]
    turn *= np.sign(np.diag(turn))
    paths, expected = [], []
    for number, (axes, signs) in enumerate(
        product(permutations(range(3)), product((1, -1), repeat=3))
    ):
        affine = np.eye(4)
        affine[:3, :3] = (turn @ np.eye(3)[:, axes]) * np.array(signs) * (2.0, 2.5, 4.0)
        affine[:3, 3] = RNG.uniform(-90, 90, 3)
        data = RNG.integers(-500, 500, (5, 6, 7)).astype(np.int16)
        folder = tmp_path / f"{number}"
        folder.mkdir()
        paths.append(folder / "v0.nii")
        nib.save(image(data, affine), paths[-1])
        expected.append(nib.as_closest_canonical(nib.load(paths[-1])))
    volumes, _ = assembled(paths)
    assert len(volumes) == len(expected) == 48
    for volume, one in zip(volumes, expected, strict=True):
        np.testing.assert_array_equal(volume.data, np.asarray(one.dataobj))
        np.testing.assert_allclose(volume.affine, one.affine, atol=1e-5)
        assert volume.data.dtype == np.int16
        assert volume.data.flags.f_contiguous


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("int16", "int16"),
        (">i2", "int16"),
        ("uint16", "uint16"),
        ("float32", "float32"),
        ("uint8", "float32"),
        ("int32", "float32"),
        ("float64", "float32"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_voxel_types(stored: str, read: str, suffix: str, tmp_path: Path) -> None:
    data = RNG.integers(0, 200, (5, 6, 7)).astype(stored)
    made = image(data)
    if stored == ">i2":
        made = nib.Nifti1Image(data, made.affine, made.header.as_byteswapped(">"))
    made.set_data_dtype(stored)
    nib.save(made, tmp_path / f"v_3{suffix}")
    (volume,), _ = assembled([tmp_path / f"v_3{suffix}"])
    assert volume.index == 3
    assert volume.tr_s == 1.5
    assert volume.data.dtype == np.dtype(read)
    np.testing.assert_array_equal(volume.data, data[::-1])


def test_scaled_values_and_units(tmp_path: Path) -> None:
    stored = RNG.integers(0, 200, (5, 6, 7)).astype(np.int16)
    made = image(stored, np.diag([2e-3, 2e-3, 2e-3, 1]), tr_s=2000.0)
    made.header.set_slope_inter(0.5, -3)
    made.header.set_xyzt_units("meter", "msec")
    nib.save(made, tmp_path / "v_0.nii")
    raw = np.asarray(nib.load(tmp_path / "v_0.nii").dataobj)
    (volume,), _ = assembled([tmp_path / "v_0.nii"])
    np.testing.assert_allclose(volume.data, raw, rtol=1e-6)
    np.testing.assert_allclose(volume.voxel_size_mm, 2.0, rtol=1e-6)
    assert volume.tr_s == pytest.approx(2.0)


def test_slice_times_of_the_header(tmp_path: Path) -> None:
    made = image(np.zeros((5, 6, 4), np.int16), np.diag([3.0, 3, -4, 1]))
    made.header.set_dim_info(slice=2)
    made.header["slice_duration"] = 0.25
    made.header["slice_end"] = 3
    made.header["slice_code"] = 3  # alternating, increasing
    nib.save(made, tmp_path / "v_0.nii")
    (volume,), _ = assembled([tmp_path / "v_0.nii"])
    # stored: 0, .5, .25, .75; the axis is turned for RAS+
    assert volume.slice_times_s == pytest.approx((0.75, 0.25, 0.5, 0.0))
    assert volume.slice_axis == 2


def test_a_4d_file_is_a_series_offline(tmp_path: Path) -> None:
    data = RNG.integers(0, 900, (5, 6, 7, 9)).astype(np.int16)
    nib.save(image(data, tr_s=0.8), tmp_path / "bold.nii.gz")
    volumes = read_series(tmp_path / "bold.nii.gz", ScannerConfig())
    assert [volume.index for volume in volumes] == list(range(9))
    assert {volume.attempt for volume in volumes} == {volumes[0].attempt}
    assert (volumes[0].tr_s, volumes[0].n_volumes) == (pytest.approx(0.8), 9)
    for volume in volumes:
        np.testing.assert_array_equal(volume.data, data[::-1, ..., volume.index])
    (tmp_path / "bold_1.nii.gz").write_bytes((tmp_path / "bold.nii.gz").read_bytes())
    (outcome,) = assembled([tmp_path / "bold_1.nii.gz"])[1]
    assert isinstance(outcome, Skipped)
    assert "4-D" in outcome.reason


def test_the_real_4d_file_with_its_wrong_repetition_time(data: Path) -> None:
    """The header says 1.7935 s (the converter's error); the binding sets 2.0."""
    (path,) = (data / "bold").glob("*bold.nii.gz")
    volumes = read_series(path, ScannerConfig(tr_s=2.0))
    expected = nib.as_closest_canonical(nib.load(path))
    assert len(volumes) == 156
    assert volumes[0].tr_s == 2.0
    np.testing.assert_allclose(volumes[0].affine, expected.affine, atol=1e-4)
    np.testing.assert_allclose(volumes[100].data, expected.dataobj[..., 100], rtol=1e-6)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_truncated_images_never_give_a_volume(suffix: str, tmp_path: Path) -> None:
    nib.save(image(RNG.normal(size=(9, 9, 9)).astype(np.float32)), tmp_path / f"whole_1{suffix}")
    whole = (tmp_path / f"whole_1{suffix}").read_bytes()
    path, reader = tmp_path / f"v_1{suffix}", Assembler(ScannerConfig(), SECRET)
    for cut in [*range(0, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[:cut])
        assert isinstance(reader.add(path, 0.0), Unfinished), cut
    path.write_bytes(whole)
    assert isinstance(reader.add(path, 0.0), Complete)


def test_what_makes_no_volume(tmp_path: Path) -> None:
    data = np.zeros((5, 6, 7), np.int16)
    nib.save(image(data, tr_s=0.0), tmp_path / "no_tr_0.nii")
    nib.save(image(data), tmp_path / "no_number.nii")
    bare = nib.Nifti1Image(data, None)
    bare.header["pixdim"][4] = 1.0
    nib.save(bare, tmp_path / "no_affine_0.nii")
    nib.save(image(np.zeros((5, 6, 7), np.complex64)), tmp_path / "complex_0.nii")
    (tmp_path / "text_0.nii").write_text("subject onset\n" * 100)

    def outcome(name: str, binding: ScannerConfig | None = None) -> object:
        return assembled([tmp_path / name], binding)[1][0]

    no_tr = outcome("no_tr_0.nii")
    assert isinstance(no_tr, Refused)
    assert "tr_s" in no_tr.reason
    assert isinstance(outcome("no_tr_0.nii", ScannerConfig(tr_s=1.0)), Complete)
    assert isinstance(outcome("no_number.nii"), Skipped)
    no_affine = outcome("no_affine_0.nii")
    assert isinstance(no_affine, Refused)
    assert "sform" in no_affine.reason
    assert isinstance(outcome("complex_0.nii"), Refused)
    assert isinstance(outcome("text_0.nii"), Skipped)


def test_numbers_in_names_are_the_index(tmp_path: Path) -> None:
    """Whatever the order: 10 is volume 10, and a number below the first one is refused."""
    data = np.zeros((5, 6, 7), np.int16)
    for name in ("run1_9.nii", "run1_10.nii", "run2_0010.nii"):
        nib.save(image(data), tmp_path / name)
    paths = [tmp_path / name for name in ("run1_10.nii", "run1_9.nii", "run2_0010.nii")]
    volumes, _ = assembled(paths)
    assert [volume.index for volume in volumes] == [10, 9, 10]
    assert volumes[0].attempt == volumes[1].attempt != volumes[2].attempt
    volumes, outcomes = assembled(paths, ScannerConfig(first_index=10, protocol_name="run1*"))
    assert [volume.index for volume in volumes] == [0]
    assert isinstance(outcomes[1], Refused)
    assert isinstance(outcomes[2], Skipped)
