"""The demonstration: a simulated participant trains one connection, with two accidents on the way.

First a rest is measured, which gives the anchors and seeds the nuisance regression. Then a
scanner exports DICOM files into a folder; gateway, loop and display run as they would at a site,
each as its own process; one volume never comes and the engine is killed once. Afterwards the
record is replayed and a report is written. Everything in it was computed in that run.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from rtloop import attempts
from rtloop.config import RunEntry, SessionConfig
from rtloop.errors import FcnefError
from rtloop.journal import Record, Times
from rtloop.link import Listener
from rtloop.plan import ContinuousTimeline, Control, Plan, RunBaseline, SphereRois
from rtloop.replay import Verdict, verify
from rtloop.volume import Volume
from rtloop.wire import Telemetry
from tools.faults import FaultScript
from tools.faults.script import Drop
from tools.local import free_ports, running, screen
from tools.participant import Participant
from tools.participant.signals import Learner
from tools.planning import calibrated_plan
from tools.runreport import write_report
from tools.scanner import ExportFolder, SimulatedSeries, play

__all__ = ["Demo", "DemoError"]

TR_S = 1.0
N_REST = 240
N_VOLUMES = 300
REST_S = 60.0
WINDOW_S = 40.0
SPEED = 4.0
DROPPED = 150
KILL_AT = 200
SEED = 3
PATIENCE_S = 60.0
"""How long the run may take to end after its last volume."""


class Later:
    """The same participant later on: volume 0 is the one after `offset` others.

    Parameters
    ----------
    participant : Participant
        Who is scanned.
    offset : int
        Volumes scanned before.
    """

    def __init__(self, participant: Participant, offset: int) -> None:
        self._participant, self._offset = participant, offset
        self.seed, self.tr_s = participant.seed, participant.tr_s

    def volume(self, index: int) -> Volume:
        volume = self._participant.volume(index + self._offset)
        return replace(volume, index=index)

    def hear(self, index: int, value: float) -> None:
        self._participant.hear(index + self._offset, value)


class DemoError(FcnefError, RuntimeError):
    """Raised when the demonstration did not go as it should."""


@dataclass
class Demo:
    """One demonstration in a folder of its own.

    Attributes
    ----------
    out : Path
        Receives `report.html`; made anew.
    speed : float
        Scanner's pace in multiples of true time.
    window : bool
        Whether to show the participant's screen on the desktop there is; otherwise a virtual one
        is used, or none where there is no Xvfb.
    """

    out: Path
    speed: float = SPEED
    window: bool = False
    console: Console = field(default_factory=Console)

    def __post_init__(self) -> None:
        self.participant = Participant(
            SEED, tr_s=TR_S, script=Learner(seed=SEED, start_z=0.3, gain_z=0.15)
        )
        self.later = Later(self.participant, N_REST)
        self.folder = self.out / "session"
        self.record = self.folder / "records" / "demo_run-01.sqlite"
        self._killed_s: float | None = None

    def run(self) -> Verdict:
        """The whole of it; the replay's verdict is returned.

        Raises
        ------
        DemoError
            If the run did not end by itself, or not well.
        """
        plan = self._calibrate(self._prepare())
        with contextlib.ExitStack() as undo:
            display = undo.enter_context(screen(self.window))
            self._say(f"participant's screen: {display or 'none (no Xvfb found)'}")
            ports = free_ports(4)
            session = self._write_session(ports, display=bool(display))
            loop = undo.enter_context(running(session, display))
            hearing = undo.enter_context(
                contextlib.closing(Listener(f"tcp://127.0.0.1:{ports[2]}", newest_only=False))
            )
            self._wait_until_ready(loop, hearing)
            self._scan(loop, hearing)
            self._wait_for_end(loop)
        verdict = verify(self.record)
        self._say(_words(verdict))
        self._report(plan, verdict)
        return verdict

    # --- before ---------------------------------------------------------------------------

    def _prepare(self) -> Plan:
        try:
            if self.folder.exists():
                shutil.rmtree(self.folder)
            (self.folder / "export").mkdir(parents=True)
        except OSError as error:
            raise DemoError(
                f"--out {self.out}: expected a folder to write in, found: {error.strerror}; "
                "name another"
            ) from error
        first, second = self.participant.spheres[:2]
        plan = Plan.create(
            participant="simulated-01",
            rois=SphereRois(spheres=self.participant.spheres),
            edges=[{"a": first.name, "b": second.name}],
            tr_s=TR_S,
            n_volumes=N_VOLUMES,
            window_s=WINDOW_S,
            timeline=ContinuousTimeline(rest_s=REST_S),
            calibration=RunBaseline(),
            provenance={"note": "simulated participant"},
        )
        plan.save(self.folder / "plan.json")
        return plan

    def _calibrate(self, plan: Plan) -> Plan:
        """Anchors from a rest of the same participant, scored by the same engine."""
        session = SessionConfig.load(self._write_session(free_ports(4), False, seeded=False))
        rest_plan = plan.model_copy(
            update={
                "n_volumes": N_REST,
                "timeline": ContinuousTimeline(rest_s=N_REST * TR_S),
                "control": Control(arm="none"),
            }
        )
        path = self.folder / "records" / "demo_rest.sqlite"
        about = attempts.about(session, RunEntry(name="rest"), rest_plan)
        with Record.create(path, about) as record, self.console.status("rest") as status:
            running: attempts.Running | None = None
            for index in range(N_REST):
                status.update(f"rest, without feedback: volume {index + 1} of {N_REST}")
                volume = self.participant.volume(index)
                running = running or attempts.begin(session, rest_plan, record, volume, 0.0)
                step = running.engine.step(volume)
                with record.transaction():
                    record.add_event(running.attempt, volume, step, Times(None, None, 0.0, 0.0))
        calibrated, words = calibrated_plan(plan, [path])
        calibrated.save(self.folder / "plan.json")
        self._say(f"calibration: {words}")
        return calibrated

    def _write_session(self, ports: list[int], display: bool, seeded: bool = True) -> Path:
        names = ("volumes", "feedback", "telemetry", "reports")
        network = "\n".join(
            f'{name} = "tcp://127.0.0.1:{port}"' for name, port in zip(names, ports, strict=True)
        )
        seed = 'seed = ["records/demo_rest.sqlite"]' if seeded else ""
        path = self.folder / "session.toml"
        path.write_text(
            f"""name = "demo"
plan = "plan.json"
[[runs]]
name = "run-01"
[source]
kind = "folder"
watch = "export"
[engine.denoise]
{seed}
[display]
enabled = {str(display).lower()}
[display.options]
size = [800, 600]
capture_folder = "{self.folder / "screens"}"
capture_max = 8
[network]
{network}
""",
            encoding="utf-8",
        )
        return path

    def _wait_until_ready(self, loop: subprocess.Popen[bytes], hearing: Listener) -> None:
        until = time.monotonic() + PATIENCE_S
        notice = self.record.with_suffix(".processes.json")
        while time.monotonic() < until:
            if loop.poll() is not None:
                raise DemoError(f"the loop ended before the scan (exit status {loop.returncode})")
            message = hearing.receive(0.2)
            if notice.exists() and isinstance(message, Telemetry):
                return
        raise DemoError(f"the loop was not ready after {PATIENCE_S:g} s")

    # --- during ---------------------------------------------------------------------------

    def _scan(self, loop: subprocess.Popen[bytes], hearing: Listener) -> None:
        self._say(
            f"scanning: {N_VOLUMES} volumes of {TR_S:g} s, {self.speed:g} times as fast as true; "
            f"volume {DROPPED} will not come, the engine is killed at volume {KILL_AT}"
        )
        series = SimulatedSeries(self.later, N_VOLUMES)
        script = FaultScript(fault=(Drop(volume=DROPPED),))
        with self.console.status("scanning") as status:

            def before(delivery: Any) -> None:
                if loop.poll() is not None:
                    raise DemoError(f"the loop ended while scanning (status {loop.returncode})")
                status.update(f"scanning: volume {delivery.index + 1} of {N_VOLUMES}")
                self._hear(hearing, delivery.index)
                if delivery.index == KILL_AT and self._killed_s is None:
                    self._kill_engine()

            play(
                series,
                ExportFolder(self.folder / "export"),
                script,
                speed=self.speed,
                before=(before,),
            )

    def _hear(self, hearing: Listener, index: int) -> None:
        """What reached the participant's screen since the last volume."""
        while (message := hearing.receive(0.0)) is not None:
            if isinstance(message, Telemetry) and message.kind == "shown":
                value = message.body["value"]
                if value is not None and message.body["scene"] == "feedback":
                    self.later.hear(index, float(value))

    def _kill_engine(self) -> None:
        notice = json.loads(self.record.with_suffix(".processes.json").read_text())
        os.kill(notice["engine"], signal.SIGKILL)
        self._killed_s = time.time()

    def _wait_for_end(self, loop: subprocess.Popen[bytes]) -> None:
        with self.console.status("waiting for the run to end"):
            try:
                status = loop.wait(PATIENCE_S)
            except subprocess.TimeoutExpired as error:
                raise DemoError(f"the run did not end within {PATIENCE_S:g} s") from error
        if status != 0:
            raise DemoError(f"the run ended with exit status {status}")

    # --- after ----------------------------------------------------------------------------

    def _report(self, plan: Plan, verdict: Verdict) -> None:
        write_report(
            self.record,
            self.out / "report.html",
            replay=_words(verdict),
            screenshots=sorted((self.folder / "screens").glob("*.png")),
            truth=self._truth(plan),
            notes=(
                "Simulated participant: every volume was made by `tools/participant`, "
                "every score, latency and screen below was measured in this run.",
                f"The scanner ran {self.speed:g} times as fast as true time. Volume {DROPPED} was "
                f"never exported; the engine was killed (SIGKILL) before volume {KILL_AT}.",
            ),
        )
        self._say(f"report: {self.out / 'report.html'}")

    def _truth(self, plan: Plan) -> NDArray[np.float64]:
        """Fisher z of the measured signals' population correlation, averaged over each window."""
        truth = self.participant.truth
        z = np.array(
            [
                np.arctanh(truth.measured_correlation(N_REST + i, plan.window)[0, 1])
                for i in range(plan.n_volumes)
            ]
        )
        course = np.full(plan.n_volumes, np.nan)
        for i in range(plan.window - 1, plan.n_volumes):
            course[i] = z[i - plan.window + 1 : i + 1].mean()
        return course

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False)


def _words(verdict: Verdict) -> str:
    if verdict.identical:
        return (
            f"all scores identical ({verdict.n_events} events, {verdict.n_scores} scores, "
            "recomputed from the recorded volumes)"
        )
    return f"DIFFERENT: {verdict.difference}"
