"""Many callers of one retry policy at once."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
import tenacity

from resilient_rpc.call import READ_ONLY, Call, Reply
from resilient_rpc.errors import Overloaded
from resilient_rpc.policies import Retry, RetryBudget
from tests.runtimes import Bench

SECONDS, CALLERS = 12, 40
RATE = 1000


@pytest.mark.slow
def test_a_dead_target_sees_a_fifth_more_load_and_one_a_second(runtime: Bench) -> None:
    """T14: 1,000 calls a second, 3 attempts each. Without a budget it would be three times the load."""
    arrived = itertools.count()

    async def dead(call: Call) -> Reply:
        next(arrived)
        raise Overloaded("dead")

    policy = Retry(attempts=3, overload_base=0.05)
    each = SECONDS * RATE // CALLERS
    begin = runtime.clock.now()

    def caller(number: int) -> Any:
        async def steadily() -> None:
            port = runtime.port
            for place in range(each):
                due = begin + (place * CALLERS + number) / RATE
                if due > port.now():
                    await port.sleep(due - port.now())
                with pytest.raises(Overloaded):
                    await policy(runtime.make(), dead)

        return steadily

    runtime.together(*[caller(number) for number in range(CALLERS)])
    firsts, load = SECONDS * RATE, next(arrived)
    assert SECONDS <= runtime.passed < SECONDS + 1
    assert 1.19 * firsts < load <= 1.2 * firsts + policy.bucket.floor * (SECONDS + policy.bucket.window)


@pytest.mark.parametrize(
    "settings",
    [{}, {"stop": tenacity.stop_after_attempt(3), "wait": tenacity.wait_random(0, 0.1)}],
    ids=["own", "tenacity"],
)
def test_a_hundred_callers_of_one_policy_see_the_targets_errors_alone(runtime: Bench, settings: dict[str, Any]) -> None:
    """T6: a function decorated by tenacity raises KeyError('idle_for') in some of them."""
    policy = Retry(budget=RetryBudget.unlimited(), **settings)
    seen: dict[int, list[int]] = {number: [] for number in range(100)}
    lock = threading.Lock()

    async def failing(call: Call) -> Reply:
        number = call.params["number"]  # type: ignore[call-overload]
        with lock:
            seen[number].append(call.attempt)
        if number % 2 and call.attempt == 3:
            return Reply(result=number, attempts=3)
        raise Overloaded(str(number))

    def maker(number: int) -> Any:
        return lambda: policy(runtime.make(safety=READ_ONLY, params={"number": number}), failing)

    outcomes = runtime.together(*[maker(number) for number in range(100)], return_errors=True)
    for number, outcome in enumerate(outcomes):
        if number % 2:
            assert outcome.result == number
        else:
            assert type(outcome) is Overloaded
            assert (str(outcome), outcome.attempts, len(outcome.history)) == (str(number), 3, 2)
    assert set(map(tuple, seen.values())) == {(1, 2, 3)}
