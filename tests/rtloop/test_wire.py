"""Messages as bytes: what goes in comes out, and nothing else ever does."""

from __future__ import annotations

import dataclasses
import math
import tracemalloc
import zlib
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtloop.errors import WireError
from rtloop.volume import Volume
from rtloop.wire import (
    MAX_HEADER_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_PAYLOAD_BYTES,
    WIRE_VERSION,
    Ack,
    Command,
    Feedback,
    Heartbeat,
    Hello,
    MalformedItem,
    Message,
    Note,
    NoteItem,
    Refused,
    Resend,
    Shown,
    Telemetry,
    Trigger,
    VolumeItem,
    Welcome,
    decode,
    encode,
    pack,
    unpack,
)

AFFINE = np.array([[-3.0, 0.1, 0, 90], [0, 3, 0.2, -126], [0, -0.2, 3.5, -72], [0, 0, 0, 1]])
PLAIN_MESSAGES: list[Message] = [
    Hello("gateway", "e1"),
    NoteItem("e1", 7, Note("refused", "attempt", 12, "truncated: 3 of 4 slices", 1.7e9)),
    NoteItem("e1", 8, Note("skipped", None, None, "", 0.0)),
    Heartbeat("e1"),
    Heartbeat("", 4),
    Welcome("e1", 41, 8, {"a": [(0, 17), (19, 19)], "b": []}, 44),
    Ack("e1", 0),
    Resend("e1", 3, "checksum"),
    Refused("e1", "another source"),
    Feedback(5, "a", 12, "feedback", 51.5, "", 3, 1.7e9, 1.7e9 + 2),
    Feedback(6, "", -1, "wait", None, "Gleich geht es los", None, 1.7e9, None),
    Shown(5, "a", "feedback", 51.5, 1.7e9),
    Shown(6, "a", "hold", None, 1.7e9, "expired"),
    Trigger(1, 1.7e9, "serial"),
    Command("note", "operator", "moved", 1.7e9),
]


def volume(shape: tuple[int, int, int] = (5, 4, 3), dtype: str = "int16", **changes: Any) -> Volume:
    data = np.arange(math.prod(shape)).reshape(shape, order="F").astype(dtype)
    given: dict[str, Any] = {
        "attempt": "0123456789abcdef",
        "index": 17,
        "data": data,
        "affine": AFFINE,
        "tr_s": 2.0,
        "received_s": 1.7e9,
        "acquired_s": 43200.5,
        "slice_times_s": tuple(0.1 * n for n in range(shape[2])),
        "slice_axis": 2,
        "n_volumes": 300,
        "protocol": {
            "echo_time_s": 0.03,
            "direction": "j-",
            "sizes": [1, 2.5, None],
            "moco": False,
        },
    }
    return Volume(**(given | changes))


def assert_same(found: Volume, expected: Volume) -> None:
    for field in dataclasses.fields(Volume):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if field.name in ("data", "affine"):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b


def resealed(header: bytes, **changes: Any) -> bytes:
    """A header with other fields and a right checksum: a sender that lies."""
    return sealed(msgpack.unpackb(header[4:]) | changes)


def sealed(fields: Any) -> bytes:
    body = msgpack.packb(fields)
    return zlib.crc32(body).to_bytes(4, "big") + body


# --- there and back ----------------------------------------------------------------------------


@pytest.mark.parametrize("message", PLAIN_MESSAGES, ids=lambda m: type(m).__name__)
def test_messages_survive_both_ways_of_travelling(message: Message) -> None:
    assert decode(encode(message)) == message
    assert unpack(pack(message)) == message


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
def test_a_volume_survives_the_wire(dtype: str) -> None:
    original = volume(dtype=dtype)
    received = decode(encode(VolumeItem("e1", 3, original)))
    assert isinstance(received, VolumeItem)
    assert (received.epoch, received.seq) == ("e1", 3)
    assert_same(received.volume, original)
    assert received.volume.data.flags.f_contiguous
    assert received.volume.data.flags.aligned


def test_a_volume_that_says_little_survives_the_wire() -> None:
    untold = dict.fromkeys(("acquired_s", "slice_times_s", "n_volumes", "protocol"))
    original = volume((1, 1, 1), **untold)
    received = decode(encode(VolumeItem("e1", 0, original)))
    assert isinstance(received, VolumeItem)
    assert_same(received.volume, original)


def test_voxels_are_not_copied_either_way() -> None:
    original = volume((16, 16, 8))
    header, payload = encode(VolumeItem("e1", 0, original))
    assert np.shares_memory(np.frombuffer(payload, np.int16), original.data)
    received = decode([header, payload])
    assert isinstance(received, VolumeItem)
    assert np.shares_memory(received.volume.data, original.data)


def test_voxels_travel_x_fastest_and_little_endian_however_they_lie() -> None:
    original = volume()
    expected = bytes(encode(VolumeItem("e1", 0, original))[1])
    assert expected == original.data.astype("<i2").tobytes(order="F")
    for data in (np.ascontiguousarray(original.data), original.data.astype(">i2")):
        assert bytes(encode(VolumeItem("e1", 0, volume(data=data)))[1]) == expected


def test_a_payload_at_an_odd_address_is_made_fit_for_kernels() -> None:
    original = volume()
    header, payload = encode(VolumeItem("e1", 0, original))
    odd = memoryview(b"\0" + bytes(payload))[1:]
    received = decode([header, odd])
    assert isinstance(received, VolumeItem)
    assert received.volume.data.flags.aligned
    assert_same(received.volume, original)


def test_nan_voxels_may_travel() -> None:
    data = np.full((2, 2, 2), np.nan, np.float32, order="F")
    received = decode(encode(VolumeItem("e1", 0, volume((2, 2, 2), data=data))))
    assert isinstance(received, VolumeItem)
    assert np.isnan(received.volume.data).all()


def test_telemetry_carries_a_value_for_each_of_71631_edges() -> None:
    edges = np.random.default_rng(1).standard_normal(71_631).tolist()
    edges[5] = float("nan")
    body = {
        "r": edges,
        "short": [1.5, 2.5],
        "mixed": [*range(20), None, "text"],
        "nested": {"rows": [[0.5] * 20, [1]]},
        "n": np.int64(3),
        "x": np.float32(0.5),
        "pair": (1, 2),
        "undefined": float("nan"),
    }
    message = unpack(pack(Telemetry("step", body)))
    assert isinstance(message, Telemetry)
    np.testing.assert_array_equal(message.body.pop("r"), edges)
    assert math.isnan(message.body.pop("undefined"))
    assert message.body == {
        "short": [1.5, 2.5],
        "mixed": [*range(20), None, "text"],
        "nested": {"rows": [[0.5] * 20, [1]]},
        "n": 3,
        "x": 0.5,
        "pair": [1, 2],
    }


def test_text_that_is_no_unicode_arrives_escaped() -> None:
    note = Note("refused", None, None, "file \udcff.dcm", 0.0)
    received = decode(encode(NoteItem("e", 0, note)))
    assert isinstance(received, NoteItem)
    assert received.note.reason == "file \\udcff.dcm"


# --- what is not sent --------------------------------------------------------------------------

UNFIT_VOLUMES = {
    "nan affine": {"affine": np.where(np.eye(4) == 1, np.nan, 0)},
    "infinite affine": {"affine": np.where(AFFINE == 90, np.inf, AFFINE)},
    "singular affine": {"affine": np.diag([3.0, 3.0, 0.0, 1.0])},
    "nearly singular affine": {"affine": np.diag([1, 1, 1, 1.0]) + 1e9 * np.eye(4, k=1)},
    "affine with a wrong last row": {"affine": AFFINE + np.eye(4)[3]},
    "affine of another size": {"affine": np.eye(3)},
    "no TR": {"tr_s": 0.0},
    "long TR": {"tr_s": 60.1},
    "nan TR": {"tr_s": math.nan},
    "negative index": {"index": -1},
    "huge index": {"index": 1_000_001},
    "index that is no number": {"index": True},
    "long attempt": {"attempt": "a" * 129},
    "no attempt": {"attempt": ""},
    "two axes": {"data": np.zeros((3, 3), np.int16)},
    "another type": {"data": np.zeros((3, 3, 3), np.float64)},
    "no voxels": {"data": np.zeros((3, 0, 3), np.int16)},
    "long axis": {"data": np.zeros((1025, 1, 3), np.int16)},
    "too few slice times": {"slice_times_s": (0.0, 1.0)},
    "nan slice time": {"slice_times_s": (0.0, math.nan, 1.0)},
    "infinite clock": {"received_s": math.inf},
    "protocol with an object": {"protocol": {"patient": object()}},
    "protocol too large": {"protocol": {str(n): "x" * 16_000 for n in range(5)}},
    "protocol with a long list": {"protocol": {"a": [0.5] * 5000}},
    "protocol too deep": {"protocol": {"a": [[[[[[[[1]]]]]]]]}},
}


@pytest.mark.parametrize("changes", UNFIT_VOLUMES.values(), ids=UNFIT_VOLUMES.keys())
def test_an_unfit_volume_is_not_sent(changes: dict[str, Any]) -> None:
    with pytest.raises(WireError) as caught:
        encode(VolumeItem("e1", 3, volume(**changes)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        Feedback(1, "a", 0, "feedback", math.nan, "", None, 0.0, None),
        Feedback(1, "a", 0, "feedback", 101.0, "", None, 0.0, None),
        Feedback(1, "a", 0, "party", 1.0, "", None, 0.0, None),  # type: ignore[arg-type]
        Telemetry("step", {"x": b"bytes"}),
        Telemetry("step", {"x": list(range(5000))}),
        Telemetry("step", {"x": [0.5] * 140_000}),
        Telemetry("step", {1: 2}),  # type: ignore[dict-item]
        Hello("", "e"),
        Hello("gateway", "e" * 65),
        Welcome("e", 0, 8, {"a": [(5, 4)]}),
        Welcome("e", 0, 8, {"a": [(0, 1_000_001)]}),
        Ack("e", -1),
        Trigger(0, 0.0, "serial"),
        Command("stop", "operator", "x" * 4097, 0.0),
    ],
    ids=str,
)
def test_an_unfit_message_is_not_sent(message: Message) -> None:
    with pytest.raises(WireError):
        pack(message)


# --- what is not believed ----------------------------------------------------------------------

LIES: dict[str, dict[str, Any]] = {
    "larger than it is": {"shape": [6, 4, 3]},
    "smaller than it is": {"shape": [4, 4, 3]},
    "far too large": {"shape": [1024, 1024, 1024]},
    "empty": {"shape": [0, 4, 3]},
    "negative": {"shape": [-5, -4, 3]},
    "four axes": {"shape": [5, 4, 3, 1]},
    "float shape": {"shape": [5.0, 4.0, 3.0]},
    "another dtype of the same size": {"dtype": "float16"},
    "an object dtype": {"dtype": "O"},
    "nan affine": {"affine": [math.nan] * 16},
    "short affine": {"affine": [1.0] * 15},
    "no TR": {"tr_s": 0},
    "text for TR": {"tr_s": "2"},
    "other index": {"index": 10**7},
    "unknown field": {"patient": "x"},
    "slices along another axis": {"slice_axis": 1},
    "a checksum that is none": {"crc": -1},
}


@pytest.mark.parametrize("changes", LIES.values(), ids=LIES.keys())
def test_a_lie_is_refused_at_its_place_in_the_stream(changes: dict[str, Any]) -> None:
    header, payload = encode(VolumeItem("e1", 3, volume()))
    with pytest.raises(MalformedItem) as caught:
        decode([resealed(bytes(header), **changes), payload])
    assert (caught.value.epoch, caught.value.seq) == ("e1", 3)
    assert "\n" not in str(caught.value)


def test_a_volume_with_a_missing_or_additional_frame_is_refused_at_its_place() -> None:
    header, payload = encode(VolumeItem("e1", 3, volume()))
    note = encode(PLAIN_MESSAGES[1])[0]
    for frames in ([header], [header, b""], [note, payload]):
        with pytest.raises(MalformedItem):
            decode(frames)
    for frames in ([], [header, payload, payload], [encode(Ack("e", 1))[0], payload]):
        with pytest.raises(WireError):
            decode(frames)


@pytest.mark.parametrize(
    "changes", [{"seq": -1}, {"seq": "3"}, {"epoch": ""}, {"epoch": None}, {"v": 9}, {"v": True}]
)
def test_an_item_whose_place_cannot_be_believed_has_none(changes: dict[str, Any]) -> None:
    header, payload = encode(VolumeItem("e1", 3, volume()))
    with pytest.raises(WireError) as caught:
        decode([resealed(bytes(header), **changes), payload])
    assert not isinstance(caught.value, MalformedItem)


def test_another_version_is_named() -> None:
    body = msgpack.unpackb(pack(Heartbeat("e"))[4:])
    with pytest.raises(WireError, match=f"version {WIRE_VERSION}, found 2.*both sides"):
        unpack(sealed(body | {"v": 2}))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x80",
        msgpack.packb([1, 2]),
        msgpack.packb({"v": 1}),
        msgpack.packb({"v": 1, "type": "pickle"}),
        msgpack.packb({"v": 1, "type": ["volume"]}),
        msgpack.packb({"v": 1, "type": "heartbeat", "epoch": "e"}),
        msgpack.packb({"v": 1, "type": "heartbeat", "epoch": b"e", "seq": 1}),
        msgpack.packb({"v": 1, "type": "heartbeat", "epoch": "e", "seq": 1, b"k": 1}),
        msgpack.packb({1: 1}),
        msgpack.packb({"v": 1, "type": "ack", "epoch": "e", "seq": msgpack.ExtType(1, b"")}),
        msgpack.packb({"v": 1, "type": "ack", "epoch": "e", "seq": msgpack.Timestamp(1)}),
        b"\x81\xa1v\xa1\xff",
        b"\x81\x90\x01",
        b"\x91" * 60_000,
        b"\x81\xa1a" * 20_000,
        b"\xdd\xff\xff\xff\xff",
        pack(Heartbeat("e"))[4:] + b"\x01",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    frame = zlib.crc32(body).to_bytes(4, "big") + body
    for read in (unpack, lambda frame: decode([frame])):
        with pytest.raises(WireError) as caught:
            read(frame)
        assert "\n" not in str(caught.value)


def test_oversized_messages_are_refused_unread() -> None:
    with pytest.raises(WireError, match="bytes"):
        decode([bytes(MAX_HEADER_BYTES + 1)])
    with pytest.raises(WireError, match="bytes"):
        unpack(bytes(MAX_MESSAGE_BYTES + 1))
    note = msgpack.unpackb(pack(PLAIN_MESSAGES[1])[4:])
    with pytest.raises(WireError, match=f"at most {MAX_HEADER_BYTES} bytes"):
        unpack(sealed(note | {"reason": "x" * MAX_HEADER_BYTES}))


def test_a_volume_has_no_single_part_form() -> None:
    item = VolumeItem("e1", 3, volume())
    with pytest.raises(WireError, match="two frames"):
        pack(item)
    with pytest.raises(WireError, match="two frames"):
        unpack(bytes(encode(item)[0]))


def test_error_messages_show_no_text_of_the_message() -> None:
    header, payload = encode(VolumeItem("e1", 3, volume()))
    with pytest.raises(WireError) as caught:
        decode([resealed(bytes(header), tr_s="Erika Mustermann"), payload])
    assert "Erika" not in str(caught.value)


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_flipped_bit_anywhere_is_noticed(data: st.DataObject) -> None:
    frames = [bytes(frame) for frame in encode(VolumeItem("e1", 3, volume((3, 3, 3))))]
    n_bits = 8 * sum(map(len, frames))
    flips = data.draw(st.lists(st.integers(0, n_bits - 1), min_size=1, max_size=3, unique=True))
    whole = bytearray(b"".join(frames))
    for bit in flips:
        whole[bit // 8] ^= 1 << bit % 8
    damaged = [bytes(whole[: len(frames[0])]), bytes(whole[len(frames[0]) :])]
    with pytest.raises(WireError) as caught:
        decode(damaged)
    assert not isinstance(caught.value, MalformedItem)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.binary(max_size=4), inner, max_size=4)
    ),
    max_leaves=8,
)
VOLUME_FIELDS = msgpack.unpackb(encode(VolumeItem("e1", 3, volume()))[0][4:])
TYPES = ["volume", "note", "hello", "welcome", "feedback", "telemetry", "command", "shown"]


@given(
    kind=st.sampled_from(TYPES),
    changes=st.dictionaries(st.sampled_from(sorted(VOLUME_FIELDS)) | st.text(max_size=8), PLAIN),
    whole=st.booleans(),
    payload=st.binary(max_size=200),
)
@settings(max_examples=400, deadline=None)
def test_no_content_raises_anything_but_wire_errors(
    kind: str, changes: dict[str, Any], whole: bool, payload: bytes
) -> None:
    fields = (VOLUME_FIELDS if whole else {"v": WIRE_VERSION}) | {"type": kind} | changes
    frame = sealed(fields)
    for read in (lambda: decode([frame, payload]), lambda: decode([frame]), lambda: unpack(frame)):
        try:
            message = read()
        except WireError:
            continue
        assert pack(message) if not isinstance(message, VolumeItem) else encode(message)


@given(frames=st.lists(st.binary(max_size=600), max_size=3), seal=st.booleans())
@settings(max_examples=400, deadline=None)
def test_no_bytes_raise_anything_but_wire_errors(frames: list[bytes], seal: bool) -> None:
    if seal and frames:
        frames[0] = zlib.crc32(frames[0]).to_bytes(4, "big") + frames[0]
    with pytest.raises(WireError):
        decode(frames)
    with pytest.raises(WireError):
        unpack(frames[0] if frames else b"")


@pytest.mark.parametrize(
    "body",
    [
        b"\xdd\x00\x00\x10\x00" * 13_000,
        b"\xdd\x00\x00\xff\xff" * 13_000,
        b"\xdc\x0f\xff" * 20_000,
        b"\xdf\x00\x00\x04\x00\xa1a" * 9_000,
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ],
    ids=[
        "arrays in arrays",
        "long arrays in arrays",
        "short arrays in arrays",
        "tables in tables",
        "text",
        "bytes",
    ],
)
def test_announced_sizes_allocate_nothing_beyond_the_bounds(body: bytes) -> None:
    frame = zlib.crc32(body).to_bytes(4, "big") + body
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            decode([frame])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MAX_PAYLOAD_BYTES


def test_a_lie_about_the_shape_allocates_nothing() -> None:
    header, payload = encode(VolumeItem("e1", 3, volume()))
    frame = resealed(bytes(header), shape=[1024, 1024, 1024])
    tracemalloc.start()
    try:
        with pytest.raises(MalformedItem):
            decode([frame, payload])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
