"""Latency of the whole chain: file closed -> gateway -> engine -> feedback published.

Real series are exported again and again into a folder, as their scanner writes them; gateway
and engine run as their own processes, with motion correction, 200 ROIs, 24 motion regressors and
all 19,900 edges. Times come from the run's own record, and the file's closing from the exporter.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import psutil
from numpy.typing import NDArray

from rtloop.errors import ConfigError
from rtloop.journal import Record
from rtloop.plan import Plan, file_digest
from rtloop.readers import read_series
from rtloop.readers.binding import ScannerConfig
from rtloop.volume import Volume
from tools.faults import FaultScript, deliveries
from tools.local import free_ports, running, screen
from tools.scanner import RecordedSeries

__all__ = ["measure", "prove"]

N_ROIS = 200
WINDOW_S = 40.0
LIMITS_MS = {"64x64x33": (10.0, 25.0), "104x104x72": (30.0, 70.0)}
FLIP_LIMIT_FRAMES = 2.0
PIXEL_DATA = b"\xe0\x7f\x10\x00OW\x00\x00"
WARM_UP = 200
"""Volumes before the chain is complete (no score before) are left out of the figures."""


@dataclass(frozen=True)
class Case:
    """A real series and the pace at which it is played."""

    name: str
    archive: str
    interval_s: float


CASES = {
    "64x64x33": Case("64x64x33", "siemens_xa30_enhanced", 0.06),
    "104x104x72": Case("104x104x72", "siemens_mosaic_multiband_104x104x72", 0.15),
}


def measure(case: Case, n_volumes: int, display: bool = False) -> dict[str, Any]:
    """Play a series through gateway and engine and read the latencies off the record."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("FCNEF_BENCH_DIR")) as name:
        folder = Path(name)
        source = _unpack(case.archive, folder)
        volumes = read_series(source, ScannerConfig())
        session = _write_session(folder, volumes, n_volumes, display)
        files = _stage(folder, source, n_volumes, -(-n_volumes // len(volumes)))
        closed_s, memory = _play(folder, session, files, case.interval_s, display)
        return _figures(folder / "records" / "bench_run.sqlite", closed_s, memory, n_volumes)


def _unpack(archive: str, folder: Path) -> Path:
    if "FCNEF_DATA" not in os.environ:
        raise ConfigError("FCNEF_DATA is not set: expected the folder of real scans; set it")
    data = Path(os.environ["FCNEF_DATA"])
    (path,) = (data / "dicom").rglob(f"{archive}.tar.xz")
    with tarfile.open(path, "r:xz") as tar:
        tar.extractall(folder, filter="data")
    return folder / archive


def _write_session(folder: Path, volumes: list[Volume], n_volumes: int, display: bool) -> Path:
    first = volumes[0]
    labels = _parcels(np.asarray(first.data, np.float32), N_ROIS)
    image = nibabel.Nifti1Image(labels, first.affine)  # type: ignore[no-untyped-call]  # nibabel's
    nibabel.save(image, folder / "labels.nii.gz")
    (folder / "export").mkdir()
    Plan.create(
        participant="bench",
        rois={
            "kind": "atlas",
            "path": "labels.nii.gz",
            "sha256": file_digest(folder / "labels.nii.gz"),
            "labels": {k: f"parcel-{k}" for k in range(1, N_ROIS + 1)},
        },
        edges=[{"a": f"parcel-{k}", "b": f"parcel-{k + 100}"} for k in range(1, 11)],
        tr_s=first.tr_s,
        n_volumes=n_volumes,
        window_s=WINDOW_S,
        timeline={"kind": "continuous", "rest_s": 20.0},
        calibration={"kind": "linear", "center": 0.2, "sd": 0.2},
    ).save(folder / "plan.json")
    ports = free_ports(4)
    path = folder / "session.toml"
    path.write_text(
        f"""name = "bench"
plan = "plan.json"
[[runs]]
name = "run"
[source]
watch = "export"
[engine.denoise]
motion = 24
[engine.connectivity]
edges = "all"
[display]
enabled = {str(display).lower()}
[network]
volumes = "tcp://127.0.0.1:{ports[0]}"
feedback = "tcp://127.0.0.1:{ports[1]}"
telemetry = "tcp://127.0.0.1:{ports[2]}"
reports = "tcp://127.0.0.1:{ports[3]}"
"""
    )
    return path


def _parcels(image: NDArray[np.float32], n: int) -> NDArray[np.int16]:
    """The brightest half of the head, cut into `n` parcels of neighbouring voxels."""
    inside = np.argwhere(image > 0.5 * np.percentile(image, 95))
    order = [inside]
    while len(order) < n:
        # Halve the largest parcel across its longest side.
        largest = max(range(len(order)), key=lambda k: len(order[k]))
        voxels = order.pop(largest)
        axis = int(np.argmax(np.ptp(voxels, axis=0)))
        voxels = voxels[np.argsort(voxels[:, axis], kind="stable")]
        order += [voxels[: len(voxels) // 2], voxels[len(voxels) // 2 :]]
    labels = np.zeros(image.shape, np.int16)
    for k, voxels in enumerate(order, start=1):
        labels[tuple(voxels.T)] = k
    return labels


class _Noisy(RecordedSeries):
    """The series with 1 % noise added, so that volumes played again are not the same again.

    Twenty volumes repeated exactly would be explained by 27 regressors exactly, and no edge would
    have a correlation left.
    """

    def files(self, delivery: Any) -> list[Any]:
        random = np.random.default_rng(delivery.index)
        return [
            replace(file, body=_with_noise(file.body, random)) for file in super().files(delivery)
        ]


def _with_noise(body: bytes, random: np.random.Generator) -> bytes:
    """A DICOM file's uncompressed 16-bit pixels with noise of 1 % of their mean above 0."""
    start = body.rfind(PIXEL_DATA) + len(PIXEL_DATA) + 4
    size = int.from_bytes(body[start - 4 : start], "little")
    pixels = np.frombuffer(body[start : start + size], "<i2").astype(np.int32)
    inside = pixels > 0
    noise = random.normal(0.0, 0.01 * pixels[inside].mean(), int(inside.sum()))
    pixels[inside] = np.maximum(pixels[inside] + np.rint(noise).astype(np.int32), 1)
    return body[:start] + pixels.astype("<i2").tobytes() + body[start + size :]


def _stage(folder: Path, source: Path, n_volumes: int, repeat: int) -> list[Path]:
    """Write every file beforehand, so that making them takes no time from the loop."""
    series = _Noisy(source, n_volumes=n_volumes, repeat=repeat)
    staging = folder / "staging"
    staging.mkdir()
    paths = []
    for delivery in deliveries(FaultScript(), n_volumes):
        (file,) = series.files(delivery)
        paths.append(staging / file.name)
        paths[-1].write_bytes(file.body)
    return paths


def _play(
    folder: Path, session: Path, files: list[Path], interval_s: float, display: bool
) -> tuple[list[float], list[float]]:
    """Move the files into the export folder one by one, at absolute times.

    Returns
    -------
    closed_s : list of float
        When each file had its final name.
    memory : list of float
        The engine's resident memory every 100 volumes, MB.
    """
    closed_s: list[float] = []
    memory: list[float] = []
    notice = folder / "records" / "bench_run.processes.json"
    with _maybe_screen(display) as shown, running(session, shown) as loop:
        _wait_for(notice, loop)
        engine = psutil.Process(json.loads(notice.read_text())["engine"])
        start = time.monotonic()
        for index, path in enumerate(files):
            time.sleep(max(0.0, start + index * interval_s - time.monotonic()))
            path.rename(folder / "export" / path.name)
            closed_s.append(time.time())
            if index % 100 == 0:
                memory.append(engine.memory_info().rss / 1e6)
        loop.wait(120)
    return closed_s, memory


@contextlib.contextmanager
def _maybe_screen(display: bool) -> Iterator[str]:
    if not display:
        yield ""
        return
    with screen(window=False) as name:
        yield name


def _wait_for(notice: Path, loop: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while not notice.exists() and loop.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    # The engine compiles or loads its kernels before it binds; files written meanwhile would wait.
    time.sleep(8.0)


def _figures(
    path: Path, closed_s: list[float], memory: list[float], n_volumes: int
) -> dict[str, Any]:
    with Record.open(path) as record:
        attempt = record.attempts()[-1]
        times = {row["event"]: row for row in record.rows("times")}
        events = [r for r in record.events(attempt) if r.kind == "volume"]
        rows = [(r.index, times[r.n]) for r in events if r.index >= WARM_UP]
        flips = _flips(record)
        scored = sum(np.isfinite(r.step.scores[0].value) for r in events)
    engine_ms = [1e3 * (t["published_s"] - t["arrived_s"]) for _, t in rows]
    received_ms = [1e3 * (t["published_s"] - t["received_s"]) for _, t in rows]
    file_ms = [1e3 * (t["published_s"] - closed_s[index]) for index, t in rows]
    tenth = max(1, len(rows) // 10)
    return {
        "n_volumes": n_volumes,
        "n_scored": int(scored),
        "received_by_engine_to_published_ms": _spread(engine_ms),
        "complete_at_gateway_to_published_ms": _spread(received_ms),
        "file_closed_to_published_ms": _spread(file_ms),
        "published_to_flip_ms": _spread(flips) if flips else None,
        "drift_of_median_ms": float(np.median(engine_ms[-tenth:]) - np.median(engine_ms[:tenth])),
        "engine_memory_mb": {"first": memory[0], "last": memory[-1], "after_warm_up": memory[2]},
    }


def _flips(record: Record) -> list[float]:
    published = {row["id"]: row["published_s"] for row in record.rows("message")}
    return [
        1e3 * (row["flip_s"] - published[row["message"]])
        for row in record.rows("shown")
        if row["status"] == "shown" and row["message"] in published
    ]


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(float(np.median(values)), 2),
        "p99": round(float(np.percentile(values, 99)), 2),
        "max": round(float(np.max(values)), 2),
    }


def prove(n_volumes: int = 2000) -> tuple[dict[str, Any], dict[str, bool]]:
    """Both sizes over 2,000 volumes without display, then the small one with it."""
    figures: dict[str, Any] = {}
    reached: dict[str, bool] = {}
    for name, case in CASES.items():
        found = figures[name] = measure(case, n_volumes)
        chain_ms, file_ms = LIMITS_MS[name]
        memory = found["engine_memory_mb"]
        chain = found["received_by_engine_to_published_ms"]["p99"]
        reached[f"{name}: volume received -> published p99 <= {chain_ms:g} ms"] = chain <= chain_ms
        closed = found["file_closed_to_published_ms"]["p99"]
        reached[f"{name}: file closed -> published p99 <= {file_ms:g} ms"] = closed <= file_ms
        reached[f"{name}: flat over the run (median drifts < 1 ms)"] = (
            abs(found["drift_of_median_ms"]) < 1.0
        )
        reached[f"{name}: memory flat (grows < 5 % after the first 200 volumes)"] = (
            memory["last"] < 1.05 * memory["after_warm_up"]
        )
    shown = figures["64x64x33 with display"] = measure(CASES["64x64x33"], 400, display=True)
    flip = shown["published_to_flip_ms"]
    reached["published -> flip p99 <= 2 frames (software-paced 60 Hz)"] = (
        flip is not None and flip["p99"] <= FLIP_LIMIT_FRAMES * 1e3 / 60
    )
    return figures, reached


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=int, default=400)
    parser.add_argument("--case", choices=list(CASES), default="64x64x33")
    parser.add_argument("--display", action="store_true")
    options = parser.parse_args()
    print(json.dumps(measure(CASES[options.case], options.volumes, options.display), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
