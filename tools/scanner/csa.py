"""Siemens CSA headers, version 2, as far as a mosaic needs them.

Layout: "SV10", four bytes, number of tags, 77; per tag its name (64 bytes), multiplicity, value
representation (4 bytes), a code, number of items, 77; per item four integers with its length, then
text padded to four bytes. Described in nibabel's documentation ("Siemens format DICOM with CSA
header") and checked against real headers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

__all__ = ["csa_header"]

SYNGO_CODES = {"IS": 6, "US": 17, "FD": 4, "DS": 3, "SH": 15, "LO": 11, "CS": 2, "UN": 0}
FEWEST_ITEMS = 6
"""A tag with fixed multiplicity has room for six items, the rest of them empty."""


def csa_header(tags: Mapping[str, tuple[str, Sequence[object]]]) -> bytes:
    """A header block.

    Parameters
    ----------
    tags : dict
        Name -> (value representation, values); a list longer than three is written as the
        scanner does, with multiplicity 0 in place of its length.
    """
    body = b"SV10\4\3\2\1" + struct.pack("<2i", len(tags), 77)
    for name, (representation, values) in tags.items():
        multiplicity = 1 if len(values) == 1 else 3 if len(values) == 3 else 0
        n_items = max(FEWEST_ITEMS, len(values))
        body += struct.pack("<64si4s", name.encode(), multiplicity, representation.encode())
        body += struct.pack("<3i", SYNGO_CODES[representation], n_items, 77)
        texts = [_text(value) for value in values] + [b""] * (n_items - len(values))
        for text in texts:
            body += struct.pack("<4i", len(text), len(text), 77, len(text))
            body += text + b"\0" * (-len(text) % 4)
    return body


def _text(value: object) -> bytes:
    text = f"{value:.8f}" if isinstance(value, float) else str(value)
    return text.encode() + b"\0"
