from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from resilient_rpc.call import Call, Reply
from resilient_rpc.chain import Chain, compose
from resilient_rpc.errors import (
    NOT_EXECUTED,
    ApplicationError,
    BulkheadFull,
    CircuitOpen,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    DependencyUnavailable,
    Expired,
    Overloaded,
)
from resilient_rpc.events import CallRejected
from resilient_rpc.hub import Events
from resilient_rpc.policies import AdaptiveLimit, AttemptTimeout, Bulkhead, LimitChanged, RateLimit
from resilient_rpc.runtime import BLOCKING, drive, running_runtime
from resilient_rpc.testing import VirtualClock, check_policy
from tests.runtimes import Bench


class Answering:
    """Answers each call after `seconds` with a reply, or with a copy of `error`."""

    def __init__(self, seconds: float = 0.1, error: type[BaseException] | None = None, **reply: Any) -> None:
        self.seconds, self.error, self.reply = seconds, error, reply

    async def __call__(self, call: Call) -> Reply:
        await call.runtime.sleep(self.seconds)
        if self.error is not None:
            raise self.error("no")
        return Reply(result="done", **self.reply)


def load(runtime: Bench, policy: AdaptiveLimit, target: Any, *, callers: int, seconds: float, **fields: Any) -> int:
    """Callers that call again and again; how many calls succeeded."""
    chain = compose([policy], target)
    end = runtime.clock.now() + seconds

    def maker(number: int) -> Any:
        async def caller() -> int:
            done = 0
            await runtime.port.sleep(number / 1000)
            while runtime.clock.now() < end:
                try:
                    await chain(runtime.make(**fields))
                    done += 1
                except BulkheadFull:
                    await runtime.port.sleep(0.05)
                except Exception:
                    await runtime.port.sleep(0.001)
            return done

        return caller

    return sum(runtime.together(*[maker(number) for number in range(callers)]))


def small(**settings: Any) -> AdaptiveLimit:
    return AdaptiveLimit(**{"window": 0.5, "samples": 10, **settings})


def test_it_finds_out_what_the_server_takes(runtime: Bench) -> None:
    policy = small(initial=3)
    server = compose([Bulkhead(limit=8, queue=1000)], Answering(0.1))
    load(runtime, policy, server, callers=30, seconds=15)
    done = load(runtime, policy, server, callers=30, seconds=5)
    assert 8 <= policy.limit("orders") <= 16
    assert done / 5 > 0.9 * 8 / 0.1


def test_it_recovers_from_a_slow_down(runtime: Bench) -> None:
    policy = small(initial=10)
    target = Answering(0.1)
    server = compose([Bulkhead(limit=8, queue=1000)], target)
    load(runtime, policy, server, callers=30, seconds=10)
    before = policy.limit("orders")
    target.seconds = 0.6
    load(runtime, policy, server, callers=30, seconds=6)
    assert policy.limit("orders") < before
    target.seconds = 0.1
    load(runtime, policy, server, callers=30, seconds=10)
    assert policy.limit("orders") >= 8


def test_each_target_has_a_limit_of_its_own(runtime: Bench) -> None:
    policy = small(initial=5)
    load(runtime, policy, Answering(error=Overloaded), callers=5, seconds=3)
    assert policy.limit("orders") == 1
    assert policy.limit("stock") == 5


def test_calls_beyond_the_limit_are_refused(runtime: Bench) -> None:
    bus, told = Events(), []
    bus.on(CallRejected, told.append)
    chain = compose([AdaptiveLimit(initial=2)], Answering())
    results = runtime.together(*[lambda: chain(runtime.make(events=bus))] * 3, return_errors=True)
    (error,) = [one for one in results if isinstance(one, BulkheadFull)]
    assert str(error) == "AdaptiveLimit: all 2 permits of orders were taken, and no place in its line"
    assert [(event.policy, event.reason) for event in told] == [("AdaptiveLimit", "full")]


def test_calls_wait_in_line_where_that_is_allowed(runtime: Bench) -> None:
    chain = compose([AdaptiveLimit(initial=1, queue=5)], Answering(10))
    assert len(runtime.together(*[lambda: chain(runtime.make())] * 3)) == 3
    assert runtime.passed == 30


def test_what_the_target_refuses_lowers_the_limit(runtime: Bench) -> None:
    policy = small(initial=10)
    load(runtime, policy, Answering(error=Overloaded), callers=10, seconds=0.7)
    assert policy.limit("orders") == 5


@pytest.mark.parametrize("error", [DeadlineExceeded, Expired])
def test_a_call_that_was_given_up_counts_with_the_time_it_had(runtime: Bench, error: type[BaseException]) -> None:
    policy, target = small(initial=10), Answering(0.1)
    load(runtime, policy, target, callers=30, seconds=1)
    before = policy.limit("orders")
    target.error = error
    load(runtime, policy, target, callers=30, seconds=2)
    hasty = policy.limit("orders")
    target.seconds = 1.0
    load(runtime, policy, target, callers=30, seconds=5)
    assert before <= hasty
    assert policy.limit("orders") < before


def never_sent(text: str) -> DeadlineExceeded:
    return DeadlineExceeded(text, stage="publish", certainty=NOT_EXECUTED)


@pytest.mark.parametrize(
    "error",
    [ApplicationError, DependencyUnavailable, ConnectionLost, CircuitOpen, BulkheadFull, never_sent, ValueError],
)
def test_other_errors_say_nothing(runtime: Bench, error: Any) -> None:
    policy, target = small(initial=10), Answering(0.1)
    load(runtime, policy, target, callers=10, seconds=0.7)
    learnt = policy.limit("orders")
    target.seconds, target.error = 3.0, error
    load(runtime, policy, target, callers=30, seconds=20)
    assert policy.limit("orders") == learnt


@pytest.mark.parametrize("reply", [{"replayed": True}, {"degraded": True}])
def test_replies_that_took_no_work_say_nothing(runtime: Bench, reply: dict[str, Any]) -> None:
    policy = small(initial=10)
    load(runtime, policy, Answering(0.01, **reply), callers=30, seconds=5)
    assert policy.limit("orders") == 10


def test_a_changed_limit_is_an_event(runtime: Bench) -> None:
    bus, told = Events(), []
    bus.on(LimitChanged, told.append)
    policy = small(initial=10, name="mine")
    load(runtime, policy, Answering(error=Overloaded), callers=10, seconds=0.7, events=bus)
    assert told == [
        LimitChanged(policy="mine", method="orders.create", target="orders", old=10, new=5, reason="overloaded")
    ]


def test_an_error_gives_the_permit_back(runtime: Bench) -> None:
    policy = AdaptiveLimit()
    with pytest.raises(KeyError):
        runtime.call(compose([policy], Answering(error=KeyError)))
    assert not policy._state.rooms.of("orders").busy()


def test_a_cancelled_call_gives_the_permit_back_and_says_nothing(clock: VirtualClock) -> None:
    policy = AdaptiveLimit(window=0.001, samples=1)

    async def main() -> None:
        call = Call(method="a.b", params={}, runtime=running_runtime(), deadline=clock.now() + 10)
        running = asyncio.create_task(compose([policy], Answering(5))(call))
        await asyncio.sleep(1)
        running.cancel()
        (result,) = await asyncio.gather(running, return_exceptions=True)
        assert isinstance(result, asyncio.CancelledError)

    with asyncio.Runner(loop_factory=clock.new_loop) as runner:
        runner.run(main())
    room = policy._state.rooms.of("a")
    assert (room.busy(), room._gradient.baseline, room.permits.limit) == (False, 0.0, 20)


def test_a_reload_keeps_what_was_learnt_within_the_new_bounds(runtime: Bench) -> None:
    old = small(initial=10)
    load(runtime, old, Answering(error=Overloaded), callers=10, seconds=0.7)
    assert old.limit("orders") == 5
    same, narrow = small(initial=10, max=50), small(initial=4, max=4)
    same.adopt(old)
    assert same.limit("orders") == 5
    narrow.adopt(same)
    assert (narrow.limit("orders"), narrow.limit("stock")) == (4, 4)


def test_calls_of_the_old_chain_keep_to_the_new_bounds(runtime: Bench) -> None:
    old, new = small(initial=10), small(initial=10, max=12)
    new.adopt(old)
    load(runtime, old, Answering(0.1), callers=30, seconds=5)
    assert new.limit("orders") == 12


def test_threads_and_loops_share_the_permits() -> None:
    policy = AdaptiveLimit(initial=3, max=3, window=0.001, samples=5, queue=100)
    lock, inside, most = threading.Lock(), [0], [0]
    errors: list[BaseException] = []

    async def target(call: Call) -> Reply:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        await call.runtime.sleep(0.0005)
        with lock:
            inside[0] -= 1
        return Reply(result=None)

    chain = compose([policy], target)

    def make(runtime: Any) -> Call:
        return Call(method="a.b", params={}, runtime=runtime, deadline=time.monotonic() + 20)

    def blocking() -> None:
        try:
            for _ in range(30):
                drive(chain(make(BLOCKING)))
        except BaseException as error:
            errors.append(error)

    def on_a_loop() -> None:
        async def main() -> None:
            await asyncio.gather(*[chain(make(running_runtime())) for _ in range(20)])

        try:
            asyncio.run(main())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for work in [blocking] * 6 + [on_a_loop] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors
    permits = policy._state.rooms.of("a").permits
    assert (permits.out, permits.waiting) == (0, 0)
    assert most[0] <= 3


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"min": 0}, "min"),
        ({"min": 5, "max": 4}, "max"),
        ({"initial": 201}, "initial"),
        ({"min": 5, "initial": 4}, "initial"),
        ({"initial": 2.5}, "initial"),
        ({"window": 0}, "window"),
        ({"window": math.inf}, "window"),
        ({"samples": 0}, "samples"),
        ({"tolerance": 0.9}, "tolerance"),
        ({"tolerance": 11}, "tolerance"),
        ({"tolerance": "2"}, "tolerance"),
        ({"queue": -1}, "queue"),
        ({"max_wait": -1}, "max_wait"),
        ({"priority": 3}, "priority"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"AdaptiveLimit\.{named} .*{settings[named]!r}$"):
        AdaptiveLimit(**settings)


@pytest.mark.parametrize("policies", [[AttemptTimeout(), AdaptiveLimit()], [AdaptiveLimit(), Bulkhead()]])
def test_a_wrong_place_in_a_chain_is_refused_with_the_reason(policies: list[Any]) -> None:
    with pytest.raises(ConfigurationError, match="must stand before"):
        Chain(policies, Answering())


def test_it_may_stand_on_either_side_of_a_rate_limit() -> None:
    Chain([RateLimit(rate=5), AdaptiveLimit()], Answering())
    Chain([AdaptiveLimit(), RateLimit(rate=5)], Answering())


@pytest.mark.parametrize("make", [AdaptiveLimit, lambda: AdaptiveLimit(initial=3, queue=20, max_wait=2)])
def test_it_keeps_the_rules_of_policies(make: Callable[[], AdaptiveLimit]) -> None:
    check_policy(make)
