"""Which series belong to the run, and how this site's scanner counts: `scanner.toml`.

Every entry has a default; with none set, any echo-planar magnitude series of more than one
volume is taken. `configs/scanner.toml` is the commented example.
"""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rtloop.errors import ConfigError

if TYPE_CHECKING:
    from rtloop.readers.piece import Series

__all__ = ["INDEX_TAGS", "ScannerConfig"]

INDEX_TAGS = {
    "InstanceNumber": 0x00200013,
    "AcquisitionNumber": 0x00200012,
    "TemporalPositionIdentifier": 0x00200100,
    "TemporalPositionIndex": 0x00209128,
}
"""Names that `index_tag` may have beside a tag written as (gggg,eeee)."""

Text = Annotated[str, Field(min_length=1)]


class ScannerConfig(BaseModel):
    """A site's binding. Text patterns have `*` and `?`, and ignore case.

    Attributes
    ----------
    protocol_name : str
        Pattern of the protocol's name (ProtocolName).
    description_exclude : tuple of str
        Patterns of series descriptions to leave out.
    image_type_include, image_type_exclude : tuple of str
        Values that ImageType must have, and that it must not have.
    echo : int
        Echo to take, where the scanner says which one a file holds.
    epi_only : bool
        Leave out series whose header says that they are not echo-planar.
    index_tag : str or None
        Element that holds the volume index; None for the vendor's own.
    first_index : int or None
        Its value at the first volume; None for 1 in DICOM elements, 0 in file names.
    n_slices : int or None
        Slices per volume, where the header does not say.
    tr_s : float or None
        Repetition time, s, where the header is wrong.
    n_volumes : int or None
        Volumes of a run, where the header does not say.
    dummies_exported : bool
        Whether the scanner exports the volumes before steady state.
    triggers_before_first_volume : int
        Trigger pulses that come before the first exported volume's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol_name: Text = "*"
    description_exclude: tuple[Text, ...] = ("*sbref*",)
    image_type_include: tuple[Text, ...] = ()
    image_type_exclude: tuple[Text, ...] = (
        *("MOCO", "DERIVED", "DIFFUSION", "PERFUSION"),
        *("P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY"),
    )
    echo: int = Field(default=1, ge=1)
    epi_only: bool = True
    index_tag: str | None = None
    first_index: int | None = Field(default=None, ge=0)
    n_slices: int | None = Field(default=None, ge=2, le=1024)
    tr_s: float | None = Field(default=None, ge=0.05, le=60)
    n_volumes: int | None = Field(default=None, ge=1)
    dummies_exported: bool = True
    triggers_before_first_volume: int = Field(default=0, ge=0)

    @classmethod
    def load(cls, path: Path) -> ScannerConfig:
        """Read a binding from a TOML file.

        Raises
        ------
        ConfigError
            If the file cannot be read or has wrong entries; the one line names all of them.
        """
        try:
            entries = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be read ({error.strerror}); check the path"
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: expected TOML, found: {error}") from None
        try:
            return cls.model_validate(entries)
        except ValidationError as error:
            wrong = "; ".join(_one_entry(entry) for entry in error.errors())
            raise ConfigError(
                f"{path}: {wrong} (configs/scanner.toml explains each entry)"
            ) from None

    @field_validator("index_tag")
    @classmethod
    def _known_tag(cls, value: str | None) -> str | None:
        tag = None if value is None else _tag(value)
        # groups below 0018 are about the patient and the visit, and are never read
        if value is not None and (tag is None or tag >> 16 < 0x0018):
            raise ValueError(
                f"expected one of {', '.join(INDEX_TAGS)} or a tag of group 0018 or above "
                "as (0020,0013)"
            )
        return value

    @property
    def index_element(self) -> int | None:
        """The index tag as a number, group << 16 | element; None for the vendor's own."""
        return None if self.index_tag is None else _tag(self.index_tag)

    def why_not(self, series: Series) -> str | None:
        """Why a series is not of this run, without any of the header's text; None if it is."""
        return (
            self._why_not_type(series) or self._why_not_name(series) or self._why_not_kind(series)
        )

    def _why_not_type(self, series: Series) -> str | None:
        held = {value.upper() for value in series.image_type}
        for value in self.image_type_exclude:
            if value.upper() in held:
                return f"ImageType holds {value}, which image_type_exclude names"
        for value in self.image_type_include:
            if value.upper() not in held:
                return f"ImageType lacks {value}, which image_type_include asks for"
        return None

    def _why_not_name(self, series: Series) -> str | None:
        if not _matches(series.protocol_name, self.protocol_name):
            return f"the protocol's name does not match protocol_name = {self.protocol_name!r}"
        for pattern in self.description_exclude:
            if _matches(series.description, pattern):
                return f"the series description matches description_exclude {pattern!r}"
        return None

    def _why_not_kind(self, series: Series) -> str | None:
        if series.echo is not None and series.echo != self.echo:
            return f"echo {series.echo}; echo = {self.echo} is taken"
        if self.epi_only and series.epi is False:
            return "not echo-planar, and epi_only is set"
        if series.n_volumes == 1:
            return "one volume only"
        return None


def _matches(text: str, pattern: str) -> bool:
    return fnmatchcase(text.lower(), pattern.lower())


def _tag(name: str) -> int | None:
    """An index tag's number from its name or from (gggg,eeee); None if it is neither."""
    written = re.fullmatch(r"\(?([0-9a-fA-F]{4}),\s*([0-9a-fA-F]{4})\)?", name)
    if written is None:
        return INDEX_TAGS.get(name)
    return int(written[1], 16) << 16 | int(written[2], 16)


def _one_entry(error: object) -> str:
    assert isinstance(error, dict)
    where = ".".join(str(part) for part in error["loc"]) or "file"
    if error["type"] == "extra_forbidden":
        return f"{where}: no such entry"
    return f"{where}: {error['msg']}, found {error['input']!r}"
