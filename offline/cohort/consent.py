"""Consent: for which release a person's data may be used, and a hashed memory of who left.

The tiers are those of the SRPBS releases (Tanaka et al. 2021, doi:10.1038/s41597-021-01004-8).
They differ in who may use the data (applicants or everyone) and in what is given (connectivity or
images); consent to the wider use covers the narrower ones.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Literal, get_args

from offline.errors import CohortError

__all__ = ["COVERS", "TIERS", "Tier", "Tombstones", "covers", "tier_of"]

Tier = Literal["restricted-fc", "restricted-mri", "open-mri", "open-traveling"]
"""Connectivity for applicants; images for applicants; images for everyone; images of a traveling
subject, recognisably of one person at all sites, for everyone."""

TIERS: tuple[Tier, ...] = get_args(Tier)

COVERS: dict[Tier, frozenset[Tier]] = {
    "restricted-fc": frozenset({"restricted-fc"}),
    "restricted-mri": frozenset({"restricted-fc", "restricted-mri"}),
    "open-mri": frozenset({"restricted-fc", "restricted-mri", "open-mri"}),
    "open-traveling": frozenset(TIERS),
}
"""Requests that a consent covers."""


def tier_of(text: str) -> Tier:
    """The tier a person wrote: upper case, blanks and underscores are forgiven.

    Raises
    ------
    CohortError
        If it is none of `TIERS`.
    """
    tidy = text.strip().lower().replace("_", "-").replace(" ", "-")
    for tier in TIERS:
        if tier == tidy:
            return tier
    raise CohortError(f"expected a consent tier of {', '.join(TIERS)}, found {text!r}; use one")


def covers(consent: str, request: Tier) -> bool:
    """Whether a person's consent covers a request; no consent on record ("") covers none."""
    return consent != "" and request in COVERS[tier_of(consent)]


class Tombstones:
    """Who was withdrawn, told again when they come back, told by no name.

    Ids and values are kept as HMAC-SHA-256 under a key of this cohort. Someone who has the cohort
    and a list of possible ids can still test them; without the cohort's key nobody can.

    Parameters
    ----------
    key : str
        Hexadecimal; of this cohort alone.
    marks : iterable of str
        Hashes of withdrawn ids and of their values.
    """

    def __init__(self, key: str = "", marks: tuple[str, ...] = ()) -> None:
        self.key = key or secrets.token_hex(32)
        self.marks = tuple(marks)

    def mark(self, text: str) -> str:
        """Hash of an id, or of the digest of a scan's values."""
        return hmac.new(bytes.fromhex(self.key), text.encode(), hashlib.sha256).hexdigest()

    def has(self, text: str) -> bool:
        """Whether this id, or these values, were withdrawn."""
        return bool(self.marks) and self.mark(text) in self.marks

    def with_these(self, *texts: str) -> Tombstones:
        """The same with further ones."""
        fresh = (self.mark(text) for text in texts)
        return Tombstones(self.key, tuple(dict.fromkeys((*self.marks, *fresh))))
