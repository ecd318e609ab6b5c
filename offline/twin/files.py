"""Fitted twins on disk: one safetensors file, everything that is no array in its JSON header.

The header says whether the twin was trained on real or synthetic people, with which atlas,
versions, settings, seeds and folds. People are in it as digests of their names alone. Nothing is
pickled; a file of another format is refused, and so is a synthetic twin where a real one is needed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.errors import AtlasError, TwinError
from offline.twin.hyper import Basis, CodeMap
from offline.twin.members import Member
from offline.twin.model import Settings, Shape
from offline.twin.twin import Twin
from rtloop import __version__

__all__ = ["FORMAT", "digest_of_file", "load_twin", "require_real", "save_twin"]

FORMAT = 1
ENTRY = "fcnef"
SUFFIX = ".safetensors"
BASIS = ("mean", "scale", "components", "sd")
MAP = ("constant", "linear", "quadratic", "spread", "told", "untold", "rotated")


def save_twin(twin: Twin, path: str | Path) -> Path:
    """Write a fitted twin; an existing file is replaced once the new one is whole.

    Parameters
    ----------
    twin : Twin
    path : str or Path
        Gets the suffix `.safetensors` where it has none.
    """
    from safetensors.numpy import save_file

    path = _named(path)
    arrays, members, bases = _taken_apart(twin)
    header = {
        "format": FORMAT,
        "kind": "Twin",
        "versions": _versions(),
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
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    save_file(arrays, partial, metadata={ENTRY: json.dumps(header, sort_keys=True)})
    partial.replace(path)
    return path


def load_twin(path: str | Path) -> Twin:
    """Read a twin that `save_twin` wrote.

    Raises
    ------
    TwinError
        If there is no such file, it is none of ours, damaged, changed, or of another format.
    """
    import torch

    path = _named(path)
    arrays, header = _read(path)
    try:
        atlas = Atlas.from_json(header["atlas"])
        people = tuple(header["people"])
        if header["fold_digest"] != _fold_digest(people, arrays["folds"]):
            raise TwinError(f"twin {path}: expected the folds it was trained with, found others")
        settings = Settings(**header["settings"])
        bases = {
            key: Basis(
                *(arrays[f"{key}.{name}"] for name in BASIS),
                tuple(known["bounds"]),
                known["people"],
            )
            for key, known in header["bases"].items()
        }
        members = []
        for k, known in enumerate(header["members"]):
            code_map = None
            if known["degree"] is not None:
                parts = [arrays[f"{k}.map.{name}"] for name in MAP]
                code_map = CodeMap(*parts, known["degree"])
            parameters = {
                name: torch.from_numpy(arrays[f"{k}.parameters.{name}"])
                for name in known["parameters"]
            }
            members.append(
                Member(
                    known["fold"], known["seed"], Shape(**known["shape"]), settings,
                    bases[known["basis"]], code_map, parameters, tuple(known["curve"]),
                )
            )  # fmt: skip
    except (KeyError, TypeError, AtlasError) as error:
        raise TwinError(
            f"twin {path}: expected a whole twin, found its header damaged ({error}); take another"
            " copy"
        ) from error
    return Twin(
        atlas, header["provenance"], settings, tuple(members), people, arrays["folds"],
        tuple(header["channels"]), tuple(header["conditions"]), tuple(header["regions"]),
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
    return hashlib.sha256(_named(path).read_bytes()).hexdigest()


def _taken_apart(
    twin: Twin,
) -> tuple[dict[str, NDArray[Any]], list[dict[str, Any]], dict[str, Basis]]:
    """Arrays by their names in the file, what else is known of each member, and bases by name."""
    arrays: dict[str, NDArray[Any]] = {"folds": twin.folds}
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
            f"{k}.parameters.{name}": values.numpy() for name, values in member.parameters.items()
        }
        members.append(
            {
                "fold": member.fold,
                "seed": member.seed,
                "shape": dataclasses.asdict(member.shape),
                "basis": key,
                "degree": None if member.map is None else member.map.degree,
                "parameters": sorted(member.parameters),
                "curve": list(member.curve),
            }
        )
    return {name: np.ascontiguousarray(a) for name, a in arrays.items()}, members, bases


def _named(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise TwinError(f"twin {path}: expected a file, found none; check the path")
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get(ENTRY, "{}"))
            # the file maps the disk: arrays are copied so that it can be closed
            arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise TwinError(
            f"twin {path}: expected safetensors, found {error}; take a whole file"
        ) from error
    if header.get("kind") != "Twin":
        found = f"a {header['kind']}" if "kind" in header else "a file without its header"
        raise TwinError(f"twin {path}: expected a twin, found {found}; take one `twin fit` wrote")
    if header.get("format") != FORMAT:
        made = header.get("versions", {}).get("fcnef", "an unknown version")
        raise TwinError(
            f"twin {path}: expected format {FORMAT}, found {header.get('format')} written by"
            f" fcnef {made}; fit it anew with this version ({__version__})"
        )
    return arrays, header


def _fold_digest(people: tuple[str, ...], folds: NDArray[np.int64]) -> str:
    text = json.dumps(sorted(zip(people, folds.tolist(), strict=True)))
    return hashlib.sha256(text.encode()).hexdigest()


def _versions() -> dict[str, str]:
    import torch

    return {
        "fcnef": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }
