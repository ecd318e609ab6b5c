"""What harmonizers share: how they are saved and loaded.

A model's size depends on sites, covariates, travelers and edges, never on the number of people it
was fitted with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from offline.errors import HarmonizeError
from offline.model_file import Arrays, ModelFile

__all__ = ["HARMONIZERS", "StoredModel"]

HARMONIZERS = ModelFile("harmonizer", ("ComBat", "TravelingSubject"), 1, HarmonizeError)


class StoredModel(BaseEstimator, ABC):
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
        return HARMONIZERS.write(path, type(self).__name__, self._named_arrays(), header)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a model that `save` wrote.

        Raises
        ------
        HarmonizeError
            If there is no such file, or it holds something else.
        """
        kind, arrays, header = HARMONIZERS.read(path)
        if kind != cls.__name__:
            raise HarmonizeError(
                f"harmonizer {path}: expected {cls.__name__}, found {kind}; load that"
            )
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

    @abstractmethod
    def _header(self) -> dict[str, Any]:
        """What was learned besides arrays, as JSON can hold it."""

    @abstractmethod
    def _restore(self, header: dict[str, Any], arrays: Arrays) -> None:
        """Learned attributes from `_header`, and from arrays that `_arrays` does not name."""
