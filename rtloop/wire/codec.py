"""Messages as bytes and back. Nothing that fails a check ever becomes a message.

A message is one frame: CRC-32 of the body (4 bytes, big-endian), then the body, a msgpack table
with the wire's version, the message's type and its fields. A volume's voxels follow in a second
frame, x fastest, as they lie in memory: they are sent and received without a copy, and their
CRC-32 is part of the first frame. CRC-32 finds every burst error up to 32 bits and takes 0.15 ms
per MB; it is there against accidents, CURVE against people.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgpack
import numpy as np

from rtloop.errors import WireError
from rtloop.volume import WIRE_DTYPES, Volume
from rtloop.wire.fields import MAX_ENTRIES, MAX_LIST, Check, Unfit
from rtloop.wire.messages import Message, Note, NoteItem, Telemetry, VolumeItem
from rtloop.wire.schema import NAMES, PLACE, SCHEMAS

__all__ = [
    "MAX_HEADER_BYTES",
    "MAX_MESSAGE_BYTES",
    "MAX_PAYLOAD_BYTES",
    "WIRE_VERSION",
    "MalformedItem",
    "decode",
    "encode",
    "pack",
    "unpack",
]

WIRE_VERSION = 1
MAX_HEADER_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
MAX_MESSAGE_BYTES = 1024 * 1024
"""Largest single-part message: telemetry with a value for each of 71,631 edges."""

DENSE_LIST = 16
CRC_BYTES = 4

Buffer: TypeAlias = bytes | memoryview

_ITEMS = ("volume", "note")
_SEPARATE = {*PLACE, "dtype", "shape", "affine", "crc"}
_OF_VOLUME = tuple(key for key in SCHEMAS["volume"][1] if key not in _SEPARATE)
"""Fields that a volume keeps as they travel."""


class MalformedItem(WireError):
    """Raised when an item of the stream is unfit but its place in the stream is known."""

    def __init__(self, message: str, epoch: str, seq: int) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.seq = seq


def encode(message: Message) -> list[Buffer]:
    """A message as the frames that carry it: one, or two for a volume.

    Raises
    ------
    WireError
        If a field is outside its bounds: what could not be received is not sent either.
    """
    if not isinstance(message, VolumeItem):
        return [pack(message)]
    volume = message.volume
    payload = _payload(volume)
    raw = {
        **{name: getattr(volume, name) for name in SCHEMAS["volume"][1] if hasattr(volume, name)},
        "epoch": message.epoch,
        "seq": message.seq,
        "dtype": volume.data.dtype.name,
        "affine": np.asarray(volume.affine, dtype=np.float64).ravel().tolist(),
        "crc": zlib.crc32(payload),
    }
    values = _checked("volume", raw)
    _check_volume(values, len(payload))
    return [_framed("volume", values, MAX_HEADER_BYTES), payload]


def decode(frames: Sequence[Buffer]) -> Message:
    """The message that these frames carry.

    A volume's array is a Fortran-ordered view of the second frame: it is writable or read-only
    as that is, and only copied where it lies at an odd address.

    Raises
    ------
    MalformedItem
        If an item is unfit and its header says, undamaged, where in the stream it belongs.
    WireError
        If the frames are anything else than one sound message.
    """
    if not 1 <= len(frames) <= 2:
        raise WireError(f"message: expected 1 or 2 frames, found {len(frames)}; not sent by fcnef")
    name, raw = _opened(frames[0], MAX_HEADER_BYTES)
    if name not in _ITEMS:
        if len(frames) == 2:
            raise WireError(f"message {name}: expected 1 frame, found 2; not sent by fcnef")
        return _built(name, _checked(name, raw))
    epoch, seq = (_checked(name, {k: raw.get(k) for k in PLACE}, PLACE)[k] for k in PLACE)
    try:
        values = _checked(name, raw)
        if name == "volume":
            return _volume_item(values, frames)
        if len(frames) == 2:
            raise WireError("message note: expected 1 frame, found 2; not sent by fcnef")
        return _built(name, values)
    except _Damage:
        raise
    except WireError as error:
        raise MalformedItem(str(error), epoch, seq) from None


def pack(message: Message) -> bytes:
    """A message without voxels as one frame.

    Raises
    ------
    WireError
        If a field is outside its bounds, or the message is a volume.
    """
    name = NAMES[type(message)]
    if isinstance(message, VolumeItem):
        raise WireError("message volume: expected two frames, found one place; use encode")
    source: Any = message.note if isinstance(message, NoteItem) else message
    raw = {key: getattr(source, key) for key in SCHEMAS[name][1] if hasattr(source, key)}
    if isinstance(message, NoteItem):
        raw |= {"epoch": message.epoch, "seq": message.seq}
    values = _checked(name, raw)
    if isinstance(message, Telemetry):
        return _framed(name, values | {"body": _dense(values["body"])}, MAX_MESSAGE_BYTES)
    return _framed(name, values, MAX_HEADER_BYTES)


def unpack(frame: Buffer) -> Message:
    """The message without voxels that this frame carries.

    Raises
    ------
    WireError
        If the frame is anything else than one sound message.
    """
    name, raw = _opened(frame, MAX_MESSAGE_BYTES)
    if name == "volume":
        raise WireError("message volume: expected two frames, found one; not sent by fcnef")
    if name == "telemetry":
        raw = raw | {"body": _loose(raw.get("body"))}
    elif len(frame) > MAX_HEADER_BYTES:
        raise WireError(
            f"message {name}: expected at most {MAX_HEADER_BYTES} bytes, found {len(frame)}; "
            "not sent by fcnef"
        )
    return _built(name, _checked(name, raw))


class _Damage(WireError):
    """Raised when a checksum fails: nothing in the frame can be believed."""


def _payload(volume: Volume) -> memoryview:
    """Voxels as they travel: little-endian, x fastest; a copy only where they are not so yet."""
    data = volume.data
    if data.ndim != 3 or data.dtype.name not in WIRE_DTYPES:
        raise WireError(
            f"volume {volume.index}: expected 3 axes of {' or '.join(WIRE_DTYPES)}, "
            f"found {data.ndim} of {data.dtype.name}; convert it in its reader"
        )
    if data.nbytes == 0:
        raise WireError(f"volume {volume.index}: expected voxels, found none; refuse its file")
    # Transposed, an x-fastest array is C-contiguous, which a flat view of bytes needs.
    flipped = np.ascontiguousarray(data.T, dtype=data.dtype.newbyteorder("<"))
    return flipped.data.cast("B")


def _checked(
    name: str, raw: Mapping[str, Any], schema: Mapping[str, Check] | None = None
) -> dict[str, Any]:
    """Values of a message's fields, each within its bounds, none missing, none unknown."""
    schema = SCHEMAS[name][1] if schema is None else schema
    if raw.keys() != schema.keys():
        missing = sorted(schema.keys() - raw.keys())
        n_unknown = len(raw.keys() - schema.keys())
        raise WireError(
            f"message {name}: expected its {len(schema)} fields, found {missing or 'none'} missing "
            f"and {n_unknown} unknown; install the same fcnef on both sides"
        )
    values = {}
    for key, check in schema.items():
        try:
            values[key] = check(raw[key])
        except Unfit as error:
            raise WireError(f"message {name}, field {key}: {error}; refused") from None
    return values


def _framed(name: str, values: Mapping[str, Any], limit: int) -> bytes:
    body: bytes = msgpack.packb({"v": WIRE_VERSION, "type": name, **values}, use_bin_type=True)
    if CRC_BYTES + len(body) > limit:
        raise WireError(
            f"message {name}: expected at most {limit} bytes, found {CRC_BYTES + len(body)}; "
            "send less at once"
        )
    return zlib.crc32(body).to_bytes(CRC_BYTES, "big") + body


def _opened(frame: Buffer, limit: int) -> tuple[str, dict[str, Any]]:
    """Type and raw fields of a frame whose checksum, version and type are right."""
    if not CRC_BYTES < len(frame) <= limit:
        raise WireError(
            f"message: expected {CRC_BYTES + 1} to {limit} bytes, found {len(frame)}; "
            "not sent by fcnef"
        )
    view = memoryview(frame)
    if zlib.crc32(view[CRC_BYTES:]) != int.from_bytes(view[:CRC_BYTES], "big"):
        raise _Damage("message: checksum failed, damaged on its way; it is asked for again")
    raw = _unpacked(view[CRC_BYTES:])
    if raw.get("v") != WIRE_VERSION or isinstance(raw["v"], bool):
        found = raw.get("v")
        raise WireError(
            f"message: expected wire version {WIRE_VERSION}, found "
            f"{found if isinstance(found, int) else 'none'}; install the same fcnef on both sides"
        )
    name = raw.get("type")
    if not isinstance(name, str) or name not in SCHEMAS:
        raise WireError("message: unknown type; install the same fcnef on both sides")
    return name, {key: value for key, value in raw.items() if key not in ("v", "type")}


def _unpacked(body: memoryview) -> dict[str, Any]:
    try:
        raw = msgpack.unpackb(
            body,
            raw=False,
            strict_map_key=True,
            max_str_len=MAX_MESSAGE_BYTES,
            max_bin_len=MAX_MESSAGE_BYTES,
            max_array_len=MAX_LIST,
            max_map_len=MAX_ENTRIES,
            max_ext_len=0,
        )
    except ValueError as error:
        raise WireError(
            f"message: expected msgpack within bounds, found {type(error).__name__}; "
            "not sent by fcnef"
        ) from None
    if not isinstance(raw, dict):
        raise WireError("message: expected a table of fields, found none; not sent by fcnef")
    return raw


def _check_volume(values: Mapping[str, Any], n_bytes: int) -> None:
    """Fields of a volume that must agree with each other and with the voxels' size."""
    shape, times = values["shape"], values["slice_times_s"]
    expected = math.prod(shape) * np.dtype(values["dtype"]).itemsize
    if expected > MAX_PAYLOAD_BYTES or expected != n_bytes:
        raise WireError(
            f"message volume: expected {expected} bytes (at most {MAX_PAYLOAD_BYTES}) of voxels "
            f"for {shape} {values['dtype']}, found {n_bytes}; refused"
        )
    if times is not None and len(times) != shape[values["slice_axis"]]:
        raise WireError(
            f"message volume, field slice_times_s: expected {shape[values['slice_axis']]} times, "
            f"one per slice, found {len(times)}; refused"
        )


def _volume_item(values: dict[str, Any], frames: Sequence[Buffer]) -> VolumeItem:
    _check_volume(values, len(frames[1]) if len(frames) == 2 else 0)
    if zlib.crc32(frames[1]) != values["crc"]:
        raise _Damage("volume: checksum of the voxels failed, damaged on its way")
    dtype = np.dtype(values["dtype"]).newbyteorder("<")
    data = np.frombuffer(frames[1], dtype=dtype).reshape(values["shape"], order="F")
    if not data.flags.aligned:
        data = data.copy(order="F")
    volume = Volume(
        data=data,
        affine=np.array(values["affine"]).reshape(4, 4),
        **{key: values[key] for key in _OF_VOLUME},
    )
    return VolumeItem(values["epoch"], values["seq"], volume)


def _built(name: str, values: dict[str, Any]) -> Message:
    if name == "note":
        place = {key: values.pop(key) for key in PLACE}
        return NoteItem(**place, note=Note(**values))
    message: Message = SCHEMAS[name][0](**values)
    return message


def _dense(value: Any) -> Any:
    """Long lists of floats as bytes (float64, little-endian), the rest as it is."""
    if isinstance(value, dict):
        return {key: _dense(element) for key, element in value.items()}
    if not isinstance(value, list):
        return value
    if len(value) >= DENSE_LIST and set(map(type, value)) == {float}:
        return np.array(value, dtype="<f8").tobytes()
    return [_dense(element) for element in value]


def _loose(value: Any) -> Any:
    """What `_dense` made bytes of, as lists again."""
    if isinstance(value, dict):
        return {key: _loose(element) for key, element in value.items()}
    if isinstance(value, list):
        return [_loose(element) for element in value]
    if isinstance(value, bytes) and len(value) % 8 == 0:
        return np.frombuffer(value, dtype="<f8").tolist()
    return value
