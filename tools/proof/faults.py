"""The fault run: random fault scripts over real series, through the real loop, audited one by one.

Every vendor's series, straight over the stream and as files through the gateway. Most scripts are
played so that their outcome follows from the order of arrival alone and is compared exactly; the
others are paced, and the loop's own deadlines decide.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rtloop.errors import ConfigError
from rtloop.events import Step
from rtloop.plan import Plan
from tools.faults import KINDS, Delivery, FaultScript, expected, random_faults
from tools.proof.audit import Audit, audit
from tools.proof.rig import Way, engine_for, plan_for, run_under_faults, session_for
from tools.scanner import RecordedSeries

__all__ = ["SERIES", "WAYS", "Recorded", "prove", "run_script", "unpacked"]

N_VOLUMES = 60
NUMBERED = ("nifti", "nifti4d", "parrec")
"""Forms whose files have no name but their index."""

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "proof-faults"
NEVER_S = 5.0
"""Patience that no played volume exhausts, and that the end of a cut series has to wait for."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A real series, and how it is used.

    `repeat` is how often it is played in a row to be long enough; `motion` whether motion is
    corrected and regressed out, which needs more than a handful of different volumes.
    """

    name: str
    repeat: int = 1
    motion: bool = True


SERIES = (
    Recorded("s1925"),
    Recorded("siemens_mosaic_prisma_64x64x18"),
    Recorded("siemens_mosaic_multiband_104x104x72"),
    Recorded("studyforrest"),
    Recorded("siemens_xa30_enhanced", 3),
    Recorded("philips_ingenia", 5),
    Recorded("siemens_mosaic_skyra", 6),
    Recorded("mr_0004", 6),
    Recorded("philips_par_rec", 15, motion=False),
)

STREAM = Way("stream", tr_s=0.1, speed=0, latency_s=NEVER_S)
FOLDER = Way("folder", tr_s=0.06, speed=1, latency_s=NEVER_S, gap_wait_s=2.0)
PACED_STREAM = Way("stream", tr_s=0.2, speed=1, latency_s=0.1)
PACED_FOLDER = Way("folder", tr_s=0.2, speed=1, latency_s=0.1, gap_wait_s=0.1)
WAYS = (
    *(STREAM, FOLDER, STREAM, FOLDER, PACED_STREAM),
    *(FOLDER, STREAM, FOLDER, STREAM, PACED_FOLDER),
)


def prove(n_scripts: int = 100) -> tuple[dict[str, Any], dict[str, bool]]:
    """Run the scripts; those that are done for this very source are not run again.

    Returns
    -------
    (dict, dict)
        Figures, and whether each claim is reached.
    """
    kinds, became, findings = Counter[str](), Counter[str](), list[str]()
    n_scores, largest, otherwise, n_paced, n_attempts = 0, 0.0, 0, 0, 0
    folders = unpacked(_data(), CACHE.parent / "series")
    for seed in range(n_scripts):
        one = _remembered(seed, folders)
        kinds.update(one["kinds"])
        became.update(one["became"])
        findings += one["findings"]
        n_scores += one["n_scores"]
        largest = max(largest, one["largest"])
        otherwise += one["otherwise"]
        n_paced += one["paced"]
        n_attempts += one["attempts"]
    figures = {
        "scripts": n_scripts,
        "paced_scripts": n_paced,
        "series": {
            series.name: f"played {series.repeat} times in a row" if series.repeat > 1 else "once"
            for series in SERIES
        },
        "volumes_per_attempt": N_VOLUMES,
        "attempts": n_attempts,
        "faults_by_kind": dict(sorted(kinds.items())),
        "volumes_became": dict(sorted(became.items())),
        "scores_compared": n_scores,
        "largest_difference_to_recipe": largest,
        "volumes_judged_by_the_clock": otherwise,
        "findings": findings,
        "mismatches": len(findings),
    }
    return figures, {
        "every volume accounted for exactly once, design never shifted, no score from a window "
        "it should not trust, replay identical": not findings,
        "every kind of fault occurred": set(KINDS) <= set(kinds),
        "scores within 1e-9 of the recipe in NumPy": largest <= 1e-9 and n_scores > 0,
    }


def _remembered(seed: int, folders: dict[str, Path]) -> dict[str, Any]:
    path = CACHE / _source_digest() / f"{seed:03d}.json"
    if path.exists():
        entries: dict[str, Any] = json.loads(path.read_text())
        return entries
    started_s = time.monotonic()
    series, way = SERIES[seed % len(SERIES)], WAYS[seed % len(WAYS)]
    script, found = run_script(seed, series, way, folders)
    entries = {
        "became": dict(found.became),
        "n_scores": found.n_scores,
        "largest": found.largest,
        "otherwise": found.otherwise,
        "findings": [f"script {seed} ({series.name}): {line}" for line in found.findings],
        "kinds": Counter(fault.kind for fault in script.fault),
        "attempts": 1 + sum(fault.kind == "restart" for fault in script.fault),
        "paced": not way.in_time,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries))
    took_s = time.monotonic() - started_s
    print(
        f"script {seed}: {series.name}, {way.entrance}, {took_s:.0f} s, "
        f"{len(found.findings)} findings",
        flush=True,
    )
    for line in entries["findings"]:
        print("   ", line, flush=True)
    return entries


def run_script(
    seed: int, recorded: Recorded, way: Way, folders: dict[str, Path]
) -> tuple[FaultScript, Audit]:
    """One random script over one series, and what its record says.

    Parameters
    ----------
    seed : int
        Which script.
    recorded : Recorded
        What is played.
    way : Way
        Over the stream or through a folder, and at which pace.
    folders : dict of str to Path
        From `unpacked`.
    """
    series = _series(folders[recorded.name], recorded.repeat, way.tr_s)
    kinds = [kind for kind in KINDS if kind != "nan" or _can_be_nan(series, way)]
    script = random_faults(seed, N_VOLUMES, kinds)
    block = seed % 3 == 0
    plan, clean = _clean(series, block, recorded.motion)
    patience_tr = way.gap_wait_s / way.tr_s
    deadline_tr = None if way.in_time else 1 + way.latency_s / way.tr_s
    accounts = expected(script, N_VOLUMES, patience_tr, deadline_tr)
    if way.entrance == "folder" and series.form in NUMBERED:
        # the same file written again under the same name is a touched file, not a volume
        for account in accounts:
            account.duplicates.clear()
    with tempfile.TemporaryDirectory(prefix="fcnef-") as folder:
        path = run_under_faults(series, script, way, Path(folder), plan, recorded.motion)
        return script, audit(path, accounts, clean, way.in_time)


@cache
def _series(path: Path, repeat: int, tr_s: float) -> RecordedSeries:
    return RecordedSeries(path, tr_s=tr_s, n_volumes=N_VOLUMES, repeat=repeat)


@cache
def _clean(series: RecordedSeries, block: bool, motion: bool) -> tuple[Plan, list[Step]]:
    """The plan for a series, and the steps of a run without faults."""
    volumes = [series.volume(Delivery(0.0, 0, index)) for index in range(N_VOLUMES)]
    plan = plan_for(volumes[0], N_VOLUMES, block)
    way = Way("stream", series.tr_s, 0, NEVER_S)
    engine = engine_for(volumes[0], plan, session_for(Path(), way, motion))
    return plan, [engine.step(volume) for volume in volumes]


def _can_be_nan(series: RecordedSeries, way: Way) -> bool:
    return way.entrance == "stream" or series.form in ("nifti", "nifti4d")


def unpacked(data: Path, root: Path) -> dict[str, Path]:
    """Folders (or the 4-D file) of the real series, unpacked into `root` where they are not yet."""
    root.mkdir(parents=True, exist_ok=True)
    for archive in sorted((data / "dicom").rglob("*.tar.xz")):
        with tarfile.open(archive, "r:xz") as tar:
            first = tar.next()
            if first is not None and not (root / first.name.split("/")[0]).exists():
                tar.extractall(root, filter="data")
    folders = {folder.name: folder for folder in root.iterdir() if folder.is_dir()}
    folders["philips_par_rec"] = data / "dicom" / "philips_par_rec"
    folders["studyforrest"] = next((data / "bold").glob("*_bold.nii.gz"))
    return folders


def _data() -> Path:
    folder = os.environ.get("FCNEF_DATA")
    if not folder or not Path(folder).is_dir():
        raise ConfigError(
            f"FCNEF_DATA: expected the folder of real scans, found {folder or 'none'}; set it"
        )
    return Path(folder)


@cache
def _source_digest() -> str:
    """Digest of all that decides what a script leads to."""
    digest = hashlib.sha256()
    for room in ("rtloop", "tools/faults", "tools/proof", "tools/scanner"):
        for path in sorted((ROOT / room).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
