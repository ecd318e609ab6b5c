"""Fitted twins on disk: one safetensors file, everything that is no array in its JSON header.

The header says whether the twin was trained on real or synthetic people, with which atlas,
versions, settings, seeds and folds. People are in it as digests of their names alone. Nothing is
pickled; a file of another format is refused, and so is a synthetic twin where a real one is needed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.errors import TwinError
from offline.model_file import Arrays, ModelFile, digest, versions
from offline.twin.basis import Basis
from offline.twin.hyper import CodeMap
from offline.twin.members import Member
from offline.twin.model import Settings
from offline.twin.twin import Twin
from offline.twin.whole import KnownMember, parse_header, require_arrays, weights_name

__all__ = ["TWINS", "digest_of_file", "load_twin", "require_real", "save_twin"]

TWINS = ModelFile("twin", ("Twin",), 2, TwinError)
BASIS = ("mean", "scale", "components", "sd", "block")
MAP = ("constant", "spread")


def save_twin(twin: Twin, path: str | Path) -> Path:
    """Write a fitted twin; an existing file is replaced once the new one is whole.

    Parameters
    ----------
    twin : Twin
    path : str or Path
        Gets the suffix `.safetensors` where it has none.

    Raises
    ------
    TwinError
        If the file cannot be written.
    """
    import torch

    arrays, members, bases = _taken_apart(twin)
    header = {
        "versions": versions() | {"torch": str(torch.__version__)},
        "provenance": twin.provenance,
        "atlas": twin.atlas.as_json(),
        "settings": dataclasses.asdict(twin.settings),
        "people": list(twin.people),
        "fold_digest": _fold_digest(twin.people, twin.folds),
        "bases": {
            key: {"bounds": list(basis.bounds), "people": basis.n_people}
            for key, basis in bases.items()
        },
        "channels": list(twin.channels),
        "conditions": list(twin.conditions),
        "regions": list(twin.regions),
        "members": members,
    }
    return TWINS.write(path, "Twin", arrays, header)


def load_twin(path: str | Path) -> Twin:
    """Read a twin that `save_twin` wrote.

    Raises
    ------
    TwinError
        If there is no such file, it is none of ours, damaged, changed, or of another format.
    """
    path = TWINS.path(path)
    _, arrays, header = TWINS.read(path)
    try:
        known = parse_header(header)
        atlas = Atlas.from_json(known.atlas)
    except (KeyError, ValueError, TypeError) as error:
        raise _damaged(path, "its header", error) from error
    try:
        require_arrays(known, arrays, atlas.n_edges)
    except (KeyError, ValueError) as error:
        raise _damaged(path, "its arrays", error) from error
    if known.fold_digest != _fold_digest(known.people, arrays["folds"]):
        raise TwinError(
            f"twin {path}: expected the folds it was trained with, found others; take another copy"
        )
    bases = {
        key: Basis(
            **{name: arrays[f"{key}.{name}"] for name in BASIS},
            bounds=basis.bounds,
            n_people=basis.people,
        )
        for key, basis in known.bases.items()
    }
    members = tuple(
        _member(k, member, arrays, bases[member.basis], known.settings)
        for k, member in enumerate(known.members)
    )
    return Twin(
        atlas, known.provenance, known.settings, members, known.people, arrays["folds"],
        known.channels, known.conditions, known.regions,
    )  # fmt: skip


def require_real(twin: Twin, purpose: str) -> None:
    """Refuse a twin of synthetic people.

    Raises
    ------
    TwinError
        If it was trained on synthetic people.
    """
    if twin.provenance != "real":
        raise TwinError(
            f"expected a twin of real people for {purpose}, found one trained on synthetic ones;"
            " fit a twin to real connectomes and trials"
        )


def digest_of_file(path: str | Path) -> str:
    """SHA-256 of a twin's file, for the provenance of what is made with it."""
    return digest(TWINS.path(path))


def _taken_apart(twin: Twin) -> tuple[Arrays, list[dict[str, Any]], dict[str, Basis]]:
    """Arrays by their names in the file, what else is known of each member, and bases by name."""
    arrays: Arrays = {"folds": twin.folds}
    members: list[dict[str, Any]] = []
    bases: dict[str, Basis] = {}
    for k, member in enumerate(twin.members):
        # members of a fold and form share their basis, the largest part of a file
        key = next((name for name, basis in bases.items() if basis is member.basis), None)
        if key is None:
            key = f"basis{len(bases)}"
            bases[key] = member.basis
            arrays |= {f"{key}.{name}": getattr(member.basis, name) for name in BASIS}
        if member.map is not None:
            arrays |= {f"{k}.map.{name}": getattr(member.map, name) for name in MAP}
            arrays |= {
                weights_name(k, term): weights for term, weights in member.map.weights.items()
            }
        arrays |= {
            f"{k}.parameters.{name}": values.numpy() for name, values in member.parameters.items()
        }
        members.append(
            {
                "fold": member.fold,
                "seed": member.seed,
                "shape": dataclasses.asdict(member.shape),
                "basis": key,
                "degree": None if member.map is None else member.map.degree,
                "terms": [] if member.map is None else [list(t) for t in member.map.weights],
                "parameters": sorted(member.parameters),
                "curve": list(member.curve),
            }
        )
    return arrays, members, bases


def _member(k: int, known: KnownMember, arrays: Arrays, basis: Basis, settings: Settings) -> Member:
    """A member from its arrays and what else the header says of it."""
    import torch

    code_map = None
    if known.degree is not None:
        parts = {name: arrays[f"{k}.map.{name}"] for name in MAP}
        weights = {term: arrays[weights_name(k, term)] for term in known.terms}
        code_map = CodeMap(**parts, weights=weights, degree=known.degree)
    parameters = {
        name: torch.from_numpy(arrays[f"{k}.parameters.{name}"]) for name in known.parameters
    }
    return Member(
        known.fold, known.seed, known.shape, settings, basis, code_map, parameters, known.curve
    )


def _damaged(path: Path, part: str, error: Exception) -> TwinError:
    what = f"none of {error}" if isinstance(error, KeyError) else error
    return TwinError(
        f"twin {path}: expected a whole twin, found {part} damaged ({what}); take another copy"
    )


def _fold_digest(people: tuple[str, ...], folds: NDArray[np.int64]) -> str:
    text = json.dumps(sorted(zip(people, folds.tolist(), strict=True)))
    return hashlib.sha256(text.encode()).hexdigest()
