from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.errors import ConfigurationError, TooLarge
from resilient_rpc.wire.codec import JSON, MSGPACK
from resilient_rpc.wire.limits import Limits, json_depth, msgpack_depth

texts = st.text(alphabet=st.sampled_from('[]{}"\\,:aé\n'), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=30,
)
packed_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | texts
    | st.binary(max_size=300)
    | st.text(min_size=30, max_size=40)
    | st.builds(msgspec.msgpack.Ext, st.integers(0, 127), st.binary(max_size=20)),
    lambda inner: st.lists(inner, max_size=18) | st.dictionaries(texts | st.integers(0, 9), inner, max_size=18),
    max_leaves=40,
)


def reference(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(reference, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(reference, value), default=0)
    return 0


@given(values)
def test_json_is_as_deep_as_its_value(value: Any) -> None:
    assert json_depth(JSON.encode(value)) == reference(value)
    assert json_depth(json.dumps(value, indent=1).encode()) == reference(value)


@given(packed_values)
def test_messagepack_is_as_deep_as_its_value(value: Any) -> None:
    assert msgpack_depth(MSGPACK.encode(value), 1000) == reference(value)


@given(st.binary(max_size=60))
def test_garbage_has_some_depth(data: bytes) -> None:
    assert json_depth(data) >= 0
    assert 0 <= msgpack_depth(data, 1000) <= len(data)


@given(
    st.lists(
        st.sampled_from([b"\x91", b"\x81\xa1k", b"\xdc\x00\x01", b"\xdd\x00\x00\x00\x01", b"\xdf\x00\x00\x00\x01\x01"])
    )
)
def test_every_kind_of_container_counts(heads: list[bytes]) -> None:
    data = b"".join(heads) + b"\xc0"
    assert msgpack_depth(data, 1000) == len(heads)
    assert reference(MSGPACK.anything.decode(data)) == len(heads)


def test_the_depth_of_messagepack_is_not_counted_beyond_what_is_needed() -> None:
    assert msgpack_depth(b"\x91" * 1_000_000, 64) == 65


@pytest.mark.parametrize("opened", [b'"', b'"\\', b'["', b'{"a":"\\'])
def test_a_string_that_does_not_end_costs_no_more_than_its_length(opened: bytes) -> None:
    # Quadratic, this would take hours: each of the quotes might begin the string anew.
    assert json_depth(opened + b'\\"' * 500_000) <= 1


def test_a_long_string_is_skipped() -> None:
    assert json_depth(b'["' + b"[" * 4_000_000 + b'"]') == 1


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
@pytest.mark.parametrize("limit", [1, 2, 64])
def test_the_depth_is_refused_from_one_over_the_limit(codec: Any, limit: int) -> None:
    limits = Limits(max_depth=limit)
    codec.check_depth(codec.encode(nested(limit)), limits)
    with pytest.raises(TooLarge, match=f"deeper than {limit}"):
        codec.check_depth(codec.encode(nested(limit + 1)), limits)


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
def test_many_containers_side_by_side_are_not_deep(codec: Any) -> None:
    codec.check_depth(codec.encode([[], {}] * 1000), Limits(max_depth=2))


def test_brackets_in_strings_are_not_deep() -> None:
    JSON.check_depth(JSON.encode("[" * 100), Limits())


def test_the_size_of_a_body_is_refused_from_one_over_the_limit() -> None:
    limits = Limits(max_body=10)
    limits.check_body(10, "it")
    with pytest.raises(TooLarge, match="it of 11 bytes is over the limit of 10"):
        limits.check_body(11, "it")


def test_the_number_of_calls_is_refused_from_one_over_the_limit() -> None:
    limits = Limits(max_items=10)
    limits.check_items(10)
    with pytest.raises(TooLarge, match="11 calls"):
        limits.check_items(11)


@pytest.mark.parametrize("name", ["max_body", "max_headers", "max_items", "max_depth"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "1", None])
def test_a_limit_is_a_whole_number(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"Limits\({name}={value!r}\)"):
        Limits(**{name: value})
