"""Whether what was read from a twin's file is a whole twin: its header, then every array of it.

A header is parsed once, here, and what follows from it is which arrays there have to be, of which
kind and shape. A twin that passes has no entry missing, no number that is none, and no array that
fits another network.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)

from offline.model_file import Arrays
from offline.twin.heads import READ_S
from offline.twin.kernels import ALL, Term
from offline.twin.model import Settings, Shape

__all__ = ["Header", "KnownMember", "parse_header", "require_arrays", "weights_name"]

POSITIVE = ("scale", "sd")
"""Arrays of a basis that others are divided by."""


class KnownBasis(BaseModel):
    """What the header says of a basis."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bounds: tuple[FiniteFloat, FiniteFloat]
    people: PositiveInt


class KnownMember(BaseModel):
    """What the header says of a member; `degree` is None where it has no map."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fold: NonNegativeInt
    seed: NonNegativeInt
    shape: Shape
    basis: str
    degree: FiniteFloat | None
    terms: tuple[Term, ...]
    parameters: tuple[str, ...]
    curve: tuple[dict[str, float], ...]


class Header(BaseModel):
    """All that is no array in a twin's file, but for what every model's header has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provenance: Literal["real", "synthetic"]
    atlas: dict[str, Any]
    settings: Settings
    people: Annotated[tuple[str, ...], Field(min_length=1)]
    fold_digest: str
    bases: dict[str, KnownBasis]
    channels: tuple[str, ...]
    conditions: Annotated[tuple[str, ...], Field(min_length=1)]
    regions: tuple[str, ...]
    members: Annotated[tuple[KnownMember, ...], Field(min_length=1)]


class _Kind(NamedTuple):
    """What an array has to be: the start of its dtype's code, and its shape."""

    code: str
    shape: tuple[int, ...]


def parse_header(header: dict[str, Any]) -> Header:
    """The header, its entries typed and at one with each other.

    Parameters
    ----------
    header : dict
        As read.

    Raises
    ------
    ValueError
        Naming the first entry that is not what it should be.
    """
    own = {name: header[name] for name in Header.model_fields if name in header}
    try:
        known = Header.model_validate(own)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        more = f" and {error.error_count() - 1} more" if error.error_count() > 1 else ""
        text = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{place}: {text}{more}") from error
    if len(set(known.people)) < len(known.people):
        raise ValueError("people: somebody twice")
    for k, member in enumerate(known.members):
        _require_member(k, member, known)
    return known


def require_arrays(known: Header, arrays: Arrays, n_edges: int) -> None:
    """Refuse arrays that are not those of the header.

    Parameters
    ----------
    known : Header
    arrays : dict
        By name.
    n_edges : int
        Of the atlas.

    Raises
    ------
    ValueError
        Naming the array.
    """
    for name, kind in _kinds(known, arrays, n_edges).items():
        _require_kind(name, arrays[name], kind)
    _require_folds(known, arrays)
    n_blocks = {key: _require_basis(key, arrays, n_edges) for key in known.bases}
    for k, member in enumerate(known.members):
        blocks = range(ALL, n_blocks[member.basis])
        if any(block not in blocks for term in member.terms for block in term):
            raise ValueError(f"members.{k}.terms: blocks that the basis does not have")


def weights_name(k: int, term: Term) -> str:
    """Name of the weights of a term of member `k`."""
    return f"{k}.map.weights.{'.'.join(map(str, term))}"


def _require_member(k: int, member: KnownMember, known: Header) -> None:
    """Refuse what does not go together with the rest of the header."""
    shape = member.shape
    low_rank = known.settings.form == "low_rank"
    wrong = {
        "shape.channels": shape.channels != len(known.channels) + 1,  # the bias is one
        "shape.regions": shape.regions != len(known.regions),
        "shape.actions": not 1 <= shape.actions == known.members[0].shape.actions,
        "shape.scores": shape.scores < 1,
        "basis": member.basis not in known.bases,
        "degree": low_rank != (member.degree is not None),
        "terms": not all(len(term) in (1, 2) for term in member.terms),
        "parameters": set(member.parameters) != set(_parameters(known.settings, shape)),
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise ValueError(f"members.{k}.{name}: at odds with the rest")


def _require_folds(known: Header, arrays: Arrays) -> None:
    """Refuse an ensemble that has not one member for each fold and seed."""
    folds = np.unique(arrays["folds"]).tolist()
    expected = [(fold, seed) for seed in range(known.settings.seeds) for fold in folds]
    if sorted((member.fold, member.seed) for member in known.members) != sorted(expected):
        raise ValueError("members: not one for each fold and seed")


def _require_basis(key: str, arrays: Arrays, n_edges: int) -> int:
    """Number of blocks of a basis whose numbers are possible."""
    for name in POSITIVE:
        values = arrays[f"{key}.{name}"]
        if not len(values) or not np.all(values > 0.0):
            raise ValueError(f"{key}.{name} of 0 or less, or empty")
    block = arrays[f"{key}.block"]
    if block.min() < 0 or block.max() >= n_edges:
        raise ValueError(f"{key}.block of no block")
    return int(block.max()) + 1


def _require_kind(name: str, array: np.ndarray[Any, Any], kind: _Kind) -> None:
    if not array.dtype.str[1:].startswith(kind.code) or array.shape != kind.shape:
        raise ValueError(f"{name} of {array.dtype} and shape {array.shape} instead of {kind.shape}")
    # the scale of a constant edge is infinite
    lost = np.isnan(array) if name.endswith(".scale") else ~np.isfinite(array)
    if kind.code != "i" and lost.any():
        raise ValueError(f"NaN in {name}")


def _kinds(known: Header, arrays: Arrays, n_edges: int) -> dict[str, _Kind]:
    """What each array of the file has to be, by name."""
    rank = known.settings.rank
    n_components = {key: len(np.atleast_1d(arrays[f"{key}.sd"])) for key in known.bases}
    kinds = {"folds": _Kind("i", (len(known.people),))}
    for key, n in n_components.items():
        kinds |= {
            f"{key}.mean": _Kind("f", (n_edges,)),
            f"{key}.scale": _Kind("f", (n_edges,)),
            f"{key}.components": _Kind("f", (n, n_edges)),
            f"{key}.sd": _Kind("f", (n,)),
            f"{key}.block": _Kind("i", (n_edges,)),
        }
    for k, member in enumerate(known.members):
        n = n_components[member.basis]
        # the network computes in single precision, and with nothing else
        kinds |= {
            f"{k}.parameters.{name}": _Kind("f4", shape)
            for name, shape in _parameters(known.settings, member.shape).items()
        }
        if known.settings.form == "whole":
            if member.shape.scores != n:
                raise ValueError(f"members.{k}.shape.scores: at odds with the basis")
            continue
        kinds[f"{k}.map.constant"] = _Kind("f", (rank,))
        kinds[f"{k}.map.spread"] = _Kind("f", (rank, rank))
        for term in member.terms:
            kinds[weights_name(k, term)] = _Kind("f", (n, rank) if len(term) == 1 else (rank, n, n))
    return kinds


def _parameters(settings: Settings, shape: Shape) -> dict[str, tuple[int, ...]]:
    """Shapes of a network's parameters, as `model.initial` makes them."""
    n, rank, hidden = settings.units, settings.rank, settings.hidden
    shared = {
        "input": (n, shape.channels),
        "recurrent": (n, n),
        "choice": (shape.actions, n + 1),
    }
    own: dict[str, tuple[int, ...]] = {"rt": (2, len(READ_S) * n + 1)}
    if shape.regions:
        shared["bold"] = (shape.regions, n + 1)
        own["bold_noise"] = (shape.regions,)
    if settings.form == "low_rank":
        return {
            **own,
            **shared,
            "left": (n, rank),
            "right": (n, rank),
            "in_left": (n, rank),
            "in_right": (shape.channels, rank),
        }
    n_last = sum(rows * columns for rows, columns in shared.values())
    return {
        **own,
        "first": (hidden, shape.scores + 1),
        "second": (hidden, hidden + 1),
        "last": (n_last, hidden),
        "last_bias": (n_last,),
    }
