"""Siemens' traps: the mosaic count, the CSA header, aborted and odd enhanced files."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from rtloop.readers import Complete, Refused, ScannerConfig, Skipped
from rtloop.readers.csa import csa_floats, protocol_number
from tests.rtloop.readers.conftest import assembled, edited, same

Files = Callable[[str], list[Path]]
MOSAIC = "siemens_mosaic_skyra"
ENHANCED = "siemens_xa30_enhanced"


def with_count(count: int) -> Callable[[pydicom.Dataset], None]:
    def edit(dataset: pydicom.Dataset) -> None:
        block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0A, "US", count)

    return edit


def test_the_mosaic_count_tag_agrees_with_the_csa_header(files: Files, tmp_path: Path) -> None:
    path = files(MOSAIC)[1]
    tagged = edited(path, tmp_path / path.name, with_count(27))
    (without,), (having,) = assembled([path])[0], assembled([tagged])[0]
    assert same(without, having)


def test_a_mosaic_count_tag_that_disagrees_is_refused(files: Files, tmp_path: Path) -> None:
    path = edited(files(MOSAIC)[1], tmp_path / "count.dcm", with_count(26))
    (outcome,) = assembled([path])[1]
    assert isinstance(outcome, Refused)
    assert "26 and 27" in outcome.reason
    assert outcome.index is not None


def test_the_tag_alone_gives_count_and_times(files: Files, tmp_path: Path) -> None:
    """Of the CSA header only the slice normal is left: count and times come from the tags."""

    def edit(dataset: pydicom.Dataset) -> None:
        csa = dataset[0x0029, 0x1010]
        csa.value = csa.value.replace(b"NumberOfImagesInMosaic", b"XumberOfImagesInMosaic")
        csa.value = csa.value.replace(b"MosaicRefAcqTimes", b"XosaicRefAcqTimes")
        with_count(27)(dataset)
        block = dataset.private_block(0x0019, "SIEMENS MR HEADER")
        block.add_new(0x29, "FD", [55.0 * number for number in range(27)])

    path = files(MOSAIC)[1]
    (volume,) = assembled([edited(path, tmp_path / "tags.dcm", edit)])[0]
    (original,) = assembled([path])[0]
    np.testing.assert_array_equal(volume.data, original.data)
    assert volume.slice_times_s == pytest.approx([0.055 * number for number in range(27)])


def test_a_mosaic_without_its_csa_header_is_refused(files: Files, tmp_path: Path) -> None:
    def edit(dataset: pydicom.Dataset) -> None:
        del dataset[0x0029, 0x1010]
        with_count(27)(dataset)

    (outcome,) = assembled([edited(files(MOSAIC)[1], tmp_path / "bare.dcm", edit)])[1]
    assert isinstance(outcome, Refused)
    assert "SliceNormalVector" in outcome.reason


def test_slices_that_run_downwards_are_turned(files: Files, tmp_path: Path) -> None:
    """The CSA header's normal decides which end is up: reversed, the volume is mirrored in z."""
    path = files(MOSAIC)[1]

    def edit(dataset: pydicom.Dataset) -> None:
        csa = dataset[0x0029, 0x1010]
        for text in (b"-0.02321452", b"-0.11461213"):
            csa.value = csa.value.replace(text, b" " + text[1:])
        csa.value = csa.value.replace(b"0.99313904\0", b"-0.99313904")

    (turned,) = assembled([edited(path, tmp_path / "down.dcm", edit)])[0]
    (original,) = assembled([path])[0]
    np.testing.assert_array_equal(turned.data, original.data[:, :, ::-1])
    assert turned.slice_times_s is not None
    assert original.slice_times_s is not None
    assert turned.slice_times_s == original.slice_times_s[::-1]
    assert turned.affine[2, 2] > 0
    np.testing.assert_allclose(turned.affine[:3, 2], original.affine[:3, 2], atol=1e-6)


@pytest.mark.parametrize("name", [MOSAIC, "siemens_mosaic_multiband_104x104x72"])
def test_csa_numbers_equal_nibabels(name: str, files: Files) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel calls its DICOM readers experimental
        from nibabel.nicom import csareader
    header = pydicom.dcmread(files(name)[2], stop_before_pixels=True)[0x0029, 0x1010].value
    known = csareader.read(header)["tags"]
    numeric = [tag for tag, entry in known.items() if entry["vr"] in ("FD", "DS", "IS", "US")]
    assert len(numeric) > 30
    for tag in numeric:
        assert csa_floats(header, tag) == tuple(map(float, known[tag]["items"])), tag


@pytest.mark.parametrize("cut", [0, 10, 200, 1000])
def test_a_csa_header_cut_short_says_nothing(cut: int) -> None:
    name = b"SliceNormalVector".ljust(64, b"\0")
    item = struct.pack("<4i", 0, 8, 0, 0) + b"0.500000"
    header = b"SV10" + name + struct.pack("<i4siii", 3, b"FD\0\0", 0, 3, 77) + item * 3
    assert csa_floats(header, "SliceNormalVector") == (0.5, 0.5, 0.5)
    assert csa_floats(header[: len(header) - 1 - cut], "SliceNormalVector") == ()
    assert csa_floats(header, "Slice") == ()


def test_protocol_text() -> None:
    text = b"x### ASCCONV BEGIN ###\nlRepetitions\t = \t59\nsSliceArray.lSize = 33\n### ASCCONV END"
    assert protocol_number(text, "lRepetitions") == 59
    assert protocol_number(text, "sSliceArray.lSize") == 33
    assert protocol_number(text, "lSize") is None
    assert protocol_number(text, "lSize", unsaid=0) == 0
    assert protocol_number(text[:-5], "lRepetitions", unsaid=0) is None
    assert protocol_number(text[:-5], "lRepetitions") is None


def aborted(n_frames: int, *, protocol: bool) -> Callable[[pydicom.Dataset], None]:
    """Make a valid file of fewer frames, as XA leaves when a series is stopped."""

    def edit(dataset: pydicom.Dataset) -> None:
        size = dataset.Rows * dataset.Columns * 2
        dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[
            :n_frames
        ]
        dataset.NumberOfFrames = n_frames
        dataset.PixelData = dataset.PixelData[: n_frames * size]
        if not protocol:
            del dataset.SharedFunctionalGroupsSequence[0][0x0021, 0x10FE]

    return edit


def test_an_aborted_enhanced_file_is_refused_even_as_the_first(
    files: Files, tmp_path: Path
) -> None:
    paths = files(ENHANCED)[:3]
    short = edited(paths[0], tmp_path / "short.dcm", aborted(23, protocol=True))
    volumes, outcomes = assembled([short, *paths[1:]])
    assert isinstance(outcomes[0], Refused)
    assert (outcomes[0].attempt, outcomes[0].index) == (volumes[0].attempt, 0)
    assert "23 frames; expected 33" in outcomes[0].reason
    assert [volume.index for volume in volumes] == [1, 2]


def test_an_aborted_enhanced_file_without_protocol_is_refused_by_shape(
    files: Files, tmp_path: Path
) -> None:
    paths = files(ENHANCED)[:2]
    short = edited(paths[1], tmp_path / "short.dcm", aborted(23, protocol=False))
    _, outcomes = assembled([paths[0], short])
    assert isinstance(outcomes[1], Refused)
    assert "shape" in outcomes[1].reason


def test_frames_in_another_order_give_the_same_volume(files: Files, tmp_path: Path) -> None:
    path = files(ENHANCED)[0]
    order = np.random.default_rng(5).permutation(33)

    def shuffle(dataset: pydicom.Dataset) -> None:
        frames = dataset.PerFrameFunctionalGroupsSequence
        dataset.PerFrameFunctionalGroupsSequence = [frames[number] for number in order]
        images = np.frombuffer(dataset.PixelData, np.uint16).reshape(33, -1)
        dataset.PixelData = images[order].tobytes()

    (shuffled,) = assembled([edited(path, tmp_path / "shuffled.dcm", shuffle)])[0]
    assert same(assembled([path])[0][0], shuffled)


def test_several_volumes_in_one_file_are_refused(files: Files, tmp_path: Path) -> None:
    def later(dataset: pydicom.Dataset) -> None:
        for frame in dataset.PerFrameFunctionalGroupsSequence[20:]:
            frame.FrameContentSequence[0].TemporalPositionIndex = 2

    (outcome,) = assembled([edited(files(ENHANCED)[0], tmp_path / "two.dcm", later)])[1]
    assert isinstance(outcome, Refused)
    assert "one file per volume" in outcome.reason


def test_times_without_siemens_own_element_come_from_the_frames_clock(
    files: Files, tmp_path: Path
) -> None:
    """And go on past midnight."""
    path = files(ENHANCED)[0]

    def strip(dataset: pydicom.Dataset) -> None:
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            del frame[0x0021, 0x11FE]
            content = frame.FrameContentSequence[0]
            seconds = float(content.FrameAcquisitionDateTime[12:]) - 5.5
            clock = f"{seconds:09.6f}" if seconds >= 0 else f"{seconds + 60:09.6f}"
            day, hour = ("20220712", "0000") if seconds >= 0 else ("20220711", "2359")
            content.FrameAcquisitionDateTime = f"{day}{hour}{clock}"

    (volume,) = assembled([edited(path, tmp_path / "clock.dcm", strip)])[0]
    (original,) = assembled([path])[0]
    assert volume.slice_times_s == pytest.approx(original.slice_times_s, abs=2.6e-3)
    assert volume.acquired_s == pytest.approx(86400 - 0.275)


def test_the_index_may_be_another_element(files: Files, tmp_path: Path) -> None:
    def edit(dataset: pydicom.Dataset) -> None:
        dataset.AcquisitionNumber = 40
        dataset.InstanceNumber = 1234

    path = edited(files(MOSAIC)[1], tmp_path / "index.dcm", edit)
    for tag, index in [("AcquisitionNumber", 39), ("(0020,0013)", 1233), (None, 1233)]:
        (volume,) = assembled([path], ScannerConfig(index_tag=tag))[0]
        assert volume.index == index
    enhanced = files(ENHANCED)[3]
    (volume,) = assembled([enhanced], ScannerConfig(index_tag="TemporalPositionIndex"))[0]
    assert volume.index == 3
    (outcome,) = assembled([path], ScannerConfig(index_tag="TemporalPositionIdentifier"))[1]
    assert isinstance(outcome, Refused)
    (outcome,) = assembled([enhanced], ScannerConfig(first_index=9))[1]
    assert isinstance(outcome, Refused)


def test_a_mosaic_of_one_measurement_is_skipped(files: Files, tmp_path: Path) -> None:
    """Repetitions that are 0 are left out of the protocol's text."""

    def once(dataset: pydicom.Dataset) -> None:
        csa = dataset[0x0029, 0x1020]
        csa.value = csa.value.replace(b"lRepetitions", b"xRepetitions")

    (outcome,) = assembled([edited(files(MOSAIC)[1], tmp_path / "once.dcm", once)])[1]
    assert isinstance(outcome, Skipped)
    assert outcome.reason == "one volume only"


@pytest.mark.parametrize("told", [1, None])
def test_an_enhanced_file_may_announce_its_own_volume_only(
    told: int | None, files: Files, tmp_path: Path
) -> None:
    def own(dataset: pydicom.Dataset) -> None:
        dataset.NumberOfTemporalPositions = told

    (volume,) = assembled([edited(files(ENHANCED)[4], tmp_path / "own.dcm", own)])[0]
    assert (volume.index, volume.n_volumes) == (4, 20)


def test_single_slices_of_siemens_are_skipped(files: Files, tmp_path: Path) -> None:
    def edit(dataset: pydicom.Dataset) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]

    (outcome,) = assembled([edited(files(MOSAIC)[1], tmp_path / "slice.dcm", edit)])[1]
    assert isinstance(outcome, Skipped)
    assert "neither a mosaic nor an enhanced file" in outcome.reason


def test_overrides_of_the_binding(files: Files) -> None:
    binding = ScannerConfig(tr_s=2.5, n_volumes=77)
    (outcome,) = assembled(files(MOSAIC)[1:2], binding)[1]
    assert isinstance(outcome, Complete)
    assert (outcome.volume.tr_s, outcome.volume.n_volumes) == (2.5, 77)
