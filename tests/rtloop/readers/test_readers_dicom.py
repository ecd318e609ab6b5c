"""The DICOM pass against pydicom, and what it says of files that are not as they should be."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from rtloop.readers import Assembler, Complete, Refused, ScannerConfig, Skipped
from rtloop.readers.dicom import Elements, parse
from rtloop.readers.outcome import NotOfThisRun, NotYetWhole, Unreadable
from rtloop.readers.tags import TOP, Wanted
from tests.rtloop.readers.conftest import SECRET, SERIES, SMALL, assembled, edited, same

Files = Callable[[str], list[Path]]


def agrees(elements: Elements, dataset: pydicom.Dataset, wanted: Wanted) -> int:
    """Compare every whitelisted element with pydicom's; the number compared."""
    n = 0
    tags = dict(wanted.public)
    for (group, creator), block in wanted.private.items():
        for low, entry in block.items():
            try:
                tags[dataset.private_block(group, creator.decode()).get_tag(low)] = entry
            except KeyError:
                assert entry[0] in tags.values() or not elements.blob(entry[0])
    for tag, (name, _) in tags.items():
        if tag not in dataset:
            continue
        value = dataset[tag].value
        if dataset[tag].VR == "SQ":
            assert len(elements.items(name)) == len(value)
            pairs = zip(elements.items(name), value, strict=True)
            n += sum(agrees(item, other, wanted.items[name]) for item, other in pairs)
        elif isinstance(value, bytes):
            assert elements.blob(name) == value
        else:
            many = value if isinstance(value, (list, pydicom.multival.MultiValue)) else [value]
            many = [one for one in many if one not in ("", None)]
            if many and isinstance(many[0], (int, float)):
                assert elements.floats(name) == tuple(map(float, many))
            elif "" not in elements.texts(name):
                assert elements.texts(name) == tuple(str(one) for one in many)
        n += 1
    return n


@pytest.mark.parametrize("name", SERIES)
def test_every_element_equals_pydicoms(name: str, files: Files) -> None:
    for path in (files(name)[0], files(name)[-1]):
        dataset = pydicom.dcmread(path)
        file = parse(path.read_bytes())
        assert agrees(file.elements, dataset, TOP) >= 20
        shape = (-1, dataset.Rows, dataset.Columns)
        np.testing.assert_array_equal(file.frames(), dataset.pixel_array.reshape(shape))


@pytest.mark.parametrize(
    ("name", "defined"),
    [(name, defined) for name in SMALL[:3] for defined in (False, True)] + [(SMALL[3], True)],
)
def test_implicit_vr_and_sequences_of_defined_length_give_the_same_volume(
    name: str, defined: bool, files: Files, tmp_path: Path
) -> None:
    n_files = {"mr_0004": 15, "philips_ingenia": 63}.get(name, 1)
    originals = files(name)[:n_files]
    copies = []
    for path in originals:
        dataset = pydicom.dcmread(path)
        for element in dataset.iterall():
            if element.VR == "SQ" and defined:
                element.is_undefined_length = False
                for item in element.value:
                    item.is_undefined_length_sequence_item = False
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        copies.append(tmp_path / path.name)
        dataset.save_as(copies[-1], implicit_vr=True, little_endian=True)
    (original,), (copy,) = assembled(originals)[0], assembled(copies)[0]
    assert same(original, copy)


def test_compressed_pixels_are_refused_in_one_line(files: Files, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(files("siemens_mosaic_skyra")[3])
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(tmp_path / "rle.dcm")
    outcome = Assembler(ScannerConfig(), SECRET).add(tmp_path / "rle.dcm", 0.0)
    assert isinstance(outcome, Refused)
    assert outcome.attempt is not None
    assert "compressed" in outcome.reason
    assert "uncompressed" in outcome.reason
    assert "\n" not in outcome.reason


@pytest.mark.parametrize(("tag", "value"), [("Rows", 63), ("Columns", 66), ("NumberOfFrames", 2)])
def test_pixel_data_of_another_size_than_announced_are_refused(
    tag: str, value: int, files: Files, tmp_path: Path
) -> None:
    def edit(dataset: pydicom.Dataset) -> None:
        setattr(dataset, tag, value)

    path = edited(files("mr_0004")[0], tmp_path / "size.dcm", edit)
    outcome = Assembler(ScannerConfig(), SECRET).add(path, 0.0)
    assert isinstance(outcome, Refused)
    assert "pixel data of 8192 bytes; expected" in outcome.reason


def test_big_endian_is_refused(files: Files, tmp_path: Path) -> None:
    source = files("mr_0004")[0].read_bytes()
    source = source.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0", 1)
    (tmp_path / "big.dcm").write_bytes(source)
    outcome = Assembler(ScannerConfig(), SECRET).add(tmp_path / "big.dcm", 0.0)
    assert isinstance(outcome, Refused)
    assert "little endian" in outcome.reason


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", NotYetWhole),
        (b"\0" * 100, NotYetWhole),
        (b"\0" * 5000, NotYetWhole),
        (b"a note by the operator\n", NotOfThisRun),
        (b"subject,onset\n" * 100, NotOfThisRun),
        (b"\0" * 128 + b"DICM", NotYetWhole),
    ],
)
def test_what_is_no_dicom_file(content: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse(content)


def test_a_file_that_is_preallocated_and_half_written_is_not_whole(files: Files) -> None:
    whole = files("s1925")[0].read_bytes()
    for cut in (200, 3000, 9000):
        with pytest.raises(NotYetWhole):
            parse(whole[:cut] + b"\0" * (len(whole) - cut)).frames()


def test_sequences_nested_without_end_are_malformed(files: Files) -> None:
    head = files("s1925")[0].read_bytes()[:132]
    meta = b"\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0"
    bomb = (b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff") * 5000
    with pytest.raises(Unreadable, match="nested"):
        parse(head + meta + bomb)


def test_a_dicom_object_that_is_no_image_is_skipped(files: Files, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(files("mr_0004")[0])
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"  # secondary capture
    del dataset.PixelData
    dataset.save_as(tmp_path / "capture.dcm")
    outcome = Assembler(ScannerConfig(), SECRET).add(tmp_path / "capture.dcm", 0.0)
    assert isinstance(outcome, Skipped)


@pytest.mark.parametrize("name", ["siemens_mosaic_skyra", "siemens_xa30_enhanced", "mr_0004"])
def test_damaged_headers_never_raise(name: str, files: Files, tmp_path: Path) -> None:
    """Every answer is an answer, whatever three bytes are wrong in the header."""
    rng = random.Random(7)
    whole = files(name)[0].read_bytes()
    header = len(whole) - 8192
    path = tmp_path / "damaged.dcm"
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[rng.randrange(132, header)] = rng.randrange(256)
        path.write_bytes(damaged)
        assert Assembler(ScannerConfig(), SECRET).add(path, 0.0) is not None


def test_numbers_that_are_none_are_named(files: Files, tmp_path: Path) -> None:
    path = files("siemens_mosaic_skyra")[2]
    source = path.read_bytes()
    place = source.index(b"\x20\0\x13\0IS") + 8
    (tmp_path / "odd.dcm").write_bytes(source[:place] + b"x " + source[place + 2 :])
    outcome = Assembler(ScannerConfig(), SECRET).add(tmp_path / "odd.dcm", 0.0)
    assert isinstance(outcome, Refused)
    assert "InstanceNumber: expected numbers" in outcome.reason
    assert isinstance(Assembler(ScannerConfig(), SECRET).add(path, 0.0), Complete)
