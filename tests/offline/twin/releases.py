"""A folder of the public release's layout, with made-up values."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from offline.twin.release import SERIES
from tests.offline.twin.trialtables import people_table

__all__ = ["N_REGIONS", "TAIL", "write_release", "write_series"]

N_REGIONS = 12
TAIL = "bold_Atlas_hp2000_clean_GSR_parcellated.h5"


def write_series(path: Path, signals: np.ndarray) -> None:
    """As the release has it: one table, regions first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["dataset"] = signals.T.astype(np.float64)


def write_release(root: Path, n_people: int = 16, n_rest: int = 250) -> Path:
    """A folder of the release's layout, made up: people differ in behaviour and in one edge."""
    rng = np.random.default_rng(0)
    table, demographics = people_table(n_people, 36)
    root.mkdir()
    people = [f"NDARINV{name}" for name in demographics.index]
    told = demographics.set_axis(people).rename(columns={"site": "Site", "group": "Group"})
    told.rename_axis("participant_id").rename(index=lambda name: f"sub-{name}").to_csv(
        root / "participants.tsv", sep="\t"
    )
    for number, (name, rows) in enumerate(table.groupby("participant_id")):
        person = f"NDARINV{name.removeprefix('sub-')}"
        for task, kinds in (
            ("hammerAP", ["shape"] * 6 + ["face"] * 6),
            ("stroopAP", None),
            ("stroopPA", None),
        ):
            events = rows.copy()
            if kinds:
                events = events.assign(
                    trial_type=kinds * 3, stimulus_text="n/a", stimulus_color="n/a"
                )
            events = events.rename(
                columns={"onset_s": "onset", "duration_s": "duration",
                         "response_time_s": "response_time", "correct": "accuracy_binarized"}
            ).drop(columns=["participant_id", "task", "run", "trial_index"])  # fmt: skip
            path = root / f"sub-{person}" / "func" / f"sub-{person}_task-{task}_run-01_events.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            events.to_csv(path, sep="\t", index=False)
        folder = root / SERIES / f"NDAR_INV{name.removeprefix('sub-')}"
        for run, n in (("restAP_run-01", n_rest), ("restPA_run-02", n_rest + 10)):
            signals = rng.standard_normal((n, N_REGIONS))
            signals[:, 1] += (0.3 + number / n_people) * signals[:, 0]
            write_series(folder / f"task-{run}_{TAIL}", signals)
        for task in ("hammerAP", "stroopAP", "stroopPA"):
            write_series(
                folder / f"task-{task}_run-01_{TAIL}", rng.standard_normal((220, N_REGIONS))
            )
    return root
