import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import data as pika_data

from resilient_rpc.errors import ConfigurationError, MalformedMessage, TooLarge
from resilient_rpc.transport import properties
from resilient_rpc.transport.properties import (
    Template,
    decode_headers,
    decode_properties,
    encode_headers,
    encode_properties,
)

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
octets = st.integers(0, 255)
times = st.datetimes(datetime(1970, 1, 2), datetime(9999, 1, 1)).map(  # noqa: DTZ001 - made aware below
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)
decimals = st.builds(lambda raw, scale: Decimal(raw).scaleb(-scale), st.integers(-(2**31), 2**31 - 1), octets)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.binary(max_size=60)
    | times
    | decimals
)
values = st.recursive(scalars, lambda some: st.lists(some, max_size=4) | st.dictionaries(texts, some, max_size=4))
tables = st.dictionaries(texts, values, max_size=6)
fields = st.fixed_dictionaries(
    {},
    optional={
        "content_type": texts,
        "content_encoding": texts,
        "headers": tables.map(encode_headers),
        "delivery_mode": octets,
        "priority": octets,
        "correlation_id": texts,
        "reply_to": texts,
        "expiration": st.integers(0, 2**40).map(str),
        "message_id": texts,
        "timestamp": st.integers(0, 2**64 - 1),
        "type": texts,
        "user_id": texts,
        "app_id": texts,
    },
)


@given(tables)
def test_headers_come_back_as_they_went(table: dict[str, Any]) -> None:
    assert table == decode_headers(encode_headers(table))


@given(fields)
def test_properties_come_back_as_they_went(given_: dict[str, Any]) -> None:
    assert given_ == decode_properties(encode_properties(**given_))


@given(fields)
def test_pika_reads_our_properties(given_: dict[str, Any]) -> None:
    found = pika.BasicProperties()
    found.decode(encode_properties(**given_))

    for name, value in given_.items():
        if name != "headers":
            assert value == getattr(found, name)


@given(fields)
def test_we_read_pikas_properties(given_: dict[str, Any]) -> None:
    given_.pop("headers", None)
    data = b"".join(pika.BasicProperties(**given_).encode())

    assert given_ == decode_properties(data)


pikas = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts | st.binary(max_size=60) | times,
    lambda some: st.lists(some, max_size=4) | st.dictionaries(texts, some, max_size=4),
)


@given(st.dictionaries(texts, pikas, max_size=6))
def test_our_headers_and_pikas_are_the_same_bytes(table: dict[str, Any]) -> None:
    ours = encode_headers(table)

    pieces = []
    pika_data.encode_table(pieces, table)
    theirs = b"".join(pieces)

    assert table == decode_headers(theirs)
    assert pika_data.decode_table(theirs, 0)[0] == pika_data.decode_table(ours, 0)[0]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_table_or_malformed(data: bytes) -> None:
    for candidate in (data, struct.pack(">I", len(data)) + data):
        try:
            decode_headers(candidate)
        except MalformedMessage:
            continue


@given(st.binary(max_size=300))
def test_any_bytes_are_properties_or_malformed(data: bytes) -> None:
    try:
        decode_properties(data)
    except MalformedMessage:
        return


@given(tables, st.data())
def test_a_table_with_a_changed_byte_is_a_table_or_malformed(table: dict[str, Any], data: st.DataObject) -> None:
    encoded = bytearray(encode_headers(table))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(octets)

    try:
        decode_headers(bytes(encoded))
    except MalformedMessage:
        return


def field(kind: bytes, payload: bytes) -> bytes:
    data = b"\x01k" + kind + payload
    return struct.pack(">I", len(data)) + data


@pytest.mark.parametrize(
    ("kind", "payload", "expected"),
    [
        (b"t", b"\x02", True),
        (b"b", b"\xff", -1),
        (b"B", b"\xff", 255),
        (b"s", b"\xff\xfe", -2),
        (b"U", b"\xff\xfe", -2),
        (b"u", b"\xff\xfe", 65_534),
        (b"I", b"\xff\xff\xff\xff", -1),
        (b"i", b"\xff\xff\xff\xff", 4_294_967_295),
        (b"l", b"\xff" * 8, -1),
        (b"L", b"\xff" * 8, -1),
        (b"f", struct.pack(">f", 1.5), 1.5),
        (b"d", struct.pack(">d", 1.75), 1.75),
        (b"f", struct.pack(">f", float("inf")), float("inf")),
        (b"D", struct.pack(">Bi", 2, -125), Decimal("-1.25")),
        (b"T", struct.pack(">Q", 0), datetime(1970, 1, 1, tzinfo=UTC)),
        (b"T", struct.pack(">Q", 253_402_300_799), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (b"T", struct.pack(">Q", 253_402_300_800), 253_402_300_800),
        (b"T", b"\xff" * 8, 2**64 - 1),
        (b"V", b"", None),
        (b"S", b"\0\0\0\x02\xff!", "\ufffd!"),
        (b"x", b"\0\0\0\x02\xff!", b"\xff!"),
        (b"A", b"\0\0\0\x03Vt\x01", [None, True]),
        (b"F", b"\0\0\0\x03\x01aV", {"a": None}),
    ],
)
def test_each_type_of_the_wire(kind: bytes, payload: bytes, expected: Any) -> None:
    assert {"k": expected} == decode_headers(field(kind, payload))


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"\0\0\0\x01",
        b"\0\0\0\0!",
        b"\0\0\0\x01\0",
        field(b"?", b""),
        field(b"S", b"\0\0\0\x09a"),
        field(b"I", b"\0"),
        field(b"A", b"\0\0\0\x01I") + b"\0\0\0\0",
        b"\0\0\0\x04\x01kI\0\0\0\0",
        b"\xff\xff\xff\xff\x01kV",
    ],
)
def test_malformed_tables(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_headers(data)


def test_an_empty_table() -> None:
    assert {} == decode_headers(b"") == decode_headers(b"\0\0\0\0")


def nested(kind: bytes, depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        inner = kind + struct.pack(">I", len(data)) + data
        data = b"\x01k" + inner if kind == b"F" else inner
    if kind == b"A":
        data = b"\x01k" + data
    return struct.pack(">I", len(data)) + data


@pytest.mark.parametrize("kind", [b"A", b"F"])
def test_nesting_has_a_limit(kind: bytes) -> None:
    decode_headers(nested(kind, 31))
    for depth in (32, 1_100, 10_000):
        with pytest.raises(MalformedMessage, match="deep"):
            decode_headers(nested(kind, depth))


def test_the_limit_of_nesting_is_the_same_both_ways() -> None:
    value: dict[str, Any] = {}
    for _ in range(31):
        value = {"k": value}

    assert value == decode_headers(encode_headers(value))
    with pytest.raises(TooLarge, match="deep"):
        encode_headers({"k": value})
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(TooLarge, match="deep"):
        encode_headers({"k": loop})


def test_headers_have_a_size_limit() -> None:
    assert len(encode_headers({"k": "x" * 9}, limit=20)) == 20
    with pytest.raises(TooLarge, match="21 bytes"):
        encode_headers({"k": "x" * 10}, limit=20)
    with pytest.raises(TooLarge, match="65536"):
        encode_headers({"k": "x" * 65_536})
    with pytest.raises(TooLarge, match="65536"):
        encode_properties(headers=b"x" * 65_537)


@pytest.mark.parametrize(
    "value",
    [
        2**63,
        float("nan"),
        float("-inf"),
        pytest.param(object(), id="object()"),
        "\ud800",
        Decimal("NaN"),
        Decimal(2**40),
        Decimal("1e-300"),
        Decimal("1e300"),
        datetime(1969, 1, 1, tzinfo=UTC),
    ],
    ids=repr,
)
def test_values_that_no_header_holds(value: Any) -> None:
    with pytest.raises(ConfigurationError):
        encode_headers({"k": value})


def test_keys_are_short_texts() -> None:
    encode_headers({"k" * 255: 1})
    with pytest.raises(TooLarge):
        encode_headers({"k" * 256: 1})
    with pytest.raises(ConfigurationError):
        encode_headers({5: 1})


def test_texts_end_at_255_bytes() -> None:
    longest = "é" * 127 + "x"

    assert {"correlation_id": longest} == decode_properties(encode_properties(correlation_id=longest))
    with pytest.raises(TooLarge, match="correlation_id: 256"):
        encode_properties(correlation_id=longest + "x")


@pytest.mark.parametrize(
    "given_",
    [
        {"correlation_id": b"bytes"},
        {"correlation_id": "\udfff"},
        {"priority": 256},
        {"priority": -1},
        {"delivery_mode": "2"},
        {"timestamp": -1},
        {"timestamp": 2**64},
        {"timestamp": 1.5},
        {"expiration": "-5"},
        {"expiration": "soon"},
        {"expiration": 5},
        {"headers": {"not": "encoded"}},
    ],
    ids=str,
)
def test_values_that_no_property_holds(given_: dict[str, Any]) -> None:
    (name,) = given_

    with pytest.raises(ConfigurationError, match=name):
        encode_properties(**given_)


def test_text_that_is_not_utf8_is_replaced() -> None:
    assert decode_properties(b"\x04\x00\x01\xff") == {"correlation_id": "\ufffd"}


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\x80\x00", b"\x80\x00\x05ab", b"\x00\x40\0", b"\x20\0\0\0\0\x09", b"\x10\0", b"\0\1"]
)
def test_properties_that_are_cut_off(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_properties(data)


def test_further_words_of_flags_are_skipped() -> None:
    assert decode_properties(b"\x00\x21\x00\x01\x00\x00\x01x") == {"type": "x"}


def test_what_is_remembered_of_flags_is_bounded() -> None:
    for flags in range(0, 65_536, 8):
        if not flags & 0x3958:
            decode_properties(struct.pack(">H", flags) + bytes(13))

    assert len(properties._layouts) <= properties._MAX_LAYOUTS


constants = st.fixed_dictionaries(
    {},
    optional={
        "content_type": texts,
        "content_encoding": texts,
        "headers": tables.map(encode_headers),
        "delivery_mode": octets,
        "priority": octets,
        "reply_to": texts,
        "type": texts,
        "user_id": texts,
        "app_id": texts,
    },
)


@given(constants, texts, st.integers(0, 2**64 - 1), st.none() | st.integers(0, 2**40))
def test_a_template_is_the_plain_encoding(
    constant: dict[str, Any], id_: str, timestamp: int, expiration: int | None
) -> None:
    template = Template(**constant)
    late = {} if expiration is None else {"expiration": str(expiration)}
    expected = encode_properties(**constant, **late, correlation_id=id_, message_id=id_, timestamp=timestamp)

    assert expected == template.fill(id_, timestamp, expiration)
    assert expected == template.fill(id_, timestamp, expiration)


def test_what_a_template_refuses() -> None:
    template = Template()

    with pytest.raises(TooLarge, match="correlation_id"):
        template.fill("x" * 256, 0)
    with pytest.raises(ConfigurationError, match="expiration"):
        template.fill("x", 0, -1)
    with pytest.raises(ConfigurationError, match="timestamp"):
        template.fill("x", -2)
    for name in ("correlation_id", "expiration", "timestamp", "message_id"):
        with pytest.raises(ConfigurationError, match=name):
            Template(**{name: "x"})
    with pytest.raises(TooLarge, match="reply_to"):
        Template(reply_to="x" * 256)
