"""A site in threads: the real loop, the real gateway and the simulated scanner around one record.

What differs from a site is only that they share a process: sockets, files, record and clocks are
the real ones. A series is played faster than it was scanned by being said to have a shorter TR.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rtloop import attempts
from rtloop.config import SessionConfig
from rtloop.engine import Engine
from rtloop.gateway import Gateway, GatewayConfig
from rtloop.link import StreamSource
from rtloop.loop import Loop
from rtloop.observer import Geometry
from rtloop.plan import Plan
from rtloop.rois import RoiSet
from rtloop.volume import Volume
from tools.faults import FaultScript
from tools.scanner import ExportFolder, Outlet, RecordedSeries, StreamOut, play

__all__ = [
    "N_DUMMIES",
    "WINDOW",
    "Way",
    "engine_for",
    "gateway_thread",
    "loop_thread",
    "plan_for",
    "run_under_faults",
    "session_for",
    "two_spheres",
]

N_DUMMIES = 5
WINDOW = 12
REST = 20
PATIENCE_S = 120.0
FIRST_LOOK_S = 0.3
"""A gateway that watches has by then looked at an empty folder: what is written later is new."""

BRAIN_SHARE = 0.3
"""A voxel counts as brain above this share of the 98th percentile."""


@dataclass(frozen=True, slots=True)
class Way:
    """How volumes get from the scanner to the loop, and how long each waits for what.

    Attributes
    ----------
    entrance : {"stream", "folder"}
        Straight over the stream, or as files through a gateway.
    tr_s : float
        The TR that the series is said to have, seconds.
    speed : float
        1 keeps to that TR; 0 is as fast as volumes are taken.
    latency_s : float
        The loop's patience beyond two TR, seconds.
    gap_wait_s : float
        The gateway's patience with missing predecessors, seconds.
    """

    entrance: Literal["stream", "folder"]
    tr_s: float
    speed: float
    latency_s: float
    gap_wait_s: float = 0.0

    @property
    def in_time(self) -> bool:
        """Whether what becomes of a volume depends on the order of arrival alone."""
        return self.speed == 0 or self.gap_wait_s > 10 * self.tr_s


def two_spheres(image: NDArray[Any], affine: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Two spheres in bright tissue, left and right of the middle.

    Parameters
    ----------
    image : ndarray, shape (x, y, z)
        An EPI volume.
    affine : ndarray, shape (4, 4), float64
        Voxel to world, mm.
    """
    bright = image > BRAIN_SHARE * np.percentile(image, 98)
    inside = bright.copy()
    for axis in (0, 1, 2):
        for shift in (-1, 1):
            inside &= np.roll(bright, shift, axis)
    places = np.argwhere(inside)
    centre, spread = places.mean(axis=0), places.std(axis=0)
    spheres = []
    for name, side in (("left", -1.0), ("right", 1.0)):
        wanted = centre + np.array([side, 0.0, 0.0]) * spread
        nearest = places[np.argmin(((places - wanted) ** 2).sum(axis=1))]
        center_mm = (affine @ np.append(nearest, 1.0))[:3]
        spheres.append({"name": name, "center_mm": center_mm.tolist(), "radius_mm": 7.0})
    return spheres


def plan_for(volume: Volume, n_volumes: int, block: bool) -> Plan:
    """A plan whose times are whole volumes: continuous feedback, or two trials."""
    tr_s = volume.tr_s
    timeline: dict[str, Any] = {"kind": "continuous", "rest_s": REST * tr_s}
    if block:
        phases = [
            ("regulate", WINDOW, "instruction"),
            ("wait", 4, "fixation"),
            ("show", 2, "score"),
        ]
        timeline = {
            "kind": "block",
            "rest_s": REST * tr_s,
            "phases": [{"name": n, "duration_s": k * tr_s, "scene": s} for n, k, s in phases],
            "n_trials": (n_volumes - REST) // (WINDOW + 6),
            "score_phase": "regulate",
            "feedback_phase": "show",
        }
    return Plan.create(
        participant="p01",
        rois={"kind": "spheres", "spheres": two_spheres(volume.data, volume.affine)},
        edges=[{"a": "left", "b": "right"}],
        tr_s=tr_s,
        n_volumes=n_volumes,
        window_s=WINDOW * tr_s,
        haemodynamic_delay_s=2 * tr_s,
        timeline=timeline,
        calibration={"kind": "linear", "center": 0.2, "sd": 0.3},
    )


def session_for(folder: Path, way: Way, motion: bool) -> SessionConfig:
    """Settings under which sixty volumes give scores: few dummies, a small regression."""
    names = ("volumes", "feedback", "telemetry", "reports")
    return SessionConfig.model_validate(
        {
            "name": "faults",
            "plan": "plan.json",
            "runs": [{"name": "run"}],
            "folder": folder,
            "source": {"kind": "stream", "latency_p99_s": way.latency_s, "restart_wait_s": 0.5},
            "engine": {
                "dummies_s": N_DUMMIES * way.tr_s,
                "motion": {"enabled": motion},
                "denoise": {
                    "motion": 6 if motion else 0,
                    "drift_order": 1,
                    "volumes_per_regressor": 2.0 if motion else 5.0,
                },
                # slice times are those of the true TR
                "connectivity": {"slice_alignment_above_s": 60.0},
            },
            "display": {"enabled": False},
            "network": {name: f"ipc://{folder / name}" for name in names},
        }
    )


def engine_for(volume: Volume, plan: Plan, session: SessionConfig) -> Engine:
    """The engine that the loop builds on this volume."""
    spheres = [(s.name, s.center_mm, s.radius_mm) for s in plan.rois.spheres]  # type: ignore[union-attr]
    rois = RoiSet.from_spheres(spheres, volume.shape, volume.affine)
    return Engine(plan, session.engine, rois, None, Geometry.of(volume))


class _Thread(threading.Thread):
    """A thread whose error is its owner's to raise."""

    def __init__(self, name: str, target: Any) -> None:
        super().__init__(name=name, daemon=True)
        self._work = target
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error

    def end(self, timeout_s: float) -> None:
        self.join(timeout_s)
        if self.error is not None:
            raise self.error
        if self.is_alive():
            raise TimeoutError(f"{self.name}: expected its end within {timeout_s:g} s, found none")


@contextlib.contextmanager
def loop_thread(session: SessionConfig, plan: Plan) -> Iterator[_Thread]:
    """The loop of the session's run, in a thread; left alone it ends with the run."""
    loops: list[Loop] = []

    def serve() -> None:
        with attempts.open_record(session, session.runs[0], plan) as record:
            loop = Loop(session, plan, record)
            loops.append(loop)
            with contextlib.closing(loop):
                loop.run()

    thread = _Thread("loop", serve)
    thread.start()
    try:
        yield thread
    finally:
        while thread.is_alive() and not loops:
            time.sleep(0.01)
        for loop in loops:
            loop.request_stop()
        thread.join(PATIENCE_S)


@contextlib.contextmanager
def gateway_thread(session: SessionConfig, way: Way) -> Iterator[Path]:
    """A gateway that watches a folder, which is yielded once it is looked at."""
    export = session.folder / "export"
    export.mkdir(exist_ok=True)
    scanner = session.folder / "scanner.toml"
    scanner.write_text(f"tr_s = {way.tr_s}\n", encoding="utf-8")
    watching = threading.Event()
    gateway = Gateway(
        GatewayConfig(
            watch=str(export),
            engine=session.network.volumes,
            scanner=str(scanner),
            secret=str(session.folder / "secret"),
            rescan_s=0.1,
            gap_wait_s=way.gap_wait_s,
            unfinished_wait_s=max(1.0, 6 * way.tr_s),
            parent_pid=0,
        ),
        say=lambda _: watching.set(),
    )
    stop = threading.Event()
    thread = _Thread("gateway", lambda: gateway.run(stop))
    thread.start()
    try:
        watching.wait(PATIENCE_S)
        time.sleep(FIRST_LOOK_S)
        yield export
    finally:
        stop.set()
        gateway.wake()
        thread.end(PATIENCE_S)


def run_under_faults(
    series: RecordedSeries, script: FaultScript, way: Way, folder: Path, plan: Plan, motion: bool
) -> Path:
    """Play a series under a fault script into a loop, to the end of the run.

    Returns
    -------
    Path
        The record.
    """
    session = session_for(folder, way, motion)
    with loop_thread(session, plan) as loop:
        if way.entrance == "stream":
            link = StreamSource(session.network.volumes, source="scanner")
            with contextlib.closing(link):
                _play(series, StreamOut(link, patience_s=PATIENCE_S), script, way.speed, loop)
                loop.end(PATIENCE_S)
        else:
            with gateway_thread(session, way) as export:
                _play(series, ExportFolder(export), script, way.speed, loop)
                loop.end(PATIENCE_S)
    return session.record_path(session.runs[0])


class _LoopEndedError(Exception):
    """The loop is over, so nobody takes what the scanner still has."""


def _play(
    series: RecordedSeries, outlet: Outlet, script: FaultScript, speed: float, loop: _Thread
) -> None:
    """Play the series, or what the loop lives to take of it."""

    def wait(seconds: float) -> None:
        if not loop.is_alive():
            raise _LoopEndedError
        outlet.idle(seconds)

    with contextlib.suppress(_LoopEndedError):
        play(series, outlet, script, speed=speed, wait=wait)
