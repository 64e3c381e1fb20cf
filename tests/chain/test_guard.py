from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import types
from collections.abc import Callable
from typing import Any

import pytest

from resilient_rpc.call import Call, Reply
from resilient_rpc.chain import Chain
from resilient_rpc.chain.visit import GRACE
from resilient_rpc.errors import BulkheadFull, Certainty, DeadlineExceeded, NotConnected, PolicyFailed, RateLimited
from resilient_rpc.events import PolicyFaulted
from resilient_rpc.hub import Events
from resilient_rpc.pending import Pending
from resilient_rpc.policies import Deadline, RateLimit
from resilient_rpc.policy import Handler, Policy
from resilient_rpc.runtime import PolicySuspended, drive, running_runtime
from resilient_rpc.testing import VirtualClock
from tests.runtimes import Bench

Do = Callable[[Call, Handler], Any]


class Custom:
    """Does what it is told."""

    def __init__(self, do: Do, name: str = "") -> None:
        self.do, self.name = do, name

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        reply: Reply = await self.do(call, proceed)
        return reply


async def onward(call: Call, proceed: Handler) -> Any:
    return await proceed(call)


async def echo(call: Call) -> Reply:
    return Reply(result=call.params)


class Heard:
    """The events of the calls that it makes."""

    def __init__(self) -> None:
        self.events, self.faults = Events(), list[PolicyFaulted]()
        self.events.on(PolicyFaulted, self.faults.append)

    def fails(self, runtime: Bench, policies: list[Policy], terminal: Handler = echo, **fields: Any) -> Any:
        """The error of a call."""
        chain = Chain(policies, terminal)
        results = runtime.together(
            lambda: chain.handler(runtime.make(events=self.events, **fields)), return_errors=True
        )
        assert isinstance(results[0], BaseException), results
        return results[0]


@pytest.fixture
def heard() -> Heard:
    return Heard()


def assert_named(heard: Heard, error: Any, policy: str, reason: str) -> None:
    assert error.policy == policy
    assert policy in str(error)
    (fault,) = heard.faults
    assert (fault.policy, fault.reason, fault.error) == (policy, reason, error)
    assert (fault.method, fault.target, fault.attempt) == ("orders.create", "orders", 1)


def test_a_well_behaved_policy_is_let_be(runtime: Bench) -> None:
    class Better(Reply):
        pass

    async def better(call: Call, proceed: Handler) -> Reply:
        return Better(result=(await proceed(call)).result)

    chain = Chain([Custom(onward), Custom(better), Custom(onward)], echo)
    assert runtime.call(chain.handler, params={"x": 1}).result == {"x": 1}
    assert runtime.call(chain.handler, params={"x": 2}, timeout=math.inf).result == {"x": 2}


async def wrong(_: Call, __: Handler) -> Any:
    raise ValueError("oh")


def test_what_a_policy_raises_before_it_carries_the_call_on_names_it(runtime: Bench, heard: Heard) -> None:
    error = heard.fails(runtime, [Custom(onward), Custom(wrong, name="left"), Custom(onward)])
    assert isinstance(error, PolicyFailed)
    assert error.certainty is Certainty.NOT_EXECUTED
    assert isinstance(error.__cause__, ValueError)
    assert_named(heard, error, "Custom 'left'", "raised")
    assert "raised ValueError('oh')" in str(error)


def test_what_it_raises_afterwards_leaves_open_what_became_of_the_call(runtime: Bench, heard: Heard) -> None:
    async def late(call: Call, proceed: Handler) -> Any:
        await proceed(call)
        raise KeyError("no")

    error = heard.fails(runtime, [Custom(late)])
    assert error.certainty is Certainty.UNKNOWN
    assert_named(heard, error, "Custom", "raised")


def test_nobody_needs_to_listen(runtime: Bench) -> None:
    with pytest.raises(PolicyFailed):
        runtime.call(Chain([Custom(wrong)], echo).handler)


def test_what_the_terminal_raises_is_no_policy_s(runtime: Bench, heard: Heard) -> None:
    async def broken(_: Call) -> Reply:
        raise OSError("below")

    error = heard.fails(runtime, [Custom(onward)], broken)
    assert type(error) is OSError
    assert heard.faults == []


def test_errors_of_calls_pass_as_they_are(runtime: Bench, heard: Heard) -> None:
    async def down(_: Call) -> Reply:
        raise NotConnected("nobody")

    assert type(heard.fails(runtime, [Custom(onward), Custom(onward)], down)) is NotConnected
    assert heard.faults == []


def test_a_refusal_names_the_policy_of_another_that_refuses(runtime: Bench, heard: Heard) -> None:
    async def full(_: Call, __: Handler) -> Any:
        raise BulkheadFull("no room")

    for policies in ([Custom(full, "mine")], [Custom(onward, "other"), Custom(full, "mine")]):
        error = heard.fails(runtime, policies)
        assert type(error) is BulkheadFull
        assert error.policy == "Custom 'mine'"
    assert not heard.faults


def test_a_refusal_by_what_stands_inside_names_nobody_else(runtime: Bench, heard: Heard) -> None:
    async def full(_: Call) -> Reply:
        raise BulkheadFull("no room")

    assert not heard.fails(runtime, [Custom(onward)], full).policy
    limit = RateLimit(rate=0.001, burst=1)
    runtime.call(Chain([limit], echo).handler)
    error = heard.fails(runtime, [Custom(onward), limit])
    assert type(error) is RateLimited
    assert not error.policy


def test_the_error_of_a_policy_of_ours_inside_of_another_names_ours(runtime: Bench, heard: Heard) -> None:
    inner = Deadline(limit=1)
    object.__setattr__(inner, "limit", "soon")
    error = heard.fails(runtime, [Custom(onward), inner])
    assert error.policy == "Deadline"


@pytest.mark.parametrize("value", [None, 7, {"result": 1}])
def test_what_is_no_reply_names_who_returned_it(runtime: Bench, heard: Heard, value: Any) -> None:
    async def returns(_: Call, __: Handler) -> Any:
        return value

    error = heard.fails(runtime, [Custom(onward), Custom(returns)])
    assert type(error) is PolicyFailed
    assert error.certainty is Certainty.NOT_EXECUTED
    assert f"returned {value!r}" in str(error)
    assert_named(heard, error, "Custom", "returned")


def test_a_policy_that_is_no_coroutine_function(runtime: Bench, heard: Heard) -> None:
    def forgetful(_: Call, __: Handler) -> Any:
        return None

    error = heard.fails(runtime, [forgetful])
    assert type(error) is PolicyFailed
    assert error.policy.endswith("forgetful")

    def passes(call: Call, proceed: Handler, /) -> Any:
        return proceed(call)

    assert runtime.call(Chain([passes], echo).handler, params={"x": 1}).result == {"x": 1}


def test_any_awaitable_will_do(runtime: Bench) -> None:
    class Later:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __await__(self) -> Any:
            return (yield from self._inner.__await__())

    def later(call: Call, proceed: Handler, /) -> Any:
        return Later(proceed(call))

    assert runtime.call(Chain([later], echo).handler, params={"x": 1}).result == {"x": 1}


def test_a_policy_made_of_a_function_and_its_settings_is_named(runtime: Bench, heard: Heard) -> None:
    async def throw(what: Exception, _: Call, __: Handler) -> Any:
        raise what

    error = heard.fails(runtime, [functools.partial(throw, OSError("x"))])
    assert_named(heard, error, "partial", "raised")


async def sleeps(call: Call, proceed: Handler) -> Any:
    await call.runtime.sleep(1000)
    return await proceed(call)


async def waits(call: Call, proceed: Handler) -> Any:
    await call.runtime.wait([Pending[None]()], math.inf)
    return await proceed(call)


@pytest.mark.parametrize("do", [sleeps, waits])
def test_a_policy_that_waits_beyond_the_deadline_is_ended_and_named(runtime: Bench, heard: Heard, do: Do) -> None:
    error = heard.fails(runtime, [Custom(onward), Custom(do, name="slow")], timeout=5)
    assert type(error) is DeadlineExceeded
    assert (error.stage, error.certainty) == ("policy", Certainty.NOT_EXECUTED)
    assert 5 + GRACE <= runtime.passed <= 5 + GRACE + 0.1
    assert_named(heard, error, "Custom 'slow'", "hung")


def test_the_nearer_deadline_of_a_policy_further_out_counts(runtime: Bench, heard: Heard) -> None:
    error = heard.fails(runtime, [Deadline(limit=2), Custom(sleeps)], timeout=30)
    assert type(error) is DeadlineExceeded
    assert runtime.passed <= 2 + GRACE + 0.1


def test_a_policy_that_waits_after_the_answer_leaves_open_what_became_of_the_call(runtime: Bench, heard: Heard) -> None:
    async def dawdles(call: Call, proceed: Handler) -> Any:
        await proceed(call)
        await call.runtime.sleep(1000)

    assert heard.fails(runtime, [Custom(dawdles)], timeout=5).certainty is Certainty.UNKNOWN


def test_it_may_wait_as_long_as_there_is_time(runtime: Bench) -> None:
    async def polite(call: Call, proceed: Handler) -> Any:
        await call.runtime.sleep(2)
        pending = Pending[int]()
        assert await call.runtime.wait([pending], 1) is None
        pending.set(1)
        assert await call.runtime.wait([pending], 1) is pending
        return await proceed(call)

    chain = Chain([Custom(polite)], echo)
    assert runtime.call(chain.handler, timeout=5, params={"x": 1}).result == {"x": 1}
    assert runtime.passed == 3


def test_what_it_holds_is_given_back(runtime: Bench, heard: Heard) -> None:
    held: list[str] = []

    async def holds(call: Call, _: Handler) -> Any:
        held.append("permit")
        try:
            await call.runtime.sleep(1000)
        finally:
            held.pop()

    heard.fails(runtime, [Custom(holds)], timeout=1)
    assert held == []


@pytest.mark.parametrize("busy", [False, True])
def test_one_that_repeats_without_a_pause_is_ended(runtime: Bench, heard: Heard, busy: bool) -> None:
    async def slow(call: Call) -> Reply:
        if busy:  # time passes though nobody waits
            runtime.clock._timeline._now += 0.5
        else:
            await call.runtime.sleep(max(call.remaining(), 0.1))
        raise DeadlineExceeded("no answer")

    async def stubborn(call: Call, proceed: Handler) -> Any:
        while True:
            try:
                return await proceed(call)
            except Exception:
                assert call.runtime.now() < 2000

    error = heard.fails(runtime, [Custom(stubborn)], slow, timeout=5)
    assert (type(error), error.stage) == (DeadlineExceeded, "policy")
    assert runtime.passed < 7


def test_an_answer_that_comes_a_little_late_is_waited_for(runtime: Bench, heard: Heard) -> None:
    async def late(call: Call) -> Reply:
        await call.runtime.sleep(5.8)
        return Reply(result="late")

    chain = Chain([Custom(onward), Custom(onward)], late)
    assert runtime.call(chain.handler, timeout=5, events=heard.events).result == "late"
    assert heard.faults == []


def test_one_that_swallows_its_end_may_still_answer(runtime: Bench, heard: Heard) -> None:
    async def swallows(call: Call, proceed: Handler) -> Any:
        try:
            await call.runtime.sleep(1000)
        except asyncio.CancelledError:
            return Reply(result="mine")

    chain = Chain([Custom(swallows)], echo)
    assert runtime.call(chain.handler, timeout=5, events=heard.events).result == "mine"

    async def mine_after_all(call: Call, proceed: Handler) -> Any:
        with contextlib.suppress(asyncio.CancelledError):
            await call.runtime.sleep(1000)
        return await proceed(call)

    again = Chain([Custom(mine_after_all)], echo)
    (outcome,) = runtime.together(lambda: again.handler(runtime.make(timeout=5)), return_errors=True)
    assert type(outcome) is (Reply if runtime.name == "asyncio" else DeadlineExceeded)  # a task has been cancelled once

    async def afterwards() -> bool:
        task = asyncio.current_task()
        assert task is not None
        await chain.handler(runtime.make(timeout=5))
        return task.cancelling() == 0

    if runtime.name == "asyncio":
        assert runtime.run(afterwards)


def test_a_cancelled_call_is_cancelled_and_no_policy_s_fault(runtime: Bench, heard: Heard) -> None:
    async def cancelled(_: Call) -> Reply:
        raise asyncio.CancelledError

    chain = Chain([Custom(onward)], cancelled)
    with pytest.raises(asyncio.CancelledError):
        runtime.call(chain.handler, events=heard.events)
    assert heard.faults == []


def test_whoever_cancels_the_call_at_the_same_time_is_heard(clock: VirtualClock, heard: Heard) -> None:
    chain = Chain([Custom(sleeps)], echo)

    async def both() -> None:
        task = asyncio.ensure_future(chain.handler(make(events=heard.events)))
        asyncio.get_running_loop().call_later(5 + GRACE, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    def make(**fields: Any) -> Call:
        now = clock.now()
        return Call(method="a.b", params={}, runtime=running_runtime(), deadline=now + 5, timeout=5, **fields)

    clock.run_async(both)
    assert heard.faults == []


def test_what_only_a_loop_can_wait_for_names_the_policy_in_a_thread(runtime: Bench, heard: Heard) -> None:
    async def suspends(call: Call, proceed: Handler) -> Any:
        await _bare()
        return await proceed(call)

    @types.coroutine
    def _bare() -> Any:
        yield None

    chain = [Custom(onward), Custom(suspends, name="x")]
    if runtime.name == "asyncio":  # there it is only one turn of the loop
        assert runtime.call(Chain(chain, echo).handler, params={"x": 1}).result == {"x": 1}
        return
    error = heard.fails(runtime, chain)
    assert type(error) is PolicySuspended
    assert_named_by_event(heard, error, "Custom 'x'")
    assert error.certainty is Certainty.NOT_EXECUTED

    async def suspends_later(call: Call, proceed: Handler) -> Any:
        await proceed(call)
        await _bare()

    assert heard.fails(runtime, [Custom(suspends_later)]).certainty is Certainty.UNKNOWN


def assert_named_by_event(heard: Heard, error: Any, policy: str) -> None:
    (fault,) = heard.faults
    assert (error.policy, fault.policy, fault.reason, fault.error) == (policy, policy, "suspended", error)


def test_what_a_policy_starts_runs_beside_it(runtime: Bench) -> None:
    async def starts(call: Call, proceed: Handler) -> Any:
        async def work(runtime: Any) -> Any:
            return await proceed(call.on(runtime))

        started = call.runtime.start(work)
        assert await call.runtime.wait([started], 3) is started
        return started.result()

    assert runtime.call(Chain([Custom(starts)], echo).handler, params={"x": 1}).result == {"x": 1}


def test_outside_of_any_task_nothing_can_be_ended(clock: VirtualClock) -> None:
    results: list[Reply] = []

    async def main() -> None:
        call = Call(method="a.b", params={"x": 1}, runtime=running_runtime(), deadline=clock.now() + 5)
        chain = Chain([Custom(onward)], echo)
        asyncio.get_running_loop().call_soon(lambda: results.append(drive(chain.handler(call))))
        await asyncio.sleep(1)

    clock.run_async(main)
    assert [reply.result for reply in results] == [{"x": 1}]


class Foreign:
    """A runtime that is nobody's: it passes on what it is asked."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)


@pytest.mark.parametrize("do", [onward, wrong, sleeps])
def test_on_a_foreign_runtime_errors_are_contained_and_nothing_is_ended(runtime: Bench, heard: Heard, do: Do) -> None:
    async def foreign(call: Call, proceed: Handler) -> Any:
        return await proceed(call.on(Foreign(call.runtime)))

    async def beyond() -> Any:
        call = runtime.make(timeout=5, events=heard.events, params={"x": 1})
        return await Chain([Custom(do)], echo).handler(call.on(Foreign(call.runtime)))

    (result,) = runtime.together(beyond, return_errors=True)
    if do is wrong:
        assert_named(heard, result, "Custom", "raised")
        assert result.certainty is Certainty.NOT_EXECUTED
    else:
        assert result.result == {"x": 1}
