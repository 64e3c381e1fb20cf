from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import pytest

from resilient_rpc.call import IDEMPOTENT, READ_ONLY, UNSAFE, CacheHints, Call, Reply, Safety
from resilient_rpc.chain import Chain, compose
from resilient_rpc.errors import (
    ApplicationError,
    ConfigurationError,
    ConnectionLost,
    InvalidParams,
    MethodNotFound,
    Overloaded,
)
from resilient_rpc.policies import AttemptTimeout, Deadline, Fallback
from resilient_rpc.policies.cache import Cache
from resilient_rpc.policies.cache import policy as policy_module
from resilient_rpc.policy import Handler
from tests.policies.cache.shops import READ, OutOfStock, Shop, even, listening
from tests.runtimes import Bench


@pytest.fixture
def shop() -> Shop:
    return Shop()


def test_a_second_call_is_answered_from_memory_until_the_ttl_has_passed(runtime: Bench, shop: Shop) -> None:
    chain = compose([even(ttl=10)], shop)
    events, seen = listening()
    assert runtime.call(chain, events=events, **READ).result == [1]
    runtime.advance(9.9)
    reply = runtime.call(chain, events=events, **READ)
    assert (reply.result, reply.server, reply.degraded) == ([1], "shop-1", False)
    runtime.advance(0.2)
    assert runtime.call(chain, events=events, **READ).result == [2]
    assert seen == ["miss", "hit", "miss"]


@pytest.mark.parametrize("safety", [safety for safety in Safety if safety is not READ_ONLY])
def test_only_calls_that_only_read_are_kept(runtime: Bench, shop: Shop, safety: Safety) -> None:
    chain = compose([Cache()], shop)
    for _ in range(2):
        runtime.call(chain, safety=safety)
    assert len(shop.calls) == 2


def test_methods_that_are_not_named_pass_by(runtime: Bench, shop: Shop) -> None:
    chain = compose([Cache(methods=["orders.price"])], shop)
    for method in ("orders.price", "orders.price", "orders.list", "orders.list"):
        runtime.call(chain, method, **READ)
    assert [call.method for call in shop.calls] == ["orders.price", "orders.list", "orders.list"]


def test_a_named_method_that_nobody_has_declared_to_read_only_is_announced(runtime: Bench, shop: Shop) -> None:
    events, seen = listening()
    chain = compose([Cache(methods=["orders.price"])], shop)
    for method in ("orders.price", "orders.list", "orders.price"):
        runtime.call(chain, method, safety=IDEMPOTENT, events=events)
    assert len(shop.calls) == 3
    assert seen == ["bypassed: safety"] * 2
    runtime.call(compose([Cache()], shop), safety=IDEMPOTENT, events=events)
    assert len(seen) == 2


def test_no_caller_can_change_the_value_of_another(runtime: Bench, shop: Shop) -> None:
    chain = compose([Cache()], shop)
    for _ in range(3):
        reply = runtime.call(chain, **READ)
        assert reply.result == [1]
        reply.result.append("mine")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1], [1.0]),
        ([1], [True]),
        ([0], [False]),
        (["1"], [1]),
        (["1"], [b"1"]),
        ([None], []),
        ({"sku": "A1"}, ["A1"]),
        ({"sku": "A1"}, {"sku": "A2"}),
        ([[1, 2]], [[2, 1]]),
    ],
)
def test_arguments_that_differ_in_value_type_or_form_are_other_calls(one: Any, other: Any) -> None:
    keys = [policy_module.key_of(_call(params=params), None) for params in (one, other)]
    assert keys[0] != keys[1]


def test_the_order_of_names_and_of_sets_does_not_matter() -> None:
    one = {"a": {3, 1, 2}, "b": Decimal(1), "c": dt.date(2020, 1, 1)}
    other = dict(reversed(list(one.items())))
    other["a"] = {2, 3, 1}
    assert policy_module.key_of(_call(params=one), None) == policy_module.key_of(_call(params=other), None)
    assert policy_module.key_of(_call(params={}), None) == policy_module.key_of(_call(params=()), None)


def _call(**fields: Any) -> Call:
    return Call(method="orders.price", runtime=None, deadline=math.inf, **fields)  # type: ignore[arg-type]


def test_calls_for_other_types_tags_and_methods_are_other_calls(runtime: Bench, shop: Shop) -> None:
    chain = compose([Cache()], shop)
    ways: list[dict[str, Any]] = [
        {},
        {"returns": list[int]},
        {"tags": {"tenant": "a"}},
        {"tags": {"tenant": "b"}},
        {"method": "orders.list"},
    ]
    results = [runtime.call(chain, **READ, **way).result for way in [*ways, *ways]]
    assert results == [[1], [2], [3], [4], [5]] * 2


def test_vary_says_what_else_the_answer_depends_on(runtime: Bench, shop: Shop) -> None:
    chain = compose([Cache(vary=lambda call: call.tags["tenant"])], shop)
    for tenant, request in (("a", "1"), ("b", "2"), ("a", "3")):
        runtime.call(chain, **READ, tags={"tenant": tenant, "request": request})
    assert [call.tags["request"] for call in shop.calls] == ["1", "2"]


@pytest.mark.parametrize(
    ("settings", "how"),
    [
        ({}, {"params": [object()]}),
        ({}, {"params": [2**70]}),
        ({}, {"params": [{1: "a key that is no text"}]}),
        ({}, {"returns": [[]]}),
        ({"vary": lambda call: call.tags["tenant"]}, {}),
        ({"vary": lambda call: 5}, {}),
    ],
)
def test_a_call_without_a_key_is_sent(runtime: Bench, shop: Shop, settings: Any, how: Any) -> None:
    events, seen = listening()
    chain = compose([Cache(**settings)], shop)
    assert [runtime.call(chain, events=events, **READ, **how).result for _ in range(2)] == [[1], [2]]
    assert seen == ["bypassed: arguments"] * 2


def test_jitter_spreads_the_ttl(runtime: Bench, shop: Shop) -> None:
    draws = iter([0.0, 1.0, 0.5])
    chain = compose([Cache(ttl=100, jitter=0.1, random=lambda: next(draws))], shop)
    for sku in "abc":
        runtime.call(chain, **READ, params=[sku])
    runtime.advance(95)
    assert [runtime.call(chain, **READ, params=[sku]).result for sku in "bc"] == [[2], [3]]
    runtime.advance(10)
    assert runtime.call(chain, **READ, params=["b"]).result == [2]


def test_a_value_that_cannot_be_copied_is_handed_out_once(runtime: Bench, shop: Shop) -> None:
    shop.result = (number for number in range(3))
    events, seen = listening()
    chain = compose([Cache()], shop)
    for _ in range(2):
        assert runtime.call(chain, events=events, **READ).result is shop.result
    assert seen == ["miss", "bypassed: value"] * 2


def test_a_value_larger_than_the_cache_is_not_kept(runtime: Bench, shop: Shop) -> None:
    events, seen = listening()
    chain = compose([Cache(max_bytes=4096)], shop)
    runtime.call(chain, events=events, **READ)
    shop.result = "x" * 5000
    runtime.advance(100)
    for _ in range(2):
        assert runtime.call(chain, events=events, **READ).result == "x" * 5000
    assert seen == ["miss", "miss", "bypassed: too_large", "miss", "bypassed: too_large"]


def test_a_substitute_is_not_kept(runtime: Bench) -> None:
    calls = []

    async def substitute(call: Call) -> Reply:
        calls.append(call)
        return Reply(result="none", degraded=True)

    chain = compose([Cache()], substitute)
    assert all(runtime.call(chain, **READ).degraded for _ in range(2))
    assert len(calls) == 2


# -- what the server says


def test_the_server_says_how_long(runtime: Bench, shop: Shop) -> None:
    shop.hints = CacheHints(max_age=5)
    chain = compose([Cache(ttl=60, random=lambda: 0.0)], shop)
    runtime.call(chain, **READ)
    runtime.advance(4.9)
    assert runtime.call(chain, **READ).result == [1]
    runtime.advance(0.2)
    assert runtime.call(chain, **READ).result == [2]


def test_jitter_never_exceeds_what_the_server_allows(runtime: Bench, shop: Shop) -> None:
    shop.hints = CacheHints(max_age=10)
    chain = compose([Cache(random=lambda: 1.0, jitter=0.5)], shop)
    runtime.call(chain, **READ)
    runtime.advance(5.1)
    assert runtime.call(chain, **READ).result == [2]


def test_hints_without_an_age_leave_the_ttl(runtime: Bench, shop: Shop) -> None:
    shop.hints = CacheHints(tags=("prices",))
    cache = even(ttl=60)
    chain = compose([cache], shop)
    runtime.call(chain, **READ)
    runtime.advance(59)
    assert runtime.call(chain, **READ).result == [1]
    cache.invalidate(tag="prices")
    assert runtime.call(chain, **READ).result == [2]


@pytest.mark.parametrize("hints", [CacheHints(no_store=True), CacheHints(max_age=0)])
def test_what_must_not_be_kept_is_not_and_what_was_is_dropped(runtime: Bench, shop: Shop, hints: CacheHints) -> None:
    chain = compose([even(ttl=10, stale_if_error=100)], shop)
    runtime.call(chain, **READ)
    runtime.advance(11)
    shop.hints = hints
    runtime.call(chain, **READ)
    shop.error = ConnectionLost("gone")
    with pytest.raises(ConnectionLost):
        runtime.call(chain, **READ)


# -- errors


def test_errors_are_not_kept_by_default(runtime: Bench, shop: Shop) -> None:
    chain = compose([Cache()], shop)
    shop.error = OutOfStock("no A1")
    for _ in range(2):
        with pytest.raises(OutOfStock):
            runtime.call(chain, **READ)
    assert len(shop.calls) == 2


@pytest.mark.parametrize("negative", [[OutOfStock], ["out_of_stock"], {ApplicationError: 2.0}, {"out_of_stock": 2.0}])
def test_a_listed_error_is_remembered_for_a_short_time(runtime: Bench, shop: Shop, negative: Any) -> None:
    events, seen = listening()
    chain = compose([Cache(negative=negative)], shop)
    shop.error = OutOfStock("no A1", details={"sku": ["A1"]})
    errors = []
    for _ in range(2):
        with pytest.raises(OutOfStock, match="no A1") as info:
            runtime.call(chain, events=events, **READ)
        errors.append(info.value)
        assert info.value.details == {"sku": ["A1"]}
        info.value.details["sku"].append("changed by a caller")
        shop.error = OutOfStock("no A1", details={"sku": ["A1"]})
    assert errors[0] is not errors[1]
    assert seen == ["miss", "negative"]
    runtime.advance(2.1)
    shop.error = None
    assert runtime.call(chain, events=events, **READ).result == [2]


@pytest.mark.parametrize("error", [ApplicationError("other"), Overloaded("busy"), MethodNotFound("none")])
def test_an_error_that_is_not_listed_is_not_remembered(runtime: Bench, shop: Shop, error: Exception) -> None:
    chain = compose([Cache(negative=["out_of_stock"])], shop)
    shop.error = error
    with pytest.raises(type(error)):
        runtime.call(chain, **READ)
    shop.error = None
    assert runtime.call(chain, **READ).result == [2]


def test_an_old_value_stands_in_for_a_failure_and_says_so(runtime: Bench, shop: Shop) -> None:
    events, seen = listening()
    chain = compose([even(ttl=10, stale_if_error=100)], shop)
    runtime.call(chain, events=events, **READ)
    runtime.advance(11)
    shop.error = ConnectionLost("gone")
    reply = runtime.call(chain, events=events, **READ)
    assert (reply.result, reply.degraded) == ([1], True)
    runtime.advance(100)
    with pytest.raises(ConnectionLost):
        runtime.call(chain, events=events, **READ)
    assert seen == ["miss", "miss", "stale_if_error", "miss"]


@pytest.mark.parametrize("error", [InvalidParams("no"), ApplicationError("no"), ConfigurationError("no")])
def test_nothing_stands_in_for_an_answer_or_a_mistake(runtime: Bench, shop: Shop, error: Exception) -> None:
    chain = compose([even(ttl=10, stale_if_error=100)], shop)
    runtime.call(chain, **READ)
    runtime.advance(11)
    shop.error = error
    with pytest.raises(type(error)):
        runtime.call(chain, **READ)


def test_an_answer_that_is_an_error_ends_the_life_of_the_old_value(runtime: Bench, shop: Shop) -> None:
    chain = compose([even(ttl=10, stale_if_error=100)], shop)
    runtime.call(chain, **READ)
    runtime.advance(11)
    for error in (OutOfStock("gone"), ConnectionLost("away")):
        shop.error = error
        with pytest.raises(type(error)):
            runtime.call(chain, **READ)


def test_a_remembered_error_does_not_stand_in(runtime: Bench, shop: Shop) -> None:
    chain = compose([even(negative=[OutOfStock], stale=100, stale_if_error=100)], shop)
    shop.error = OutOfStock("no")
    with pytest.raises(OutOfStock):
        runtime.call(chain, **READ)
    runtime.advance(3)
    shop.error = ConnectionLost("away")
    with pytest.raises(ConnectionLost):
        runtime.call(chain, **READ)


# -- settings


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"ttl": 0}, "ttl"),
        ({"ttl": math.inf}, "ttl"),
        ({"jitter": 2}, "jitter"),
        ({"max_entries": 0}, "max_entries"),
        ({"max_bytes": 100}, "max_bytes"),
        ({"stale": -1}, "stale"),
        ({"stale_if_error": "5"}, "stale_if_error"),
        ({"negative": "out_of_stock"}, "negative"),
        ({"negative": 5}, "negative"),
        ({"negative": [5]}, "negative"),
        ({"negative": [BaseException]}, "negative"),
        ({"negative": [ConnectionLost]}, "ConnectionLost is no answer"),
        ({"negative": [Overloaded]}, "Overloaded is no answer"),
        ({"negative": {OutOfStock: 0}}, "negative"),
        ({"negative_ttl": 0}, "negative_ttl"),
        ({"methods": "orders.price"}, "methods"),
        ({"methods": ["price"]}, "methods"),
        ({"methods": [5]}, "methods"),
        ({"methods": 5}, "methods"),
        ({"vary": "tenant"}, "vary"),
        ({"tags": "prices"}, "tags"),
        ({"tags": {"orders.price": "prices"}}, "tags"),
        ({"tags": {"orders.price": [5]}}, "tags"),
        ({"shared": "redis://localhost"}, "shared"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        Cache(**settings)


def test_what_it_is_for_the_chain() -> None:
    cache = Cache(methods=["orders.price"])
    assert (cache.role, cache.requires) == ("cache", {READ_ONLY})
    assert IDEMPOTENT not in cache.requires
    assert UNSAFE not in cache.requires
    assert "random" not in repr(cache)
    assert "_fetch" not in repr(cache)


def test_stands_outside_of_what_costs_and_inside_of_a_fallback(shop: Handler) -> None:
    Chain([Fallback(value=None), Cache(), Deadline(limit=5), AttemptTimeout()], shop)
    for wrong in ([Deadline(limit=5), Cache()], [AttemptTimeout(), Cache()], [Cache(), Fallback(value=None)]):
        with pytest.raises(ConfigurationError, match="must stand before"):
            Chain(wrong, shop)


class Brittle:
    """Can be copied once: when it is kept."""

    copies = 0

    def __deepcopy__(self, memo: Any) -> Brittle:
        self.copies += 1
        if self.copies > 1:
            raise ValueError
        return self


def test_a_value_that_cannot_be_copied_any_more_costs_a_call(runtime: Bench, shop: Shop) -> None:
    events, seen = listening()
    chain = compose([even(ttl=10, stale_if_error=60)], shop)
    shop.result = Brittle()
    runtime.call(chain, events=events, **READ)
    shop.result = "other"
    assert runtime.call(chain, events=events, **READ).result == "other"
    assert runtime.call(chain, events=events, **READ).result == "other"
    assert seen == ["miss", "bypassed: value", "miss", "hit"]


def test_nor_does_it_stand_in(runtime: Bench, shop: Shop) -> None:
    chain = compose([even(ttl=10, stale_if_error=60)], shop)
    shop.result = Brittle()
    runtime.call(chain, **READ)
    runtime.advance(11)
    shop.error = ConnectionLost("gone")
    with pytest.raises(ConnectionLost):
        runtime.call(chain, **READ)


def test_nor_is_it_handed_out_stale(runtime: Bench, shop: Shop) -> None:
    chain = compose([even(ttl=10, stale=60)], shop)
    shop.result = Brittle()
    runtime.call(chain, **READ)
    runtime.advance(11)
    shop.result = "other"
    assert runtime.call(chain, **READ).result == "other"


def test_nor_is_it_shared(runtime: Bench) -> None:
    shop = Shop(seconds=1)
    shop.result = Brittle()
    chain = compose([Cache()], shop)

    async def ask() -> Any:
        return (await chain(runtime.make(**READ))).result

    assert runtime.together(ask, ask) == [shop.result] * 2
    assert len(shop.calls) == 2
