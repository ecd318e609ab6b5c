"""Fitted decoders on disk: safetensors with a JSON header, their harmonizers in files beside.

`NAME.safetensors` holds the models of all folds, `NAME.harmonizer-K.safetensors` the harmonizer
of fold K; the header keeps their SHA-256, and a decoder is not read with others. Nothing is
pickled, and people are known by digests alone.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from offline.decoder.calibration import Calibrator
from offline.decoder.models import Models
from offline.errors import DecodeError
from offline.model_file import Arrays, ModelFile, digest

if TYPE_CHECKING:
    from offline.decoder.folded import FoldedDecoder

__all__ = ["DECODERS", "load_decoder", "save_decoder"]

KINDS = {
    "LassoEnsemble": "offline.decoder.ensemble",
    "LassoEnsembleRegressor": "offline.decoder.ensemble",
    "ComponentClassifier": "offline.decoder.components",
    "ComponentRegressor": "offline.decoder.components",
}
"""Modules of the classes."""

DECODERS = ModelFile("decoder", tuple(KINDS), 1, DecodeError)
ARRAYS = ("out_of_fold_", "folds_", "person_folds_")


def save_decoder(decoder: FoldedDecoder, path: str | Path) -> Path:
    """Write a fitted decoder; an existing file is replaced once the new one is whole.

    Parameters
    ----------
    decoder : FoldedDecoder
    path : str or Path
        Gets the suffix `.safetensors` where it has none.

    Returns
    -------
    Path
        Of the decoder's own file.

    Raises
    ------
    DecodeError
        If the file cannot be written.
    """
    path = DECODERS.path(path)
    arrays: Arrays = {name: getattr(decoder, name) for name in ARRAYS}
    for fold, models in enumerate(decoder.models_):
        arrays |= {f"{fold}.{name}": array for name, array in _arrays_of(models).items()}
    header: dict[str, Any] = {
        "parameters": _parameters(decoder),
        "n_features_in": decoder.n_features_in_,
        "atlas_digest": decoder.atlas_digest_,
        "seed": decoder.seed_,
        "people": decoder.people_.tolist(),
        "notes": list(decoder.notes_),
        "details": list(decoder.models_[0].details),
        "n_models": [len(models.intercept) for models in decoder.models_],
    }
    if hasattr(decoder, "classes_"):
        header["classes"] = decoder.classes_.tolist()
        header["calibration"] = decoder.calibrator_.method
        arrays |= {"calibration.x": decoder.calibrator_.x, "calibration.y": decoder.calibrator_.y}
        arrays["out_of_fold_calibrated_"] = decoder.out_of_fold_calibrated_
    if decoder.harmonizers_[0] is not None:
        header["harmonizers"] = [
            _save_harmonizer(harmonizer, path, fold)
            for fold, harmonizer in enumerate(decoder.harmonizers_)
        ]
    return DECODERS.write(path, type(decoder).__name__, arrays, header)


def load_decoder(path: str | Path) -> FoldedDecoder:
    """Read a decoder that `save_decoder` wrote.

    Raises
    ------
    DecodeError
        If there is no such file, it is none of ours or damaged, or a harmonizer is another one.
    """
    path = DECODERS.path(path)
    kind, arrays, header = DECODERS.read(path)
    made_by = getattr(importlib.import_module(KINDS[kind]), kind)
    decoder: FoldedDecoder = made_by(**header["parameters"])
    for name in ARRAYS:
        setattr(decoder, name, arrays[name])
    decoder.n_features_in_ = header["n_features_in"]
    decoder.atlas_digest_ = header["atlas_digest"]
    decoder.seed_ = header["seed"]
    decoder.people_ = np.array(header["people"])
    decoder.notes_ = tuple(header["notes"])
    decoder.models_ = [
        _models(arrays, fold, n_models, header) for fold, n_models in enumerate(header["n_models"])
    ]
    decoder.harmonizers_ = [None] * len(decoder.models_)
    if "harmonizers" in header:
        decoder.harmonizers_ = [_load_harmonizer(path, known) for known in header["harmonizers"]]
        fresh = type(decoder.harmonizers_[0])
        decoder.harmonizer = fresh(**decoder.harmonizers_[0].get_params(deep=False))
    if "classes" in header:
        decoder.classes_ = np.array(header["classes"])
        decoder.calibrator_ = Calibrator(
            header["calibration"], arrays["calibration.x"], arrays["calibration.y"]
        )
        decoder.out_of_fold_calibrated_ = arrays["out_of_fold_calibrated_"]
    decoder._gather()
    return decoder


def _arrays_of(models: Models) -> Arrays:
    """A fold's models by name."""
    arrays: Arrays = {"intercept": models.intercept}
    for part, matrix in (("coef", models.coef), ("selected", models.selected)):
        arrays |= {
            f"{part}.data": matrix.data,
            f"{part}.indices": matrix.indices.astype(np.int64),
            f"{part}.indptr": matrix.indptr.astype(np.int64),
        }
    return arrays | models.details


def _models(arrays: Arrays, fold: int, n_models: int, header: dict[str, Any]) -> Models:
    """The reverse of `_arrays_of`."""

    def matrix(part: str, n_rows: int) -> sparse.csr_array:
        content = tuple(arrays[f"{fold}.{part}.{name}"] for name in ("data", "indices", "indptr"))
        return sparse.csr_array(content, shape=(n_rows, header["n_features_in"]))

    return Models(
        matrix("coef", n_models),
        arrays[f"{fold}.intercept"],
        matrix("selected", 1),
        {name: arrays[f"{fold}.{name}"] for name in header["details"]},
    )


def _parameters(decoder: FoldedDecoder) -> dict[str, Any]:
    """Settings as JSON can hold them; the harmonizer's are in its own files."""
    plain = decoder.get_params(deep=False)
    plain["harmonizer"] = None
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in plain.items()
    }


def _save_harmonizer(harmonizer: Any, path: Path, fold: int) -> dict[str, str]:
    beside = harmonizer.save(path.with_name(f"{path.stem}.harmonizer-{fold}{path.suffix}"))
    return {"file": beside.name, "sha256": digest(beside)}


def _load_harmonizer(path: Path, known: dict[str, str]) -> Any:
    from offline.harmonize import load

    beside = path.with_name(known["file"])
    if not beside.is_file():
        raise DecodeError(
            f"decoder {path}: expected its harmonizer {beside.name} beside it, found none; keep"
            " the files together"
        )
    if digest(beside) != known["sha256"]:
        raise DecodeError(
            f"decoder {path}: expected the harmonizer it was trained with, found another one in"
            f" {beside.name}; keep the files together"
        )
    return load(beside)
