from __future__ import annotations

import contextlib
import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET

from resilient_rpc.errors import ConfigurationError, MalformedMessage, ProtocolError, TooLarge, UnsupportedContent
from resilient_rpc.wire.codec import CODECS, JSON, MSGPACK, Codec, Invalid, codec_for, read_answers, read_requests
from resilient_rpc.wire.envelope import Incoming, Meta, Request, Result
from resilient_rpc.wire.limits import Limits

LIMITS = Limits()
both = pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])
codecs = st.sampled_from([JSON, MSGPACK])
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
ids = st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False) | st.none()
packed_ids = st.integers(-(2**63), 2**64 - 1) | st.text() | st.floats(allow_nan=False, allow_infinity=False) | st.none()


class TestRoundTrip:
    @given(codecs, values)
    def test_a_value_comes_back(self, codec: Codec, value: Any) -> None:
        assert codec.anything.decode(codec.encode(value)) == value

    @given(codecs, st.lists(values, max_size=20))
    def test_joined_items_are_one_array(self, codec: Codec, items: list[Any]) -> None:
        assert codec.anything.decode(codec.join([codec.encode(item) for item in items])) == items

    @pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 65_535, 65_536, 70_000])
    @both
    def test_arrays_of_any_length_are_joined(self, codec: Codec, count: int) -> None:
        assert codec.anything.decode(codec.join([codec.encode(1)] * count)) == [1] * count

    @given(codecs, st.lists(st.tuples(st.text(min_size=1), values), min_size=1, max_size=5))
    def test_a_batch_comes_back_in_its_order(self, codec: Codec, calls: list[tuple[str, Any]]) -> None:
        body = codec.join([codec.encode(Request(m, p, n, Meta(ttl=n))) for n, (m, p) in enumerate(calls)])
        found, batch = read_requests(codec, body, LIMITS)
        assert batch
        read = [(i.method, codec.anything.decode(i.params), i.id) for i in found if isinstance(i, Incoming)]
        assert read == [(method, params, n) for n, (method, params) in enumerate(calls)]

    @given(st.one_of(st.tuples(st.just(JSON), ids), st.tuples(st.just(MSGPACK), packed_ids)))
    @example((JSON, 10**28))
    @example((JSON, -0.0))
    def test_an_id_is_echoed_exactly(self, given_: tuple[Codec, Any]) -> None:
        codec, id_ = given_
        body = codec.encode({"jsonrpc": "2.0", "method": "m", "id": id_})
        [found], batch = read_requests(codec, body, LIMITS)
        assert isinstance(found, Incoming)
        assert not batch
        assert type(found.id) is type(id_)
        answered = codec.anything.decode(codec.encode(Result(None, found.id)))  # type: ignore[arg-type]
        assert repr(answered["id"]) == repr(id_)


class TestWhatIsNoRequest:
    @given(codecs, st.binary(max_size=80))
    def test_garbage_raises_nothing_but_what_is_declared(self, codec: Codec, body: bytes) -> None:
        with contextlib.suppress(ProtocolError):
            items, _ = read_requests(codec, body, LIMITS)
            assert items
            assert all(isinstance(item, (Incoming, Invalid)) for item in items)
        with contextlib.suppress(MalformedMessage):
            read_answers(codec, body)

    @given(codecs, values)
    def test_any_value_is_read_or_refused(self, codec: Codec, value: Any) -> None:
        body = codec.encode(value)
        if value == []:
            with pytest.raises(MalformedMessage, match="empty batch"):
                read_requests(codec, body, LIMITS)
            return
        items, batch = read_requests(codec, body, LIMITS)
        assert batch == isinstance(value, list)
        assert len(items) == (len(value) if batch else 1)
        assert all(isinstance(item, Invalid) for item in items)

    @given(
        codecs,
        st.fixed_dictionaries(
            {},
            optional={
                "jsonrpc": st.sampled_from(["2.0", "1.0", 2, None]),
                "method": st.text(max_size=3) | scalars,
                "params": values,
                "id": ids | values,
                "meta": values | st.fixed_dictionaries({}, optional={"ttl": scalars, "key": scalars, "tags": values}),
            },
        ),
    )
    def test_near_misses_are_read_or_refused(self, codec: Codec, item: dict[str, Any]) -> None:
        try:
            body = codec.encode([item, {"jsonrpc": "2.0", "method": "good", "id": 1}])
        except UnsupportedContent:  # an id of more than 64 bits
            return
        (first, second), batch = read_requests(codec, body, LIMITS)
        assert batch
        assert isinstance(second, Incoming)
        if isinstance(first, Incoming):
            assert item["method"] == first.method
        elif type(item.get("id")) in (int, str, float):
            assert first.id == item["id"]
        else:
            assert first.id is None

    @both
    def test_one_bad_item_does_not_spoil_the_others(self, codec: Codec) -> None:
        good = {"jsonrpc": "2.0", "method": "m", "params": [1]}
        body = codec.encode(
            [
                {**good, "id": "a"},
                1,
                {"jsonrpc": "2.0", "id": "b"},
                {**good, "jsonrpc": "1.0", "id": 3},
                {**good, "meta": {"ttl": "soon"}, "id": 4},
                {**good, "id": [5]},
                {**good, "id": True},
                [],
                good,
            ]
        )
        found, batch = read_requests(codec, body, LIMITS)
        assert batch
        assert [item.id for item in found] == ["a", None, "b", 3, 4, None, None, None, UNSET]
        assert [isinstance(item, Incoming) for item in found] == [True, *[False] * 7, True]
        assert all(item.reason.startswith("not a JSON-RPC request: ") for item in found if isinstance(item, Invalid))

    @both
    def test_an_empty_batch_is_no_batch(self, codec: Codec) -> None:
        with pytest.raises(MalformedMessage, match="empty batch"):
            read_requests(codec, codec.encode([]), LIMITS)

    @pytest.mark.parametrize("spoilt", [False, True])
    @both
    def test_the_number_of_items_is_refused_from_one_over_the_limit(self, codec: Codec, spoilt: bool) -> None:
        item: Any = {"jsonrpc": "2.0", "method": "m"}
        last: Any = 1 if spoilt else item
        limits = Limits(max_items=3)
        assert len(read_requests(codec, codec.encode([item, item, last]), limits)[0]) == 3
        with pytest.raises(TooLarge):
            read_requests(codec, codec.encode([item, item, item, last]), limits)

    def test_messagepack_that_promises_more_than_it_brings_is_refused(self) -> None:
        for body in (
            b"\xdd\xff\xff\xff\xff",
            b"\xdf\xff\xff\xff\xff",
            b"\xdb\xff\xff\xff\xffab",
            b"\xc9\xff\xff\xff\xff",
        ):
            with pytest.raises(MalformedMessage):
                read_requests(MSGPACK, body, LIMITS)

    @pytest.mark.parametrize(
        "params",
        [
            b"NaN", b"Infinity", b"-Infinity", b"01", b"'a'", b"[1,]", b'{"a":1,}', b"{1:2}", b'"\\q"', b"nul",
            b"\xef\xbb\xbf[]", b"[1]x", b"/* */ []", b'"\\ud800"', b"\x00",
        ],
    )  # fmt: skip
    def test_what_is_not_json_is_refused(self, params: bytes) -> None:
        with pytest.raises(MalformedMessage):
            read_requests(JSON, b'{"jsonrpc":"2.0","method":"m","id":1,"params":' + params + b"}", LIMITS)

    def test_of_duplicate_keys_the_last_one_counts_as_in_python(self) -> None:
        [item], _ = read_requests(JSON, b'{"jsonrpc":"2.0","method":"a","method":"b","id":1,"id":2}', LIMITS)
        assert isinstance(item, Incoming)
        assert (item.method, item.id) == ("b", 2)

    @pytest.mark.parametrize("depth", [1_000, 100_000])
    @pytest.mark.parametrize("place", ["params", "method", "meta", "more", "id"])
    def test_deep_nesting_is_survived_wherever_it_stands(self, depth: int, place: str) -> None:
        for codec, opened, closed in ((JSON, b"[", b"]"), (MSGPACK, b"\x91", b"")):
            deep = opened * depth + codec.encode(1) + closed * depth
            fields = {"jsonrpc": codec.encode("2.0"), "method": codec.encode("m"), "id": codec.encode(1), place: deep}
            if codec is JSON:
                body = b"{" + b",".join(codec.encode(name) + b":" + value for name, value in fields.items()) + b"}"
            else:
                body = bytes([0x80 + len(fields)]) + b"".join(codec.encode(k) + v for k, v in fields.items())
            with contextlib.suppress(MalformedMessage):
                items, _ = read_requests(codec, body, LIMITS)
                assert len(items) == 1
            with contextlib.suppress(MalformedMessage):
                read_requests(codec, opened * depth, LIMITS)
            with contextlib.suppress(MalformedMessage):
                read_answers(codec, body)
            with contextlib.suppress(MalformedMessage):
                read_requests(codec, deep, LIMITS)

    @pytest.mark.parametrize("number", [b"1e400", b"1" * 5_000, b"-" + b"9" * 5_000])
    def test_a_number_that_is_out_of_range_is_no_id(self, number: bytes) -> None:
        [item], _ = read_requests(JSON, b'{"jsonrpc":"2.0","method":"m","id":' + number + b"}", LIMITS)
        assert isinstance(item, Invalid)
        assert item.id is None


class TestEncoding:
    @pytest.mark.parametrize(
        "value",
        [object(), "\ud800", {"\udfff": 1}, {(1, 2): 3}, 10**5000, lambda: None, {1j}, iter([1])],
        ids=lambda value: type(value).__name__,
    )
    @both
    def test_what_has_no_form_on_the_wire_is_refused(self, codec: Codec, value: Any) -> None:
        if codec is MSGPACK and isinstance(value, dict) and (1, 2) in value:
            return  # MessagePack has such keys
        with pytest.raises(UnsupportedContent, match="cannot be encoded as"):
            codec.encode(value)

    @both
    def test_a_value_that_contains_itself_is_refused(self, codec: Codec) -> None:
        value: list[Any] = []
        value.append(value)
        with pytest.raises(UnsupportedContent):
            codec.encode(value)

    @both
    def test_an_object_whose_attributes_raise_is_refused(self, codec: Codec) -> None:
        class Half(msgspec.Struct):
            x: int

        half = Half(1)
        del half.x
        with pytest.raises(UnsupportedContent, match="unset"):
            codec.encode({"half": half})

    def test_json_has_no_nan_and_sends_null_for_it(self) -> None:
        assert JSON.encode([math.nan, math.inf]) == b"[null,null]"

    def test_messagepack_keeps_nan_and_bytes(self) -> None:
        first, second = MSGPACK.anything.decode(MSGPACK.encode([math.nan, b"\x00\xff"]))
        assert math.isnan(first)
        assert second == b"\x00\xff"

    @both
    def test_a_decoder_is_made_once_for_each_type(self, codec: Codec) -> None:
        assert codec.decoder(dict[str, int]) is codec.decoder(dict[str, int])

    @both
    def test_a_type_that_cannot_be_decoded_is_a_configuration_error(self, codec: Codec) -> None:
        with pytest.raises(ConfigurationError, match="cannot be decoded"):
            codec.decoder(dict[str, int] | dict[int, str])

    @both
    def test_a_type_that_cannot_be_hashed_is_a_configuration_error_or_works(self, codec: Codec) -> None:
        with pytest.raises((ConfigurationError, TypeError)):
            codec.decoder([int])


class TestChoice:
    @pytest.mark.parametrize(
        ("content_type", "codec"),
        [
            (None, JSON),
            ("application/json", JSON),
            ("application/json; charset=utf-8", JSON),
            ("Application/JSON", JSON),
            (" application/json ;x", JSON),
            ("application/msgpack", MSGPACK),
        ],
    )
    def test_the_content_type_chooses_among_those_we_have(self, content_type: str | None, codec: Codec) -> None:
        assert codec_for(content_type) is codec

    @pytest.mark.parametrize(
        "content_type",
        [
            "",
            "text/plain",
            "application/x-python-serialize",
            "application/json+pickle",
            "json",
            "x" * 10_000,
            "\n",
            ";",
        ],
    )
    def test_any_other_content_type_is_refused(self, content_type: str) -> None:
        with pytest.raises(UnsupportedContent) as caught:
            codec_for(content_type)
        assert len(str(caught.value)) < 200

    @pytest.mark.parametrize("encoding", [None, "", "identity", "utf-8", "UTF-8"])
    def test_no_encoding_is_needed(self, encoding: str | None) -> None:
        assert codec_for("application/json", encoding) is JSON

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "base64", "pickle", "x" * 10_000])
    def test_any_other_encoding_is_refused(self, encoding: str) -> None:
        with pytest.raises(UnsupportedContent) as caught:
            codec_for("application/json", encoding)
        assert len(str(caught.value)) < 200

    def test_there_are_two_and_their_names_are_theirs(self) -> None:
        assert {name: codec.content_type for name, codec in CODECS.items()} == {name: name for name in CODECS}
        assert list(CODECS) == ["application/json", "application/msgpack"]


class TestAnswers:
    @both
    def test_one_or_many_are_read(self, codec: Codec) -> None:
        one = codec.encode(Result(1, 5))
        assert [answer.id for answer in read_answers(codec, one)] == [5]
        assert [answer.id for answer in read_answers(codec, codec.join([one, one]))] == [5, 5]
        assert read_answers(codec, codec.encode([])) == []

    @pytest.mark.parametrize(
        "answer",
        [
            {"error": {"code": "x", "message": ""}},
            {"error": []},
            {"error": {"message": "no code"}},
            {"meta": {"t": "long"}},
            {"meta": {"room": 1.5}},
            {"id": {}},
            {"jsonrpc": "1.0"},
        ],
    )
    @both
    def test_what_is_no_reply_is_malformed(self, codec: Codec, answer: dict[str, Any]) -> None:
        with pytest.raises(MalformedMessage, match="not a JSON-RPC reply"):
            read_answers(codec, codec.encode({"jsonrpc": "2.0", "id": 1, **answer}))
