"""`fcnef bench`: what each part of the loop costs on this machine, with rivals beside it."""

from __future__ import annotations

import dataclasses
import json as json_format

from rich.console import Console

from rtloop.fingerprint import fingerprint
from tools.bench.table import PARTS, Part, measure, obstacle, table

__all__ = ["bench"]


def bench(*names: Part, json: bool = False) -> int:
    """Measure the loop's parts in under a minute: one table, medians and p99.

    The naive way or a rival is measured in the same run. Claims are proved at full size by
    `make proof`.

    Parameters
    ----------
    names
        Parts to measure; all of them if none is named.
    json
        Print JSON instead of a table.

    Example
    -------
    fcnef bench
    fcnef bench fc denoise --json
    """
    parts = names or PARTS
    obstacles = [line for part in parts if (line := obstacle(part))]
    errors = Console(stderr=True)
    rows = []
    with errors.status("measuring") as status:
        for part in parts:
            if not obstacle(part):
                status.update(f"measuring {part}")
                rows += measure(part)
    if json:
        found = {
            "machine": {name: fingerprint()[name] for name in ("cpu", "python", "numpy", "numba")},
            "rows": [dataclasses.asdict(row) for row in rows],
            "skipped": obstacles,
        }
        print(json_format.dumps(found, indent=2))
        return 0
    for line in obstacles:
        errors.print(line, highlight=False)
    if rows:
        Console().print(table(rows))
    return 0
