"""An identifier planted in a file's headers leaves no trace in what the readers give away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pydicom
import pytest

from rtloop.readers import Assembler, Complete, Outcome, ScannerConfig
from tests.rtloop.readers.conftest import SECRET, SMALL, assembled, edited

PLANTED = "ZEBRAFISH"
NUMBER = "9081726354"

TEXT_TAGS = (
    *("PatientName", "PatientID", "OtherPatientIDs", "PatientComments", "PatientAddress"),
    *("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "InstitutionName"),
    *("InstitutionAddress", "StationName", "StudyDescription", "StudyID", "AccessionNumber"),
    *("RequestedProcedureDescription", "ImageComments", "SeriesDescription", "MilitaryRank"),
    *("AdditionalPatientHistory", "ContentCreatorName", "DeviceSerialNumber", "SequenceName"),
)


def plant(dataset: pydicom.Dataset) -> None:
    for tag in TEXT_TAGS:
        setattr(dataset, tag, PLANTED[:16])
    dataset.PatientBirthDate = "19310417"
    dataset.StudyInstanceUID = dataset.FrameOfReferenceUID = f"1.2.{NUMBER}"
    dataset.SOPInstanceUID = f"1.2.3.{NUMBER}"
    dataset.SeriesInstanceUID = f"1.2.3.4.{NUMBER}"
    dataset.private_block(0x0011, "A CREATOR", create=True).add_new(0x01, "LO", PLANTED)


def leaves_no_trace(outcome: Outcome) -> None:
    parts = [repr(outcome)]
    if isinstance(outcome, Complete):
        volume = outcome.volume
        parts += [repr(getattr(volume, field.name)) for field in fields(volume)]
        parts += [volume.data.tobytes("F").decode("latin-1")]
    for part in parts:
        assert PLANTED not in part.upper()
        assert NUMBER not in part
        assert "19310417" not in part


@pytest.mark.parametrize("name", SMALL)
def test_no_trace_in_volumes_nor_in_reasons(
    name: str, files: Callable[[str], list[Path]], tmp_path: Path
) -> None:
    n_files = {"mr_0004": 15, "philips_ingenia": 63}.get(name, 1)
    folder = tmp_path / PLANTED
    folder.mkdir()
    copies = [edited(path, folder / path.name, plant) for path in files(name)[:n_files]]
    volumes, outcomes = assembled(copies)
    assert len(volumes) == 1
    bindings = [
        ScannerConfig(protocol_name="another"),
        ScannerConfig(description_exclude=("zebra*",)),
        ScannerConfig(echo=2, image_type_include=("ABSENT",)),
        ScannerConfig(index_tag="(0018,9999)"),
        ScannerConfig(first_index=1000),
    ]
    reader = [Assembler(binding, SECRET) for binding in bindings]
    refusals = [one.add(copies[0], 0.0) for one in reader]
    assert not any(isinstance(outcome, Complete) for outcome in refusals)
    cut = folder / "cut.dcm"
    cut.write_bytes(copies[0].read_bytes()[:-3])
    missing = folder / f"{PLANTED}.dcm"
    more = [Assembler(ScannerConfig(), SECRET).add(path, 0.0) for path in (cut, missing)]
    for outcome in [*outcomes, *refusals, *more]:
        leaves_no_trace(outcome)


def test_no_trace_of_a_par_file(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / PLANTED
    folder.mkdir()
    source = data / "dicom" / "philips_par_rec"
    text = (source / "Dump-0000.par").read_text(encoding="latin-1")
    for entry in ("Patient name", "Examination name", "Examination date/time"):
        line = next(line for line in text.splitlines() if entry in line)
        text = text.replace(line, line.rstrip() + f"   {PLANTED}")
    text = text.replace("Dataset name: Dump-0000", f"Dataset name: {PLANTED}")
    (folder / "Dump-0000.par").write_text(text, encoding="latin-1")
    (folder / "Dump-0000.rec").write_bytes((source / "Dump-0000.rec").read_bytes())
    volumes, outcomes = assembled(sorted(folder.iterdir()), ScannerConfig(tr_s=1.0))
    assert len(volumes) == 1
    for outcome in [*outcomes, *assembled(sorted(folder.iterdir()))[1]]:
        leaves_no_trace(outcome)


def test_protocol_names_are_bounded(files: Callable[[str], list[Path]], tmp_path: Path) -> None:
    def lengthen(dataset: pydicom.Dataset) -> None:
        dataset[0x0018, 0x1030].value = "x" * 60
        dataset.ManufacturerModelName = "y" * 60

    path = edited(files("siemens_mosaic_skyra")[1], tmp_path / "long.dcm", lengthen)
    source = path.read_bytes()
    path.write_bytes(source.replace(b"\x18\0\x30\x10LO\x3c\0" + b"x" * 60, _long_name()))
    (volume,) = assembled([path])[0]
    assert volume.protocol is not None
    assert volume.protocol["protocol_name"] == "x" * 64


def _long_name() -> bytes:
    return b"\x18\0\x30\x10LO\xe8\x03" + b"x" * 1000
