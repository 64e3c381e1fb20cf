"""Fallback, hedge and chaos in one chain with others."""

from __future__ import annotations

import pytest

from resilient_rpc.call import Call, Reply, Safety
from resilient_rpc.chain import Chain
from resilient_rpc.errors import DeadlineExceeded, Interrupted
from resilient_rpc.policies import AttemptTimeout, Chaos, CircuitBreaker, Deadline, Fallback, Hedge, RetryBudget
from resilient_rpc.policy import Handler
from tests.runtimes import Bench

ENDLESS = RetryBudget.unlimited()


async def slow(call: Call) -> Reply:
    """Takes a minute, unless the deadline is nearer."""
    await call.runtime.sleep(min(60, max(call.remaining(), 0)))
    if call.remaining() <= 0:
        raise DeadlineExceeded("late")
    return Reply(result="late")


async def quick(_: Call) -> Reply:
    return Reply(result="quick")


def hedge() -> Hedge:
    return Hedge(delay=1.0, budget=ENDLESS)


def price(runtime: Bench, handler: Handler, times: int = 1, timeout: float = 5.0) -> Reply:
    for _ in range(times - 1):
        with pytest.raises((DeadlineExceeded, Interrupted)):
            runtime.call(handler, "orders.price", timeout=timeout, safety=Safety.READ_ONLY)
    return runtime.call(handler, "orders.price", timeout=timeout, safety=Safety.READ_ONLY)


def test_a_circuit_inside_of_a_hedge_sees_the_attempts_end_by_the_deadline(runtime: Bench) -> None:
    breaker = CircuitBreaker(consecutive=4)
    chain = Chain([Fallback(value="instead"), Deadline(limit=5), hedge(), breaker], slow)
    assert price(runtime, chain.handler).result == "instead"
    assert breaker.state("orders") == "closed"
    assert price(runtime, chain.handler).result == "instead"
    assert breaker.state("orders") == "open"  # two calls of two attempts each
    before = runtime.passed
    assert price(runtime, chain.handler).degraded
    assert runtime.passed == before


def test_a_circuit_inside_of_a_hedge_does_not_count_the_loser(runtime: Bench) -> None:
    async def handler(call: Call) -> Reply:
        return await (slow if call.attempt == 1 else quick)(call)

    breaker = CircuitBreaker(consecutive=1)
    chain = Chain([hedge(), breaker], handler)
    for _ in range(5):
        assert price(runtime, chain.handler, timeout=30).result == "quick"
    assert breaker.state("orders") == "closed"


def test_faults_of_chaos_open_a_circuit(runtime: Bench) -> None:
    breaker = CircuitBreaker(consecutive=3)
    chain = Chain([breaker, AttemptTimeout(), Chaos(rate=1, fault=Interrupted, enabled=True)], quick)
    with pytest.raises(Interrupted):
        price(runtime, chain.handler, times=3)
    assert breaker.state("orders") == "open"


def test_a_hedge_makes_up_for_the_latency_of_chaos(runtime: Bench) -> None:
    chaos = Chaos(rate=1, latency=20.0, enabled=True, when=lambda call: call.attempt == 1)
    chain = Chain([hedge(), AttemptTimeout(), chaos], quick)
    assert price(runtime, chain.handler, timeout=30).result == "quick"
    assert runtime.passed == 1


def test_a_second_service_has_a_circuit_of_its_own(runtime: Bench) -> None:
    async def handler(call: Call) -> Reply:
        if call.target == "orders":
            raise Interrupted("cut")
        return Reply(result=call.target)

    breaker = CircuitBreaker(consecutive=2)
    chain = Chain([Fallback(target="standby"), breaker], handler)
    for _ in range(5):
        assert price(runtime, chain.handler).result == "standby"
    assert (breaker.state("orders"), breaker.state("standby")) == ("open", "closed")
