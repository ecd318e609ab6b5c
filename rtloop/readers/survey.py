"""What a folder of scanner files holds, offline: which series, which of them is the run, and why.

`fcnef read`, the simulated scanner and the tests look at folders through this; the gateway, which
sees files one by one, does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rtloop.errors import ReaderError
from rtloop.readers.assembler import Assembler
from rtloop.readers.binding import ScannerConfig
from rtloop.readers.dicom import parse
from rtloop.readers.forms import dicom_form
from rtloop.readers.nifti import NIFTI_SUFFIXES, image_volumes, parse_image
from rtloop.readers.numbered import numbered_name
from rtloop.readers.outcome import Complete, NotOfThisRun, NotYetWhole, Unreadable
from rtloop.readers.parrec import PAIR_SUFFIXES, pair_piece, pair_series
from rtloop.readers.piece import Place, Series, repetition_time_s
from rtloop.readers.series import index_name
from rtloop.readers.tags import TOP, Wanted
from rtloop.volume import Volume

__all__ = ["SeriesFound", "read_series", "survey", "volumes_of"]

OFFLINE_SECRET = b"fcnef offline"
"""Key of the series hashes where nothing leaves the program."""

Progress = Callable[[int, int], None]
Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class SeriesFound:
    """One series of a folder, or the part of it that shares a reason.

    Attributes
    ----------
    form : str
        Scanner form, "other" for files that are no scanner's.
    number : int or None
        Series number of the scanner.
    description, protocol_name : str
        As in the header; for the screen of the person who has the files, not for sending.
    n_volumes : int
        Volumes that at least one file belongs to.
    n_announced : int or None
        Volumes the header announces.
    shape : tuple of int or None
        Columns, rows, slices, as stored.
    tr_s : float or None
        Repetition time, the binding's where it overrides.
    taken : bool
        Whether it is of the run.
    reason : str
        Why, or why not.
    paths : tuple of Path
        Its files in the order of volume index, then slice.
    """

    form: str
    number: int | None
    description: str
    protocol_name: str
    n_volumes: int
    n_announced: int | None
    shape: Shape | None
    tr_s: float | None
    taken: bool
    reason: str
    paths: tuple[Path, ...]

    @property
    def n_files(self) -> int:
        """Files of this series."""
        return len(self.paths)

    def __str__(self) -> str:
        """Two lines for a screen: what the series is, and why it was taken or not."""
        name = "files" if self.number is None else f"series {self.number}"
        known = [self.description or self.protocol_name, self.form, f"{self.n_files} files"]
        if self.taken:
            announced = f" of {self.n_announced}" if self.n_announced else ""
            known.append(f"{self.n_volumes}{announced} volumes")
        known.append(" x ".join(map(str, self.shape or ())))
        known.append("" if self.tr_s is None else f"TR {self.tr_s:g} s")
        verdict = "taken" if self.taken else "not taken"
        return f"{name}: {', '.join(part for part in known if part)}\n    {verdict}: {self.reason}"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one file turned out to be; `reason` is None if it is of the run."""

    reason: str | None
    series: Series | None = None
    place: Place | None = None
    shape: Shape | None = None


def survey(
    folder: Path, binding: ScannerConfig, progress: Progress | None = None
) -> list[SeriesFound]:
    """Look at every file of a folder and its subfolders.

    Parameters
    ----------
    folder : Path
        Where the scanner's files are.
    binding : ScannerConfig
        Which series belong to the run.
    progress : callable, optional
        Called with (files done, files in all).

    Returns
    -------
    list of SeriesFound
        The series taken first.

    Raises
    ------
    ReaderError
        If there is no such folder, or no file in it.
    """
    if not folder.is_dir():
        raise ReaderError(f"{folder}: expected a folder of scanner files; check the path")
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    if not paths:
        raise ReaderError(f"{folder}: expected scanner files, found none; check the path")
    look = _Look(binding)
    groups: dict[tuple[str, str | None], list[tuple[Path, _Seen]]] = {}
    for number, path in enumerate(paths, 1):
        seen = look.at(path)
        key = seen.series.key if seen.series else ""
        groups.setdefault((key, seen.reason), []).append((path, seen))
        if progress is not None:
            progress(number, len(paths))
    found = [_found(members, binding) for members in groups.values()]
    return sorted(found, key=lambda series: (not series.taken, series.number or 0, series.form))


def volumes_of(
    found: SeriesFound, binding: ScannerConfig, secret: bytes = OFFLINE_SECRET
) -> Iterator[Volume]:
    """Volumes of a surveyed series, in the order of their index as far as files are whole.

    Parameters
    ----------
    found : SeriesFound
        From `survey`.
    binding : ScannerConfig
        The same as for the survey.
    secret : bytes
        Key of the attempt's hash.
    """
    assembler = Assembler(binding, secret)
    for path in found.paths:
        outcome = assembler.add(path, received_s=0.0)
        if isinstance(outcome, Complete):
            yield outcome.volume


def read_series(
    source: Path, binding: ScannerConfig, secret: bytes = OFFLINE_SECRET
) -> list[Volume]:
    """All complete volumes of the one series that the binding takes.

    Parameters
    ----------
    source : Path
        A folder of scanner files, or a NIfTI file, 4-D or 3-D, as a series of its own.
    binding : ScannerConfig
        Which series belong to the run.
    secret : bytes
        Key of the attempt's hash.

    Returns
    -------
    list of Volume
        In the order of their index.

    Raises
    ------
    ReaderError
        If no series is taken, or more than one, or a NIfTI file cannot be read.
    """
    if source.is_file() and source.name.lower().endswith(NIFTI_SUFFIXES):
        image = parse_image(source.read_bytes(), str(source.absolute()))
        attempt = Assembler(binding, secret).attempt_of(image.series.key)
        return list(image_volumes(image, attempt, 0, 0.0, binding))
    found = the_series(survey(source, binding))
    return sorted(volumes_of(found, binding, secret), key=lambda volume: volume.index)


def the_series(found: list[SeriesFound], number: int | None = None) -> SeriesFound:
    """The one series that is taken, or the taken one of this number.

    Raises
    ------
    ReaderError
        If there is none, or more than one.
    """
    taken = [s for s in found if s.taken and number in (None, s.number)]
    if len(taken) == 1:
        return taken[0]
    if taken:
        numbers = ", ".join(str(series.number) for series in taken)
        raise ReaderError(
            f"expected one series, found {len(taken)} (numbers {numbers}); "
            "choose one by its number, give a subfolder, or narrow scanner.toml"
        )
    reasons = "; ".join(sorted({series.reason for series in found}))
    raise ReaderError(f"expected a series of the run, found none ({reasons}); see scanner.toml")


@dataclass
class _Look:
    """Looks at single files, headers and sizes alone."""

    binding: ScannerConfig
    wanted: Wanted = field(init=False)

    def __post_init__(self) -> None:
        tag = self.binding.index_element
        name = index_name(self.binding) or ""
        self.wanted = TOP if tag is None else TOP.with_public(tag, name)

    def at(self, path: Path) -> _Seen:
        name = path.name.lower()
        try:
            if name.endswith(PAIR_SUFFIXES):
                return self._pair(path)
            if name.endswith(NIFTI_SUFFIXES):
                return self._image(path)
            return self._dicom(path)
        except (NotOfThisRun, NotYetWhole, Unreadable) as error:
            return _Seen(str(error))
        except OSError as error:
            return _Seen(f"cannot be opened ({error.strerror})")

    def _dicom(self, path: Path) -> _Seen:
        file = parse(path.read_bytes(), self.wanted)
        form = dicom_form(file)
        series = form.series(file.elements)
        reason = self.binding.why_not(series)
        if reason is not None:
            return _Seen(reason, series)
        try:
            place = form.place(file.elements, self.binding)
            piece = form.piece(file, series, place)
            repetition_time_s(series, self.binding)
        except (NotOfThisRun, NotYetWhole, Unreadable) as error:
            return _Seen(str(error), series)
        rows, columns = piece.planes[0].shape
        n_slices = len(piece.planes) * place.n_parts
        return _Seen(None, series, place, (columns, rows, n_slices))

    def _pair(self, path: Path) -> _Seen:
        key, index = numbered_name(path, PAIR_SUFFIXES, self.binding)
        files = {suffix: _sibling(path, suffix) for suffix in PAIR_SUFFIXES}
        text_path, stored_path = files[".par"], files[".rec"]
        if text_path is None or stored_path is None:
            return _Seen("one half of a PAR/REC pair")
        text = text_path.read_bytes()
        series = pair_series(text, key)
        reason = self.binding.why_not(series)
        if reason is not None:
            return _Seen(reason, series)
        try:
            piece = pair_piece(text, stored_path.read_bytes(), series, index, self.binding)
            repetition_time_s(series, self.binding)
        except (NotYetWhole, Unreadable) as error:
            return _Seen(str(error), series)
        rows, columns = piece.planes[0].shape
        return _Seen(None, series, Place(index), (columns, rows, len(piece.planes)))

    def _image(self, path: Path) -> _Seen:
        key, index = numbered_name(path, NIFTI_SUFFIXES, self.binding)
        image = parse_image(path.read_bytes(), key)
        if image.n_volumes > 1:
            return _Seen("a 4-D image; give the file itself to read it", image.series)
        reason = self.binding.why_not(image.series)
        try:
            repetition_time_s(image.series, self.binding)
        except Unreadable as error:
            reason = reason or str(error)
        columns, rows, slices = image.stored.shape[:3]
        return _Seen(reason, image.series, Place(index), (columns, rows, slices))


def _sibling(path: Path, suffix: str) -> Path | None:
    """The file of the same name with this suffix in either case; None if there is none."""
    candidates = (path.with_suffix(suffix), path.with_suffix(suffix.upper()))
    return next((candidate for candidate in candidates if candidate.exists()), None)


def _found(members: list[tuple[Path, _Seen]], binding: ScannerConfig) -> SeriesFound:
    """One row of the survey from the files that share a series and a reason."""
    first = members[0][1]
    series = first.series or Series("", "DICOM")
    ordered = sorted(members, key=_order)
    indices = {seen.place.index for _, seen in members if seen.place is not None}
    return SeriesFound(
        form=series.form if first.series else "other",
        number=series.number,
        description=series.description,
        protocol_name=series.protocol_name,
        n_volumes=len(indices),
        n_announced=binding.n_volumes or series.n_volumes,
        shape=first.shape,
        tr_s=binding.tr_s or series.tr_s,
        taken=first.reason is None,
        reason=first.reason or "matches the binding",
        paths=tuple(path for path, _ in ordered),
    )


def _order(member: tuple[Path, _Seen]) -> tuple[int, int, str]:
    path, seen = member
    place = seen.place or Place(0)
    return place.index, place.part, path.name
