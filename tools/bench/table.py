"""The quick benchmarks as one table: what fcnef takes, and the naive way or rival beside it.

Each part is the `measure` of its module at a size that takes seconds. Within a case the first row
is fcnef's; the others' medians are given as multiples of it, measured in the same run. Each part
runs in a process of its own whose linear algebra is held to one thread, as the loop's should be:
two threads on a busy machine cost rivals more than they gain. Proofs at full size (and those of
accuracy, latency and installation) are `make proof`'s.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import rich.table

__all__ = ["PARTS", "Part", "Row", "measure", "obstacle", "table"]

Part = Literal["motion", "denoise", "fc", "record"]
"""Names of the parts, in the table's order: a volume's way through the loop."""

PARTS: tuple[Part, ...] = get_args(Part)

NEEDS_DATA = frozenset({"motion"})
"""Parts that are measured on real scans."""

NEEDS_SCIPY = frozenset({"motion"})

UNITS = ("us", "ms")
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}


@dataclass(frozen=True, slots=True)
class Row:
    """One method in one case; `median` and `p99` are in `unit`.

    `times_fcnef` is the median as a multiple of fcnef's own in the same case; None for its own.
    """

    part: str
    method: str
    case: str
    median: float
    p99: float
    unit: str
    times_fcnef: float | None


def obstacle(part: Part) -> str:
    """Why a part cannot be measured here, in one line; "" if it can."""
    if part in NEEDS_DATA and not os.environ.get("FCNEF_DATA"):
        return f"{part}: skipped, it is measured on real scans; set FCNEF_DATA to their folder"
    if part in NEEDS_SCIPY and importlib.util.find_spec("scipy") is None:
        return f"{part}: skipped, its truth needs scipy; install fcnef[dev]"
    return ""


def measure(part: Part) -> list[Row]:
    """Run one part in its quick size; fcnef's own row comes first in each case."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.bench.table", part],
        env={**os.environ, **ONE_THREAD},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        done.check_returncode()
    return [Row(**entries) for entries in json.loads(done.stdout)]


def table(rows: list[Row]) -> rich.table.Table:
    """Rows for people."""
    made = rich.table.Table(title="Cost per volume, one thread; x fcnef: times as long as fcnef")
    for heading in ("part", "method", "case"):
        made.add_column(heading, overflow="fold")
    for heading in ("median", "p99", "unit", "x fcnef"):
        made.add_column(heading, justify="left" if heading == "unit" else "right", no_wrap=True)
    last = ("", "")
    for row in rows:
        # a part and a case are named once, so that rivals stand out below fcnef's row
        part = "" if row.part == last[0] else row.part
        case = "" if (row.part, row.case) == last else row.case
        if part and made.rows:
            made.add_section()
        ratio = "" if row.times_fcnef is None else _short(row.times_fcnef)
        made.add_row(part, row.method, case, _short(row.median), _short(row.p99), row.unit, ratio)
        last = (row.part, row.case)
    return made


def _short(value: float) -> str:
    """Three digits, or all of those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main(part: Part) -> None:
    """Measure a part in this process; its rows are printed as JSON."""
    module = importlib.import_module(f"tools.bench.{part}")
    size, case = _QUICK[part]
    if part == "motion":
        # SPM is compared where `make proof motion` has installed it.
        size["rival"] = (module.RIVAL / "ready").exists()
    print(json.dumps([asdict(row) for row in _rows(part, module.measure(**size), case)]))


def _rows(
    part: str, found: list[dict[str, Any]], case: Callable[[dict[str, Any]], str | None]
) -> Iterator[Row]:
    ours: dict[str, float] = {}
    for entry in found:
        name, unit = case(entry), next((u for u in UNITS if f"median_{u}" in entry), None)
        if name is None or unit is None:
            continue
        median = entry[f"median_{unit}"]
        ratio = median / ours[name] if name in ours else None
        ours.setdefault(name, median)
        yield Row(part, entry["method"], name, median, entry[f"p99_{unit}"], unit, ratio)


def _motion_case(entry: dict[str, Any]) -> str | None:
    """Small motion is what a run is made of; jumps and spoilt images are about accuracy."""
    return f"{entry['series']}, estimate + resample" if entry["case"] == "walk" else None


def _fc_case(entry: dict[str, Any]) -> str:
    nuisance = f" - {entry['n_regressors']} regressors" if entry["n_regressors"] else ""
    return f"{entry['n_rois']} ROIs{nuisance}, window {entry['window']}"


_QUICK: dict[Part, tuple[dict[str, Any], Callable[[dict[str, Any]], str | None]]] = {
    "motion": ({"n_volumes": 10, "n_jumps": 1}, _motion_case),
    "denoise": ({"n_volumes": 2000}, lambda e: f"200 ROIs - 30 regressors, volume {e['volume']}"),
    "fc": ({"n_volumes": 1000}, _fc_case),
    "record": ({"n_volumes": 100}, lambda _: "commit of a 1.6 MB volume"),
}
"""Quick size and name of a row's case (None leaves the row out), per part."""


if __name__ == "__main__":
    main(sys.argv[1])  # type: ignore[arg-type]  # `fcnef bench` names one of the parts
