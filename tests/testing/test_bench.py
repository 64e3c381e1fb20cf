"""The bench: one test for both kinds of callers."""

from __future__ import annotations

import asyncio
import math

import pytest

from resilient_rpc import Call, ConfigurationError, Reply
from resilient_rpc.loops import AsyncioRuntime
from resilient_rpc.testing import Bench


async def slow(call: Call) -> Reply:
    await call.runtime.sleep(2.0)
    return Reply(result=call.params)


def test_a_call_is_made_where_it_is_waited_for(rpc_bench: Bench) -> None:
    calls: list[Call] = []

    async def handler(call: Call) -> Reply:
        calls.append(call)
        return await slow(call)

    assert rpc_bench.call(handler, "orders.price", timeout=9.0, params={"sku": "A1"}).result == {"sku": "A1"}
    (call,) = calls
    assert isinstance(call.runtime, AsyncioRuntime) is (rpc_bench.name == "asyncio")
    assert (call.method, call.timeout, call.deadline - rpc_bench.clock.now()) == ("orders.price", 9.0, 7.0)
    assert rpc_bench.passed == 2.0


def test_callers_run_at_the_same_time(rpc_bench: Bench) -> None:
    replies = rpc_bench.together(*[lambda n=n: slow(rpc_bench.make(params=[n])) for n in range(3)])
    assert [reply.result for reply in replies] == [[0], [1], [2]]
    assert rpc_bench.passed == 2.0


def test_the_first_error_is_raised_or_stands_in_its_place(rpc_bench: Bench) -> None:
    async def fails() -> Reply:
        raise KeyError("here")

    with pytest.raises(KeyError):
        rpc_bench.together(lambda: slow(rpc_bench.make()), fails)
    reply, error = rpc_bench.together(lambda: slow(rpc_bench.make(params=[])), fails, return_errors=True)
    assert (reply.result, type(error)) == ([], KeyError)


def test_what_was_started_goes_on_while_time_passes(rpc_bench: Bench) -> None:
    ended: list[float] = []

    async def background(call: Call) -> Reply:
        async def work(_: object) -> None:
            await asyncio.sleep(3.0)
            ended.append(rpc_bench.passed)

        call.runtime.start(work)
        return Reply(result=None)

    rpc_bench.call(background)
    assert not ended
    rpc_bench.advance(5.0)
    assert ended == [3.0]
    assert rpc_bench.passed == 5.0


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan])
def test_time_goes_forward(rpc_bench: Bench, seconds: float) -> None:
    with pytest.raises(ConfigurationError, match=r"second"):
        rpc_bench.advance(seconds)
    assert rpc_bench.passed == 0
