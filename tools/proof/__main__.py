"""`make proof NAME`: run one claim at full size and write `docs/proof/NAME.json`.

A proof is a function that returns figures and, for each claim, whether they reach it. What was
run, on which commit and machine, is written beside them; a claim that is not reached is written
down as such, and the exit status is 1.
"""

from __future__ import annotations

import importlib
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rtloop.errors import FcnefError
from rtloop.fingerprint import fingerprint

PROOFS = {
    "motion": "tools.bench.motion",
    "fc": "tools.bench.fc",
    "denoise": "tools.bench.denoise",
    "truth": "tools.bench.truth",
    "latency": "tools.bench.latency",
    "record": "tools.bench.record",
    "install": "tools.bench.install",
    "faults": "tools.proof.faults",
    "cohort": "tools.bench.cohort",
    "harmonize": "tools.bench.harmonize",
    "decoder": "tools.bench.decoder",
    "honesty": "tools.bench.honesty",
    "rest": "tools.bench.rest",
    "behaviour": "tools.bench.behaviour",
    "twin-truth": "tools.bench.twin_truth",
    "twin-speed": "tools.bench.twin",
}

FOLDER = Path(__file__).parents[2] / "docs" / "proof"


def prove(name: str) -> bool:
    """Run one proof; whether every claim of it was reached."""
    # asked before: a proof may run for an hour, and the tree may change meanwhile
    commit, started_s = _commit(), time.time()
    figures, reached = importlib.import_module(PROOFS[name]).prove()
    holds_all = bool(reached) and all(reached.values())
    document = {
        "proof": name,
        "command": f"make proof {name}",
        "commit": commit,
        "date": time.strftime("%Y-%m-%d", time.gmtime(started_s)),
        "minutes": round((time.time() - started_s) / 60, 1),
        "machine": _machine(),
        "figures": figures,
        "reached": reached,
        "verdict": "reached" if holds_all else "not reached",
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(_json(document), encoding="utf-8")
    for claim, holds in reached.items():
        print(f"{'reached    ' if holds else 'NOT REACHED'}  {claim}")
    print(f"{document['verdict']}: docs/proof/{name}.json")
    return holds_all


def _json(document: dict[str, Any]) -> str:
    """Indented JSON, which has no nan: null stands for it."""
    plain = json.loads(json.dumps(document), parse_constant=lambda _: None)
    return json.dumps(plain, indent=2) + "\n"


def _commit() -> str:
    """The commit the figures belong to, marked where the tree had changes."""
    run: dict[str, Any] = {
        "cwd": FOLDER.parents[1],
        "capture_output": True,
        "text": True,
        "check": False,
    }
    head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], **run)
    changes = subprocess.run(["git", "status", "--porcelain"], **run)
    others = [line for line in changes.stdout.splitlines() if "docs/proof/" not in line]
    return f"{head.stdout.strip()}{'+changes' if others else ''}"


def _machine() -> dict[str, Any]:
    known = fingerprint()
    keep = ("cpu", "python", "numpy", "numba", "llvmlite", "digest")
    return {"platform": platform.platform(), **{name: known[name] for name in keep}}


def main(names: list[str]) -> int:
    if not names:
        print("proofs:", " ".join(PROOFS))
        return 0
    unknown = [name for name in names if name not in PROOFS]
    if unknown:
        print(f"proof: expected one of {' '.join(PROOFS)}, found {unknown[0]}", file=sys.stderr)
        return 2
    try:
        reached = [prove(name) for name in names]
        return 0 if all(reached) else 1
    except FcnefError as error:
        print(f"proof: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
