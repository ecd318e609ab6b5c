"""Tables of trials with known properties, as a file would hold them: text, `n/a` for missing."""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["one_run", "people_table", "stroop_kinds"]

WORDS = {
    "con1": ("red", "red"), "con2": ("green", "green"), "con3": ("blue", "blue"),
    "inc1": ("green", "red"), "inc2": ("blue", "red"), "inc3": ("red", "green"),
    "inc4": ("blue", "green"), "inc5": ("red", "blue"), "inc6": ("green", "blue"),
}  # fmt: skip


def stroop_kinds(n_trials: int, seed: int = 0) -> list[str]:
    """Trial types, three congruent for one incongruent."""
    rng = np.random.default_rng(seed)
    kinds = [f"con{1 + k % 3}" if k % 4 else f"inc{1 + k // 4 % 6}" for k in range(n_trials)]
    return [kinds[k] for k in rng.permutation(n_trials)]


def one_run(
    participant: str,
    rt_s: np.ndarray,
    kinds: list[str],
    task: str = "stroop",
    run: str = "AP",
    gap_s: float = 4.0,
) -> pd.DataFrame:
    """One run, all answers right; NaN is a miss."""
    onset_s = 2.0 + gap_s * np.arange(len(rt_s))
    words = [WORDS.get(kind, ("n/a", "n/a")) for kind in kinds]
    return pd.DataFrame(
        {
            "participant_id": f"sub-{participant}",
            "task": task,
            "run": run,
            "trial_index": [str(k) for k in range(len(rt_s))],
            "onset_s": [f"{value:.6f}" for value in onset_s],
            "duration_s": f"{gap_s:.6f}",
            "trial_type": kinds,
            "response_time_s": ["n/a" if np.isnan(v) else f"{v:.6f}" for v in rt_s],
            "correct": ["0" if np.isnan(v) else "1" for v in rt_s],
            "stimulus_text": [word for word, _ in words],
            "stimulus_color": [ink for _, ink in words],
        }
    )


def people_table(
    n_people: int = 40,
    n_trials: int = 60,
    seed: int = 0,
    level_sd: float = 0.2,
    noise_sd: float = 0.25,
    by_age: float = 0.0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Simulated people: log RT = item + level (partly age) + noise. Trials, and demographics."""
    rng = np.random.default_rng(seed)
    names = [f"P{k:03d}" for k in range(n_people)]
    age = rng.uniform(20.0, 65.0, n_people)
    level = level_sd * rng.standard_normal(n_people) + by_age * (age - 40.0)
    kinds = stroop_kinds(n_trials)
    item = 0.15 * np.array([kind.startswith("inc") for kind in kinds])
    item[:6] += np.linspace(0.3, 0.0, 6)[:n_trials]
    log_rt = -0.3 + item + level[:, None] + noise_sd * rng.standard_normal((n_people, n_trials))
    tables = [one_run(name, np.exp(row), kinds) for name, row in zip(names, log_rt, strict=True)]
    demographics = pd.DataFrame(
        {
            "age": age,
            "sex": np.where(rng.random(n_people) < 0.5, "F", "M"),
            "site": np.where(np.arange(n_people) % 2, "1", "2"),
            "group": np.where(rng.random(n_people) < 0.5, "Patient", "GenPop"),
        },
        index=names,
    )
    return pd.concat(tables, ignore_index=True), demographics
