from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from resilient_rpc.call import READ_ONLY, CacheHints, Call, Reply
from resilient_rpc.chain import compose
from resilient_rpc.errors import (
    NOT_EXECUTED,
    ApplicationError,
    CircuitOpen,
    ConnectionLost,
    DeadlineExceeded,
    NotConnected,
    UsageError,
)
from resilient_rpc.loops import running_runtime
from resilient_rpc.pending import Pending
from resilient_rpc.policies.cache import Cache
from resilient_rpc.policies.cache.entries import Shard
from resilient_rpc.policies.cache.flight import GONE, LEAD, Flight
from resilient_rpc.runtime import BLOCKING, drive
from resilient_rpc.testing import VirtualClock
from tests.policies.cache.shops import READ, OutOfStock, Shop, even, listening
from tests.runtimes import Bench

Handler = Callable[[Call], Any]


def asking(runtime: Bench, chain: Handler, *, after: float = 0.0, **fields: Any) -> Callable[[], Any]:
    """A caller that begins after some seconds."""

    async def ask() -> Any:
        if after:
            await runtime.port.sleep(after)
        return (await chain(runtime.make(**READ, **fields))).result

    return ask


def test_calls_that_miss_at_the_same_time_are_sent_once(runtime: Bench) -> None:
    shop = Shop(seconds=1)
    events, seen = listening()
    chain = compose([Cache()], shop)
    results = runtime.together(*[asking(runtime, chain, after=0.1 * n, events=events) for n in range(5)])
    assert results == [[1]] * 5
    assert len({id(result) for result in results}) == 5
    assert runtime.passed == 1
    assert sorted(seen) == ["joined"] * 4 + ["miss"]


@pytest.mark.parametrize("error", [ConnectionLost("gone"), OutOfStock("no A1", details=["A1"]), ValueError("a bug")])
def test_a_failing_flight_is_one_call_and_all_get_the_error_in_its_time(runtime: Bench, error: Exception) -> None:
    # T10 of reference: N waiters on a failing flight.
    shop = Shop(seconds=1)
    shop.error = error
    chain = compose([Cache()], shop)
    errors = runtime.together(*[asking(runtime, chain) for _ in range(20)], return_errors=True)
    assert len(shop.calls) == 1
    assert runtime.passed == 1
    assert {type(found) for found in errors} == {type(error)}
    assert {str(found) for found in errors} == {str(error)}
    assert len({id(found) for found in errors}) == 20


def test_those_who_get_an_error_cannot_change_that_of_others(runtime: Bench) -> None:
    shop = Shop(seconds=1)
    shop.error = OutOfStock("no", details=["A1"])
    chain = compose([Cache()], shop)
    errors = runtime.together(*[asking(runtime, chain) for _ in range(3)], return_errors=True)
    assert len({id(found.details) for found in errors}) == 3


def test_a_waiter_keeps_its_own_deadline(runtime: Bench) -> None:
    shop = Shop(seconds=10)
    chain = compose([Cache()], shop)
    results = runtime.together(asking(runtime, chain), asking(runtime, chain, after=1, timeout=2), return_errors=True)
    assert results[0] == [1]
    error = results[1]
    assert isinstance(error, DeadlineExceeded)
    assert (error.stage, error.certainty, error.retryable) == ("policy", NOT_EXECUTED, False)


def test_an_old_value_stands_in_for_a_waiter_whose_deadline_passes(runtime: Bench) -> None:
    shop = Shop()
    chain = compose([even(ttl=10, stale_if_error=100)], shop)
    runtime.call(chain, **READ)
    runtime.advance(11)
    shop.seconds = 10
    results = runtime.together(asking(runtime, chain), asking(runtime, chain, after=1, timeout=2))
    assert results == [[2], [1]]


@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError(),
        CircuitOpen("open"),
        UsageError("the client is closed"),
    ],
)
def test_what_only_concerns_the_leader_hands_the_lead_on(runtime: Bench, error: BaseException) -> None:
    shop = Shop(seconds=1)

    async def first_fails(call: Call) -> Reply:
        reply = await shop(call)
        if len(shop.calls) == 1:
            raise error
        return reply

    chain = compose([Cache()], first_fails)
    results = runtime.together(*[asking(runtime, chain, after=0.01 * n) for n in range(4)], return_errors=True)
    assert type(results[0]) is type(error)
    assert results[1:] == [[2]] * 3
    assert len(shop.calls) == 2
    assert runtime.passed == pytest.approx(2)


def test_a_leader_that_is_out_of_time_hands_the_lead_on(runtime: Bench) -> None:
    calls = []

    async def patient(call: Call) -> Reply:
        calls.append(call)
        needed = 3.0
        await call.runtime.sleep(min(needed, call.remaining()))
        if call.remaining() <= 0:
            raise DeadlineExceeded("time is up") if len(calls) == 1 else NotConnected("time is up")
        return Reply(result="done")

    chain = compose([Cache()], patient)
    results = runtime.together(
        asking(runtime, chain, timeout=1),
        asking(runtime, chain, after=0.1, timeout=2),
        asking(runtime, chain, after=0.2, timeout=30),
        return_errors=True,
    )
    assert [type(result) for result in results] == [DeadlineExceeded, NotConnected, str]
    assert len(calls) == 3


def test_an_attempt_that_took_too_long_concerns_all(runtime: Bench) -> None:
    shop = Shop(seconds=1)
    shop.error = DeadlineExceeded("the limit of an attempt")
    chain = compose([Cache()], shop)
    errors = runtime.together(*[asking(runtime, chain, timeout=30) for _ in range(5)], return_errors=True)
    assert {type(error) for error in errors} == {DeadlineExceeded}
    assert len(shop.calls) == 1


def test_an_answer_at_the_last_moment_concerns_all(runtime: Bench) -> None:
    shop = Shop(seconds=1)
    shop.error = ApplicationError("no")
    chain = compose([Cache()], shop)
    errors = runtime.together(
        asking(runtime, chain, timeout=1.01), asking(runtime, chain, after=0.1), return_errors=True
    )
    assert {type(error) for error in errors} == {ApplicationError}
    assert len(shop.calls) == 1


def test_an_answer_that_must_not_be_stored_is_not_shared(runtime: Bench) -> None:
    shop = Shop(seconds=1)
    shop.hints = CacheHints(no_store=True)
    chain = compose([Cache()], shop)
    results = runtime.together(*[asking(runtime, chain) for _ in range(4)])
    assert sorted(results) == [[1], [2], [3], [4]]
    assert runtime.passed == 2


def test_an_answer_that_is_old_at_once_is_shared_with_those_who_wait(runtime: Bench) -> None:
    shop = Shop(seconds=1)
    shop.hints = CacheHints(max_age=0)
    chain = compose([Cache()], shop)
    assert runtime.together(*[asking(runtime, chain) for _ in range(4)]) == [[1]] * 4
    assert runtime.call(chain, **READ).result == [2]


def test_the_leaders_own_thread_or_task_does_not_wait_for_itself(runtime: Bench) -> None:
    depth = []

    async def again(call: Call) -> Reply:
        depth.append(call)
        if len(depth) == 1:
            inner = await chain(call)
            return Reply(result=["outer", inner.result])
        return Reply(result="inner")

    chain = compose([Cache()], again)
    assert runtime.call(chain, **READ).result == ["outer", "inner"]
    assert runtime.passed == 0


def test_what_the_leader_starts_does_not_wait_for_it(runtime: Bench) -> None:
    depth = []

    async def starts(call: Call) -> Reply:
        depth.append(call)
        if len(depth) > 1:
            return Reply(result="inner")
        started = call.runtime.start(lambda rt: chain(call.on(rt)))
        await call.runtime.wait((started,), 100)
        return Reply(result=["outer", started.result().result])

    chain = compose([Cache()], starts)
    assert runtime.call(chain, **READ).result == ["outer", "inner"]
    assert runtime.passed == 0


def test_a_blocking_call_on_the_thread_of_a_loop_never_waits_for_a_flight() -> None:
    cache, begun = Cache(), asyncio.Event()

    async def main() -> list[Any]:
        release = asyncio.Event()

        async def held(call: Call) -> Reply:
            begun.set()
            await release.wait()
            return Reply(result="of the task")

        async def quick(call: Call) -> Reply:
            return Reply(result="of its own")

        mine = _call(running_runtime())
        task = asyncio.create_task(cache(mine, held))
        await begun.wait()
        found = drive(cache(mine.on(BLOCKING), quick))
        release.set()
        return [found.result, (await task).result]

    assert asyncio.run(main()) == ["of its own", "of the task"]


def _call(runtime: Any) -> Call:
    return Call(method="orders.price", params={}, runtime=runtime, deadline=runtime.now() + 30, safety=READ_ONLY)


def test_a_flight_serves_threads_and_loops_at_once() -> None:
    with VirtualClock() as clock:
        shop, cache = Shop(seconds=5), Cache()

        def thread() -> Any:
            return drive(cache(_call(clock.blocking), shop)).result

        async def task() -> Any:
            return (await cache(_call(running_runtime()), shop)).result

        results = clock.run(thread, task, thread, task, thread)
        assert results == [[1]] * 5
        assert len(shop.calls) == 1


def test_a_waiter_that_is_cancelled_leaves_the_others_alone(clock: VirtualClock) -> None:
    shop = Shop(seconds=5)
    chain = compose([Cache()], shop)

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(chain(_call(running_runtime()))) for _ in range(3)]
        await asyncio.sleep(1)
        tasks[1].cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        return [type(item) for item in found]

    with asyncio.Runner(loop_factory=clock.new_loop) as runner:
        assert runner.run(main()) == [Reply, asyncio.CancelledError, Reply]
    assert len(shop.calls) == 1


def test_a_cancelled_leader_hands_the_lead_on(clock: VirtualClock) -> None:
    shop = Shop(seconds=5)
    chain = compose([Cache()], shop)

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(chain(_call(running_runtime()))) for _ in range(3)]
        await asyncio.sleep(1)
        tasks[0].cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        return [getattr(item, "result", "cancelled") for item in found]

    with asyncio.Runner(loop_factory=clock.new_loop) as runner:
        assert runner.run(main()) == ["cancelled", [2], [2]]


# -- the machine by itself


def flight() -> tuple[Flight, Shard]:
    shard = Shard(10, 10_000)
    made = Flight(("m", None, b"", None), shard)
    shard.flights["m", None, b"", None] = made
    return made, shard


class Script:
    """A runtime whose `wait` does what a test says."""

    def __init__(self, act: Callable[[Pending[Any]], Pending[Any] | None]) -> None:
        self._act = act

    def now(self) -> float:
        return 0.0

    async def wait(self, pendings: Any, timeout: float) -> Pending[Any] | None:
        return self._act(pendings[0])


def waiting(made: Flight, act: Callable[[Pending[Any]], Pending[Any] | None]) -> Any:
    waiter = made.join()
    assert waiter is not None
    call = Call(method="a.b", params={}, runtime=Script(act), deadline=5.0)  # type: ignore[arg-type]
    return drive(made.wait(waiter, call))


def test_a_lead_that_comes_as_the_waiter_is_cancelled_goes_to_the_next() -> None:
    made, shard = flight()

    def cancelled(_: Pending[Any]) -> None:
        made.hand_on()
        raise asyncio.CancelledError

    others: list[Any] = []

    def first(pending: Pending[Any]) -> None:
        others.append(made.join())
        cancelled(pending)

    with pytest.raises(asyncio.CancelledError):
        waiting(made, first)
    assert others[0].result() is LEAD
    made.hand_on()
    assert not shard.flights


def test_a_waiter_that_is_cancelled_without_a_lead_is_passed_over() -> None:
    made, shard = flight()

    def cancelled(_: Pending[Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        waiting(made, cancelled)
    made.hand_on()
    assert not shard.flights


def test_what_is_told_as_the_deadline_passes_counts() -> None:
    made, _ = flight()

    def late(_: Pending[Any]) -> None:
        made.hand_on()

    assert waiting(made, late) is LEAD


def test_a_deadline_that_passes_ends_the_wait() -> None:
    made, _ = flight()
    waiter = made.join()
    assert waiter is not None
    call = Call(method="a.b", params={}, runtime=Script(lambda _: None), deadline=-5.0)  # type: ignore[arg-type]
    assert drive(made.wait(waiter, call)) is None
    assert waiter.result() is GONE


def test_nobody_joins_a_flight_that_has_ended_and_a_later_one_stays() -> None:
    made, shard = flight()
    made.land(LEAD)
    later = Flight(("m", None, b"", None), shard)
    shard.flights["m", None, b"", None] = later
    made.hand_on()
    assert made.join() is None
    assert list(shard.flights.values()) == [later]


def test_a_caller_comes_again_when_the_flight_ends_as_it_wants_to_join(monkeypatch: pytest.MonkeyPatch) -> None:
    shop, cache = Shop(), Cache()
    joined = Flight.join
    held, other = threading.Event(), threading.Event()

    async def slow(call: Call) -> Reply:
        held.set()
        assert other.wait(10)
        return await shop(call)

    def too_late(self: Flight) -> Any:
        other.set()
        leader.join()
        return joined(self)

    monkeypatch.setattr(Flight, "join", too_late)
    leader = threading.Thread(target=lambda: drive(cache(_call(BLOCKING), slow)))
    leader.start()
    assert held.wait(10)
    assert drive(cache(_call(BLOCKING), shop)).result == [1]
    assert len(shop.calls) == 1
