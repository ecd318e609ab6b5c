"""The public release of the data behind the published twin: OpenNeuro ds005237.

The Transdiagnostic Connectome Project (Chopra et al. 2024, doi:10.1101/2024.06.18.24309054), as
it is laid out there:

    participants.tsv
    sub-NDARINVxxx/func/sub-NDARINVxxx_task-{hammerAP,stroopAP,stroopPA}_run-01_events.tsv
    fMRI_timeseries_clean_denoised_GSR_parcellated/NDAR_INVxxx/
        task-{restAP,restPA,hammerAP,stroopAP,stroopPA}_run-0N_bold_Atlas_hp2000_clean_GSR_parcellated.h5

Verified against the repository's own file list: these folder and file names. Verified by the
sizes in its annex keys: 434 regions of float64 with a header of 2,048 bytes, 488 volumes of rest,
510 of Stroop, 493 of faces (which its README states, with TR .8 s), and single shorter runs.
Verified against the published tables themselves: trials and participants. Taken from public code
that reads the files, not seen: one HDF5 dataset of any name at the root (`dataset`), shape
(434 regions, n_volumes), its first 400 rows the Schaefer-400 parcels. Not known: names and order
of the other 34 (subcortex and cerebellum) and whether 0 s of the events is the first volume, as
the events' sidecar suggests. So labels are given by the user; without them regions are numbered.
The files hold signals after global signal regression: FC from them is not FC of raw signals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.errors import AtlasError, TwinError
from offline.fc import fc_edges
from offline.twin.tables import read_demographics
from offline.twin.tasks import Bold
from offline.twin.trials import Trials, read_events

__all__ = ["MIN_REST_VOLUMES", "TR_S", "Connectivity", "Release"]

TR_S = 0.8
SERIES = "fMRI_timeseries_clean_denoised_GSR_parcellated"
FILE = re.compile(r"task-(?P<task>[a-z]+)(?P<run>AP|PA)_run-(?P<number>\d+)_bold_.*\.h5$")
N_CORTEX = 400
TASKS = ("hammer", "stroop")

MIN_REST_VOLUMES = 240
"""3.2 minutes: a shorter run was broken off."""

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Connectivity:
    """Fisher z of people at rest.

    Attributes
    ----------
    people : tuple of str
    z : ndarray of float64, shape (n_people, n_edges)
        Mean over runs, weighted by their volumes; NaN for an ROI that is constant.
    n_runs : ndarray of int64, shape (n_people,)
    left_out : pandas.DataFrame
        Runs and people that were not used: `participant`, `run`, `reason`.
    """

    people: tuple[str, ...]
    z: NDArray[np.float64]
    n_runs: NDArray[np.int64]
    left_out: pd.DataFrame


class Release:
    """A folder of the release.

    Parameters
    ----------
    root : str or Path
        Where `participants.tsv` lies.
    labels : sequence of str or None
        Names of all regions in the order of the files; None numbers them.

    Raises
    ------
    TwinError
        If it is not the release's layout.
    """

    def __init__(self, root: str | Path, labels: Sequence[str] | None = None) -> None:
        self.root = Path(root)
        if not (self.root / "participants.tsv").is_file() or not (self.root / SERIES).is_dir():
            raise TwinError(
                f"{root}: expected participants.tsv and {SERIES}/ of OpenNeuro ds005237, found no"
                " such folder; name where the dataset was put"
            )
        self._labels = None if labels is None else tuple(labels)
        self._n_regions = None if labels is None else len(self._labels or ())

    def demographics(self) -> pd.DataFrame:
        """Age, sex, site and group, indexed by participant."""
        return read_demographics(self.root / "participants.tsv")

    def trials(self) -> Trials:
        """Every trial of every person."""
        return read_events(sorted(self.root.glob("sub-*/func/sub-*_events.tsv")), TASKS)

    def atlas(self) -> Atlas:
        """The regions, by name or number; the first 400 are the Schaefer parcels."""
        if self._labels is not None:
            return Atlas("ds005237", self._labels)
        first = next(self._paths(), None)
        if first is None:
            raise TwinError(f"{self.root / SERIES}: expected series in HDF5, found none")
        n_regions = self.series(first[3]).shape[1]
        names = [
            f"Schaefer400_{k + 1:03d}" if k < N_CORTEX else f"other_{k + 1 - N_CORTEX:02d}"
            for k in range(n_regions)
        ]
        return Atlas("ds005237", tuple(names))

    def series(self, path: Path) -> Float32:
        """Signals of one file, shape (n_volumes, n_regions), float32.

        Raises
        ------
        TwinError
            If the file's content was not fetched, or it is no HDF5 with one table of numbers.
        AtlasError
            If it has another number of regions than the others or the labels.
        """
        import h5py

        if not path.exists() or path.stat().st_size < 1024:
            raise TwinError(
                f"{path}: expected signals in HDF5, found a pointer to them; fetch the content"
                " (datalad get)"
            )
        try:
            with h5py.File(path, "r") as file:
                tables = [item for item in file.values() if isinstance(item, h5py.Dataset)]
                if len(tables) != 1 or tables[0].ndim != 2 or tables[0].dtype.kind != "f":
                    raise TwinError(
                        f"{path}: expected one table (n_regions, n_volumes), found"
                        f" {', '.join(f'{t.name} {t.shape}' for t in tables) or 'none'}; take the"
                        " release's own files"
                    )
                signals = np.asarray(tables[0], np.float32)
        except OSError as error:
            raise TwinError(f"{path}: expected HDF5, found {error}; fetch it again") from error
        if self._n_regions is None:
            self._n_regions = len(signals)
        if len(signals) != self._n_regions:
            raise AtlasError(
                f"{path}: expected {self._n_regions} regions, found {len(signals)}; take files of"
                " one atlas, and its labels"
            )
        return np.ascontiguousarray(signals.T)

    def connectivity(
        self, people: Sequence[str] | None = None, min_volumes: int = MIN_REST_VOLUMES
    ) -> Connectivity:
        """Fisher z at rest of everyone who has a whole run.

        Parameters
        ----------
        people : sequence of str or None
            Without `sub-`; None for everyone with a folder of series.
        min_volumes : int
            Shorter runs are left out.
        """
        runs: dict[str, list[tuple[str, Path]]] = {}
        for participant, task, run, path in self._paths():
            if task == "rest":
                runs.setdefault(participant, []).append((run, path))
        names, rows, counts, left = [], [], [], []
        for participant in runs if people is None else people:
            found, weights = [], []
            for run, path in runs.get(participant, []):
                signals = self.series(path)
                if len(signals) < min_volumes:
                    left.append((participant, run, f"{len(signals)} volumes"))
                    continue
                found.append(fc_edges(signals))
                weights.append(len(signals))
            if not found:
                left.append((participant, "n/a", "no whole run at rest"))
                continue
            names.append(participant)
            rows.append(np.average(np.array(found, np.float64), axis=0, weights=weights))
            counts.append(len(found))
        n_edges = self.atlas().n_edges
        return Connectivity(
            tuple(names),
            np.array(rows).reshape(len(rows), n_edges),
            np.array(counts, np.int64),
            pd.DataFrame(left, columns=["participant", "run", "reason"]),
        )

    def bold(
        self,
        regions: Sequence[str],
        people: Sequence[str] | None = None,
        runs: Sequence[tuple[str, str]] | None = None,
    ) -> dict[tuple[str, str, str], Bold]:
        """Signals of some regions during the tasks, keyed as `encode` takes them.

        Parameters
        ----------
        regions : sequence of str
            Labels of the atlas.
        people : sequence of str or None
            Without `sub-`; None for everyone.
        runs : sequence of (task, run) or None
            Such as ("stroop", "AP"); None for every run of every task.

        Raises
        ------
        AtlasError
            If a region has no such label.
        """
        atlas = self.atlas()
        missing = [name for name in regions if name not in atlas.labels]
        if missing:
            raise AtlasError(
                f"expected regions of atlas {atlas.name}, found no {missing[0]!r} among its"
                f" {atlas.n_rois} labels; give labels, or names like {atlas.labels[0]}"
            )
        columns = [atlas.labels.index(name) for name in regions]
        wanted = None if people is None else set(people)
        return {
            (participant, task, run): Bold(self.series(path)[:, columns], TR_S)
            for participant, task, run, path in self._paths()
            if task in TASKS
            and (wanted is None or participant in wanted)
            and (runs is None or (task, run) in runs)
        }

    def _paths(self) -> Iterator[tuple[str, str, str, Path]]:
        """Participant, task, run and path of every file, in order."""
        for folder in sorted((self.root / SERIES).iterdir()):
            participant = folder.name.replace("_", "")
            for path in sorted(folder.glob("*.h5")):
                found = FILE.match(path.name)
                if found is not None:
                    run = found["run"]
                    if found["task"] == "rest":
                        run += str(int(found["number"]))
                    yield participant, found["task"], run, path
