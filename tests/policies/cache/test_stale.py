"""Stale-while-revalidate."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from resilient_rpc.chain import compose
from resilient_rpc.errors import CircuitOpen, ConnectionLost
from resilient_rpc.pending import Started
from resilient_rpc.policies.cache import Cache
from resilient_rpc.policy import Runtime
from resilient_rpc.runtime import drive
from tests.policies.cache.shops import READ, OutOfStock, Shop, even, listening
from tests.runtimes import Bench, BlockingBench


def test_an_old_value_is_handed_out_while_a_new_one_is_fetched(runtime: Bench) -> None:
    shop = Shop(seconds=1)
    events, seen = listening()
    chain = compose([even(ttl=10, stale=20)], shop)
    runtime.call(chain, events=events, **READ)
    runtime.advance(15)
    begin = runtime.passed
    replies = [runtime.call(chain, events=events, **READ) for _ in range(3)]
    assert [(reply.result, reply.degraded) for reply in replies] == [([1], False)] * 3
    assert runtime.passed == begin
    runtime.advance(2)
    assert runtime.call(chain, events=events, **READ).result == [2]
    assert len(shop.calls) == 2
    assert Counter(seen) == {"miss": 1, "stale": 3, "refreshed": 1, "hit": 1}


def test_a_refresh_has_a_deadline_of_its_own(runtime: Bench) -> None:
    shop = Shop(seconds=1)
    chain = compose([even(ttl=10, stale=20)], shop)
    runtime.call(chain, timeout=5, **READ)
    runtime.advance(15)

    async def in_a_hurry() -> Any:
        call = runtime.make(timeout=5, **READ)
        return await chain(call.replace(deadline=call.runtime.now() + 0.01))

    assert runtime.run(in_a_hurry).result == [1]
    runtime.advance(2)
    refresh = shop.calls[1]
    assert refresh.deadline - shop.calls[0].deadline == pytest.approx(16)
    assert runtime.call(chain, **READ).result == [2]


def test_a_call_that_names_no_timeout_gives_what_it_has_left(runtime: Bench) -> None:
    shop = Shop()
    chain = compose([even(ttl=10, stale=20)], shop)
    runtime.call(chain, **READ)
    runtime.advance(15)

    async def without() -> Any:
        return await chain(runtime.make(**READ).replace(timeout=0.0))

    runtime.run(without)
    runtime.advance(1)
    assert len(shop.calls) == 2


def test_after_the_stale_time_a_caller_waits(runtime: Bench) -> None:
    chain = compose([even(ttl=10, stale=20)], Shop(seconds=1))
    runtime.call(chain, **READ)
    runtime.advance(30)
    assert runtime.call(chain, **READ).result == [2]


@pytest.mark.parametrize("error", [ConnectionLost("gone"), CircuitOpen("open")])
def test_a_refresh_that_fails_leaves_the_old_value(runtime: Bench, error: Exception) -> None:
    shop = Shop()
    events, seen = listening()
    chain = compose([even(ttl=10, stale=20)], shop)
    runtime.call(chain, events=events, **READ)
    runtime.advance(15)
    shop.error = error
    for _ in range(2):
        assert runtime.call(chain, events=events, **READ).result == [1]
        runtime.advance(1)
    assert Counter(seen) == {"miss": 1, "stale": 2, "refresh_failed": 2}


def test_an_answer_that_is_an_error_ends_the_old_value(runtime: Bench) -> None:
    shop = Shop()
    chain = compose([even(ttl=10, stale=20)], shop)
    runtime.call(chain, **READ)
    runtime.advance(15)
    shop.error = OutOfStock("no")
    runtime.call(chain, **READ)
    runtime.advance(1)
    with pytest.raises(OutOfStock):
        runtime.call(chain, **READ)


def test_a_caller_after_the_stale_time_joins_a_refresh_under_way(runtime: Bench) -> None:
    shop = Shop()
    chain = compose([even(ttl=10, stale=20)], shop)
    runtime.call(chain, **READ)
    runtime.advance(29)
    shop.seconds = 3
    runtime.call(chain, **READ)
    runtime.advance(2)
    begin = runtime.passed
    assert runtime.call(chain, **READ).result == [2]
    assert runtime.passed - begin == pytest.approx(1)
    assert len(shop.calls) == 2


class Closing:
    """A runtime whose client is closing: what is started is refused, or cancelled at once or later."""

    def __init__(self, runtime: Runtime, how: str) -> None:
        self.now, self.sleep, self.wait = runtime.now, runtime.sleep, runtime.wait
        self._how = how
        self.started: Started[Any] = Started(None)  # type: ignore[arg-type]

    def start(self, work: Any) -> Started[Any]:
        if self._how == "refused":
            raise RuntimeError("closed")
        if self._how == "at once":
            self.started.set(None)
        return self.started


@pytest.mark.parametrize("how", ["refused", "at once", "later"])
def test_a_refresh_that_never_runs_leaves_no_flight(clock: Any, how: str) -> None:
    shop, events_seen = Shop(), listening()
    cache = even(ttl=10, stale=20)
    closing = Closing(clock.blocking, how)
    bench = _bench(clock)
    bench.call(compose([cache], shop), **READ)
    clock.advance(15)
    call = bench.make(**READ, events=events_seen[0])
    assert drive(cache(call.on(closing), shop)).result == [1]  # type: ignore[arg-type]
    closing.started.set(None)
    assert events_seen[1] == (["bypassed: refresh", "stale"] if how == "refused" else ["stale"])
    clock.advance(20)
    assert bench.call(compose([cache], shop), **READ).result == [2]


def _bench(clock: Any) -> Bench:
    return BlockingBench(clock)


def test_nothing_is_stale_by_default(runtime: Bench) -> None:
    chain = compose([Cache(ttl=10, jitter=0)], Shop())
    runtime.call(chain, **READ)
    runtime.advance(10.1)
    assert runtime.call(chain, **READ).result == [2]
