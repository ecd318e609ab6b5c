"""What is finished of a long piece of work, in a folder, so that it is not done again.

A checkpoint belongs to a function with its shared parameters and to the version of fcnef whose
code ran: a folder of other work, or of another version, is refused. Each finished item is a file
named by the item's own digest, written under another name and renamed, so that a file that is
there is whole. Arrays are kept as they are (npz), everything around them as JSON; nothing is
pickled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from offline.errors import ExecutorError
from rtloop import __version__

__all__ = ["Checkpoint", "digest_of", "from_json", "to_json"]

ABOUT = "checkpoint.json"


class Checkpoint:
    """Finished items of one function; made by `open`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def open(cls, folder: str | Path, function: Callable[..., Any]) -> Checkpoint:
        """Open a folder for the work of `function`, or make it.

        Parameters
        ----------
        folder : str or Path
            New, or that of an earlier run.
        function : callable
            The function, its shared parameters bound by `functools.partial`.

        Raises
        ------
        ExecutorError
            If it is no folder to write in, or holds other work, or that of another version.
        """
        folder = Path(folder)
        about = {
            "function": _name(function),
            "digest": digest_of(function),
            "version": __version__,
        }
        path = folder / ABOUT
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                _write_whole(path, json.dumps(about).encode())
            found = _read_about(path)
        except OSError as error:
            raise ExecutorError(
                f"checkpoint {folder}: expected a folder to write in, found {error.strerror}; give"
                " another"
            ) from error
        if found != about:
            what = found.get("function", "unknown work")
            if what == about["function"]:
                what = "the same with other parameters"
            if found.get("digest") == about["digest"]:  # the code may have changed since
                what = f"that of fcnef {found.get('version', 'before versions were kept')}"
            raise ExecutorError(
                f"checkpoint {folder}: expected the work of {about['function']}, found {what};"
                " remove the folder, or give another"
            )
        return cls(folder)

    def name(self, item: Any) -> str:
        """What an item's file is called."""
        return f"item-{digest_of(item)[:24]}.npz"

    def has(self, name: str) -> bool:
        """Whether this item is finished."""
        return (self.folder / name).exists()

    def write(self, name: str, result: Any) -> None:
        """Keep a result: arrays, numbers, text, None, and tuples, lists and dicts of them."""
        arrays: list[NDArray[Any]] = []
        text = json.dumps(to_json(result, arrays))
        with _partial(self.folder / name) as partial, partial.open("wb") as file:
            stored = {f"a{k}": array for k, array in enumerate(arrays)}
            np.savez(file, allow_pickle=False, result=np.array(text), **stored)
            file.flush()
            os.fsync(file.fileno())

    def read(self, name: str) -> Any:
        """A kept result.

        Raises
        ------
        ExecutorError
            If the file is damaged.
        """
        path = self.folder / name
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = [stored[f"a{k}"] for k in range(len(stored.files) - 1)]
                return from_json(json.loads(str(stored["result"])), arrays)
        except (OSError, ValueError, TypeError, LookupError, BadZipFile) as error:
            raise ExecutorError(
                f"checkpoint {path}: expected a finished item, found a damaged file; remove it"
            ) from error


def digest_of(value: Any) -> str:
    """SHA-256 of a value by its content: the same value gives the same digest in every process.

    Numbers, text, bytes, None, arrays, tables, sequences, mappings, paths, dataclasses, functions
    of modules, `functools.partial`, estimators (by `get_params`) and anything with an `identity`.

    Raises
    ------
    ExecutorError
        If a value is of none of these kinds.
    """
    known = hashlib.sha256()
    _feed(known, value)
    return known.hexdigest()


def to_json(value: Any, arrays: list[NDArray[Any]]) -> Any:
    """`value` with its arrays moved into `arrays`; the rest is what JSON can hold.

    Raises
    ------
    ExecutorError
        If something can be kept in neither.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic | np.ndarray):
        if value.dtype.hasobject:
            raise ExecutorError("expected arrays of numbers or text, found one of objects")
        arrays.append(np.asarray(value))
        return {"array": len(arrays) - 1, "scalar": isinstance(value, np.generic)}
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [to_json(entry, arrays) for entry in value]}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"dict": [[key, to_json(entry, arrays)] for key, entry in value.items()]}
    raise ExecutorError(
        f"expected a result of arrays, numbers, text, tuples, lists and dicts, found"
        f" {type(value).__name__}; return those"
    )


def from_json(value: Any, arrays: list[NDArray[Any]]) -> Any:
    """What `to_json` was given."""
    if not isinstance(value, dict):
        return value
    if "array" in value:
        array = arrays[value["array"]]
        return array[()] if value["scalar"] else array
    if "dict" in value:
        return {key: from_json(entry, arrays) for key, entry in value["dict"]}
    if "tuple" in value:
        return tuple(from_json(entry, arrays) for entry in value["tuple"])
    return [from_json(entry, arrays) for entry in value["list"]]


def _feed(known: Any, value: Any) -> None:
    """Add a value to a hash: its kind, then its content with its length."""

    def add(kind: str, content: bytes = b"") -> None:
        known.update(struct.pack("<BQ", len(kind), len(content)))
        known.update(kind.encode())
        known.update(content)

    def each(kind: str, entries: Any) -> None:
        entries = list(entries)
        add(kind, struct.pack("<Q", len(entries)))
        for entry in entries:
            _feed(known, entry)

    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float):
        add(type(value).__name__, repr(value).encode())
    elif isinstance(value, str | os.PathLike):
        add("str", str(value).encode())
    elif isinstance(value, bytes):
        add("bytes", value)
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        add("array", f"{value.dtype.str}{value.shape}".encode())
        known.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
    elif isinstance(value, np.ndarray):
        each("objects", value.tolist())
    elif isinstance(value, slice):
        each("slice", (value.start, value.stop, value.step))
    elif isinstance(value, range | tuple | list):
        each("sequence", value)
    elif isinstance(value, Mapping):
        each("mapping", sorted((str(key), digest_of(entry)) for key, entry in value.items()))
    elif isinstance(value, set | frozenset):
        each("set", sorted(digest_of(entry) for entry in value))
    elif isinstance(value, functools.partial):
        each("partial", (value.func, value.args, value.keywords))
    elif hasattr(value, "identity"):
        each(_name(type(value)), (value.identity,))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value)]
        each(_name(type(value)), [(field, getattr(value, field)) for field in fields])
    elif hasattr(value, "get_params") and not isinstance(value, type):
        each(_name(type(value)), (value.get_params(deep=False),))
    elif hasattr(value, "columns") and hasattr(value, "to_numpy"):  # a pandas table
        each("table", [(str(name), value[name].to_numpy(object)) for name in value.columns])
    elif hasattr(value, "to_numpy"):
        each("column", (value.to_numpy(object),))
    elif hasattr(value, "tocsr"):  # a scipy sparse array
        csr = value.tocsr()
        each("sparse", (csr.shape, csr.data, csr.indices, csr.indptr))
    elif callable(value) and "<" not in _name(value):
        add("function", _name(value).encode())
    elif type(value).__name__ == "NAType":  # missing in a pandas table
        add("NA")
    else:
        raise ExecutorError(
            f"expected something whose content can be told, found {_name(type(value))};"
            " give numbers, text, arrays, tables or functions of a module"
        )


def _name(value: Any) -> str:
    if isinstance(value, functools.partial):
        return _name(value.func)
    module = getattr(value, "__module__", "")
    return f"{module}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _read_about(path: Path) -> dict[str, Any]:
    """What a folder's work is; empty where the file does not say."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}


def _write_whole(path: Path, content: bytes) -> None:
    with _partial(path) as partial:
        partial.write_bytes(content)


@contextlib.contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """Where to write first; it becomes `path` once all is written, and goes where that fails."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
