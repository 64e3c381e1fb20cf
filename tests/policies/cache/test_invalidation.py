from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc import Client, Context, Server
from resilient_rpc.call import CacheHints
from resilient_rpc.chain import compose
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies.cache import Cache
from resilient_rpc.policies.cache.keys import EVERYTHING
from resilient_rpc.policies.cache.voids import Voids
from tests.policies.cache.shops import READ, Shop, even, listening
from tests.runtimes import Bench

A1, A2 = {"sku": "A1"}, {"sku": "A2"}


@pytest.mark.parametrize(
    ("what", "kept"),
    [
        ({}, 0),
        ({"method": "orders.price"}, 1),
        ({"method": "orders.price", "params": A1}, 2),
        ({"method": "orders.price", "params": ["A1"]}, 3),
        ({"method": "orders.other"}, 3),
        ({"tag": "prices"}, 1),
        ({"tag": "sku:A2"}, 2),
        ({"tag": "others"}, 3),
    ],
)
def test_only_what_is_named_is_forgotten(runtime: Bench, what: dict[str, Any], kept: int) -> None:
    shop = Shop()
    tags = {"orders.price": ["prices"]}
    cache = Cache(tags=tags)
    chain = compose([cache], shop)
    asked: list[dict[str, Any]] = [
        {"method": "orders.price", "params": A1},
        {"method": "orders.price", "params": A2},
        {"method": "orders.list"},
    ]
    for each in asked:
        shop.hints = CacheHints(tags=("sku:A2",)) if each.get("params") is A2 else None
        runtime.call(chain, **READ, **each)
    assert cache.invalidate(**what).result() is True
    for _ in range(2):
        for each in asked:
            runtime.call(chain, **READ, **each)
    assert len(shop.calls) == 3 + 3 - kept


def test_arguments_are_forgotten_for_all_tenants_and_types(runtime: Bench) -> None:
    shop = Shop()
    cache = Cache()
    chain = compose([cache], shop)
    ways: list[dict[str, Any]] = [{}, {"tags": {"tenant": "a"}}, {"returns": list[int]}]
    for _ in range(2):
        for way in ways:
            runtime.call(chain, **READ, params=A1, **way)
        cache.invalidate(method="orders.create", params=A1)
    assert len(shop.calls) == 6


def test_what_is_on_its_way_is_invalidated_too(runtime: Bench) -> None:
    shop = Shop(seconds=2)
    cache = Cache()
    chain = compose([cache], shop)

    async def ask() -> Any:
        return (await chain(runtime.make(**READ))).result

    async def change() -> None:
        await runtime.port.sleep(1)
        cache.invalidate(method="orders.create")

    assert runtime.together(ask, change)[0] == [1]
    assert runtime.run(ask) == [2]
    assert runtime.run(ask) == [2]


def test_what_was_invalidated_is_neither_stale_nor_stands_in(runtime: Bench) -> None:
    shop = Shop()
    cache = even(ttl=10, stale=100, stale_if_error=100)
    chain = compose([cache], shop)
    runtime.call(chain, **READ)
    runtime.advance(11)
    cache.invalidate()
    shop.error = ConnectionError("away")
    with pytest.raises(ConnectionError):
        runtime.call(chain, **READ)


def test_a_value_that_was_not_meant_is_looked_at_once(runtime: Bench) -> None:
    shop = Shop()
    cache = Cache()
    chain = compose([cache], shop)
    runtime.call(chain, **READ)
    cache.invalidate(tag="other")
    for _ in range(2):
        assert runtime.call(chain, **READ).result == [1]
    (entry,) = [cached for shard in cache._fetch.state.store._shards for cached in shard.cache.values()]
    assert entry.born == cache._fetch.state.voids.last == 1


def test_tags_by_function(runtime: Bench) -> None:
    shop = Shop()
    cache = Cache(tags=lambda call: [f"sku:{call.params['sku']}"])
    chain = compose([cache], shop)
    for _ in range(2):
        for params in (A1, A2):
            runtime.call(chain, **READ, params=params)
        cache.invalidate(tag="sku:A1")
    assert [call.params["sku"] for call in shop.calls] == ["A1", "A2", "A1"]


@pytest.mark.parametrize("tags", [lambda _: "one", lambda _: [5], lambda call: call.params["none"]])
def test_a_value_whose_tags_are_not_known_is_not_kept(runtime: Bench, tags: Any) -> None:
    events, seen = listening()
    chain = compose([Cache(tags=tags)], Shop())
    for _ in range(2):
        runtime.call(chain, events=events, **READ, params=A1)
    assert seen == ["miss", "bypassed: value"] * 2


def test_a_method_that_is_not_in_the_mapping_has_no_tags(runtime: Bench) -> None:
    chain = compose([Cache(tags={"orders.price": ["p"]})], Shop())
    assert [runtime.call(chain, **READ).result for _ in range(2)] == [[1], [1]]


@pytest.mark.parametrize("wrong", [{"params": A1}, {"method": "a.b", "tag": "t"}, {"params": A1, "tag": "t"}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="invalidate"):
        Cache().invalidate(**wrong)


def test_the_names_are_bounded_and_what_is_older_than_all_of_them_is_void() -> None:
    voids = Voids(limit=3)
    for number in range(5):
        voids.mark(str(number))
    assert voids.cover(["other"], 1)
    assert not voids.cover(["other"], 2)
    assert voids.cover(["4"], 4)
    assert not voids.cover(["4"], 5)
    assert len(voids._marks) == 3


@given(st.lists(st.sampled_from(["a", "b", "c", "d", EVERYTHING]), max_size=30), st.integers(0, 30))
def test_no_invalidation_is_ever_missed(marks: list[str], born: int) -> None:
    voids = Voids(limit=2)
    for name in marks:
        voids.mark(name)
    for name in "abcd":
        if any(mark in {name, EVERYTHING} for mark in marks[born:]):
            assert voids.cover([name], born)
    assert voids.last == len(marks)


def test_a_handlers_tag_reaches_the_cache_from_end_to_end(service: str) -> None:
    server, calls = Server(f"memory://{service}", service="shop"), []

    @server.method(safety="read_only")
    def price(ctx: Context, sku: str) -> list[int]:
        calls.append(sku)
        ctx.cache(max_age=60, tags=[f"sku:{sku}"])
        return [len(calls)]

    cache = Cache()
    server.start()
    try:
        with Client(f"memory://{service}", policies=[cache], safety="read_only") as client:
            client.call("shop.price", ["warm up"])
            for _ in range(3):
                client.map("shop.price", [["A1"], ["A2"]])
            cache.invalidate(tag="sku:A1")
            client.map("shop.price", [["A1"], ["A2"]])
    finally:
        server.stop()
    assert sorted(calls) == ["A1", "A1", "A2", "warm up"]
