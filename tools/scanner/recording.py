"""A recorded series on disk: which files hold which volume, in the order a scanner writes them.

Headers are read with pydicom and nibabel, not with the loop's own readers: a player that groups
files as the readers do could not show where they are wrong.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import pydicom
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import Tag

from rtloop.errors import ConfigError

__all__ = ["Form", "Recording"]

_nibabel: Any = nib  # has no types

Form = Literal["siemens", "xa", "ge", "philips", "parrec", "nifti", "nifti4d"]

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
NIFTI_ENDS = (".nii", ".nii.gz")
READ_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "ImageType",
    "Manufacturer", "InstanceNumber", "TemporalPositionIdentifier", "ImagePositionPatient",
]  # fmt: skip
LAST_GROUP = 0x0020
"""Nothing of interest comes later, and Philips's nested private groups take long to pass over."""


@dataclass(frozen=True, slots=True)
class Recording:
    """The files of one series, volume by volume.

    Attributes
    ----------
    form : Form
        How the vendor writes it.
    volumes : tuple of tuple of Path
        Files of each volume, in the order they are written; the one 4-D file for "nifti4d".
    n_volumes : int
        How many.
    tr_s : float or None
        Repetition time as the files say it; None where they do not.
    span : int
        Instance numbers that the series covers: a repetition counts on by as many.
    number : int
        Series number; 0 where files have none.
    """

    form: Form
    volumes: tuple[tuple[Path, ...], ...]
    n_volumes: int
    tr_s: float | None
    span: int = 1
    number: int = 0

    @classmethod
    def open(cls, path: Path | str) -> Recording:
        """Look through a folder, or a 4-D NIfTI file. Of several series the longest is taken.

        Raises
        ------
        ConfigError
            If there is no series in it.
        """
        path = Path(path)
        if path.is_file() and path.name.endswith(NIFTI_ENDS):
            return _four_dimensional(path)
        if not path.is_dir():
            raise ConfigError(
                f"{path}: expected a folder of scanner files or a 4-D NIfTI file, found "
                f"{'another file' if path.exists() else 'nothing'}; check the path"
            )
        files = sorted(one for one in path.rglob("*") if one.is_file())
        found = _pairs(files) or _images(files) or _dicom(files)
        if found is None:
            raise ConfigError(
                f"{path}: expected DICOM, PAR/REC or NIfTI files, found none among {len(files)}; "
                "check the path"
            )
        return found


def _four_dimensional(path: Path) -> Recording:
    image = _opened(path)
    if len(image.shape) != 4:
        raise ConfigError(f"{path}: expected a 4-D image, found {len(image.shape)} dimensions")
    return Recording("nifti4d", ((path,),), image.shape[3], _nifti_tr_s(image))


def _opened(path: Path) -> Any:
    try:
        return _nibabel.load(path)
    except (OSError, _nibabel.filebasedimages.ImageFileError) as error:
        raise ConfigError(
            f"{path}: expected a NIfTI image, found: {error}; name another"
        ) from error


def _nifti_tr_s(image: Any) -> float | None:
    """Repetition time of a NIfTI header in its own unit of time; None if it is not set."""
    scale = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}.get(image.header.get_xyzt_units()[1], 1.0)
    tr_s = float(image.header["pixdim"][4]) * scale
    return tr_s if tr_s > 0 else None


def _images(files: list[Path]) -> Recording | None:
    """A folder of 3-D NIfTI files, numbered in their names."""
    images = sorted((f for f in files if f.name.endswith(NIFTI_ENDS)), key=_by_number)
    if not images:
        return None
    first = _opened(images[0])
    if len(first.shape) != 3:
        raise ConfigError(
            f"{images[0].parent}: expected 3-D images, one per volume, found {len(first.shape)} "
            "dimensions; name the 4-D file itself"
        )
    tr_s = _nifti_tr_s(first)
    return Recording("nifti", tuple((image,) for image in images), len(images), tr_s)


def _pairs(files: list[Path]) -> Recording | None:
    """PAR and REC, one pair per volume. Their header's repetition time is not to be trusted."""
    texts = sorted((f for f in files if f.suffix.lower() == ".par"), key=_by_number)
    binaries = {f.with_suffix("").as_posix(): f for f in files if f.suffix.lower() == ".rec"}
    pairs = [
        (text, binaries[text.with_suffix("").as_posix()])
        for text in texts
        if text.with_suffix("").as_posix() in binaries
    ]
    return Recording("parrec", tuple(pairs), len(pairs), None) if pairs else None


def _by_number(path: Path) -> tuple[str, int, str]:
    """Order by the last number in the name, as a number: 10 comes after 9."""
    numbers = re.findall(r"\d+", path.name.split(".")[0])
    return str(path.parent), int(numbers[-1]) if numbers else 0, path.name


def _dicom(files: list[Path]) -> Recording | None:
    """The longest DICOM series among files."""
    headers = list(_headers(files))
    if not headers:
        return None
    longest, _ = Counter(str(h.SeriesInstanceUID) for _, h in headers).most_common(1)[0]
    # A folder may hold one image under two names.
    series = {str(h.SOPInstanceUID): (p, h) for p, h in headers if h.SeriesInstanceUID == longest}
    members = sorted(series.values(), key=lambda member: int(member[1].InstanceNumber))
    first = members[0][1]
    form = _vendor(first)
    groups: dict[int, list[Path]] = {}
    n_slices = len({tuple(h.get("ImagePositionPatient", ())) for _, h in members})
    for place, (path, header) in enumerate(members):
        groups.setdefault(_volume_of(form, header, first, place, n_slices), []).append(path)
    volumes = tuple(tuple(groups[index]) for index in sorted(groups))
    numbers = [int(header.InstanceNumber) for _, header in members]
    return Recording(
        form,
        volumes,
        len(volumes),
        _dicom_tr_s(members[0][0]),
        span=max(numbers) - min(numbers) + 1,
        number=int(first.get("SeriesNumber") or 0),
    )


def _headers(files: list[Path]) -> Iterator[tuple[Path, FileDataset]]:
    for path in files:
        try:
            with path.open("rb") as stream:
                header = read_partial(
                    stream,
                    stop_when=lambda tag, vr, length: tag.group > LAST_GROUP,
                    specific_tags=list(map(Tag, READ_TAGS)),
                )
        except (InvalidDicomError, OSError):
            continue
        if "SeriesInstanceUID" in header and "InstanceNumber" in header:
            yield path, header


def _vendor(header: FileDataset) -> Form:
    maker = str(header.get("Manufacturer", "")).upper()
    if maker.startswith("GE"):
        return "ge"
    if maker.startswith("PHILIPS"):
        return "philips"
    return "xa" if header.SOPClassUID == ENHANCED_MR else "siemens"


def _volume_of(
    form: Form, header: FileDataset, first: FileDataset, place: int, n_slices: int
) -> int:
    if form == "ge":
        return (int(header.InstanceNumber) - int(first.InstanceNumber)) // n_slices
    if form == "philips":
        return int(header.TemporalPositionIdentifier)
    return place


def _dicom_tr_s(path: Path) -> float | None:
    header = pydicom.dcmread(path, stop_before_pixels=True)
    shared = header.get("SharedFunctionalGroupsSequence")
    if shared:
        timing = shared[0].get("MRTimingAndRelatedParametersSequence")
        return float(timing[0].RepetitionTime) / 1000 if timing else None
    tr_ms = header.get("RepetitionTime")
    return float(tr_ms) / 1000 if tr_ms else None
