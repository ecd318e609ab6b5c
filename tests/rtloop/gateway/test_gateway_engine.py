"""The gateway and its engine: slow, restarted, of another run, behind keys; what may leave."""

from __future__ import annotations

import time

import pydicom
import pytest

import rtloop.gateway.relay
from rtloop.errors import WireError
from rtloop.link import StreamSource, create_keys
from rtloop.volume import Volume
from rtloop.wire import Note, NoteItem, VolumeItem, encode
from tests.rtloop.gateway.loopback import Engine, arrive, series

MOSAIC = "siemens_mosaic_prisma_64x64x18"
ENHANCED = "siemens_xa30_enhanced"


def test_an_engine_started_anew_gets_the_rest(dicom, export, run, engine, until) -> None:
    run()
    until(lambda: engine.connected, "the gateway")
    files = series(dicom(MOSAIC))[:30]
    arrive(files[:10], export)
    until(lambda: len(engine.volumes) == 10, "the first volumes")
    engine.close()
    arrive(files[10:20], export)
    engine.start()
    arrive(files[20:], export)
    until(lambda: set(engine.indices()) == set(range(30)), "all volumes")
    assert sorted(set(engine.indices())) == list(dict.fromkeys(engine.indices()))


def test_the_next_runs_engine_has_another_record(dicom, export, run, engine, until) -> None:
    """A gateway of its own outlives the run; the next engine knows nothing of its stream."""
    gateway = run()
    until(lambda: engine.connected, "the gateway")
    arrive(series(dicom(ENHANCED) / "7_func-bold_task-fa_run-1"), export)
    until(lambda: engine.kinds() == ["series_opened", "series_closed"], "the first run")
    engine.close()
    engine.new_record()
    engine.start()
    until(lambda: sum("is there" in line for line in gateway.said) == 2, "the second meeting")
    arrive(series(dicom(MOSAIC))[:5], export)
    until(lambda: len(engine.volumes) == 25, "the second run")
    assert engine.indices() == [*range(20), *range(5)]


def test_files_wait_on_disk_while_the_engine_is_slow(dicom, export, run, engine, until) -> None:
    engine.acknowledging.clear()
    run()
    files = series(dicom(MOSAIC))
    arrive(files, export)
    until(lambda: engine.log, "the first item")
    time.sleep(0.3)  # time enough for a gateway that reads on
    for file in files[50:]:
        (export / file.name).unlink()
    engine.acknowledging.set()
    until(lambda: len(engine.volumes) == 50, "what is left")
    arrive(files[50:], export)
    until(lambda: len(engine.volumes) == 60, "all volumes")
    assert engine.indices() == list(range(60))


def test_a_stream_the_engine_does_not_follow_is_begun_anew(
    dicom, export, run, engine, until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Welcomed, but nothing is ever committed: what an engine with another record does."""
    monkeypatch.setattr(rtloop.gateway.relay, "STALL_S", 0.5)
    engine.acknowledging.clear()
    gateway = run()
    until(lambda: engine.connected, "the gateway")
    arrive(series(dicom(MOSAIC))[:5], export)
    until(lambda: sum("watches" in line for line in gateway.said) >= 2, "the second stream")
    engine.acknowledging.set()
    until(lambda: len(engine.volumes) == 5, "all volumes")
    assert engine.indices() == list(range(5))


def test_keys_open_the_way_to_an_engine_that_wants_them(
    tmp_path, dicom, export, run, until
) -> None:
    _, engine_public = create_keys("engine", tmp_path)
    own, own_public = create_keys("gateway", tmp_path, engine=engine_public)
    engine = Engine(keys=tmp_path / "engine.key", allow=[own_public])
    engine.start()
    try:
        run(engine=engine.endpoint, keys=str(own))
        until(lambda: engine.connected, "the gateway")
        arrive(series(dicom(MOSAIC))[:2], export)
        until(lambda: len(engine.volumes) == 2, "the volumes")
    finally:
        engine.close()


def test_what_the_wire_cannot_carry_is_refused(
    dicom, export, run, engine, until, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = StreamSource.send

    def choosy(self: StreamSource, content: Volume | Note) -> int:
        if isinstance(content, Volume) and content.index == 1:
            raise WireError("affine: expected finite numbers, found nan")
        return send(self, content)

    monkeypatch.setattr(StreamSource, "send", choosy)
    run()
    until(lambda: engine.connected, "the gateway")
    arrive(series(dicom(MOSAIC))[:3], export)
    until(lambda: len(engine.volumes) == 2, "the others")
    (refused,) = [note for note in engine.notes if note.kind == "refused"]
    assert (refused.index, refused.attempt) == (1, engine.volumes[0].attempt)
    assert "cannot be carried: affine" in refused.reason


def test_nothing_but_volumes_and_notes_leaves(dicom, export, run, engine, until) -> None:
    """An identifier in folder and file names and all over the header is in no message."""
    name = "Ratliff"
    folder = export / f"{name}_Ada_PID48151623"
    folder.mkdir()
    run(unfinished_wait_s=0.3)
    until(lambda: engine.connected, "the gateway")
    for place, file in enumerate(series(dicom(MOSAIC))[:4]):
        dataset = pydicom.dcmread(file)
        for keyword in ("PatientName", "PatientID", "OtherPatientIDs", "StudyDescription"):
            setattr(dataset, keyword, f"{name}48151623")
        dataset.SeriesDescription = f"{name}48151623 bold"
        dataset.InstitutionName = dataset.OperatorsName = dataset.StudyID = f"{name[:8]}"
        dataset.save_as(folder / f"{name}_{place}_48151623.dcm")
    cut = (folder / f"{name}_3_48151623.dcm").read_bytes()[:100_000]
    (folder / f"{name}_cut_48151623.dcm").write_bytes(cut)
    (folder / f"{name}_48151623.txt").write_text(f"{name} 48151623")
    (folder / f"{name}_48151623_again.dcm").write_bytes(
        (folder / f"{name}_0_48151623.dcm").read_bytes()
    )
    until(
        lambda: (
            len(engine.volumes) == 4 and {"refused", "skipped", "duplicate"} <= set(engine.kinds())
        ),
        "volumes and notes of each kind",
    )
    for place, content in enumerate(engine.log):
        item = (
            VolumeItem("e", place, content)
            if isinstance(content, Volume)
            else NoteItem("e", place, content)
        )
        sent = b"".join(bytes(frame) for frame in encode(item))
        for secret in (name, name.upper(), "48151623", str(export)):
            assert secret.encode() not in sent
