"""GE and Philips classic slices: what their headers leave out, and what anonymisers take away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from rtloop.readers import Complete, Outcome, Refused, ScannerConfig, Skipped, Taken
from tests.rtloop.readers.conftest import assembled, edited, same

Files = Callable[[str], list[Path]]
Edit = Callable[[pydicom.Dataset], None]


def edited_volume(
    paths: list[Path], folder: Path, edit: Edit, binding: ScannerConfig | None = None
) -> Outcome:
    """The answer to the last of these files, all of them edited."""
    copies = [edited(path, folder / f"{number}", edit) for number, path in enumerate(paths)]
    return assembled(copies, binding)[1][-1]


def strip_private(dataset: pydicom.Dataset) -> None:
    dataset.remove_private_tags()


@pytest.mark.parametrize(("name", "n_slices"), [("mr_0004", 15), ("philips_ingenia", 63)])
def test_voxels_own_their_memory_and_the_count_may_come_from_the_binding(
    name: str, n_slices: int, files: Files, tmp_path: Path
) -> None:
    paths = files(name)[:n_slices]

    def anonymise(dataset: pydicom.Dataset) -> None:
        number = (
            dataset.get_private_item(0x2001, 0x0A, "Philips Imaging DD 001").value
            if ("Philips" in dataset.Manufacturer)
            else dataset.InstanceNumber
        )
        strip_private(dataset)
        dataset.pop("ImagesInAcquisition", None)
        dataset.InStackPositionNumber = int(number)

    refused = edited_volume(paths, tmp_path, anonymise)
    assert isinstance(refused, Refused)
    assert "set n_slices" in refused.reason
    taken = edited_volume(paths, tmp_path, anonymise, ScannerConfig(n_slices=n_slices))
    assert isinstance(taken, Complete)
    (original,) = assembled(paths)[0]
    np.testing.assert_array_equal(taken.volume.data, original.data)
    np.testing.assert_array_equal(taken.volume.affine, original.affine)
    # GE's slice order and phase-encoding sense were in the private block
    assert taken.volume.slice_times_s is None
    assert "phase_encoding" not in (taken.volume.protocol or {})


def test_ge_images_that_are_no_magnitude_are_skipped(files: Files, tmp_path: Path) -> None:
    for component, name in [(1, "PHASE"), (2, "REAL"), (3, "IMAGINARY")]:

        def mark(dataset: pydicom.Dataset, component: int = component) -> None:
            dataset[0x0043, 0x102F].value = component

        outcome = edited_volume(files("mr_0004")[:1], tmp_path, mark)
        assert isinstance(outcome, Skipped)
        assert name in outcome.reason


def test_ge_multiband_tells_no_slice_times(files: Files, tmp_path: Path) -> None:
    def multiband(dataset: pydicom.Dataset) -> None:
        dataset[0x0043, 0x10B6].value = ["3", "11", "2", "", "", "", ""]

    outcome = edited_volume(files("mr_0004")[:15], tmp_path, multiband)
    assert isinstance(outcome, Complete)
    assert outcome.volume.slice_times_s is None


def test_ge_index_tag_needs_the_place_in_the_stack(files: Files, tmp_path: Path) -> None:
    def number(dataset: pydicom.Dataset) -> None:
        dataset.TemporalPositionIdentifier = (dataset.InstanceNumber - 1) // 15 + 1
        dataset.InStackPositionNumber = (dataset.InstanceNumber - 1) % 15 + 1
        dataset.InstanceNumber += 5000

    binding = ScannerConfig(index_tag="TemporalPositionIdentifier")
    paths = files("mr_0004")[15:30]
    outcome = edited_volume(paths, tmp_path, number, binding)
    assert isinstance(outcome, Complete)
    assert same(outcome.volume, assembled(paths)[0][0])


def test_philips_phase_in_the_same_series_is_skipped(files: Files, tmp_path: Path) -> None:
    paths = files("philips_ingenia")[:63]

    def phase(dataset: pydicom.Dataset) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"]
        dataset.RescaleSlope, dataset.RescaleIntercept = 1.5, -3142

    twins = [edited(path, tmp_path / path.name, phase) for path in paths]
    mixed = [path for pair in zip(twins, paths, strict=True) for path in pair]
    volumes, outcomes = assembled(mixed)
    assert all(isinstance(outcome, Skipped) for outcome in outcomes[::2])
    assert len(volumes) == 1
    assert same(volumes[0], assembled(paths)[0][0])


def test_philips_slices_may_differ_in_slope(files: Files, tmp_path: Path) -> None:
    paths = list(files("philips_ingenia")[:63])

    def rescale(dataset: pydicom.Dataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 2.0, 5.0

    def plain(dataset: pydicom.Dataset) -> None:
        del dataset.RescaleSlope, dataset.RescaleIntercept

    paths[10] = edited(paths[10], tmp_path / "scaled.dcm", rescale)
    paths[11] = edited(paths[11], tmp_path / "plain.dcm", plain)
    (volume,), _ = assembled(paths)
    for number, (slope, intercept) in {10: (2.0, 5.0), 11: (1.0, 0.0)}.items():
        stored = pydicom.dcmread(paths[number]).pixel_array
        expected = stored[::-1, ::-1].T * slope + intercept
        np.testing.assert_array_equal(volume.data[:, :, number], expected)
    assert volume.data.dtype == np.float32


def test_a_lost_position_is_refused(files: Files, tmp_path: Path) -> None:
    def lose(dataset: pydicom.Dataset) -> None:
        del dataset.ImagePositionPatient

    for name in ("mr_0004", "philips_ingenia"):
        outcome = edited_volume(files(name)[:1], tmp_path, lose)
        assert isinstance(outcome, Refused)
        assert outcome.index == 0
        assert "ImagePositionPatient" in outcome.reason


def test_a_slice_number_beyond_the_stack_is_refused(files: Files, tmp_path: Path) -> None:
    def beyond(dataset: pydicom.Dataset) -> None:
        dataset[0x2001, 0x100A].value = 64

    outcome = edited_volume(files("philips_ingenia")[:1], tmp_path, beyond)
    assert isinstance(outcome, Refused)
    assert "1 to 63" in outcome.reason
    assert isinstance(assembled(files("philips_ingenia")[:1])[1][0], Taken)
