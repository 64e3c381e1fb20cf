from __future__ import annotations

import asyncio
import contextlib
import math
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from resilient_rpc import Client, Server
from resilient_rpc.call import Call, Reply, Safety
from resilient_rpc.chain import Chain, compose
from resilient_rpc.errors import (
    EXECUTED,
    NOT_EXECUTED,
    UNKNOWN,
    ApplicationError,
    Certainty,
    CircuitOpen,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    InProgress,
    InvalidParams,
    MalformedMessage,
    NotConnected,
    Overloaded,
    RpcError,
)
from resilient_rpc.events import PolicyEvent
from resilient_rpc.hub import Events
from resilient_rpc.pending import Pending
from resilient_rpc.policies import AttemptTimeout, Deadline, Fallback, Hedge, RetryBudget, common_budget
from resilient_rpc.policies.hedge import GRACE, HedgeStarted, HedgeWon
from resilient_rpc.policy import Runtime
from resilient_rpc.runtime import running_runtime
from resilient_rpc.testing import VirtualClock
from tests.runtimes import Bench

Step = tuple[float, Any]
"""Seconds that an attempt takes, and its result or error."""


class Target:
    """Attempts that take so long and end so, in order; the last one repeats itself."""

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)
        self.calls: list[Call] = []
        self.cancelled: list[int] = []

    async def __call__(self, call: Call) -> Reply:
        self.calls.append(call)
        seconds, outcome = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        try:
            await call.runtime.sleep(min(seconds, max(call.remaining(), 0)))
        except asyncio.CancelledError:
            self.cancelled.append(call.attempt)
            raise
        if seconds > 0 and call.remaining() <= 0:
            raise DeadlineExceeded("late")
        if isinstance(outcome, BaseException):
            raise outcome
        return Reply(result=outcome)


class Altered:
    """A runtime whose waits take as long as `seconds` says, whatever is asked for."""

    def __init__(self, port: Runtime, seconds: Callable[[Sequence[Any]], float]) -> None:
        self._port, self._seconds = port, seconds
        self.now, self.start, self.sleep = port.now, port.start, port.sleep

    async def wait(self, pendings: Sequence[Pending[Any]], timeout: float) -> Pending[Any] | None:
        return await self._port.wait(pendings, self._seconds(pendings))


class Heard:
    """The events of policies, in order."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self.events = Events()
        self.events.on(PolicyEvent, self.all.append)

    def short(self) -> list[Any]:
        return [getattr(event, "reason", None) or (type(event), event.index) for event in self.all]


@pytest.fixture
def heard() -> Heard:
    return Heard()


def hedge(**settings: Any) -> Hedge:
    settings.setdefault("delay", 1.0)
    settings.setdefault("budget", RetryBudget.unlimited())
    return Hedge(**settings)


def send(runtime: Bench, policy: Any, target: Any, **fields: Any) -> Reply:
    fields.setdefault("safety", Safety.READ_ONLY)
    reply = runtime.call(compose([policy], target), "orders.price", **fields)
    runtime.advance(0.001)  # what was cancelled ends
    return reply


def fails(runtime: Bench, kind: type[BaseException], policy: Any, target: Any, **fields: Any) -> Any:
    with pytest.raises(kind) as info:
        send(runtime, policy, target, **fields)
    runtime.advance(0.001)
    return info.value


# -- who wins


def test_a_quick_answer_is_left_alone(runtime: Bench, heard: Heard) -> None:
    target = Target((0.5, "quick"))
    reply = send(runtime, hedge(), target, events=heard.events)
    assert (reply.result, reply.attempts, len(target.calls), heard.all) == ("quick", 1, 1, [])


def test_a_late_answer_is_overtaken_and_its_attempt_cancelled(runtime: Bench, heard: Heard) -> None:
    target = Target((20, "slow"), (0.5, "quick"))
    begin = runtime.passed
    reply = send(runtime, hedge(name="h"), target, key="k", safety=Safety.DEDUP, events=heard.events)
    assert (reply.result, reply.attempts, target.cancelled) == ("quick", 2, [1])
    assert 1.5 <= runtime.passed - begin < 1.6
    assert [(call.attempt, call.key) for call in target.calls] == [(1, "k"), (2, "k")]
    assert len({call.deadline for call in target.calls}) == 1
    about = {"policy": "h", "method": "orders.price", "target": "orders"}
    assert heard.all == [HedgeStarted(**about, index=1, seconds=1.0), HedgeWon(**about, index=1, seconds=1.5)]


def test_an_answer_of_the_only_attempt_passes_as_it_is(runtime: Bench) -> None:
    answer = Reply(result="from the record", replayed=True, attempts=7)

    async def target(_: Call) -> Reply:
        return answer

    assert send(runtime, hedge(), target) is answer


def test_attempts_are_numbered_from_that_of_the_call_and_events_name_it(runtime: Bench, heard: Heard) -> None:
    target = Target((20, "slow"), (0.5, "quick"))
    send(runtime, hedge(), target, attempt=3, events=heard.events)
    assert [call.attempt for call in target.calls] == [3, 4]
    assert [(event.policy, event.attempt) for event in heard.all] == [("Hedge", 3), ("Hedge", 3)]


def test_the_first_attempt_may_still_win(runtime: Bench, heard: Heard) -> None:
    target = Target((1.2, "first"), (5, "second"))
    reply = send(runtime, hedge(), target, events=heard.events)
    assert (reply.result, reply.attempts, target.cancelled) == ("first", 2, [2])
    assert heard.short() == [(HedgeStarted, 1)]


def test_there_are_no_more_hedges_than_allowed(runtime: Bench, heard: Heard) -> None:
    target = Target((20, "a"), (20, "b"), (0.1, "c"))
    reply = send(runtime, hedge(max_hedges=2), target, events=heard.events)
    assert (reply.result, reply.attempts, sorted(target.cancelled)) == ("c", 3, [1, 2])
    assert heard.short() == [(HedgeStarted, 1), (HedgeStarted, 2), (HedgeWon, 2)]
    assert [event.seconds for event in heard.all] == pytest.approx([1, 2, 2.1])
    slow = Target((20, "slow"))
    assert send(runtime, hedge(), slow).result == "slow"
    assert len(slow.calls) == 2


# -- failures


def test_a_failure_that_another_attempt_may_not_meet_has_it_begin_at_once(runtime: Bench, heard: Heard) -> None:
    target = Target((0.2, ConnectionLost("cut")), (0.3, "second"))
    begin = runtime.passed
    assert send(runtime, hedge(), target, events=heard.events).result == "second"
    assert 0.5 <= runtime.passed - begin < 0.6
    assert heard.short() == [(HedgeStarted, 1), (HedgeWon, 1)]


def test_a_failed_hedge_leaves_the_first_attempt_alone(runtime: Bench) -> None:
    target = Target((5, "first"), (0.1, NotConnected("away")))
    assert send(runtime, hedge(), target).result == "first"
    assert len(target.calls) == 2


@pytest.mark.parametrize("error", [ApplicationError("no"), InvalidParams("x")], ids=repr)
def test_an_answer_of_the_application_ends_the_call(runtime: Bench, heard: Heard, error: RpcError) -> None:
    target = Target((0.1, error))
    found = fails(runtime, type(error), hedge(), target, events=heard.events)
    assert (found.certainty, found.attempts, len(target.calls), heard.all) == (error.certainty, 1, 1, [])


def test_an_answer_of_the_application_to_a_hedge_ends_the_call_too(runtime: Bench) -> None:
    target = Target((20, "slow"), (0.5, ApplicationError("no")))
    found = fails(runtime, ApplicationError, hedge(), target)
    assert (found.certainty, found.attempts, target.cancelled) == (EXECUTED, 2, [1])
    assert 1.5 <= runtime.passed < 1.6


def test_an_error_that_no_other_attempt_can_help_begins_none(runtime: Bench, heard: Heard) -> None:
    target = Target((0.1, MalformedMessage("?")))
    fails(runtime, MalformedMessage, hedge(), target, events=heard.events)
    assert (len(target.calls), heard.all) == (1, [])


def test_an_error_of_another_kind_begins_none_and_comes_out(runtime: Bench) -> None:
    target = Target((0.1, KeyError("bug")))
    fails(runtime, KeyError, hedge(), target)
    assert len(target.calls) == 1


def test_no_repeat_after_an_error_that_says_executed(runtime: Bench) -> None:
    target = Target((0.1, ConnectionLost("cut", certainty=EXECUTED)))
    assert fails(runtime, ConnectionLost, hedge(), target).certainty is EXECUTED
    assert len(target.calls) == 1


def test_the_others_go_on_after_an_error_that_no_other_attempt_can_help(runtime: Bench) -> None:
    target = Target((3, "first"), (0.1, MalformedMessage("?")))
    assert send(runtime, hedge(max_hedges=5), target).result == "first"
    assert len(target.calls) == 2


@pytest.mark.parametrize(
    ("first", "second", "expected", "certainty"),
    [
        (NotConnected("a"), NotConnected("b"), "a", NOT_EXECUTED),
        (NotConnected("a"), ConnectionLost("b"), "b", UNKNOWN),
        (ConnectionLost("a"), CircuitOpen("b"), "a", UNKNOWN),
        (ConnectionLost("a"), NotConnected("b"), "a", UNKNOWN),
        (ConnectionLost("a"), ApplicationError("b"), "b", EXECUTED),
        (ConnectionLost("a"), InvalidParams("b"), "b", UNKNOWN),
        (ConnectionLost("a"), KeyError("b"), "a", UNKNOWN),
    ],
    ids=repr,
)
def test_of_all_errors_the_one_that_says_most_comes_out_and_is_honest(
    runtime: Bench, first: Exception, second: Exception, expected: str, certainty: Certainty
) -> None:
    found = fails(runtime, RpcError, hedge(), Target((0.1, first), (0.1, second)))
    assert (str(found), found.certainty, found.attempts) == (expected, certainty, 2)
    assert [str(other) for other in found.history] == [
        str(other) for other in (first, second) if other.args != (expected,)
    ]


def test_nobody_knows_of_an_attempt_that_was_cancelled(runtime: Bench) -> None:
    target = Target((20, "slow"), (0.5, InvalidParams("x")))
    assert fails(runtime, InvalidParams, hedge(), target).certainty is UNKNOWN
    assert target.cancelled == [1]


@pytest.mark.parametrize("error", [Overloaded("busy", retry_after=2), Overloaded("busy")], ids=["told", "untold"])
def test_no_hedge_after_an_answer_that_asks_for_patience(runtime: Bench, heard: Heard, error: RpcError) -> None:
    target = Target((0.1, error))
    assert fails(runtime, Overloaded, hedge(), target, events=heard.events).retry_after == error.retry_after
    assert (len(target.calls), heard.short()) == (1, ["pushback"])


def test_a_hedge_that_the_server_recognises_leaves_the_first_attempt_alone(runtime: Bench, heard: Heard) -> None:
    target = Target((5, "first"), (0.1, InProgress("running", retry_after=1)))
    reply = send(runtime, hedge(max_hedges=3), target, safety=Safety.DEDUP, key="k", events=heard.events)
    assert reply.result == "first"
    assert heard.short() == [(HedgeStarted, 1), "pushback"]


# -- time


def test_what_ends_an_attempt_early_has_the_next_begin(runtime: Bench) -> None:
    target = Target((20, "slow"), (0.5, "quick"))
    chain = compose([hedge(delay=10), AttemptTimeout(limit=2)], target)
    assert runtime.call(chain, safety=Safety.READ_ONLY).result == "quick"
    assert runtime.passed == 2.5


def test_all_attempts_end_by_the_deadline_of_the_call_by_themselves(runtime: Bench) -> None:
    found = fails(runtime, DeadlineExceeded, hedge(), Target((20, "slow")), timeout=5)
    assert (str(found), found.certainty, found.attempts) == ("late", UNKNOWN, 2)
    assert 5 <= runtime.passed < 5.1


def test_attempts_that_do_not_end_by_the_deadline_are_given_up(runtime: Bench) -> None:
    async def deaf(call: Call) -> Reply:
        await call.runtime.sleep(1000)
        return Reply(result="far too late")

    found = fails(runtime, DeadlineExceeded, hedge(), deaf, timeout=5)
    assert str(found) == "orders.price: no attempt ended by the deadline"
    assert found.certainty is UNKNOWN
    assert 5 + GRACE <= runtime.passed < 5.1 + GRACE


def test_no_hedge_begins_that_would_come_after_the_deadline(runtime: Bench, heard: Heard) -> None:
    target = Target((0.1, "quick"))
    send(runtime, hedge(delay=5), target, timeout=5, events=heard.events)
    assert heard.short() == ["deadline"]
    heard.all.clear()
    slow = Target((20, "slow"))
    fails(runtime, DeadlineExceeded, hedge(delay=2.5, max_hedges=9), slow, timeout=5, events=heard.events)
    assert len(slow.calls) == 2
    assert heard.short() == [(HedgeStarted, 1)]


def test_no_hedge_begins_after_the_deadline_when_its_caller_wakes_late(runtime: Bench, heard: Heard) -> None:
    async def deaf(call: Call) -> Reply:
        await call.runtime.sleep(1000)
        return Reply(result="far too late")

    async def late() -> None:
        call = runtime.make("orders.price", safety=Safety.READ_ONLY, timeout=5, events=heard.events)
        await compose([hedge()], deaf)(call.on(Altered(runtime.port, lambda _: 5.0)))

    with pytest.raises(DeadlineExceeded):
        runtime.run(late)
    assert heard.short() == ["deadline"]


# -- when there is no hedge


def test_what_must_not_be_repeated_passes_by(runtime: Bench, heard: Heard) -> None:
    target = Target((20, "slow"))
    assert send(runtime, hedge(), target, safety=Safety.UNSAFE, events=heard.events).result == "slow"
    assert (len(target.calls), heard.short()) == (1, ["unsafe"])
    assert send(runtime, hedge(), target, safety=Safety.UNSAFE).result == "slow"


def test_only_the_chosen_methods_are_hedged(runtime: Bench, heard: Heard) -> None:
    policy = hedge(methods=["orders.list"])
    target = Target((20, "slow"))
    send(runtime, policy, target, events=heard.events)
    assert (len(target.calls), heard.all) == (1, [])
    runtime.call(compose([policy], target), "orders.list", safety=Safety.READ_ONLY)
    assert len(target.calls) == 3


def test_there_is_no_hedge_before_enough_times_are_known(runtime: Bench, heard: Heard) -> None:
    policy = hedge(delay=None, min_samples=3)
    quick = Target((0.1, "quick"))
    for _ in range(3):
        send(runtime, policy, quick, events=heard.events)
    assert heard.short() == ["samples"] * 3
    slow = Target((20, "slow"), (0.5, "quick"))
    assert send(runtime, policy, slow, events=heard.events).result == "quick"
    started, won = heard.all[3:]
    assert started.seconds == pytest.approx(0.1, rel=0.04)
    assert won.seconds == pytest.approx(0.6, rel=0.04)


def test_what_runs_in_place_fails_as_it_does_and_is_not_counted(runtime: Bench) -> None:
    policy = hedge(delay=None, min_samples=1)
    fails(runtime, ConnectionLost, policy, Target((0.1, ConnectionLost("cut"))))
    slow = Target((20, "slow"))
    send(runtime, policy, slow)
    assert len(slow.calls) == 1


def test_the_hedge_comes_no_earlier_than_the_least_delay(runtime: Bench, heard: Heard) -> None:
    policy = hedge(min_samples=1, min_delay=0.25)
    send(runtime, policy, Target((0.001, "quick")))
    send(runtime, policy, Target((20, "slow"), (0, "quick")), events=heard.events)
    assert heard.all[0].seconds == 0.25


def test_each_method_has_times_of_its_own(runtime: Bench, heard: Heard) -> None:
    policy = hedge(delay=None, min_samples=1)
    send(runtime, policy, Target((0.1, "quick")))
    runtime.call(compose([policy], Target((9, "slow"))), "orders.report", safety=Safety.READ_ONLY, events=heard.events)
    assert heard.short() == ["samples"]


@pytest.mark.parametrize(
    ("steps", "known"),
    [
        ([(0.5, "first")], [0.5]),
        ([(20.0, "first"), (0.5, "second")], [1.5]),
        ([(3.0, "first"), (0.5, NotConnected("away"))], [3.0]),
        ([(0.5, NotConnected("away")), (0.5, "second")], []),
        ([(0.5, ApplicationError("no"))], []),
    ],
    ids=repr,
)
def test_the_times_of_first_attempts_count_unless_they_fail(
    runtime: Bench, steps: list[Step], known: list[float]
) -> None:
    policy = hedge()
    with contextlib.suppress(ApplicationError):
        send(runtime, policy, Target(*steps))
    assert policy._estimates.of("orders.price")._fresh == known


def test_the_least_delay_may_be_none() -> None:
    assert hedge(min_delay=0).min_delay == 0


def test_hedging_does_not_lower_the_delay(runtime: Bench, heard: Heard) -> None:
    policy = hedge(delay=None, min_samples=20, quantile=0.9)
    for _ in range(20):
        send(runtime, policy, Target((1.0, "usual")))
    for number in range(200):
        steps = [(20.0, "slow"), (0.5, "quick")] if number % 10 == 9 else [(1.0 - number / 1000, "usual")]
        send(runtime, policy, Target(*steps), events=heard.events)
    delays = [event.seconds for event in heard.all if isinstance(event, HedgeStarted)]
    assert min(delays) > 0.8


def test_a_spent_budget_never_fails_the_call(runtime: Bench, heard: Heard) -> None:
    policy = hedge(budget=RetryBudget(ratio=0, floor=0.1))  # one in ten seconds
    slow = Target((3, "slow"))
    assert send(runtime, policy, slow, events=heard.events).result == "slow"
    assert (len(slow.calls), heard.short()) == (2, [(HedgeStarted, 1)])
    heard.all.clear()
    assert send(runtime, policy, slow, events=heard.events).result == "slow"
    assert (len(slow.calls), heard.short()) == (3, ["budget"])


def test_a_budget_that_others_spend_meanwhile_never_fails_the_call(runtime: Bench, heard: Heard) -> None:
    budget = RetryBudget(ratio=0, floor=0.1)

    async def spender(call: Call) -> Reply:
        budget.withdraw("orders", call.runtime.now())
        await call.runtime.sleep(3)
        return Reply(result="slow")

    assert send(runtime, hedge(budget=budget), spender, events=heard.events).result == "slow"
    assert heard.short() == ["budget"]


def test_hedges_add_no_more_than_the_budget_to_the_load(runtime: Bench) -> None:
    target = Target((3, "slow"))
    chain = compose([hedge(budget=RetryBudget(ratio=0.1, window=1e6, floor=0))], target)

    async def many() -> None:
        for _ in range(100):
            await chain(runtime.make("orders.price", safety=Safety.READ_ONLY))

    runtime.run(many)
    assert len(target.calls) == 110


def test_calls_that_pass_by_are_not_first_attempts(runtime: Bench) -> None:
    budget = RetryBudget(ratio=1, floor=0)
    send(runtime, hedge(budget=budget), Target((0.1, "quick")), safety=Safety.UNSAFE)
    assert budget.balance("orders", runtime.clock.now()) == 0
    send(runtime, hedge(budget=budget), Target((0.1, "quick")))
    assert budget.balance("orders", runtime.clock.now()) == 1


def test_without_one_of_its_own_it_uses_the_common_budget(runtime: Bench) -> None:
    common_budget().clear()
    send(runtime, Hedge(delay=1), Target((0.1, "quick")))
    assert "orders" in common_budget()._ledgers.snapshot()
    common_budget().clear()


# -- cancellation


@pytest.mark.parametrize(("after", "attempts"), [(0.5, [1]), (2.0, [1, 2])])
def test_cancelling_the_caller_cancels_all_attempts(clock: VirtualClock, after: float, attempts: list[int]) -> None:
    target = Target((20, "slow"))

    async def cancelled() -> None:
        port = running_runtime()
        call = Call(method="orders.price", params={}, runtime=port, deadline=port.now() + 30, safety=Safety.READ_ONLY)
        task = asyncio.create_task(compose([hedge()], target)(call))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.001)

    with asyncio.Runner(loop_factory=clock.new_loop) as runner:
        runner.run(cancelled())
    assert sorted(target.cancelled) == attempts


def test_interrupting_the_caller_cancels_all_attempts(runtime: Bench) -> None:
    target = Target((20, "slow"))

    def interrupt(pendings: Sequence[Any]) -> float:
        if len(pendings) == 3:
            raise KeyboardInterrupt
        return 1.0

    async def interrupted() -> None:
        call = runtime.make("orders.price", safety=Safety.READ_ONLY, timeout=60)
        with pytest.raises(KeyboardInterrupt):
            await compose([hedge(max_hedges=9)], target)(call.on(Altered(runtime.port, interrupt)))
        await runtime.port.sleep(0.001)

    runtime.run(interrupted)
    assert sorted(target.cancelled) == sorted(call.attempt for call in target.calls)
    assert len(target.calls) >= 2  # the third may be cancelled before it begins


def test_an_attempt_that_somebody_else_cancels_is_an_error_and_not_a_cancellation(runtime: Bench) -> None:
    target = Target((0.1, asyncio.CancelledError()))
    found = fails(runtime, ConnectionLost, hedge(), target)
    assert (found.certainty, found.retryable, len(target.calls)) == (UNKNOWN, False, 1)
    assert str(found).startswith("orders.price: the attempt was cancelled")


# -- together with others


def test_many_threads_or_tasks_share_one_policy(runtime: Bench) -> None:
    target = Target(*[(20.0 if number % 5 == 0 else 0.1, number) for number in range(40)], (0.1, "hedge"))
    chain = compose([hedge()], target)
    makers = [lambda: chain(runtime.make("orders.price", safety=Safety.READ_ONLY)) for _ in range(40)]
    results = [reply.result for reply in runtime.together(*makers)]
    assert results.count("hedge") == 8
    assert len(set(results)) == 33
    assert len(target.calls) == 48


def test_hedges_in_a_blocking_client_with_real_threads_and_a_real_server() -> None:
    first_ones_may_end = threading.Event()
    seen: list[str] = []
    server = Server("memory://hedge-threads", service="orders")

    @server.method(safety="read_only")
    def price(sku: str) -> int:
        seen.append(sku)
        if seen.count(sku) == 1:
            first_ones_may_end.wait(20)
        return len(sku)

    answers: list[int] = []

    def call(client: Client, sku: str) -> None:
        answers.append(client.call("orders.price", [sku]))

    server.start()
    try:
        with Client("memory://hedge-threads", policies=[hedge(delay=0.02)], safety="read_only") as client:
            callers = [threading.Thread(target=call, args=(client, sku)) for sku in ("a", "bb", "ccc")]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join(20)
    finally:
        first_ones_may_end.set()
        server.stop()
    assert sorted(answers) == [1, 2, 3]
    assert sorted(seen) == ["a", "a", "bb", "bb", "ccc", "ccc"]


def test_order() -> None:
    class Retry:
        role = "retry"

        async def __call__(self, call: Call, proceed: Any, /) -> Reply:
            return await proceed(call)

    target = Target((0, 1))
    Chain([Fallback(value=1), Deadline(limit=5), hedge(), AttemptTimeout()], target)
    with pytest.raises(ConfigurationError, match="must stand before"):
        Chain([AttemptTimeout(), hedge()], target)
    with pytest.raises(ConfigurationError, match="must stand before"):
        Chain([hedge(), Deadline(limit=5)], target)
    for policies in ([Retry(), hedge()], [hedge(), Retry()], [hedge(), hedge(name="b")]):
        with pytest.raises(ConfigurationError, match="exclude each other"):
            Chain(policies, target)
    assert Hedge.requires == {safety for safety in Safety if safety.repeatable}


def test_a_reload_keeps_the_times_and_the_counts_of_the_budget(runtime: Bench) -> None:
    old = hedge(delay=None, min_samples=1, budget=RetryBudget(ratio=1, floor=0))
    send(runtime, old, Target((0.1, "quick")))
    new = hedge(delay=None, min_samples=1, budget=RetryBudget(ratio=1, floor=0.001))
    new.adopt(old)
    assert new._budget.balance("orders", runtime.clock.now()) == 1.01
    slow = Target((20, "slow"), (0.5, "quick"))
    assert send(runtime, new, slow).result == "quick"
    same = hedge(budget=new.budget)
    same.adopt(new)
    assert same._estimates is old._estimates


def test_the_state_of_a_method_takes_less_than_8_kib(runtime: Bench) -> None:
    policy = hedge(delay=None)
    estimate = policy._estimates.of("orders.price")
    for number in range(2000):
        estimate.record(0.01 + number / 1e5)
        estimate.value(0.95, 100)
    counters = estimate._histogram._counters
    size = sum(sys.getsizeof(thing) for thing in (estimate, estimate._fresh, estimate._histogram, counters))
    assert size + 28 * sum(count > 256 for count in counters) + 24 * len(estimate._fresh) < 8192


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"delay": 0}, "delay"),
        ({"delay": "1"}, "delay"),
        ({"quantile": 0}, "quantile"),
        ({"quantile": 1}, "quantile"),
        ({"quantile": 95}, "quantile"),
        ({"min_samples": 0}, "min_samples"),
        ({"min_delay": -1}, "min_delay"),
        ({"min_delay": math.inf}, "min_delay"),
        ({"max_hedges": 0}, "max_hedges"),
        ({"max_hedges": 1.5}, "max_hedges"),
        ({"budget": 0.2}, "budget"),
        ({"methods": "orders.price"}, "methods"),
        ({"methods": []}, "methods"),
        ({"methods": ["price"]}, "methods"),
        ({"methods": 5}, "methods"),
    ],
    ids=repr,
)
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^Hedge\.{named}"):
        Hedge(**settings)
