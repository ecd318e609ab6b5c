"""What a record has to say of a faulty run: every volume once, nothing shifted, nothing invented.

A finding is one line. The fault script says what the scanner did (`tools.faults.expected`), the
clean run which scene belongs to which index, and `recipe` what each score has to be.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rtloop.config import EngineConfig
from rtloop.events import Step
from rtloop.journal import Attempt, Record, Recorded
from rtloop.loop import TRAILING_MISSING
from rtloop.plan import ContinuousTimeline, Plan
from rtloop.replay import verify
from tools.faults import Accounting, Fate
from tools.proof.recipe import course_of, scores_of

__all__ = ["Audit", "audit"]

PLACED = ("dummy", "used", "censored", "refused")
"""What a volume that took its own place in time may be."""

ASIDE = ("late", "duplicate", "ignored")
SCORE_TOLERANCE = 1e-9
VALUE_SCENES = {"feedback", "hold", "fixation", "score"}


@dataclass(slots=True)
class Audit:
    """What was found in one record.

    Attributes
    ----------
    findings : list of str
        What should not be, one line each; empty is good.
    became : Counter of str
        How many volumes became what.
    n_scores : int
        Scores compared with the recipe.
    largest : float
        Largest difference to it.
    otherwise : int
        Volumes that the clock made something else of than the timetable, in a paced run.
    """

    findings: list[str] = field(default_factory=list)
    became: Counter[str] = field(default_factory=Counter)
    n_scores: int = 0
    largest: float = 0.0
    otherwise: int = 0


def audit(
    path: Path,
    accounts: list[Accounting],
    clean: list[Step],
    exact: bool,
) -> Audit:
    """Check one record.

    Parameters
    ----------
    path : Path
        The record.
    accounts : list of Accounting
        What the loop can have had of each attempt.
    clean : list of Step
        The same run without faults.
    exact : bool
        Whether the script alone decides what is late; else the clock does, and is only counted.
    """
    found = Audit()
    with Record.open(path) as record:
        about = record.about()
        plan = Plan.model_validate(about["plan"])
        config = EngineConfig.model_validate(about["engine"])
        faults = record.rows("fault")
        attempts = record.attempts()
        if len(attempts) != len(accounts):
            found.findings.append(
                f"{len(accounts)} attempts were scanned, {len(attempts)} recorded"
            )
        for k, (attempt, account) in enumerate(zip(attempts, accounts, strict=False)):
            events = list(record.events(attempt))
            mine = [row for row in faults if row["attempt"] in (attempt.name, None)]
            look = _Look(plan, config, attempt, events, mine, found)
            look.places()
            look.outcome(account, k == len(accounts) - 1, exact)
            look.fates(account, clean, exact)
            look.design(clean)
            look.scores()
    for start in ("volumes", "rois"):
        verdict = verify(path, start)
        if not verdict.identical:
            found.findings.append(f"replay from {start}: {verdict.difference}")
    return found


@dataclass(slots=True)
class _Look:
    """One attempt of a record, looked at from every side."""

    plan: Plan
    config: EngineConfig
    attempt: Attempt
    events: list[Recorded]
    faults: list[dict[str, object]]
    found: Audit
    steps: list[Step] = field(init=False)
    became: dict[int, str] = field(init=False, default_factory=dict)
    reached: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.steps = [event.step for event in self.events]

    def say(self, line: str) -> None:
        self.found.findings.append(f"attempt {self.attempt.id}: {line}")

    def places(self) -> None:
        """Every index below the last one reached has exactly one place in time."""
        for step in self.steps:
            for index in step.missing:
                self._place(index, "missing")
            if step.status in PLACED:
                self._place(step.index, step.status)
        self.reached = 1 + max(self.became, default=-1)
        for index in range(self.reached):
            if index not in self.became:
                self.say(f"volume {index} is not accounted for")
        self.found.became.update(self.became.values())
        rows = Counter((row["kind"], row["volume_index"]) for row in self.faults)
        for index, fate in self.became.items():
            if fate == "missing" and rows["missing", index] != 1:
                self.say(f"volume {index}: missing, recorded {rows['missing', index]} times")
        for step in self.steps:
            if step.status in (*ASIDE, "refused", "censored"):
                self.found.became[step.status] += step.status in ASIDE
                if not rows[step.status, step.index]:
                    self.say(f"volume {step.index}: {step.status}, but no fault says so")

    def _place(self, index: int, fate: str) -> None:
        if index in self.became:
            self.say(f"volume {index}: {self.became[index]}, and then {fate}")
        self.became[index] = fate

    def outcome(self, account: Accounting, last: bool, exact: bool) -> None:
        """How the attempt ended: aborted by its successor, complete, or incomplete."""
        complete = account.complete if exact else self._tail() <= TRAILING_MISSING
        wanted = "aborted" if not last else "complete" if complete else "incomplete"
        if self.attempt.outcome != wanted:
            self.say(f"expected {wanted}, found {self.attempt.outcome}")

    def _tail(self) -> int:
        """How many volumes at the run's end never came in time."""
        seen = [k for k, fate in self.became.items() if fate in ("used", "censored")]
        return self.plan.n_volumes - 1 - max(seen, default=-1)

    def fates(self, account: Accounting, clean: list[Step], exact: bool) -> None:
        """What became of each volume is what the scanner did to it."""
        rows = {(row["kind"], row["volume_index"]) for row in self.faults}
        for index, wanted in account.fates.items():
            became, late = self.became.get(index, "not reached"), ("late", index) in rows
            if self._agrees(wanted, index, became, late, clean[index].status):
                continue
            if not exact and wanted in ("used", "late") and became in ("missing", *PLACED[:2]):
                self.found.otherwise += 1
            else:
                self.say(f"volume {index}: scanner {wanted}, loop {became}, late: {late}")
        for index, count in account.duplicates.items():
            if not {("duplicate", index), ("late", index)} & rows:
                self.say(f"volume {index} came {count + 1} times, and nothing says so")

    def _agrees(self, wanted: Fate, index: int, became: str, late: bool, clean: str) -> bool:
        if became == clean == "dummy":
            # dummies are not looked at, so nothing can be wrong with them
            return wanted != "missing"
        match wanted:
            case "used":
                return became == clean or (became == "censored" and self._moved(index))
            case "censored":
                # a float among integers is refused for its type
                return became in ("censored", "refused")
            case "late":
                return became in ("missing", "not reached") and late
            case "refused":
                return became == "refused" or (became != "used" and self._refused(index))
            case "missing":
                return became in ("missing", "not reached") and not late

    def _refused(self, index: int) -> bool:
        """Whether a note of the gateway said so; a file that cannot be read has no index."""
        return any(
            row["kind"] == "refused" and row["volume_index"] in (index, None) for row in self.faults
        )

    def _moved(self, index: int) -> bool:
        """Whether the head's own motion, seen across a gap, is why a volume was censored."""
        step = next(s for s in self.steps if s.index == index and s.status == "censored")
        return all(reason.startswith("motion: FD") for reason in step.reasons)

    def design(self, clean: list[Step]) -> None:
        """The screen of every moment is the one that the timeline has for it."""
        continuous = isinstance(self.plan.timeline, ContinuousTimeline)
        for after, step in self._moments():
            if after < 0:
                continue
            same = clean[after].screen
            if step.screen.trial != same.trial:
                self.say(f"after volume {after}: trial {step.screen.trial}, planned {same.trial}")
            alike = step.screen.scene == same.scene or (
                step.screen.scene in VALUE_SCENES and same.scene in VALUE_SCENES
            )
            if not alike:
                self.say(f"after volume {after}: scene {step.screen.scene}, planned {same.scene}")
            if continuous and step.screen.value is not None and step.screen.value < 0:
                self.say(f"after volume {after}: feedback {step.screen.value}")

    def _moments(self) -> Iterator[tuple[int, Step]]:
        """Each step with the last index of scanner time that it knows of."""
        newest = -1
        for step in self.steps:
            newest = max(newest, *step.missing, step.index if step.status in PLACED else -1)
            yield newest, step

    def scores(self) -> None:
        """Every score is that of the window which scanner time says, and no other."""
        course = course_of(self.steps, self.plan.n_volumes)
        wanted = scores_of(course, self.plan, self.config)
        good = np.cumsum(np.concatenate([[0], course.weights > 0]))
        for after, step in self._moments():
            if after < 0:
                continue
            value = step.scores[0].value
            n_good = good[after + 1] - good[max(0, after + 1 - self.plan.window)]
            few = n_good < self.config.quality.effective_share_min * self.plan.window
            if few and (math.isfinite(value) or step.screen.scene == "feedback"):
                self.say(f"after volume {after}: score {value} of {n_good} good volumes")
            self._compare(after, value, float(wanted[after]))
            if step.trial_score is not None:
                self._compare_trial(step, wanted)

    def _compare(self, after: int, value: float, wanted: float) -> None:
        if math.isnan(value) and math.isnan(wanted):
            return
        gap = abs(value - wanted)
        self.found.n_scores += 1
        self.found.largest = max(self.found.largest, math.inf if math.isnan(gap) else gap)
        if not gap <= SCORE_TOLERANCE:
            self.say(f"after volume {after}: score {value!r}, recipe {wanted!r}")

    def _compare_trial(self, step: Step, wanted: np.ndarray) -> None:
        """A trial's score is that of the window which ends with the trial's last volume."""
        assert step.trial_score is not None
        value = step.trial_score.value
        entered = [*step.missing, *([step.index] if step.status in PLACED else [])]
        near = [abs(value - wanted[k]) for k in entered]
        both_none = math.isnan(value) and any(math.isnan(wanted[k]) for k in entered)
        if not both_none and not min(near) <= SCORE_TOLERANCE:
            self.say(f"trial score {value!r} at volume {step.index} is of no window entered there")
