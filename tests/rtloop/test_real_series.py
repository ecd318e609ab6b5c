"""Every real series through the loop: read, streamed, scored where it is long enough, replayed.

Settings are the defaults (six motion parameters and quadratic drift regressed out, 10 s of
dummies), so a score needs 45 good volumes; where a series is shorter there is none, and never 0.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from rtloop import attempts
from rtloop.config import SessionConfig
from rtloop.events import Step
from rtloop.journal import Record, Times
from rtloop.plan import Plan
from rtloop.readers import ScannerConfig, read_series
from rtloop.replay import verify
from rtloop.schema import is_blank
from rtloop.volume import Volume
from tests.rtloop.sites import PATIENCE_S, Site
from tools.proof.recipe import course_of, scores_of
from tools.proof.rig import Way, gateway_thread, loop_thread, two_spheres
from tools.scanner import ExportFolder, RecordedSeries, play

N_REGRESSORS = 9
PER_REGRESSOR = 5


PLAIN = ScannerConfig()


@dataclass(frozen=True)
class Real:
    """A series, what its header does not say, and what is known of it."""

    name: str
    n_volumes: int
    tr_s: float
    shape: tuple[int, int, int]
    binding: ScannerConfig = PLAIN


SERIES = (
    Real("siemens_mosaic_skyra", 10, 1.5, (64, 64, 27)),
    Real("siemens_mosaic_prisma_64x64x18", 60, 1.0, (64, 64, 18)),
    Real("siemens_mosaic_multiband_104x104x72", 60, 0.8, (104, 104, 72)),
    Real("siemens_xa30_enhanced", 20, 1.0, (64, 64, 33)),
    Real("s1925", 60, 1.0, (64, 64, 18)),
    Real("mr_0004", 10, 5.0, (64, 64, 15)),
    Real("philips_ingenia", 12, 1.259, (96, 96, 63)),
    Real("philips_par_rec", 4, 1.0, (80, 80, 15), ScannerConfig(tr_s=1.0)),
    # its header says 1.7935 s, which is a converter's error
    Real("bold", 156, 2.0, (80, 80, 35), ScannerConfig(tr_s=2.0)),
)

Find = Callable[[str], Path]


@pytest.fixture
def find(data: Path, dicom: Find) -> Find:
    """Where a series lies."""

    def where(name: str) -> Path:
        if name == "bold":
            return next((data / "bold").glob("*_bold.nii.gz"))
        return data / "dicom" / name if name == "philips_par_rec" else dicom(name)

    return where


def plan_of(volume: Volume, n_volumes: int) -> Plan:
    """Two spheres inside the brain, windows of 20 volumes."""
    return Plan.create(
        participant="p01",
        rois={"kind": "spheres", "spheres": two_spheres(volume.data, volume.affine)},
        edges=[{"a": "left", "b": "right"}],
        tr_s=volume.tr_s,
        n_volumes=n_volumes,
        window_s=20 * volume.tr_s,
        timeline={"kind": "continuous", "rest_s": 20 * volume.tr_s},
        calibration={"kind": "linear", "center": 0.2, "sd": 0.3},
    )


def run_in_process(
    folder: Path, volumes: list[Volume], plan: Plan
) -> tuple[Path, SessionConfig, list[Step]]:
    """The engine on a series, with its record, as the loop does it."""
    plan.save(folder / "plan.json")
    session = SessionConfig.model_validate(
        {"name": "real", "plan": "plan.json", "runs": [{"name": "run"}], "folder": folder}
    )
    steps = []
    with attempts.open_record(session, session.runs[0], plan) as record:
        running = attempts.begin(session, plan, record, volumes[0], 1.0)
        for volume in volumes:
            steps.append(running.engine.step(volume))
            with record.transaction():
                times = Times(volume.acquired_s, volume.received_s, 1.0, 1.0)
                record.add_event(running.attempt, volume, steps[-1], times)
        return record.path, session, steps


@pytest.mark.parametrize("real", SERIES, ids=lambda real: real.name)
def test_every_series_is_accounted_for_scored_and_replayed(
    real: Real, find: Find, tmp_path: Path
) -> None:
    volumes = read_series(find(real.name), real.binding)
    assert [volume.index for volume in volumes] == list(range(real.n_volumes))
    assert {volume.shape for volume in volumes} == {real.shape}
    assert all(volume.tr_s == pytest.approx(real.tr_s, abs=1e-3) for volume in volumes)
    plan = plan_of(volumes[0], max(real.n_volumes, 30))
    path, session, steps = run_in_process(tmp_path, volumes, plan)

    # accounted for: every volume once, the dummies first
    n_dummies = math.ceil(10.0 / real.tr_s)
    assert [step.index for step in steps] == list(range(real.n_volumes))
    assert [s.status for s in steps[:n_dummies]] == ["dummy"] * min(n_dummies, real.n_volumes)
    assert {step.status for step in steps[n_dummies:]} <= {"used", "censored"}
    assert not any(step.missing for step in steps)

    # scored where it is long enough, with the recipe's score; else there is none
    scores = np.array([step.scores[0].value for step in steps])
    wanted = scores_of(course_of(steps, plan.n_volumes), plan, session.engine)[: len(steps)]
    np.testing.assert_allclose(scores, wanted, rtol=0, atol=1e-9)
    n_good = np.cumsum([step.weight > 0 for step in steps])
    enough = n_good >= N_REGRESSORS * PER_REGRESSOR
    assert not np.isfinite(scores[~enough]).any()
    assert np.isfinite(scores).any() == (real.n_volumes >= 60)
    for step in steps:
        if math.isnan(step.scores[0].value):
            assert step.warming_up
            assert step.screen.value is None or step.screen.scene == "hold"
        else:
            assert step.scores[0].value != 0
            # the first ones' is not known: too few residuals for an autocorrelation
            assert not step.scores[0].standard_error <= 0
    if real.n_volumes > 100:
        assert steps[-1].scores[0].standard_error > 0

    for start in ("volumes", "rois"):
        verdict = verify(path, start)  # type: ignore[arg-type]
        assert verdict.identical, verdict.difference
        assert verdict.n_events == real.n_volumes


def test_spheres_lie_in_the_brain(find: Find) -> None:
    """Or the scores above would be of air: mean signal at least half the brain's median."""
    for real in SERIES:
        volume = read_series(find(real.name), real.binding)[0]
        data = volume.data.astype(float)
        brain = np.median(data[data > 0.3 * np.percentile(data, 98)])
        to_voxel = np.linalg.inv(volume.affine)
        for sphere in two_spheres(volume.data, volume.affine):
            voxel = np.rint(to_voxel @ np.append(sphere["center_mm"], 1.0)).astype(int)[:3]
            assert data[tuple(voxel)] > 0.5 * brain, (real.name, sphere)


# --- from the export folder to the record -----------------------------------------------------


def test_ge_slices_through_all_processes(find: Find, tmp_path: Path) -> None:
    """`fcnef run`: supervisor, gateway and engine as at a site; GE writes 1080 slice files."""
    series = RecordedSeries(find("s1925"))
    volumes = read_series(find("s1925"), ScannerConfig())
    plan = plan_of(volumes[0], 60)
    (tmp_path / "reference").mkdir()
    _, _, wanted = run_in_process(tmp_path / "reference", volumes, plan)

    site = Site(tmp_path)
    plan.save(tmp_path / "plan.json")
    text = site.session.read_text().replace('kind = "stream"', 'kind = "folder"\nwatch = "export"')
    text = text.replace("latency_p99_s = 0.2", "latency_p99_s = 20.0")
    head, tail = text.split("[engine]")
    site.session.write_text(head + "[display]" + tail.split("[display]")[1])
    (tmp_path / "export").mkdir()
    with site.start() as run:
        site.child("gateway")
        play(series, ExportFolder(tmp_path / "export"), speed=20)
        assert run.wait(PATIENCE_S) == 0
    assert site.outcomes() == ["complete"]
    with Record.open(site.record) as record:
        (attempt,) = record.attempts()
        found = [event.step for event in record.events(attempt)]
    assert [step.status for step in found] == [step.status for step in wanted]
    np.testing.assert_array_equal(
        [step.scores[0].value for step in found], [step.scores[0].value for step in wanted]
    )
    assert verify(site.record).identical


def test_xa30_beside_its_field_map_through_gateway_and_loop(
    find: Find, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One file per volume, and a field map in the same folder that is none of the run's."""
    folder = find("siemens_xa30_enhanced")
    volumes = read_series(folder, ScannerConfig())
    plan = plan_of(volumes[0], 30)
    way = Way("folder", tr_s=1.0, speed=0, latency_s=1.0, gap_wait_s=1.0)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) == 23
    with tempfile.TemporaryDirectory(prefix="fcnef-") as short:
        here = Path(short)
        plan.save(here / "plan.json")
        names = ("volumes", "feedback", "telemetry", "reports")
        session = SessionConfig.model_validate(
            {
                "name": "real",
                "plan": "plan.json",
                "runs": [{"name": "run"}],
                "folder": here,
                "source": {"kind": "stream", "restart_wait_s": 0.5},
                "network": {name: f"ipc://{here / name}" for name in names},
            }
        )
        record_path = session.record_path(session.runs[0])
        with loop_thread(session, plan), gateway_thread(session, way) as export:
            for file in files:
                shutil.copy(file, export / f"{file.name}.part")
                (export / f"{file.name}.part").rename(export / file.name)
            until = time.monotonic() + PATIENCE_S
            while time.monotonic() < until and _n_events(record_path) < 20:
                time.sleep(0.1)
        with Record.open(record_path) as record:
            (attempt,) = record.attempts()
            steps = [event.step for event in record.events(attempt)]
            skipped = [row for row in record.rows("fault") if row["kind"] == "skipped"]
        assert [step.index for step in steps if step.status in ("dummy", "used")] == list(range(20))
        assert 1 <= len(skipped) <= 3
        assert attempt.outcome in ("stopped", "incomplete")
        assert verify(record_path).identical


def _n_events(path: Path) -> int:
    if is_blank(path):
        return 0
    with Record.open(path) as record:
        return sum(1 for attempt in record.attempts() for _ in record.events(attempt))
