"""A twin's training at the published size: seconds an epoch, beside the loop over people.

228 people, 19 segments each (4,332 an epoch) of 262 steps, 9 channels, 3 actions and 20 regions at
TR 0.8 s, all weights of every person from a perceptron of two hidden layers of 200 units, at 400
and at 128 units (Takahashi et al. 2026, BME Frontiers 7:0231). Connectomes of 100 ROIs: the
perceptron sees 227 components of them, as it would of any atlas. Values are random; times do not
depend on them.

The loop beside it is what automatic differentiation does without this module's layout: for one
person after another, weights from the same perceptron, the recurrence step by step, the same
losses, `backward`. It is measured on a few people in the same run, with the segments of a person
one at a time, and with all of them in one product; gradients of both are checked against ours.
The loop runs with one thread and with as many as ours, and the better time is taken. Time is CPU
time of the process (which other work on the machine does not change much) and wall.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from offline.twin.examples import Examples

if TYPE_CHECKING:
    from torch import Tensor

    from offline.twin.model import Parameters, Settings

__all__ = ["measure", "prove"]

N_PEOPLE, N_SEGMENTS, N_STEPS = 228, 19, 262
N_CHANNELS, N_ACTIONS, N_REGIONS, TR_S, STEP_S = 9, 3, 20, 0.8, 0.08
THREADS = 2
BATCH = 76
SAMPLE = 2
"""People of the loop."""

LIMIT_S = {400: 25.0, 128: 4.0}
LIMIT_GB = 4.0
TIMES_FASTER = 15.0


def measure(units: int, *, threads: int = THREADS, epochs: int = 2, loop: bool = True) -> Any:
    """Epochs of ours and, on a sample of people, of the loop; in this process."""
    import torch

    from offline.twin.determinism import deterministic
    from offline.twin.model import Settings

    settings = Settings(units=units, form="whole", epochs=epochs, segments=None, batch=BATCH)
    with deterministic(threads):
        run = _run(settings)
        times = [_timed(partial(run.epoch_of, (0, epoch))) for epoch in range(epochs)]
        figures: dict[str, Any] = {
            "units": units,
            "threads": threads,
            "torch": str(torch.__version__),
            "free_weights": run.parameters["last"].shape[0],
            "parameters": sum(values.numel() for values in run.parameters.values()),
            "epoch_wall_s": round(min(wall for wall, _ in times), 2),
            "epoch_cpu_s": round(min(cpu for _, cpu in times), 2),
            "memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        }
        if loop:
            figures |= _loop(run, "one_by_one", figures)
            figures |= _loop(run, "together", figures)
    return figures


def prove() -> tuple[dict[str, Any], dict[str, bool]]:
    """Both sizes, each in a process of its own, whose memory is its own."""
    rows = [_in_process(units) for units in LIMIT_S]
    figures = {"rows": rows, "gpu": _gpu()}
    reached = {}
    for row in rows:
        units = row["units"]
        name = f"{units} units, {THREADS} threads"
        reached[f"{name}: an epoch <= {LIMIT_S[units]:g} s"] = row["epoch_wall_s"] <= LIMIT_S[units]
        reached[f"{name}: memory <= {LIMIT_GB:g} GB"] = row["memory_gb"] <= LIMIT_GB
        if units == max(LIMIT_S):
            reached[f"{name}: {TIMES_FASTER:g}x faster than the loop over people"] = (
                row["one_by_one_times"] >= TIMES_FASTER
            )
    return figures, reached


def _in_process(units: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tools.bench.twin", "--units", str(units), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def _gpu() -> dict[str, Any] | str:
    """An epoch on a GPU, where there is one."""
    import torch

    from offline.twin.determinism import deterministic
    from offline.twin.model import Settings

    if not torch.cuda.is_available():
        return "not measured: no GPU at hand"
    with deterministic(THREADS):
        run = _run(Settings(units=400, form="whole", segments=None, batch=BATCH), "cuda")
        times = []
        for epoch in range(3):
            start = time.perf_counter()
            run.epoch_of((0, epoch))
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return {"device": torch.cuda.get_device_name(), "epoch_wall_s": round(min(times), 3)}


def _run(settings: Settings, device: str = "cpu") -> Any:
    from offline.twin.train import _Run

    examples = _examples(np.random.default_rng(0))
    edges = np.random.default_rng(1).standard_normal((N_PEOPLE + 4, 4950))
    people = np.arange(N_PEOPLE + 4)
    rng = np.random.default_rng(2)
    return _Run.begin(edges, examples, people[:N_PEOPLE], people[N_PEOPLE:], settings, rng, device)


def _loop(run: Any, way: str, ours: dict[str, Any]) -> dict[str, Any]:
    """Extrapolated from a few people: the loop needs the same time for each."""
    import torch

    _require_same_gradient(run, way)
    times = {}
    # small products gain nothing from a second thread and may lose: the loop has its better number
    for threads in {1, ours["threads"]}:
        torch.set_num_threads(threads)
        times[threads] = _timed(lambda: [_gradient_of_person(run, k, way) for k in range(SAMPLE)])
    torch.set_num_threads(ours["threads"])
    best = min(times, key=lambda threads: times[threads][0])
    wall, cpu = times[best]
    scale = N_PEOPLE / SAMPLE
    return {
        f"{way}_threads": best,
        f"{way}_wall_s": round(wall * scale, 1),
        f"{way}_cpu_s": round(cpu * scale, 1),
        f"{way}_times": round(wall * scale / ours["epoch_wall_s"], 1),
        f"{way}_times_cpu": round(cpu * scale / ours["epoch_cpu_s"], 1),
    }


def _gradient_of_person(run: Any, person: int, way: str) -> list[Tensor]:
    """Gradients of all parameters of one person's loss, by automatic differentiation."""
    import torch

    from offline.twin.heads import bold_loss, choice_loss, linear, rt_loss, rt_of
    from offline.twin.model import network

    own = run.inner.of(np.array([person]))
    parameters: Parameters = run.parameters
    for values in parameters.values():
        values.requires_grad_()
    b, w, heads = network(parameters, run.shape, run.settings, run.codes[[person]])
    inputs = torch.from_numpy(own.inputs[0])
    if way == "together":
        h = _steps(inputs, b[0], w[0])
    else:
        h = torch.cat([_steps(segment[None], b[0], w[0]) for segment in inputs], dim=1)
    h = h[:, None]
    loss = rt_loss(*rt_of(h, heads["rt"], own), own).sum()
    loss = loss + choice_loss(linear(h, heads["choice"]), own).sum()
    loss = loss + bold_loss(linear(h, heads["bold"]), heads["bold_noise"], own).sum()
    found = list(torch.autograd.grad(loss, list(parameters.values())))
    for values in parameters.values():
        values.requires_grad_(False)
    return found


def _steps(inputs: Tensor, b: Tensor, w: Tensor) -> Tensor:
    """States (step, segment, unit) of inputs (segment, step, channel), one step after another."""
    import torch

    h = inputs.new_zeros(len(inputs), len(w))
    out = []
    for t in range(inputs.shape[1]):
        h = torch.tanh(h @ w.mT + inputs[:, t] @ b.mT)
        out.append(h)
    return torch.stack(out)


def _require_same_gradient(run: Any, way: str) -> None:
    """The loop is a rival only if it computes the same; float32 over 262 steps."""
    import torch

    from offline.twin.model import gradients

    theirs = _gradient_of_person(run, 0, way)
    own = run.inner.of(np.array([0]))
    one_person = torch.ones(1)
    _, found = gradients(run.parameters, run.shape, run.settings, own, run.codes[[0]], one_person)
    ours = [found[name] for name in run.parameters]
    for name, one, other in zip(run.parameters, ours, theirs, strict=True):
        error = float((one - other).norm() / other.norm().clamp_min(1e-12))
        if error > 1e-3:
            raise RuntimeError(f"gradient of {name} differs by {error:.1e} from the loop's")


def _examples(rng: np.random.Generator) -> Examples:
    """Runs of the published lengths: a trial every 3 s, six in a segment."""
    n_people = N_PEOPLE + 4
    shape = (n_people, N_SEGMENTS, 6)
    onset = np.broadcast_to(np.arange(6) * 38, shape).copy()
    inputs = (rng.random((n_people, N_SEGMENTS, N_STEPS, N_CHANNELS + 1)) < 0.3).astype(np.float32)
    inputs[..., -1] = 1.0
    rt_s = rng.uniform(0.4, 1.6, shape)
    choice = rng.integers(0, N_ACTIONS, shape)
    n_volumes = int(N_STEPS * STEP_S / TR_S)
    times_s = np.broadcast_to(np.arange(n_volumes) * TR_S, (*shape[:2], n_volumes))
    return Examples(
        people=tuple(f"P{k}" for k in range(n_people)),
        inputs=inputs,
        start_step=np.broadcast_to(np.arange(N_SEGMENTS) * 263, shape[:2]).copy(),
        run=np.zeros(shape[:2], np.int64),
        onset=onset,
        end=onset + 28,
        log_rt=np.log(rt_s),
        choice=choice,
        response_step=onset + np.floor(rt_s / STEP_S).astype(np.int64),
        answer=choice,
        condition=rng.integers(0, 2, shape),
        trial=np.broadcast_to(np.arange(6 * N_SEGMENTS).reshape(N_SEGMENTS, 6), shape).copy(),
        bold=rng.standard_normal((*shape[:2], n_volumes, N_REGIONS)).astype(np.float32),
        bold_s=times_s.copy(),
        channels=tuple(f"c{k}" for k in range(N_CHANNELS)),
        conditions=("a", "b"),
        regions=tuple(f"r{k}" for k in range(N_REGIONS)),
        n_actions=N_ACTIONS,
        step_s=STEP_S,
    )


def _timed(call: Callable[[], Any]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description="A twin's training at the published size.")
    parser.add_argument("--units", type=int, help="one size only, in this process")
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--no-loop", action="store_true", help="leave the loop over people out")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    if arguments.units:
        row = measure(arguments.units, threads=arguments.threads, loop=not arguments.no_loop)
        rows = [row]
        reached: dict[str, bool] = {}
        if arguments.json:
            print(json.dumps(row))
            return
    else:
        figures, reached = prove()
        rows = figures["rows"]
        if arguments.json:
            print(json.dumps({**figures, "reached": reached}, indent=2))
            return
    table = Table(title="One epoch, 228 people, 4,332 segments of 262 steps")
    for column in (
        "units",
        "threads",
        "wall s",
        "CPU s",
        "GB",
        "loop s",
        "x",
        "batched loop s",
        "x",
    ):
        table.add_column(column, justify="right")
    keys = ("units", "threads", "epoch_wall_s", "epoch_cpu_s", "memory_gb", "one_by_one_wall_s",
            "one_by_one_times", "together_wall_s", "together_times")  # fmt: skip
    for row in rows:
        table.add_row(*(str(row.get(key, "")) for key in keys))
    console = Console(width=110)
    console.print(table)
    for claim, holds in reached.items():
        console.print(f"{'reached    ' if holds else 'NOT REACHED'}  {claim}")


if __name__ == "__main__":
    main()
