"""Fitted models on disk: arrays as safetensors, everything else as the file's JSON header.

The header says what kind of model it is, of which format, and which versions made it. Nothing is
pickled. A file appears whole or not at all, and one of another format is refused.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtloop import __version__
from rtloop.errors import FcnefError

__all__ = ["Arrays", "ModelFile", "digest", "versions"]

ENTRY = "fcnef"
SUFFIX = ".safetensors"

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ModelFile:
    """Files of one family of models.

    Attributes
    ----------
    family : str
        What such a model is called.
    kinds : tuple of str
        Names of the classes that belong to it.
    format : int
        Of the files; another one is refused.
    error : type
        Raised where a file is not what it should be.
    """

    family: str
    kinds: tuple[str, ...]
    format: int
    error: type[FcnefError]

    def path(self, path: str | Path) -> Path:
        """Where a model of that name is: with the suffix, if it has none."""
        path = Path(path)
        return path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)

    def write(self, path: str | Path, kind: str, arrays: Arrays, header: dict[str, Any]) -> Path:
        """Write one model; an existing file is replaced only once the new one is whole.

        Parameters
        ----------
        path : str or Path
            Gets the suffix `.safetensors` where it has none.
        kind : str
            Name of the model's class.
        arrays : dict
            By name.
        header : dict
            Everything else, as JSON can hold it.

        Raises
        ------
        FcnefError
            The family's own, if the file cannot be written.
        """
        from safetensors.numpy import save_file

        path = self.path(path)
        whole = {"format": self.format, "kind": kind, "versions": versions(), **header}
        partial = path.with_name(path.name + ".part")
        tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, partial, metadata={ENTRY: json.dumps(whole, sort_keys=True)})
            partial.replace(path)
        except OSError as error:
            raise self.error(
                f"{self.family} {path}: expected to be able to write it, found"
                f" {error.strerror or error}; choose another folder"
            ) from error
        return path

    def read(self, path: str | Path) -> tuple[str, Arrays, dict[str, Any]]:
        """Kind, arrays and header of a model.

        Raises
        ------
        FcnefError
            The family's own, if there is no such file, it is none of the family or damaged, or it
            is of another format.
        """
        from safetensors import SafetensorError, safe_open

        path = self.path(path)
        if not path.is_file():
            raise self.error(f"{self.family} {path}: expected a file, found none; check the path")
        try:
            with safe_open(path, framework="numpy") as file:
                header = json.loads((file.metadata() or {}).get(ENTRY, "{}"))
                self._require_own(path, header)
                # the file maps the disk: arrays are copied so that it can be closed
                arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, json.JSONDecodeError, OSError) as error:
            raise self.error(
                f"{self.family} {path}: expected safetensors, found {error}; take a whole file"
            ) from error
        return str(header["kind"]), arrays, header

    def _require_own(self, path: Path, header: dict[str, Any]) -> None:
        if header.get("kind") not in self.kinds:
            found = f"a {header['kind']}" if "kind" in header else "a file without its header"
            raise self.error(
                f"{self.family} {path}: expected a {self.family}, found {found}; take one written"
                " by `save`"
            )
        if header.get("format") != self.format:
            made = header.get("versions", {}).get("fcnef", "an unknown version")
            raise self.error(
                f"{self.family} {path}: expected format {self.format}, found"
                f" {header.get('format')} written by fcnef {made}; make it anew with this version"
                f" ({__version__})"
            )


def digest(path: str | Path) -> str:
    """SHA-256 of a file, for the provenance of what is made with it."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def versions() -> dict[str, str]:
    """Of what made a file, by name."""
    return {
        "fcnef": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
