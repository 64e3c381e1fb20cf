from __future__ import annotations

import gc
import math
import os
import threading
import tracemalloc
from typing import Any

from resilient_rpc.call import READ_ONLY, Call, Reply
from resilient_rpc.chain import compose
from resilient_rpc.policies.cache import Cache
from resilient_rpc.policies.cache.entries import SHARDS, Entry, Store, size_of
from resilient_rpc.policies.cache.keys import Key
from resilient_rpc.runtime import BLOCKING, drive
from tests.policies.cache.shops import READ, Shop
from tests.runtimes import Bench


def key(number: int) -> Key:
    return "m", None, str(number).encode(), None


def entry(number: int, size: int = 0) -> Entry:
    frozen = (number, None, size)
    return Entry(frozen, size_of(key(number), frozen), math.inf, 0)


def put(store: Store, number: int, size: int = 0) -> bool:
    _, flight, _ = store.board(key(number))
    made = entry(number, size)
    return flight.land(made, made)


def test_the_least_recently_used_goes_first(runtime: Bench) -> None:
    shop = Shop()
    chain = compose([Cache(max_entries=2)], shop)
    for sku in ("a", "b", "a", "c", "a", "b"):
        runtime.call(chain, **READ, params=[sku])
    assert [call.params[0] for call in shop.calls] == ["a", "b", "c", "b"]


def test_the_number_of_entries_is_bounded() -> None:
    for most in (1, 10, 5000):
        store = Store(most, 1 << 26)
        for number in range(2 * most):
            assert put(store, number)
        assert 0.8 * most <= len(store) <= most


def test_the_bytes_are_bounded() -> None:
    store = Store(10**6, 1 << 24)
    for number in range(1000):
        assert put(store, number, 100_000)
    assert store.size <= 1 << 24
    assert len(store) > SHARDS


def test_what_is_larger_than_a_shard_is_refused_and_replaces_what_was_there() -> None:
    store = Store(10, 10_000)
    assert put(store, 1)
    assert not put(store, 1, 10_000)
    assert store.get(key(1)) is None


def test_a_cache_takes_no_more_memory_than_it_was_given() -> None:
    cache, limit = Cache(max_bytes=8 << 20, max_entries=10**6), 8 << 20

    async def answer(call: Call) -> Reply:
        return Reply(result={"sku": call.params["sku"], "prices": list(range(50)), "name": "x" * 200})

    def fill(begin: int) -> None:
        for number in range(begin, begin + 20_000):
            call = Call(method="m.n", params={"sku": number}, runtime=BLOCKING, deadline=math.inf, safety=READ_ONLY)
            drive(cache(call, answer))

    fill(0)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        fresh = Cache(max_bytes=limit, max_entries=10**6)
        cache = fresh
        fill(100_000)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.4 * limit < after - before < limit


def test_threads_that_meet_in_a_cache_do_not_break_it() -> None:
    # T9 of reference: without locks, cachetools' caches are unusable for ever after this.
    cache, errors = Cache(ttl=0.001, max_entries=50), []

    async def answer(call: Call) -> Reply:
        return Reply(result=[call.params[0]])

    def ask(number: int) -> Any:
        call = Call(
            method="m.n", params=[number % 100], runtime=BLOCKING, deadline=BLOCKING.now() + 30, safety=READ_ONLY
        )
        return drive(cache(call, answer)).result

    def hammer(step: int) -> None:
        try:
            for number in range(0, 3000 * step, step):
                assert ask(number) == [number % 100]
                if not number % 97:
                    cache.invalidate(method="m.n", params=[number % 100])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=hammer, args=(step,)) for step in (1, 3, 7, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert [ask(number) for number in range(1000)] == [[number % 100] for number in range(1000)]
    assert len(cache._fetch.state.store) <= 50
    assert not any(shard.flights for shard in cache._fetch.state.store._shards)


def test_other_limits_keep_what_fits(runtime: Bench) -> None:
    shop = Shop()
    old = Cache(max_entries=5)
    for sku in "abcde":
        runtime.call(compose([old], shop), **READ, params=[sku])
    for limit, fitting in ((5, "abcde"), (2, "de"), (5000, "de")):
        new = Cache(max_entries=limit)
        new.adopt(old)
        for sku in fitting:
            runtime.call(compose([new], shop), **READ, params=[sku])
        old = new
    assert len(shop.calls) == 5


def test_a_chain_that_is_reloaded_shares_its_invalidations_with_the_old_one(runtime: Bench) -> None:
    shop, old, new = Shop(), Cache(ttl=60), Cache(ttl=30)
    runtime.call(compose([old], shop), **READ)
    new.adopt(old)
    old.invalidate()
    assert runtime.call(compose([new], shop), **READ).result == [2]


def test_a_child_process_begins_with_nothing() -> None:
    shop, cache = Shop(), Cache()
    call = Call(method="m.n", params=[], runtime=BLOCKING, deadline=math.inf, safety=READ_ONLY)
    drive(cache(call, shop))
    cache.invalidate(tag="other")
    store = cache._fetch.state.store
    _, inherited, _ = store.board(key(5))
    pid = os.fork()
    if not pid:
        _, flight, lead = store.board(key(5))
        fine = lead and flight is not inherited and not len(store) and drive(cache(call, shop)).result == [2]
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert drive(cache(call, shop)).result == [1]
