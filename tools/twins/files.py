"""Twins read and tables written, and how a twin is spoken of."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from offline.twin.twin import Twin

__all__ = ["about_file", "kind", "load", "say", "write"]


def load(path: Path) -> Twin:
    """Read a twin; of a synthetic one it is said that it is no basis for a plan."""
    from offline.twin.files import load_twin

    found = load_twin(path)
    if found.provenance == "synthetic":
        print("NOTE: this twin was trained on simulated people; it is no basis for a plan")
    return found


def about_file(path: Path, fitted: Twin) -> dict[str, Any]:
    """What a report says of a twin's file."""
    from offline.twin.files import digest_of_file

    return {
        "sha256": digest_of_file(path),
        "provenance": fitted.provenance,
        "atlas": fitted.atlas.name,
        "settings": dataclasses.asdict(fitted.settings),
    }


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a table, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, sep="\t", index=False, na_rep="n/a", lineterminator="\n")


def kind(provenance: str) -> str:
    """How a twin is spoken of."""
    return "SIMULATED" if provenance == "synthetic" else "real"


def say(text: str) -> None:
    """Print a line of progress at once."""
    print(text, flush=True)
