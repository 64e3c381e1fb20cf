"""An outcome is awaited by a task as a future is, or parked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from resilient_rpc.parking import Outcome


def run(test: Callable[[Outcome], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await test(Outcome(asyncio.get_running_loop(), lambda: None, lambda: None))

    asyncio.run(main())


async def wait_for(outcome: Awaitable[Any]) -> Any:
    return await outcome


def test_a_task_gets_the_result() -> None:
    async def test(outcome: Outcome) -> None:
        waiting = asyncio.create_task(wait_for(outcome))
        await asyncio.sleep(0)
        assert asyncio.isfuture(outcome)
        assert not outcome.done()
        outcome.settle(7)
        outcome.settle(8)
        assert await waiting == 7
        assert (outcome.done(), outcome.cancelled(), outcome.result()) == (True, False, 7)

    run(test)


def test_a_task_gets_the_error() -> None:
    async def test(outcome: Outcome) -> None:
        waiting = asyncio.create_task(wait_for(outcome))
        await asyncio.sleep(0)
        outcome.settle(None, OSError("gone"))
        with pytest.raises(OSError, match="gone"):
            await waiting

    run(test)


def test_what_is_there_already_is_not_waited_for() -> None:
    async def test(outcome: Outcome) -> None:
        outcome.settle(7)
        coroutine = wait_for(outcome)
        with pytest.raises(StopIteration) as ended:
            coroutine.send(None)
        assert ended.value.value == 7

    run(test)


def test_nobody_has_a_result_before_there_is_one() -> None:
    async def test(outcome: Outcome) -> None:
        with pytest.raises(asyncio.InvalidStateError):
            outcome.result()

    run(test)


def test_who_is_cancelled_waits_no_longer_and_what_comes_later_is_dropped() -> None:
    async def test(outcome: Outcome) -> None:
        waiting = asyncio.create_task(wait_for(outcome))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert outcome.cancelled()
        assert not outcome.cancel()
        outcome.settle(7)
        with pytest.raises(asyncio.CancelledError):
            outcome.result()

    run(test)


def test_a_task_that_is_cancelled_as_the_result_comes_is_cancelled() -> None:
    async def test(outcome: Outcome) -> None:
        waiting = asyncio.create_task(wait_for(outcome))
        await asyncio.sleep(0)
        outcome.settle(7)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(test)


def test_a_limit_of_time_holds_for_it() -> None:
    async def test(outcome: Outcome) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await outcome
        assert outcome.cancelled()

    run(test)


def test_asyncio_may_wait_for_it_together_with_others() -> None:
    async def test(outcome: Outcome) -> None:
        loop = asyncio.get_running_loop()
        other: asyncio.Future[int] = loop.create_future()
        other.set_result(1)
        loop.call_soon(outcome.settle, 2)
        assert await asyncio.gather(wait_for(outcome), other) == [2, 1]

    run(test)


def test_the_task_goes_on_in_its_own_variables() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="none")

    async def test(outcome: Outcome) -> None:
        async def mine() -> str:
            variable.set("mine")
            await outcome
            return variable.get()

        waiting = asyncio.create_task(mine())
        await asyncio.sleep(0)
        variable.set("other")
        outcome.settle(7)
        assert await waiting == "mine"

    run(test)


@pytest.mark.parametrize("error", [None, OSError("gone")])
def test_who_has_parked_is_woken_once_at_once(error: OSError | None) -> None:
    async def test(outcome: Outcome) -> None:
        woken: list[Any] = []
        coroutine = wait_for(outcome)
        assert coroutine.send(None) is outcome
        outcome.waker, outcome.waiter = woken.append, "call"
        outcome.settle(7, error)
        outcome.settle(8)
        assert woken == ["call"]
        with pytest.raises(StopIteration if error is None else OSError):
            coroutine.send(None)

    run(test)
