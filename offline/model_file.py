"""Fitted models on disk: arrays as safetensors, everything else as the file's JSON header.

The header says what kind of model it is, of which format, and which versions made it, and holds a
digest of all else in it and of the arrays. Nothing is pickled. A file appears whole or not at all,
and one of another format, or that is no longer what was written, is refused. The same content has
the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline.checkpoint import digest_of
from rtloop import __version__
from rtloop.errors import FcnefError

__all__ = ["Arrays", "ModelFile", "digest", "read_arrays", "versions", "write_arrays"]

# safetensors writes several entries of metadata in any order: the digest is in the header instead
HEADER, DIGEST = "fcnef", "content_digest"
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
        """Where a model of that name is: with the suffix, if it has none.

        Raises
        ------
        FcnefError
            The family's own, if no file can have that name.
        """
        given = Path(path)
        if given.name in ("", ".."):
            raise self.error(
                f"{self.family} {path}: expected the name of a file, found that of a folder; add"
                " a name"
            )
        return given if given.suffix == SUFFIX else given.with_name(given.name + SUFFIX)

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
        path = self.path(path)
        whole = {"format": self.format, "kind": kind, "versions": versions(), **header}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_arrays(path, arrays, whole)
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
        path = self.path(path)
        try:
            arrays, header, same = _read(path)
        except FileNotFoundError as error:
            raise self.error(
                f"{self.family} {path}: expected a file, found none; check the path"
            ) from error
        except (OSError, ValueError) as error:
            raise self.error(
                f"{self.family} {path}: expected safetensors, found"
                f" {getattr(error, 'strerror', None) or error}; take a whole file"
            ) from error
        # kind and format come first: they say more
        own = self._own(path, header)
        if not same:
            raise self.error(
                f"{self.family} {path}: expected what was written, found it changed; take another"
                f" copy, or make it anew with this version ({__version__})"
            )
        return str(own["kind"]), arrays, own

    def _own(self, path: Path, header: Any) -> dict[str, Any]:
        """The header, if it is one of the family and of its format."""
        if not isinstance(header, dict) or header.get("kind") not in self.kinds:
            kind = header.get("kind") if isinstance(header, dict) else None
            found = "a file without its header" if kind is None else f"a {kind}"
            raise self.error(
                f"{self.family} {path}: expected a {self.family}, found {found}; take one written"
                " by `save`"
            )
        if header.get("format") != self.format:
            made = header.get("versions")
            made = made.get("fcnef") if isinstance(made, dict) else None
            raise self.error(
                f"{self.family} {path}: expected format {self.format}, found"
                f" {header.get('format')} written by fcnef {made or 'an unknown version'}; make it"
                f" anew with this version ({__version__})"
            )
        return header


def write_arrays(path: Path, arrays: Arrays, header: dict[str, Any]) -> None:
    """Write arrays, a header and the digest of both; a file that is there is replaced once the new
    one is whole.

    Parameters
    ----------
    path : Path
        In a folder that is there.
    arrays : dict
        By name.
    header : dict
        As JSON can hold it.

    Raises
    ------
    OSError
        If the file cannot be written; then nothing of it is left.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    partial = path.with_name(path.name + ".part")
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = json.dumps({**header, DIGEST: _digest_of(header, tensors)}, sort_keys=True)
    try:
        save_file(tensors, partial, metadata={HEADER: text})
        partial.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, SafetensorError):  # that is how the library tells of a full disk
            raise OSError(str(error)) from error
        raise


def read_arrays(path: Path) -> tuple[Arrays, Any]:
    """Arrays and header of a file that `write_arrays` wrote.

    Parameters
    ----------
    path : Path

    Returns
    -------
    tuple
        Arrays by name; the header, whatever JSON it is.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no safetensors, or no longer what was written.
    """
    arrays, header, same = _read(path)
    if not same:
        raise ValueError("other content than was written")
    return arrays, header


def _read(path: Path) -> tuple[Arrays, Any, bool]:
    """Arrays, header, and whether they are what was written; errors as of `read_arrays`."""
    from safetensors import SafetensorError, safe_open

    # the library says of every file it may not open that there is none
    path.open("rb").close()
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            # the file maps the disk: arrays are copied so that it can be closed
            arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    # the last two: kinds of numbers that NumPy does not have, and JSON deeper than Python
    except (SafetensorError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    given = header.pop(DIGEST, None) if isinstance(header, dict) else None
    return arrays, header, given == _digest_of(header, arrays)


def _digest_of(header: Any, arrays: Arrays) -> str:
    """SHA-256 of a header and of names, kinds of numbers, shapes and bytes of arrays, which a file
    keeps little-endian."""
    stored = {
        name: array.astype(array.dtype.newbyteorder("<"), copy=False)
        for name, array in arrays.items()
    }
    return digest_of((json.dumps(header, sort_keys=True), stored))


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
