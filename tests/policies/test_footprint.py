"""What policies cost in memory for each target, and beside naive use of other libraries on a call that succeeds."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from resilient_rpc.call import READ_ONLY, Call, Reply
from resilient_rpc.chain import compose
from resilient_rpc.policies import (
    AdaptiveLimit,
    Bulkhead,
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
ROOT = Path(__file__).resolve().parents[2]
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


RACE = """
import time
import tenacity
from tests.policies.test_footprint import REPLY, answer, make
from resilient_rpc.chain import compose
from resilient_rpc.policies import Cache, CircuitBreaker, Retry, RetryBudget
from resilient_rpc.runtime import drive

handler = compose([Cache(ttl=60), Retry(budget=RetryBudget()), CircuitBreaker()], answer)
naive = tenacity.retry(stop=tenacity.stop_after_attempt(3))(lambda: REPLY)
calls = iter([make("a.b", number) for number in range(40_000)])  # each another key: all of them miss

def lap(work):
    begin = time.perf_counter()
    for _ in range(1_000):
        work()
    return time.perf_counter() - begin

laps = [(lap(lambda: drive(handler(next(calls)))), lap(naive)) for _ in range(40)]
print(min(mine for mine, _ in laps) / min(other for _, other in laps))
"""


@pytest.mark.slow
@pytest.mark.serial
def test_t15_a_call_through_retry_breaker_and_a_cache_miss_costs_less_than_tenacity_alone() -> None:
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("COV")}  # it slows ours alone
    command = [sys.executable, "-c", RACE]
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1
