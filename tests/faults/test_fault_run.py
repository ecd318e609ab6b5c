"""The fault run in short: six random scripts, audited as `make proof faults` audits a hundred.

And the audit itself: engines that are wrong in one way each are found out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rtloop.engine import Engine
from rtloop.errors import ConfigError
from rtloop.loop import Loop
from rtloop.scoring import Scorer
from tools.proof import faults
from tools.proof.faults import SERIES, run_script, unpacked
from tools.proof.rig import Way

PRISMA = next(series for series in SERIES if "prisma" in series.name)
GE = next(series for series in SERIES if series.name == "s1925")
XA = next(series for series in SERIES if "xa30" in series.name)
STREAM = Way("stream", tr_s=0.1, speed=0, latency_s=1.5)
FOLDER = Way("folder", tr_s=0.06, speed=1, latency_s=2.5, gap_wait_s=1.0)
PACED = Way("stream", tr_s=0.1, speed=1, latency_s=0.1)
BOLD = next(series for series in SERIES if series.name == "studyforrest")


@pytest.fixture(scope="module")
def folders(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return unpacked(data, tmp_path_factory.mktemp("series"))


@pytest.mark.parametrize(
    ("seed", "series", "way"),
    [
        (4, XA, STREAM),
        (12, BOLD, STREAM),
        (10, PRISMA, STREAM),
        (45, GE, FOLDER),
        (9, PRISMA, PACED),
    ],
)
def test_every_volume_is_accounted_for(
    folders: dict[str, Path], seed: int, series: Any, way: Any
) -> None:
    script, found = run_script(seed, series, way, folders)
    assert script.fault
    assert found.findings == []
    assert found.n_scores > 20
    assert found.largest < 1e-9


# --- the audit finds what is wrong -----------------------------------------------------------


def one_too_far(real: Callable[..., Any]) -> Callable[..., Any]:
    """A missing volume shifts the design: its place in time is forgotten."""

    def passed(self: Engine, until: int) -> Any:
        missing, _ = real(self, min(until, self.next_index))
        self.next_index = until
        return missing, None

    return passed


def count_anyway(real: Callable[..., Any]) -> Callable[..., Any]:
    """Censored or missing volumes are given full weight: the last good one is counted again."""
    last: dict[int, Any] = {}

    def enter(
        self: Scorer, index: int, signals: Any, parameters: Any = None, tissue: Any = None,
        weight: float = 0.0,
    ) -> Any:  # fmt: skip
        if signals is not None and weight > 0:
            last[id(self)] = (signals, parameters, tissue, weight)
        signals, parameters, tissue, weight = last.get(
            id(self), (signals, parameters, tissue, weight)
        )
        return real(self, index, signals, parameters, tissue, weight)

    return enter


def by_count(real: Callable[..., Any]) -> Callable[..., Any]:
    """The timeline follows the number of volumes that came, not their index."""

    def screen(self: Engine, used: bool) -> Any:
        index, self.next_index = self.next_index, len(self._seen)
        try:
            return real(self, used)
        finally:
            self.next_index = index

    return screen


def in_silence(real: Callable[..., Any]) -> Callable[..., Any]:
    """What went wrong is not recorded."""
    return lambda self, step: None


@pytest.mark.parametrize(
    ("owner", "method", "spoil", "complaint"),
    [
        (Engine, "_pass_over", one_too_far, "not accounted for"),
        (Scorer, "enter", count_anyway, "recipe"),
        (Engine, "_screen", by_count, "planned"),
        (Loop, "_record_faults", in_silence, "recorded 0 times"),
    ],
)
def test_a_wrong_engine_is_found_out(
    folders: dict[str, Path],
    owner: type,
    method: str,
    spoil: Callable[[Any], Any],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seed 1 has drops, and seed 0 a block timeline."""
    monkeypatch.setattr(owner, method, spoil(getattr(owner, method)))
    _, found = run_script(0, GE, STREAM, folders)
    assert any(complaint in line for line in found.findings), found.findings


def test_the_proof_counts_and_resumes(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(faults, "unpacked", lambda *_: folders)
    figures, reached = faults.prove(1)
    assert figures["mismatches"] == 0
    assert figures["faults_by_kind"]["drop"] > 0
    assert sum(figures["volumes_became"].values()) >= 60
    assert list(reached.values()) == [True, False, True], "one script has not every kind of fault"
    monkeypatch.setattr(faults, "run_script", None)
    assert faults.prove(1)[0] == figures


def test_the_proof_asks_for_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FCNEF_DATA", raising=False)
    with pytest.raises(ConfigError, match="expected the folder of real scans"):
        faults.prove(1)
