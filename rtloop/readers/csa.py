"""Siemens' CSA headers: two private blobs that say what the standard's elements of a mosaic do not.

A CSA header ("SV10") is a list of named tags with text items; the tags wanted here are found by
name and checked, as the whole list is hundreds of tags (format: nibabel's `nicom` notes). The
series header ends in the protocol's text ("ASCCONV"), which also lies in XA's enhanced files.
"""

from __future__ import annotations

import re
import struct

__all__ = ["csa_floats", "protocol_number"]

_NAME_BYTES = 64
_TAG_HEAD_BYTES = 84
_ITEM_HEAD_BYTES = 16
_CHECK = (77, 205)
_MAX_ITEMS = 4096


def csa_floats(header: bytes, name: str) -> tuple[float, ...]:
    """Numbers of one tag of a CSA header.

    Parameters
    ----------
    header : bytes
        (0029,1010) CSAImageHeaderInfo.
    name : str
        The tag's name.

    Returns
    -------
    tuple of float
        Empty where the tag is absent or is not what it should be.
    """
    start = _tag_start(header, name)
    if start is None:
        return ()
    (n_items,) = struct.unpack_from("<i", header, start + _NAME_BYTES + 12)
    pos, values = start + _TAG_HEAD_BYTES, []
    for _ in range(min(n_items, _MAX_ITEMS)):
        if pos + _ITEM_HEAD_BYTES > len(header):
            return ()
        (length,) = struct.unpack_from("<i", header, pos + 4)
        pos += _ITEM_HEAD_BYTES
        if length < 0 or pos + length > len(header):
            return ()
        text = header[pos : pos + length].split(b"\0", 1)[0].strip()
        if text:
            try:
                values.append(float(text))
            except ValueError:
                return ()
        pos += -length % 4 + length
    return tuple(values)


def _tag_start(header: bytes, name: str) -> int | None:
    """Where a tag's 64-byte name field begins; the check word tells it from text that looks so."""
    mark = name.encode() + b"\0"
    start = header.find(mark)
    while start >= 0:
        if start + _TAG_HEAD_BYTES <= len(header):
            (check,) = struct.unpack_from("<i", header, start + _NAME_BYTES + 16)
            if check in _CHECK:
                return start
        start = header.find(mark, start + 1)
    return None


def protocol_number(header: bytes, name: str, unsaid: int | None = None) -> int | None:
    """A whole number of the protocol's text.

    Parameters
    ----------
    header : bytes
        What the text lies in.
    name : str
        The entry's name.
    unsaid : int, optional
        The answer where there is a text without this entry; entries that are 0 are left out.

    Returns
    -------
    int or None
        None where there is no whole text.
    """
    begin = header.rfind(b"### ASCCONV BEGIN")
    end = header.find(b"### ASCCONV END", begin)
    if begin < 0 or end < 0:
        return None
    entry = re.search(rb"\n%s\s*=\s*(\d+)" % re.escape(name.encode()), header[begin:end])
    return int(entry[1]) if entry else unsaid
