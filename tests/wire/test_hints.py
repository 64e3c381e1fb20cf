from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc import Client, ConfigurationError, Context, Server
from resilient_rpc.call import READ_ONLY, CacheHints, Reply
from resilient_rpc.context import current_context
from resilient_rpc.wire.codec import JSON, MSGPACK, Codec, read_answers
from resilient_rpc.wire.envelope import ReplyMeta, Result
from resilient_rpc.wire.hints import MAX_AGE, MAX_TAGS, check_hints, merge_hints, read_hints


def test_what_a_handler_says_arrives_with_its_own_reply_of_a_batch(service: str) -> None:
    server = Server(f"memory://{service}", service="shop")

    @server.method(safety="read_only")
    def price(ctx: Context, sku: str) -> float:
        if sku == "A1":
            ctx.cache(max_age=5, tags=["sku:A1"])
        elif sku == "A2":
            ctx.cache(no_store=True)
        return 9.5

    seen: dict[str, CacheHints | None] = {}

    async def look(call: Any, proceed: Any, /) -> Reply:
        reply: Reply = await proceed(call)
        seen[call.params["sku"]] = reply.cache
        return reply

    server.start()
    try:
        with Client(f"memory://{service}", policies=[look], safety="read_only") as client:
            client.call("shop.price", {"sku": "warm up"})
            client.map("shop.price", [{"sku": sku} for sku in ("A1", "A2", "A3")])
    finally:
        server.stop()
    assert seen == {
        "warm up": None,
        "A1": CacheHints(max_age=5.0, tags=("sku:A1",)),
        "A2": CacheHints(no_store=True),
        "A3": None,
    }


def test_a_handler_without_a_context_parameter_reaches_it_too(service: str) -> None:
    server = Server(f"memory://{service}", service="shop")

    @server.method
    async def price() -> float:
        context = current_context()
        assert context is not None
        context.cache(max_age=60, tags=["prices"])
        context.cache(max_age=30, tags=["prices", "eu"])
        return 9.5

    server.start()
    try:
        with Client(f"memory://{service}") as client:
            hints = client.request("shop.price").cache
    finally:
        server.stop()
    assert hints == CacheHints(max_age=30.0, tags=("prices", "eu"))


def test_a_reply_that_is_an_error_carries_no_hints(service: str) -> None:
    server = Server(f"memory://{service}", service="shop")

    @server.method
    def price(ctx: Context) -> float:
        ctx.cache(max_age=60)
        ctx.cache(max_age="soon")  # type: ignore[arg-type]
        return 9.5

    server.start()
    try:
        with Client(f"memory://{service}") as client, pytest.raises(Exception, match="soon"):
            client.request("shop.price")
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, None),
        ([1], None),
        ("no", None),
        ({}, CacheHints()),
        ({"max_age": 5}, CacheHints(max_age=5.0)),
        ({"max_age": -5}, CacheHints(max_age=0.0)),
        ({"max_age": math.nan}, CacheHints()),
        ({"max_age": math.inf}, CacheHints(max_age=MAX_AGE)),
        ({"max_age": 10**400}, CacheHints(max_age=MAX_AGE)),
        ({"max_age": True}, CacheHints()),
        ({"max_age": "5"}, CacheHints()),
        ({"no_store": 1}, CacheHints()),
        ({"no_store": True}, CacheHints(no_store=True)),
        ({"tags": "abc"}, CacheHints()),
        ({"tags": ["a", 1, "", "x" * 201, "\ud800", "b"]}, CacheHints(tags=("a", "b"))),
    ],
)
def test_hints_that_make_no_sense_are_left_out_or_cut(found: Any, expected: CacheHints | None) -> None:
    assert read_hints(found) == expected


def test_the_number_of_tags_is_bounded() -> None:
    many = [str(number) for number in range(100)]
    read = read_hints({"tags": many})
    assert read is not None
    assert read.tags == tuple(many[:MAX_TAGS])
    merged = merge_hints(CacheHints(tags=tuple(many[:30])), CacheHints(tags=tuple(many[30:60])))
    assert merged.tags == tuple(many[:MAX_TAGS])


_anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
@given(found=_anything | st.fixed_dictionaries({"max_age": _anything, "no_store": _anything, "tags": _anything}))
def test_no_hint_spoils_the_reply(codec: Codec, found: Any) -> None:
    (answer,) = read_answers(codec, codec.encode(Result("kept", 1, ReplyMeta(1, cache=found))))
    assert answer.meta is not None
    hints = read_hints(answer.meta.cache)
    assert codec.anything.decode(answer.result) == "kept"
    if hints is not None:
        assert hints.max_age is None or 0 <= hints.max_age <= MAX_AGE
        assert len(hints.tags) <= MAX_TAGS


@pytest.mark.parametrize(
    "said",
    [
        {"max_age": math.nan},
        {"max_age": True},
        {"max_age": "5"},
        {"tags": "one"},
        {"tags": 5},
        {"tags": [5]},
        {"tags": [""]},
        {"tags": ["x" * 201]},
        {"tags": ["a\ud800"]},
        {"tags": [str(number) for number in range(33)]},
    ],
)
def test_a_handler_that_says_what_cannot_be_is_told(said: dict[str, Any]) -> None:
    context = Context("price", math.inf, READ_ONLY)
    with pytest.raises(ConfigurationError):
        context.cache(**said)
    assert context.hints is None


def test_a_negative_age_is_none_at_all() -> None:
    assert check_hints(-3, False, ()) == CacheHints(max_age=0.0)
    assert merge_hints(CacheHints(no_store=True), CacheHints(max_age=3)) == CacheHints(max_age=3, no_store=True)
