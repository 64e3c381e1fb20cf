from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

from resilient_rpc.call import Call, Reply
from resilient_rpc.chain import Chain, compose
from resilient_rpc.errors import NOT_EXECUTED, ConfigurationError, RateLimited
from resilient_rpc.events import CallRejected
from resilient_rpc.hub import Events
from resilient_rpc.policies import AttemptTimeout, Deadline, RateLimit
from resilient_rpc.runtime import running_runtime
from resilient_rpc.testing import VirtualClock, check_policy
from tests.runtimes import Bench


class Target:
    """Remembers when calls came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    async def __call__(self, call: Call) -> Reply:
        self.times.append(call.runtime.now())
        return Reply(result=call.runtime.now())


def at_once(runtime: Bench, policy: RateLimit, count: int, method: str = "orders.create", **fields: Any) -> list[Any]:
    """How long each of so many calls waited, or its error; shortest first."""
    begin = runtime.clock.now()
    chain = compose([policy], Target())
    results = runtime.together(*[lambda: chain(runtime.make(method, **fields))] * count, return_errors=True)
    waited = sorted(round(one.result - begin, 6) for one in results if isinstance(one, Reply))
    return [*waited, *[one for one in results if not isinstance(one, Reply)]]


def test_a_burst_goes_at_once_and_what_is_over_is_refused(runtime: Bench) -> None:
    *went, error = at_once(runtime, RateLimit(rate=4, burst=3), 4)
    assert went == [0, 0, 0]
    assert isinstance(error, RateLimited)
    assert (error.certainty, error.retryable, error.retry_after) == (NOT_EXECUTED, True, 0.25)
    assert str(error) == "RateLimit: over 4 calls a second; the next token comes in 0.25 s"


@pytest.mark.parametrize(("rate", "burst"), [(5, 5), (2.5, 2), (0.1, 1)])
def test_the_burst_is_that_of_a_second_unless_said_otherwise(runtime: Bench, rate: float, burst: int) -> None:
    results = at_once(runtime, RateLimit(rate=rate), 8)
    assert [isinstance(one, RateLimited) for one in results].count(False) == burst


def test_in_the_long_run_the_rate_is_kept(runtime: Bench) -> None:
    chain = compose([RateLimit(rate=10, burst=2)], Target())
    done = 0
    for _ in range(200):
        try:
            runtime.call(chain)
            done += 1
        except RateLimited:
            pass
        runtime.advance(0.0625)
    assert done == pytest.approx(2 + 200 * 0.0625 * 10, abs=2)


def test_calls_wait_their_turn_where_that_is_allowed(runtime: Bench) -> None:
    *went, error = at_once(runtime, RateLimit(rate=2, burst=1, max_wait=1.0), 4)
    assert went == [0, 0.5, 1.0]
    assert error.retry_after == 1.5


def test_nobody_waits_until_the_deadline_or_beyond(runtime: Bench) -> None:
    *went, error = at_once(runtime, RateLimit(rate=1, burst=1, max_wait=math.inf), 3, timeout=2)
    assert went == [0, 1]
    assert error.retry_after == 2
    assert runtime.passed == 1


def test_a_call_without_time_is_refused_only_if_it_would_have_to_wait(runtime: Bench) -> None:
    policy = RateLimit(rate=1, burst=1, max_wait=5)
    assert at_once(runtime, policy, 1, timeout=-1) == [0]
    assert isinstance(at_once(runtime, policy, 1, timeout=-1)[0], RateLimited)


def test_each_target_has_a_rate_of_its_own(runtime: Bench) -> None:
    policy = RateLimit(rate=1)
    assert at_once(runtime, policy, 1) == at_once(runtime, policy, 1, "stock.take") == [0]
    assert isinstance(at_once(runtime, policy, 1, "orders.price")[0], RateLimited)


def test_what_is_limited_together_is_for_the_user_to_say(runtime: Bench) -> None:
    policy = RateLimit(rate=1, key=lambda call: call.tags.get("tenant", ""))
    assert at_once(runtime, policy, 1, tags={"tenant": "a"}) == at_once(runtime, policy, 1, tags={"tenant": "b"}) == [0]
    assert isinstance(at_once(runtime, policy, 1, "stock.take", tags={"tenant": "a"})[0], RateLimited)


def test_a_refusal_is_an_event(runtime: Bench) -> None:
    bus, told = Events(), []
    bus.on(CallRejected, told.append)
    at_once(runtime, RateLimit(rate=2, burst=1, name="mine"), 2, events=bus, attempt=3)
    assert told == [
        CallRejected(policy="mine", method="orders.create", target="orders", attempt=3, reason="rate", retry_after=0.5)
    ]


def test_a_cancelled_call_returns_its_token(clock: VirtualClock) -> None:
    target = Target()
    chain = compose([RateLimit(rate=1, burst=1, max_wait=5)], target)

    async def main() -> None:
        def make() -> Call:
            return Call(method="a.b", params={}, runtime=running_runtime(), deadline=clock.now() + 10)

        await chain(make())
        gone, stays = asyncio.create_task(chain(make())), asyncio.create_task(chain(make()))
        await asyncio.sleep(0.5)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        await asyncio.gather(chain(make()), stays)

    with asyncio.Runner(loop_factory=clock.new_loop) as runner:
        runner.run(main())
    assert target.times == pytest.approx([1000, 1001, 1002])


def test_a_reload_keeps_what_has_been_used(runtime: Bench) -> None:
    old, new = RateLimit(rate=1, burst=2), RateLimit(rate=4, burst=2)
    at_once(runtime, old, 2)
    new.adopt(old)
    assert at_once(runtime, new, 1)[0].retry_after == 0.25


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"rate": 0}, "rate"),
        ({"rate": -1}, "rate"),
        ({"rate": math.inf}, "rate"),
        ({"rate": math.nan}, "rate"),
        ({"rate": "5"}, "rate"),
        ({"rate": True}, "rate"),
        ({"burst": 0.5}, "burst"),
        ({"burst": math.inf}, "burst"),
        ({"max_wait": -1}, "max_wait"),
        ({"key": "tenant"}, "key"),
        ({"shared": "redis://localhost"}, "shared"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"RateLimit\.{named} .*{settings[named]!r}$"):
        RateLimit(**{"rate": 5, **settings})


@pytest.mark.parametrize("policies", [[AttemptTimeout(), RateLimit(rate=1)], [RateLimit(rate=1), Deadline(limit=5)]])
def test_a_wrong_place_in_a_chain_is_refused_with_the_reason(policies: list[Any]) -> None:
    with pytest.raises(ConfigurationError, match="must stand before"):
        Chain(policies, Target())


@pytest.mark.parametrize("make", [lambda: RateLimit(rate=1000), lambda: RateLimit(rate=5, max_wait=2)])
def test_it_keeps_the_rules_of_policies(make: Callable[[], RateLimit]) -> None:
    check_policy(make)
