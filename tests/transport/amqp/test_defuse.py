import struct
from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.transport.amqp.defuse import defuse
from resilient_rpc.transport.properties import decode_headers, decode_properties, encode_headers, encode_properties

FIXED = struct.pack(">HHQ", 60, 0, 5)
BEFORE, AFTER = b"frame head", b"\xce and the next frame"


def table(*fields: bytes) -> bytes:
    data = b"".join(b"\x01" + bytes((97 + n,)) + field for n, field in enumerate(fields))
    return struct.pack(">I", len(data)) + data


def nested(kind: bytes, depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        inner = kind + struct.pack(">I", len(data)) + data
        data = b"\x01k" + inner if kind == b"F" else inner
    if kind == b"A":
        data = b"\x01k" + data
    return struct.pack(">I", len(data)) + data


def disarm(properties: bytes) -> tuple[int, bytes]:
    """Run it over the payload of a content header, which stands in the middle of a buffer."""
    payload = FIXED + properties
    buffer = bytearray(BEFORE + payload + AFTER)
    changed = defuse(buffer, len(BEFORE), len(BEFORE) + len(payload))
    assert buffer.startswith(BEFORE)
    assert buffer.endswith(AFTER)
    return changed, bytes(buffer[len(BEFORE) + len(FIXED) : len(BEFORE) + len(payload)])


def by_pika(properties: bytes) -> Any:
    found = pika.BasicProperties()
    found.decode(properties)
    return found


NUMBER = b"\x7f\xf8" + bytes(6)

HOSTILE = [
    (table(b"T" + struct.pack(">Q", 253_402_300_800)), {"a": 253_402_300_800}),
    (table(b"T" + b"\xff" * 8), {"a": -1}),
    (table(b"d" + struct.pack(">d", float("inf"))), {"a": 0x7FF0 << 48}),
    (table(b"d" + struct.pack(">d", float("-inf")), b"t\x01"), {"a": -(0x10 << 48), "b": True}),
    (table(b"d" + NUMBER), {"a": 0x7FF8 << 48}),
    (table(b"f" + struct.pack(">f", float("inf"))), {"a": 0x7F80 << 16}),
    (table(b"f" + b"\x7f\xc0\0\0"), {"a": 0x7FC0 << 16}),
]


@pytest.mark.parametrize(("headers", "expected"), HOSTILE)
@pytest.mark.parametrize("others", [{}, {"content_type": "text/plain", "content_encoding": "gzip", "app_id": "x"}])
def test_a_value_that_pika_cannot_hold_becomes_one_that_it_can(
    headers: bytes, expected: dict[str, Any], others: dict[str, str]
) -> None:
    properties = encode_properties(headers=headers, **others)  # type: ignore[arg-type]
    with pytest.raises((ValueError, OverflowError)):
        by_pika(properties)

    changed, safe = disarm(properties)

    assert changed == 1
    assert by_pika(safe).headers == expected
    assert decode_headers(decode_properties(safe)["headers"]) == expected
    assert disarm(safe) == (0, safe)


@pytest.mark.parametrize("kind", [b"A", b"F"])
@pytest.mark.parametrize("depth", [32, 1_100, 5_000])
def test_nesting_ends_at_a_depth_that_any_decoder_stands(kind: bytes, depth: int) -> None:
    properties = b"\x20\x00" + nested(kind, depth)

    changed, safe = disarm(properties)

    assert changed == 1
    value = by_pika(safe).headers["k"]
    for _ in range(30):
        value = value["k"] if kind == b"F" else value[0]
    assert isinstance(value, list | dict)
    (inner,) = value.values() if isinstance(value, dict) else value
    assert isinstance(inner, bytes)


def test_nesting_within_the_limit_is_left_alone() -> None:
    for kind in (b"A", b"F"):
        assert disarm(b"\x20\x00" + nested(kind, 31))[0] == 0


BROKEN = [
    (b"?", b"1234"),
    (b"S", b"\0\0\0\x63abc"),
    (b"A", b"\0\0\0\x63abc"),
    (b"F", b"\xff\xff\xff\xff"),
    (b"I", b"\0"),
    (b"A", b"\0\0\0\x02\x01k"),
    (b"F", b"\0\0\0\x03\x09kk"),
]


@pytest.mark.parametrize(("kind", "payload"), BROKEN)
@pytest.mark.parametrize("name", ["", "k", "even"])
def test_a_broken_table_becomes_one_of_nothing(kind: bytes, payload: bytes, name: str) -> None:
    data = bytes((len(name),)) + name.encode() + kind + payload
    properties = encode_properties(headers=struct.pack(">I", len(data)) + data, message_id="kept")

    changed, safe = disarm(properties)

    assert changed == 1
    found = by_pika(safe)
    assert found.message_id == "kept"
    assert set(found.headers.values()) == {None}


@pytest.mark.parametrize(
    "properties",
    [
        b"\x20",
        b"\x20\x00",
        b"\x20\x00\0\0",
        b"\x20\x00\0\0\0\x05",
        b"\x20\x00\0\0\0\x01k",
        b"\xa0\x00\x7f",
        b"\x20\x01",
    ],
)
def test_a_header_that_ends_before_its_table_is_refused(properties: bytes) -> None:
    payload = bytearray(FIXED + properties)

    with pytest.raises(ValueError, match="header"):
        defuse(payload, 0, len(payload))


def test_no_headers() -> None:
    for properties in (b"\x00\x00", b"\x80\x00\x04text", b"\x00\x01\x00\x00"):
        assert disarm(properties) == (0, properties)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20) | st.binary(max_size=20),
    lambda some: st.lists(some, max_size=4) | st.dictionaries(st.text(max_size=5), some, max_size=4),
)
tables = st.dictionaries(st.text(max_size=20), values, max_size=6).map(encode_headers)


@given(tables)
def test_harmless_headers_are_not_touched(headers: bytes) -> None:
    properties = encode_properties(content_type="x", headers=headers)

    assert disarm(properties) == (0, properties)


@given(tables, st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_whatever_a_table_holds_pika_survives_it(headers: bytes, changes: list[tuple[int, int]]) -> None:
    data = bytearray(headers)
    for at, byte in changes:
        if len(data) > 4:
            data[4 + at % (len(data) - 4)] = byte
    if len(data) == 5:
        return  # one byte is no table, and there is no room to make it one

    _, safe = disarm(b"\x20\x00" + bytes(data))

    by_pika(safe)
