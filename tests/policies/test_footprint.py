"""What policies cost in memory for each target, and beside naive use of other libraries on a call that succeeds."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pybreaker
import pytest
import tenacity

from resilient_rpc.call import READ_ONLY, Call, Reply
from resilient_rpc.chain import compose
from resilient_rpc.policies import (
    AdaptiveLimit,
    Bulkhead,
    Cache,
    CircuitBreaker,
    Hedge,
    RateLimit,
    Retry,
    RetryBudget,
)
from resilient_rpc.policy import Policy
from resilient_rpc.runtime import BLOCKING, drive

REPLY = Reply(result=1)
TARGETS = 500
KEEPING: dict[str, Callable[[], Policy]] = {
    "retry": lambda: Retry(budget=RetryBudget()),
    "circuit breaker": CircuitBreaker,
    "bulkhead": Bulkhead,
    "adaptive limit": AdaptiveLimit,
    "rate limit": lambda: RateLimit(rate=1e6),
    "hedge": Hedge,
}


async def answer(_: Call) -> Reply:
    return REPLY


def make(method: str, number: int = 0) -> Call:
    deadline = BLOCKING.now() + 60
    return Call(method=method, params=[number], runtime=BLOCKING, deadline=deadline, safety=READ_ONLY)


@pytest.mark.parametrize("name", KEEPING)
def test_the_state_for_a_target_is_under_8_kib(name: str) -> None:
    handler = compose([KEEPING[name]()], answer)
    drive(handler(make("warm.up")))
    calls = [make(f"target{number}.method") for number in range(TARGETS)]
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for call in calls:
            drive(handler(call))
        gc.collect()
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0 < used / TARGETS < 8192


@pytest.mark.slow
def test_a_call_through_retry_breaker_and_a_cache_miss_costs_less_than_tenacity_alone() -> None:
    handler = compose([Cache(ttl=60), Retry(budget=RetryBudget()), CircuitBreaker()], answer)
    calls = iter([make("a.b", number) for number in range(40_000)])  # each another key: all of them miss
    guard = pybreaker.CircuitBreaker()
    naive = tenacity.retry(stop=tenacity.stop_after_attempt(3))(lambda: guard.call(lambda: REPLY))
    mine = _best(lambda: drive(handler(next(calls))))
    assert mine < _best(naive)


def _best(work: Callable[[], Any], laps: int = 15, count: int = 2_000) -> float:
    found = []
    for _ in range(laps):
        begin = time.perf_counter()
        for _ in range(count):
            work()
        found.append(time.perf_counter() - begin)
    return min(found)
