from __future__ import annotations

import asyncio
import copy
import gc
import math
import time
import weakref
from typing import Any

import pytest

from resilient_rpc import errors
from resilient_rpc.call import DEDUP, IDEMPOTENT, READ_ONLY, UNSAFE, Call, Reply
from resilient_rpc.chain import Chain
from resilient_rpc.errors import NOT_EXECUTED, UNKNOWN, ConfigurationError, ConnectionLost, NotConnected, Overloaded
from resilient_rpc.hub import Events
from resilient_rpc.pending import Pending
from resilient_rpc.policies import (
    AttemptTimeout,
    Deadline,
    RetriesExhausted,
    Retry,
    RetryBudget,
    RetryScheduled,
    RetrySuppressed,
    common_budget,
)
from resilient_rpc.runtime import BlockingRuntime, drive, running_runtime
from resilient_rpc.testing import VirtualClock
from tests.policies.attempts import Script, heard
from tests.runtimes import Bench


def most() -> float:
    return 1.0


def test_a_call_that_succeeds_passes_unchanged(runtime: Bench) -> None:
    script = Script(["done"])
    reply = runtime.call(script.under(Retry()))
    assert (reply.result, reply.attempts, len(script.calls)) == ("done", 1, 1)


def test_a_call_that_failed_is_repeated_after_a_wait_that_doubles(runtime: Bench) -> None:
    script = Script([ConnectionLost(), ConnectionLost(), "done"])
    reply = runtime.call(script.under(Retry(random=most)), safety=IDEMPOTENT)
    assert (reply.result, reply.attempts) == ("done", 3)
    assert script.times == pytest.approx([0, 0.05, 0.15])


def test_attempts_differ_in_their_number_alone(runtime: Bench) -> None:
    script = Script([ConnectionLost(), Overloaded(), "done"])
    runtime.call(script.under(Retry()), "a.b", params=[1], key="k", safety=DEDUP, tags={"tenant": "acme"})
    assert [call.attempt for call in script.calls] == [1, 2, 3]
    assert len({(c.method, tuple(c.params), c.key, c.safety, c.deadline, id(c.tags)) for c in script.calls}) == 1


def test_a_reply_from_a_policy_further_in_says_how_many_attempts_there_were(runtime: Bench) -> None:
    async def later(call: Call) -> Reply:
        if call.attempt < 3:
            raise NotConnected
        return Reply(result="made here")

    policy = Retry()
    assert runtime.run(lambda: policy(runtime.make(), later)).attempts == 3


def test_after_the_last_attempt_the_error_of_the_target_comes_out_with_its_history(runtime: Bench) -> None:
    failed = [ConnectionLost("1"), Overloaded("2"), ConnectionLost("3")]
    events: list[Any] = []
    with pytest.raises(ConnectionLost, match="3") as info:
        runtime.call(Script(failed).under(Retry()), safety=READ_ONLY, events=heard(events))
    assert info.value is failed[2]
    assert (info.value.attempts, info.value.history) == (3, (failed[0], failed[1]))
    assert not info.value.retryable
    assert info.value.__notes__ == ["gave up after 3 attempts"]
    assert info.value.__context__ is None
    scheduled, _, exhausted = events
    assert isinstance(scheduled, RetryScheduled)
    assert (scheduled.policy, scheduled.method, scheduled.target) == ("Retry", "orders.create", "orders")
    assert (scheduled.attempt, scheduled.reason, scheduled.error) == (1, "backoff", failed[0])
    assert 0 <= scheduled.delay <= 0.05
    assert isinstance(exhausted, RetriesExhausted)
    assert (exhausted.attempt, exhausted.error) == (3, failed[2])
    assert [type(event) for event in events] == [RetryScheduled, RetryScheduled, RetriesExhausted]


def test_an_attempt_that_may_have_been_executed_is_not_forgotten(runtime: Bench) -> None:
    with pytest.raises(NotConnected) as info:
        runtime.call(Script([ConnectionLost(), NotConnected(), NotConnected()]).under(Retry()), safety=READ_ONLY)
    assert info.value.certainty is UNKNOWN


def test_one_attempt_is_one(runtime: Bench) -> None:
    script = Script([NotConnected(), "done"])
    with pytest.raises(NotConnected) as info:
        runtime.call(script.under(Retry(attempts=1)))
    assert (info.value.attempts, len(script.calls), getattr(info.value, "__notes__", [])) == (1, 1, [])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.ApplicationError("sold out"), "not_retryable"),
        (errors.BulkheadFull(), "not_retryable"),
        (errors.DeadlineExceeded(), "not_retryable"),
        (ValueError("a bug"), "not_retryable"),
        (ConnectionLost(), "unsafe"),
        (errors.CircuitOpen(), "circuit"),
        (Overloaded(retry_after=-1.0), "pushback"),
        (Overloaded(retry_after=29.99), "deadline"),
        (errors.CircuitOpen(retry_after=40.0), "deadline"),
    ],
)
def test_what_is_not_repeated_comes_out_at_once_and_says_why(runtime: Bench, error: Exception, reason: str) -> None:
    error = copy.copy(error)  # an error says afterwards that it was given up
    script, events = Script([error, "done"]), []
    with pytest.raises(type(error)) as info:
        runtime.call(script.under(Retry(random=most)), safety=UNSAFE, events=heard(events))
    assert info.value is error
    assert (runtime.passed, len(script.calls)) == (0, 1)
    (event,) = events
    assert isinstance(event, RetrySuppressed)
    assert (event.reason, event.error, event.attempt) == (reason, error, 1)
    assert reason == "not_retryable" or "not repeated" in info.value.__notes__[0]


def test_an_error_that_says_itself_why_it_is_not_repeated_keeps_its_word(runtime: Bench) -> None:
    with pytest.raises(ConnectionLost) as info:
        runtime.call(Script([ConnectionLost()]).under(Retry()))
    assert info.value.retryable
    assert info.value.certainty is UNKNOWN


def test_what_the_user_lists_is_repeated(runtime: Bench) -> None:
    busy = errors.ApplicationError("try again", type="busy")
    policy = Retry(retry_on=["busy", OSError])
    assert runtime.call(Script([busy, OSError(), "done"]).under(policy), safety=IDEMPOTENT).attempts == 3
    with pytest.raises(errors.ApplicationError):
        runtime.call(Script([busy, "done"]).under(policy), safety=UNSAFE)


def test_an_error_of_another_kind_comes_out_as_it_is(runtime: Bench) -> None:
    bug = ValueError("a bug")
    with pytest.raises(ValueError, match="a bug") as info:
        runtime.call(Script([ConnectionLost(), bug]).under(Retry()), safety=READ_ONLY)
    assert info.value is bug
    assert vars(bug) == {}


def test_what_the_server_asks_for_is_waited_out(runtime: Bench) -> None:
    script, events = Script([Overloaded(retry_after=4.0), "done"]), []
    runtime.call(script.under(Retry(random=most)), events=heard(events))
    assert script.times == pytest.approx([0, 4.05])
    assert (events[0].delay, events[0].reason) == (4.05, "retry_after")


def test_an_open_circuit_is_waited_for_if_there_is_time(runtime: Bench) -> None:
    script = Script([errors.CircuitOpen(retry_after=4.0), "done"])
    runtime.call(script.under(Retry(random=most)), timeout=5)
    assert runtime.passed == pytest.approx(4.05)


def test_a_circuit_that_opens_between_attempts_does_not_mask_what_happened(runtime: Bench) -> None:
    script = Script([ConnectionLost("away"), errors.CircuitOpen(retry_after=60.0)])
    with pytest.raises(ConnectionLost, match="away") as info:
        runtime.call(script.under(Retry()), safety=READ_ONLY)
    assert [type(error) for error in info.value.history] == [errors.CircuitOpen]
    assert (info.value.attempts, info.value.retryable) == (2, False)


def test_no_attempt_begins_that_cannot_end_by_the_deadline(runtime: Bench) -> None:
    script = Script([ConnectionLost() for _ in range(20)], seconds=1.0)
    with pytest.raises(ConnectionLost) as info:
        runtime.call(
            script.under(Retry(attempts=20, base=1.0, random=most, budget=RetryBudget.unlimited())),
            safety=READ_ONLY,
            timeout=10,
        )
    assert script.times == [0, 2, 5]
    assert runtime.passed == 6
    assert info.value.__notes__ == ["not repeated: 4 s left, next attempt in 4 s"]


def test_a_caller_that_wakes_too_late_makes_no_further_attempt() -> None:
    class Asleep(BlockingRuntime):
        late = 0.0

        async def sleep(self, seconds: float) -> None:
            self.late += seconds + 60

    runtime = Asleep(clock=lambda: runtime.late)
    script, events = Script([ConnectionLost("away"), "done"]), []
    call = Call(method="a.b", params={}, runtime=runtime, deadline=30.0, safety=READ_ONLY, events=heard(events))
    with pytest.raises(ConnectionLost, match="away"):
        drive(script.under(Retry())(call))
    assert [type(event) for event in events] == [RetryScheduled, RetrySuppressed]


def test_the_attempts_of_a_call_share_its_deadline(runtime: Bench) -> None:
    async def silent(call: Call) -> Reply:
        await call.runtime.sleep(call.remaining())
        raise errors.DeadlineExceeded("no answer")

    chain = Chain([Deadline(limit=5), Retry(attempts=9, random=most), AttemptTimeout(limit=2)], silent)
    with pytest.raises(errors.DeadlineExceeded) as info:
        runtime.call(chain.handler, safety=READ_ONLY)
    assert runtime.passed == pytest.approx(5)
    assert (info.value.attempts, len(info.value.history)) == (3, 2)


def test_what_reached_the_target_is_paid_for_and_what_did_not_is_free(runtime: Bench) -> None:
    budget = RetryBudget(ratio=0, floor=0.1)
    policy = Retry(budget=budget)
    free = [NotConnected(), errors.Unroutable()]
    assert runtime.call(Script([*free, "done"]).under(policy)).attempts == 3
    assert budget.balance("orders", runtime.clock.now()) == 1
    assert runtime.call(Script([Overloaded(), "done"]).under(policy)).attempts == 2
    assert budget.balance("orders", runtime.clock.now()) == 0
    overloaded, events = Overloaded("full"), []
    with pytest.raises(Overloaded) as info:
        runtime.call(Script([overloaded]).under(policy), events=heard(events))
    assert info.value is overloaded
    assert not overloaded.retryable
    assert overloaded.__notes__ == ["not repeated: the retry budget of 'orders' is spent"]
    assert (events[0].reason, events[0].attempt) == ("budget", 1)


def test_first_attempts_fill_the_budget_and_a_suppressed_attempt_costs_nothing(runtime: Bench) -> None:
    budget = RetryBudget(floor=0)
    policy = Retry(budget=budget)
    for _ in range(10):
        runtime.call(Script(["done"]).under(policy), "stock.count")
    with pytest.raises(Overloaded):
        runtime.call(Script([Overloaded(retry_after=20.0)]).under(policy), "stock.count", timeout=10)
    assert budget.balance("stock", runtime.clock.now()) == pytest.approx(2.2)


def test_policies_without_a_budget_share_one() -> None:
    mine = RetryBudget()
    assert Retry().bucket is Retry(name="other").bucket is common_budget()
    assert Retry(budget=mine).bucket is mine


def test_a_task_that_is_cancelled_while_it_waits_ends_at_once(clock: VirtualClock) -> None:
    script = Script([Overloaded(retry_after=5.0), "done"])

    async def cancelling() -> float:
        runtime = running_runtime()
        call = Call(method="a.b", params={}, runtime=runtime, deadline=runtime.now() + 30)
        task = asyncio.create_task(script.under(Retry())(call))
        await asyncio.sleep(1)
        begin = runtime.now()
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError)
        return runtime.now() - begin

    with asyncio.Runner(loop_factory=clock.new_loop) as runner:
        assert runner.run(cancelling()) == 0
    assert len(script.calls) == 1


@pytest.mark.parametrize("stopped", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_what_ends_a_caller_is_never_repeated(stopped: type[BaseException]) -> None:
    script, events = Script([stopped(), "done"]), []
    call = Call(method="a.b", params={}, runtime=BlockingRuntime(), deadline=math.inf, events=heard(events))
    with pytest.raises(stopped):
        drive(script.under(Retry(retry_on=[Exception]))(call))
    assert (len(script.calls), events) == (1, [])


def test_a_call_that_has_ended_is_not_held_by_its_errors() -> None:
    call = Call(method="a.b", params={}, runtime=BlockingRuntime(), deadline=time.monotonic() + 60, safety=READ_ONLY)
    script = Script([ConnectionLost(), ConnectionLost()])
    waiting: Pending[None] = Pending()
    script._answers[0].waiting = waiting
    held = weakref.ref(waiting)
    del waiting
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(ConnectionLost) as info:
            drive(script.under(Retry(attempts=2, base=1e-6))(call))
        assert info.value.history[0].waiting is held() is not None  # type: ignore[attr-defined]
        del info
        assert held() is None
    finally:
        gc.enable()


def test_nothing_is_built_for_events_that_nobody_hears(runtime: Bench) -> None:
    events = Events()
    assert runtime.call(Script([NotConnected(), "done"]).under(Retry()), events=events).attempts == 2
    with pytest.raises(NotConnected):
        runtime.call(Script([NotConnected()]).under(Retry(attempts=1)), events=events)


def test_events_name_the_policy(runtime: Bench) -> None:
    events: list[Any] = []
    runtime.call(Script([NotConnected(), "done"]).under(Retry(name="orders only")), events=heard(events))
    assert events[0].policy == "orders only"


def test_a_successor_goes_on_with_the_budget(runtime: Bench) -> None:
    now = runtime.clock.now()
    old, new = Retry(budget=RetryBudget(floor=0.1)), Retry(attempts=5, budget=RetryBudget(floor=0.1))
    assert old.bucket.withdraw("orders", now)
    new.adopt(old)
    assert new.bucket.balance("orders", now) == 0


def test_a_successor_with_another_sort_of_budget_begins_with_its_own(runtime: Bench) -> None:
    now = runtime.clock.now()
    own = Retry(budget=RetryBudget(floor=0.1))
    own.adopt(Retry())
    Retry().adopt(own)
    assert (own.bucket.balance("orders", now), common_budget().balance("orders", now)) == (1, 10)


@pytest.mark.parametrize("role", ["breaker", "rate_limit", "adaptive_limit", "attempt_timeout", "chaos"])
def test_stands_outside_of_what_concerns_one_attempt(role: str) -> None:
    other = type("Other", (), {"role": role, "__call__": None})()
    assert Chain([Retry(), other], Script([])).policies[1] is other
    with pytest.raises(ConfigurationError, match="Retry must stand before"):
        Chain([other, Retry()], Script([]))


@pytest.mark.parametrize("role", ["fallback", "cache", "bulkhead"])
def test_stands_inside_of_what_concerns_the_whole_call(role: str) -> None:
    other = type("Other", (), {"role": role, "__call__": None})()
    assert Chain([other, Retry()], Script([])).policies[0] is other
    with pytest.raises(ConfigurationError, match="must stand before"):
        Chain([Retry(), other], Script([]))


def test_attempts_are_multiplied_by_nobody() -> None:
    hedge: Any = type("Hedge", (), {"role": "hedge", "__call__": None})()
    for other in (hedge, Retry()):
        with pytest.raises(ConfigurationError, match="exclude each other"):
            Chain([Retry(), other], Script([]))


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("attempts", [0, -1, 2.0, True, "3", None]),
        ("base", [0, -1, math.inf, math.nan, True, "1", None, 6.0]),
        ("cap", [0, -1, math.inf, math.nan, False, "1", None, 0.01]),
        ("overload_base", [0, -1, math.inf, math.nan, True, "1", None]),
        ("max_pushback", [0, -1, math.inf, math.nan, True, "1", None]),
        ("budget", [0.2, "common", RetryBudget]),
        ("retry_on", ["busy", [3], [KeyboardInterrupt], None]),
        ("random", [0.5, None]),
    ],
)
def test_a_wrong_setting_is_refused_by_name(setting: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ConfigurationError, match=rf"Retry\.{setting}") as info:
            Retry(**{setting: value})
        offending = value[0] if isinstance(value, list) else value
        assert repr(offending) in str(info.value)


def test_prints_its_settings_cannot_be_changed_and_is_not_its_twin() -> None:
    policy = Retry(attempts=4)
    assert repr(policy).startswith("Retry(attempts=4, base=0.05, cap=5.0, overload_base=1.0, max_pushback=30.0, ")
    assert "random" not in repr(policy)
    with pytest.raises(AttributeError):
        policy.attempts = 5  # type: ignore[misc]
    assert policy != Retry(attempts=4)


def test_what_nobody_executed_says_so_after_all_attempts(runtime: Bench) -> None:
    with pytest.raises(NotConnected) as info:
        runtime.call(Script([Overloaded(), Overloaded(), NotConnected()]).under(Retry()))
    assert info.value.certainty is NOT_EXECUTED
