"""A BIDS derivatives tree as fMRIPrep writes it: preprocessed BOLD to ROI series.

nilearn reads the confounds and averages the voxels (`load_confounds`, `NiftiLabelsMasker`), so that
this is the cleaning its users know. ROIs are the labels 1..n of an image on the BOLD's grid, in the
order of the atlas's table.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.cohort.people import plain_id
from offline.cohort.scans import Censoring, Entry, Scan, scan_of_series, stamp_of
from offline.errors import AtlasError, CohortError

__all__ = ["STRATEGIES", "DerivativesSource", "Strategy", "people_of_tree"]

Strategy = Literal["motion24", "motion24-wmcsf", "motion24-wmcsf-gs"]
"""Which confounds are regressed out, each with the high-pass cosines."""

STRATEGIES: dict[Strategy, dict[str, Any]] = {
    "motion24": {"strategy": ("motion", "high_pass"), "motion": "full"},
    "motion24-wmcsf": {
        "strategy": ("motion", "high_pass", "wm_csf"),
        "motion": "full",
        "wm_csf": "basic",
    },
    "motion24-wmcsf-gs": {
        "strategy": ("motion", "high_pass", "wm_csf", "global_signal"),
        "motion": "full",
        "wm_csf": "basic",
        "global_signal": "basic",
    },
}

COVERAGE = 0.5
"""Share of an ROI's voxels that must be in the brain mask for it to count as there."""


@dataclass(frozen=True)
class DerivativesSource:
    """Preprocessed BOLD of an fMRIPrep tree, averaged over the ROIs of a label image.

    Attributes
    ----------
    root : Path
        Folder of `sub-*`.
    labels : Path
        Label image in the BOLD's space: ROI k of the atlas is label k + 1.
    atlas : Atlas
        Names of the labels.
    task : str
        Of the runs.
    space : str
        Of the images, such as `MNI152NLin6Asym`.
    strategy : str
        One of `STRATEGIES`.
    censoring : Censoring
        Volumes above its limit are taken out before confounds are fitted. Its repetition time is
        that of the image where it is None.
    """

    root: Path
    labels: Path
    atlas: Atlas
    task: str = "rest"
    space: str = "MNI152NLin6Asym"
    strategy: Strategy = "motion24-wmcsf"
    censoring: Censoring = field(default_factory=Censoring)

    def stamp(self, entry: Entry) -> str:
        try:
            return stamp_of(self._image(entry)) + stamp_of(self.labels)
        except CohortError:
            return ""

    def read(self, entry: Entry) -> Scan:
        try:
            image = self._image(entry)
        except CohortError as error:
            return Scan(None, fault=str(error))
        series, fd, tr_s = self._series(image)
        try:
            # 0: the image does not say
            timed = Censoring(self.censoring.tr_s or tr_s or None)
        except CohortError as error:
            return Scan(None, fault=str(error))
        scan = scan_of_series(series, None, self.atlas, timed)
        known = np.isfinite(fd).any()
        mean_fd = float(np.nanmean(fd)) if known else float("nan")
        return replace(scan, n_volumes=len(fd), mean_fd=mean_fd)

    def _image(self, entry: Entry) -> Path:
        """The one BOLD file of a participant's session."""
        folder = self.root / f"sub-{entry.participant}"
        pattern = (
            f"sub-{entry.participant}*_task-{self.task}_*space-{self.space}*_desc-preproc_bold.nii*"
        )
        inside = [folder / f"ses-{entry.session}", folder]
        found = next(
            (paths for sub in inside if (paths := sorted((sub / "func").glob(pattern)))), []
        )
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            raise CohortError(
                f"expected one preprocessed BOLD of task {self.task} in {self.space}, found {names}"
            )
        return found[0]

    def _series(self, image: Path) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Cleaned ROI signals of the volumes used, FD of all (mm), repetition time (s)."""
        import nibabel
        from nilearn.interfaces.fmriprep import load_confounds
        from nilearn.maskers import NiftiLabelsMasker

        bold: Any = nibabel.load(image)  # its type says no more than that it is an image
        tr_s = float(bold.header.get_zooms()[3])
        confounds, unsteady = load_confounds(str(image), **STRATEGIES[self.strategy])
        fd = _displacements(image)
        n_volumes = bold.shape[3]
        used = np.arange(n_volumes) if unsteady is None else np.asarray(unsteady)
        if self.censoring.fd_limit_mm is not None:
            used = used[fd[used] <= self.censoring.fd_limit_mm]
        covered = self._covered(image, bold)
        masker = NiftiLabelsMasker(str(self.labels), standardize=None, t_r=tr_s, reports=False)
        signals = masker.fit_transform(bold, confounds=confounds, sample_mask=used)
        series = np.full((len(used), self.atlas.n_rois), np.nan)
        series[:, [int(label) - 1 for label in masker.labels_ if int(label) > 0]] = signals
        series[:, ~covered] = np.nan
        return series, fd, tr_s

    def _covered(self, image: Path, bold: Any) -> NDArray[np.bool_]:
        """ROIs that are mostly inside the scan's brain mask; all where there is none."""
        import nibabel
        from nilearn.image import resample_to_img

        name = image.name.replace("_desc-preproc_bold", "_desc-brain_mask")
        mask = image.with_name(name)
        target: Any = nibabel.load(mask) if mask.exists() else None
        whole: Any = nibabel.load(self.labels)
        present = np.unique(np.asarray(whole.dataobj).astype(np.int64))
        expected = set(range(1, self.atlas.n_rois + 1))
        if not set(present[present > 0].tolist()) <= expected:
            raise AtlasError(
                f"label image {self.labels}: expected labels 1..{self.atlas.n_rois} of atlas"
                f" {self.atlas.name}, found {int(present.max())}; take the atlas's own table"
            )
        if target is None:
            return np.isin(np.arange(1, self.atlas.n_rois + 1), present)
        labels = resample_to_img(
            whole, target, interpolation="nearest", force_resample=True, copy_header=True
        )
        places = np.asarray(labels.dataobj).astype(np.int64).reshape(-1)
        inside = np.asarray(target.dataobj).reshape(-1) > 0
        n = self.atlas.n_rois + 1
        total = np.bincount(places, minlength=n)[1:]
        within = np.bincount(places[inside], minlength=n)[1:]
        return (total > 0) & (within >= COVERAGE * total)


def people_of_tree(root: str | Path) -> pd.DataFrame:
    """Participants and sessions of a BIDS tree, one row a session, as text.

    Parameters
    ----------
    root : str or Path
        Folder of `sub-*`.

    Returns
    -------
    pandas.DataFrame
        participant, session ("1" where there are no sessions).

    Raises
    ------
    CohortError
        If there is no `sub-*` folder.
    """
    rows = []
    for subject in sorted(path for path in Path(root).glob("sub-*") if path.is_dir()):
        sessions = sorted(path.name for path in subject.glob("ses-*") if path.is_dir())
        rows += [
            {"participant": plain_id(subject.name), "session": plain_id(session)}
            for session in (sessions or ["1"])
        ]
    if not rows:
        raise CohortError(f"tree {root}: expected folders sub-*, found none; check the path")
    return pd.DataFrame(rows, dtype="str")


def _displacements(image: Path) -> NDArray[np.float64]:
    """Framewise displacement of each volume, mm; 0 for the first."""
    stem = image.name.split("_space-")[0]
    path = image.with_name(f"{stem}_desc-confounds_timeseries.tsv")
    table = pd.read_csv(path, sep="\t", na_values=["n/a"], usecols=["framewise_displacement"])
    fd: NDArray[np.float64] = table["framewise_displacement"].to_numpy(float, copy=True)
    fd[0] = np.nan_to_num(fd[0])
    return fd
