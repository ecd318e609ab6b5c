"""Models of harmonizers on disk: arrays as safetensors, everything else as its JSON header.

`StoredModel` is what harmonizers share: `save` and `load`.

The header says what kind of model it is, of which format, which versions made it and from which
edges. No pickle. A model's size depends on sites, covariates, travelers and edges, never on the
number of people it was fitted with.
"""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from offline.errors import HarmonizeError
from rtloop import __version__

__all__ = ["FORMAT", "Arrays", "StoredModel", "digest", "read_model", "write_model"]

FORMAT = 1
"""Of the files; another one is refused."""

ENTRY = "fcnef"

Arrays = dict[str, NDArray[Any]]


class StoredModel(BaseEstimator):
    """A harmonizer that is kept in a file.

    Each names the learned arrays that belong there (`_arrays`), and turns all else it learned into
    JSON (`_header`) and back (`_restore`).
    """

    _arrays: ClassVar[tuple[str, ...]]

    def save(self, path: str | Path) -> Path:
        """Write the model; read it with `offline.harmonize.load`.

        Parameters
        ----------
        path : str or Path
            Gets the suffix `.safetensors` where it has none.

        Raises
        ------
        HarmonizeError
            If the file cannot be written.
        """
        check_is_fitted(self)
        header = {"parameters": self.get_params(), **self._header()}
        return write_model(path, type(self).__name__, self._named_arrays(), header)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a model that `save` wrote.

        Raises
        ------
        HarmonizeError
            If there is no such file, or it holds something else.
        """
        kind, arrays, header = read_model(path)
        if kind != cls.__name__:
            raise HarmonizeError(f"model {path}: expected {cls.__name__}, found {kind}; load that")
        return cls.restored(arrays, header)

    @classmethod
    def restored(cls, arrays: Arrays, header: dict[str, Any]) -> Self:
        """The model that a file's arrays and header describe."""
        model = cls(**header["parameters"])
        for name in cls._arrays:
            setattr(model, name, arrays[name])
        model._restore(header, arrays)
        return model

    def _named_arrays(self) -> Arrays:
        return {name: getattr(self, name) for name in self._arrays}

    def _header(self) -> dict[str, Any]:
        """What was learned besides arrays, as JSON can hold it."""
        raise NotImplementedError

    def _restore(self, header: dict[str, Any], arrays: Arrays) -> None:
        """Learned attributes from `_header`, and from arrays that `_arrays` does not name."""
        raise NotImplementedError


def write_model(path: str | Path, kind: str, arrays: Arrays, header: dict[str, Any]) -> Path:
    """Write one model; an existing file is replaced only once the new one is whole.

    Parameters
    ----------
    path : str or Path
        Ends in `.safetensors`, or gets it.
    kind : str
        Name of the estimator.
    arrays : dict
        Learned arrays by name.
    header : dict
        Everything else, as JSON can hold it.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        path = path.with_name(path.name + ".safetensors")
    whole = {"format": FORMAT, "kind": kind, "versions": _versions(), **header}
    beside = path.with_name(path.name + ".part")
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, beside, metadata={ENTRY: json.dumps(whole, sort_keys=True)})
        beside.replace(path)
    except OSError as error:
        raise HarmonizeError(
            f"model {path}: expected to be able to write it, found {error.strerror or error};"
            " choose another folder"
        ) from error
    return path


def read_model(path: str | Path) -> tuple[str, Arrays, dict[str, Any]]:
    """Kind, arrays and header of a model.

    Raises
    ------
    HarmonizeError
        If there is no such file, it is none of ours or damaged, or it is of another format.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(ENTRY)
            if text is None:
                raise HarmonizeError(
                    f"model {path}: expected a harmonizer, found a file without its header;"
                    " take one written by `save`"
                )
            header = json.loads(text)
            _require_format(path, header)
            # the library's file maps the disk: arrays are copied so that it can be closed
            arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise HarmonizeError(
            f"model {path}: expected a file, found none; check the path"
        ) from error
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise HarmonizeError(
            f"model {path}: expected safetensors, found {error}; take a whole file"
        ) from error
    return str(header["kind"]), arrays, header


def digest(path: str | Path) -> str:
    """SHA-256 of a model's file, for the provenance of what is made with it."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _require_format(path: Path, header: dict[str, Any]) -> None:
    if header.get("format") != FORMAT:
        made = header.get("versions", {}).get("fcnef", "an unknown version")
        raise HarmonizeError(
            f"model {path}: expected format {FORMAT}, found {header.get('format')} written by"
            f" fcnef {made}; fit it anew with this version ({__version__})"
        )


def _versions() -> dict[str, str]:
    return {
        "fcnef": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
