"""`fcnef read`: what the gateway understands of a folder of scanner files."""

from __future__ import annotations

from pathlib import Path

import nibabel
from rich.console import Console
from rich.progress import Progress

from rtloop.errors import ReaderError
from rtloop.readers import ScannerConfig, as_nifti, survey, the_series, volumes_of

__all__ = ["read"]


def read(
    source: Path,
    /,
    *,
    out: Path | None = None,
    scanner: Path | None = None,
    series: int | None = None,
) -> int:
    """Show what a folder of scanner files holds, and write the run's series as one 4-D NIfTI.

    Prints, for each series found, why it was taken or not: this is how a new scanner is checked.

    Example
    -------
    fcnef read /mnt/export/20240321 --scanner scanner.toml --out check.nii.gz

    Parameters
    ----------
    source
        Folder of DICOM, PAR/REC or 3-D NIfTI files; subfolders are looked at too.
    out
        Image to write, .nii or .nii.gz; without it, only the table is printed.
    scanner
        The site's binding; without it, any echo-planar magnitude series is taken.
    series
        Series number, where the binding takes more than one series.
    """
    if out is not None and not out.name.endswith((".nii", ".nii.gz")):
        raise ReaderError(f"{out.name}: expected a name ending in .nii or .nii.gz; rename --out")
    binding = ScannerConfig() if scanner is None else ScannerConfig.load(scanner)
    silent = not Console().is_terminal
    with Progress(transient=True, disable=silent) as bar:
        task = bar.add_task("looking at files", total=None)
        found = survey(source, binding, lambda n, of: bar.update(task, completed=n, total=of))
    for one in found:
        print(one)
    if out is None:
        return 0
    chosen = the_series(found, series)
    with Progress(transient=True, disable=silent) as bar:
        volumes = list(bar.track(volumes_of(chosen, binding), chosen.n_volumes, description="read"))
    image = as_nifti(volumes)
    try:
        nibabel.save(image, out)
    except OSError as error:
        raise ReaderError(f"{out}: cannot be written ({error.strerror}); name another") from None
    left_out = chosen.n_volumes - len(volumes)
    note = f"; {left_out} volumes lack slices" if left_out else ""
    print(f"{out}: {' x '.join(map(str, image.shape))}, TR {volumes[0].tr_s:g} s{note}")
    return 0
