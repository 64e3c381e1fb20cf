from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import subprocess
import sys
import threading
import time
import timeit
import tracemalloc
from collections.abc import Callable
from typing import Any

import pybreaker
import pytest

from resilient_rpc import errors
from resilient_rpc.call import Call, Reply
from resilient_rpc.chain import Chain, compose
from resilient_rpc.errors import (
    ApplicationError,
    BrokerBlocked,
    CircuitOpen,
    ConfigurationError,
    DeadlineExceeded,
    Interrupted,
    NotConnected,
    Overloaded,
    PublishRejected,
    RateLimited,
    RpcError,
    Unroutable,
)
from resilient_rpc.events import CallRejected, Event
from resilient_rpc.hub import Events
from resilient_rpc.loops import AsyncioRuntime
from resilient_rpc.policies.breaker import CircuitBreaker
from resilient_rpc.policies.breaker_events import CircuitStateChanged, CircuitWouldReject
from resilient_rpc.policies.circuit_state import CLOSED, DISABLED, FORCED_OPEN, HALF_OPEN, OPEN
from resilient_rpc.policies.timeout import AttemptTimeout
from resilient_rpc.policy import Handler
from resilient_rpc.runtime import BLOCKING, drive
from tests.runtimes import Bench


class Target:
    """A server that answers as the test says."""

    def __init__(self, error: BaseException | None = None, seconds: float = 0.0) -> None:
        self.error, self.seconds = error, seconds
        self.calls = self.inside = self.most = 0

    async def __call__(self, call: Call) -> Reply:
        self.calls += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        error = self.error
        try:
            await call.runtime.sleep(self.seconds)
        finally:
            self.inside -= 1
        if error is not None:
            raise error
        return Reply(result="done")


def breaker(**settings: Any) -> CircuitBreaker:
    return CircuitBreaker(**{"consecutive": 3, "random": lambda: 1.0, **settings})


def calls(runtime: Bench, policy: CircuitBreaker, target: Handler, count: int = 1, **fields: Any) -> list[Any]:
    """The results of calls, one after the other; errors in their places."""
    chain = compose([policy], target)
    found: list[Any] = []
    for _ in range(count):
        found += runtime.together(lambda: chain(runtime.make(**fields)), return_errors=True)
    return found


def trip(runtime: Bench, policy: CircuitBreaker, **fields: Any) -> None:
    calls(runtime, policy, Target(Interrupted("gone")), policy.consecutive or 0, **fields)
    assert OPEN in policy.states().values()


def listening(*types: type[Event]) -> tuple[Events, list[Any]]:
    events, seen = Events(), list[Any]()
    for kind in types:
        events.on(kind, seen.append)
    return events, seen


# -- the faults of the stock library, each as a test of ours (numbers as in the audit of policies)


def test_t1_no_lock_is_held_across_a_call() -> None:
    together = threading.Barrier(4)

    async def meets_the_others(call: Call) -> Reply:
        together.wait(10)  # passes only if all four are inside at once
        return Reply(result="done")

    chain = compose([breaker()], meets_the_others)
    replies: list[Reply] = []

    def run() -> None:
        call = Call(method="orders.create", params={}, runtime=BLOCKING, deadline=time.monotonic() + 30)
        replies.append(drive(chain(call)))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies) == 4


def test_t1_slow_calls_run_side_by_side(runtime: Bench) -> None:
    target, chain = (slow := Target(seconds=0.3)), compose([breaker()], slow)
    runtime.together(*[lambda: chain(runtime.make())] * 4)
    assert runtime.passed == pytest.approx(0.3)
    assert target.most == 4


def test_t2_after_the_open_time_no_more_probes_reach_the_target_than_permits(runtime: Bench) -> None:
    policy, target = breaker(permits=3), Target(seconds=1.0)
    trip(runtime, policy)
    runtime.advance(5)
    chain = compose([policy], target)
    found = runtime.together(*[lambda: chain(runtime.make())] * 20, return_errors=True)
    assert target.most == target.calls == 3
    refused = [error for error in found if isinstance(error, CircuitOpen)]
    assert len(refused) == 17
    assert {(error.state, error.retry_after, error.retryable) for error in refused} == {("half_open", None, True)}
    assert policy.state("orders") is CLOSED


@pytest.mark.parametrize("gone", [asyncio.CancelledError, KeyboardInterrupt, GeneratorExit])
def test_t3_a_cancellation_at_the_brink_comes_out_and_counts_neither_way(gone: type[BaseException]) -> None:
    policy, now = breaker(counts=lambda _: False), time.monotonic()
    circuit = policy._circuits.of("orders")
    circuit.count(0, policy, now, failed=True, slow=False)
    circuit.count(0, policy, now, failed=True, slow=False)

    async def cancelled(call: Call) -> Reply:
        raise gone

    call = Call(method="orders.create", params={}, runtime=BLOCKING, deadline=now + 30)
    with pytest.raises(gone):
        drive(compose([policy], cancelled)(call))
    assert (circuit.state, circuit.in_row, circuit.window.calls) == (CLOSED, 2, 2)


def test_t3_a_cancelled_task_ends_cancelled_and_gives_its_permit_back() -> None:
    policy = breaker(permits=1)
    policy.half_open("orders")
    circuit = policy._circuits.of("orders")

    async def hangs(call: Call) -> Reply:
        await asyncio.Event().wait()
        return Reply(result="never")

    async def main() -> None:
        runtime = AsyncioRuntime(asyncio.get_running_loop())
        call = Call(method="orders.create", params={}, runtime=runtime, deadline=runtime.now() + 30)
        task = asyncio.create_task(compose([policy], hangs)(call))
        await asyncio.sleep(0)
        assert len(circuit._probes) == 1
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())
    assert (circuit.state, circuit.successes, len(circuit._probes)) == (HALF_OPEN, 0, 0)


def test_t4_a_failure_admitted_before_the_trip_does_not_extend_the_open_time(runtime: Bench) -> None:
    policy = breaker()
    late = compose([policy], Target(Interrupted("late"), seconds=4.0))
    quick = compose([policy], Target(Interrupted("quick")))

    async def trips() -> None:
        for _ in range(3):
            with pytest.raises(Interrupted):
                await quick(runtime.make())

    results = runtime.together(*[lambda: late(runtime.make())] * 5, trips, return_errors=True)
    assert [str(error) for error in results[:5]] == ["late"] * 5, "each gets its own error"
    assert runtime.passed == 4
    (refused,) = calls(runtime, policy, Target())
    assert refused.retry_after == pytest.approx(1.0)
    assert policy._circuits.of("orders").late == 5
    runtime.advance(1)
    assert calls(runtime, policy, Target())[0].result == "done"


def test_t5_failures_of_coroutines_count(runtime: Bench) -> None:
    policy, target = breaker(), Target(Interrupted("gone"), seconds=0.1)
    found = calls(runtime, policy, target, 4)
    assert [type(error) for error in found] == [Interrupted] * 3 + [CircuitOpen]
    assert target.calls == 3


# -- what counts


def test_a_target_that_answers_stays_closed(runtime: Bench) -> None:
    policy = breaker()
    assert {reply.result for reply in calls(runtime, policy, Target(), 50)} == {"done"}
    assert policy.state("orders") is CLOSED
    assert policy._circuits.of("orders").window.calls == 50


@pytest.mark.parametrize(
    "error",
    [DeadlineExceeded("x"), Overloaded("x"), Unroutable("x"), Interrupted("x"), PublishRejected("x")],
    ids=lambda error: type(error).__name__,
)
def test_what_the_target_did_not_bear_opens(runtime: Bench, error: RpcError) -> None:
    policy = breaker()
    found = calls(runtime, policy, Target(error), 4)
    assert found[:3] == [error] * 3, "the error of the tripping call is its own"
    assert isinstance(found[3], CircuitOpen)


@pytest.mark.parametrize(
    "error",
    [ApplicationError("no"), errors.InvalidParams("x"), errors.MethodNotFound("x")],
    ids=lambda e: e.type or "e",
)
def test_an_answer_that_is_an_error_is_a_success(runtime: Bench, error: RpcError) -> None:
    policy = breaker()
    calls(runtime, policy, Target(error), 5)
    circuit = policy._circuits.of("orders")
    assert (circuit.state, circuit.window.calls, circuit.window.failures) == (CLOSED, 5, 0)
    policy.half_open("orders")
    calls(runtime, policy, Target(error), 3)
    assert policy.state("orders") is CLOSED


@pytest.mark.parametrize(
    "error",
    [NotConnected("x"), BrokerBlocked("x"), RateLimited("x"), errors.Draining("x"), ValueError("a bug of ours")],
    ids=lambda error: type(error).__name__,
)
def test_what_says_nothing_about_the_target_counts_neither_way(runtime: Bench, error: Exception) -> None:
    policy = breaker(permits=1, successes_required=1)
    calls(runtime, policy, Target(error), 5)
    circuit = policy._circuits.of("orders")
    assert (circuit.state, circuit.window.calls) == (CLOSED, 0)
    policy.half_open("orders")
    assert calls(runtime, policy, Target(error), 3) == [error] * 3, "each has given its permit back"
    assert (circuit.state, circuit.successes) == (HALF_OPEN, 0)


def test_a_user_says_what_counts(runtime: Bench) -> None:
    def counts(error: BaseException | None) -> bool | None:
        return None if error is None else not isinstance(error, ApplicationError)

    policy = breaker(counts=counts)
    calls(runtime, policy, Target(), 2)
    calls(runtime, policy, Target(Interrupted("fine")), 1)
    assert policy._circuits.of("orders").window.calls == 1
    runtime.advance(30)
    calls(runtime, policy, Target(ApplicationError("bad")), 3)
    assert policy.state("orders") is OPEN


def test_a_function_that_fails_to_say_is_named_and_does_not_hide_the_error(
    runtime: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def counts_badly(error: BaseException | None) -> bool:
        raise RuntimeError("no idea")

    policy = breaker(counts=counts_badly)
    with caplog.at_level(logging.ERROR):
        assert [type(error) for error in calls(runtime, policy, Target(Interrupted("gone")), 3)] == [Interrupted] * 3
    assert policy.state("orders") is OPEN, "counted as without it"
    assert "counts_badly" in caplog.text


def test_slow_calls_open_and_a_slow_probe_opens_again(runtime: Bench) -> None:
    policy = breaker(slow_call=1.0, min_calls=4)
    calls(runtime, policy, Target(seconds=1.0), 4)
    assert policy.state("orders") is CLOSED, "as long as that is not longer"
    runtime.advance(30)
    assert calls(runtime, policy, Target(seconds=1.5), 4)[-1].result == "done"
    assert policy.state("orders") is OPEN
    (refused,) = calls(runtime, policy, Target())
    assert "4 of 4 calls were slow" in str(refused)
    assert refused.__cause__ is None
    runtime.advance(5)
    calls(runtime, policy, Target(seconds=1.5))
    assert policy.state("orders") is OPEN


def test_a_failure_is_slow_only_when_it_took_longer(runtime: Bench) -> None:
    policy = breaker(slow_call=1.0, consecutive=None)
    for seconds in (0.0, 1.0, 1.5):
        calls(runtime, policy, Target(Interrupted("gone"), seconds=seconds))
    window = policy._circuits.of("orders").window
    assert (window.calls, window.failures, window.slow) == (3, 3, 1)


def test_a_timeout_of_the_attempt_is_seen(runtime: Bench) -> None:
    async def ends_by_its_deadline(call: Call) -> Reply:
        await call.runtime.sleep(call.remaining())
        raise DeadlineExceeded("time is up")

    policy = breaker()
    chain = Chain([policy, AttemptTimeout(limit=1)], ends_by_its_deadline).handler
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            runtime.call(chain)
    with pytest.raises(CircuitOpen):
        runtime.call(chain)
    assert runtime.passed == 3


# -- the refusal


def test_the_refusal_says_what_when_and_why(runtime: Bench) -> None:
    policy = breaker()
    trip(runtime, policy)
    runtime.advance(1)
    (refused,) = calls(runtime, policy, Target())
    assert str(refused) == (
        "orders.create was not executed: the circuit of 'orders' is open for another 4 s, after 3 calls in a row failed"
    )
    assert (refused.target, refused.state, refused.retry_after) == ("orders", "open", 4.0)
    assert (refused.certainty, refused.retryable) == (errors.NOT_EXECUTED, True)
    assert isinstance(refused.__cause__, Interrupted)
    assert str(refused.__cause__) == "gone"


def test_what_is_kept_of_an_error_holds_no_frames_and_no_causes(runtime: Bench) -> None:
    async def fails(call: Call) -> Reply:
        raise Interrupted("gone") from OSError("socket")

    policy = breaker(consecutive=1)
    calls(runtime, policy, fails)
    kept = policy._circuits.of("orders").error
    assert isinstance(kept, Interrupted)
    assert (kept.__traceback__, kept.__cause__, kept.__context__) == (None, None, None)


def test_an_error_that_cannot_be_copied_is_kept_in_words(runtime: Bench) -> None:
    class Awkward(Interrupted):
        def __init__(self, one: str, two: str) -> None:
            super().__init__(one + two)

    policy = breaker(consecutive=1)
    calls(runtime, policy, Target(Awkward("a", "b")))
    (refused,) = calls(runtime, policy, Target())
    assert type(refused.__cause__) is RpcError
    assert str(refused.__cause__) == "Awkward: ab"


def test_what_a_server_added_to_its_error_is_not_kept(runtime: Bench) -> None:
    policy = breaker(consecutive=1)
    error = Overloaded("x" * 500, details=["a long list"])
    error.history = (Interrupted("before"),)
    calls(runtime, policy, Target(error))
    kept = policy._circuits.of("orders").error
    assert isinstance(kept, Overloaded)
    assert (str(kept), kept.details, kept.history) == ("x" * 500, None, ())
    assert error.details == ["a long list"]


def test_an_error_of_any_kind_can_be_counted_and_kept(runtime: Bench) -> None:
    policy = breaker(consecutive=1, counts=lambda error: None if error is None else False)
    calls(runtime, policy, Target(ValueError("odd")))
    (refused,) = calls(runtime, policy, Target())
    assert isinstance(refused.__cause__, ValueError)


def test_of_a_long_message_the_beginning_is_kept(runtime: Bench) -> None:
    policy = breaker(consecutive=1)
    calls(runtime, policy, Target(Overloaded("x" * 501)))
    assert str(policy._circuits.of("orders").error) == "Overloaded: " + "x" * 500


def test_targets_are_apart(runtime: Bench) -> None:
    policy = breaker()
    trip(runtime, policy)
    assert calls(runtime, policy, Target(), method="stock.level")[0].result == "done"
    assert policy.states() == {"orders": OPEN, "stock": CLOSED}


def test_circuits_can_be_kept_by_a_group_of_methods(runtime: Bench) -> None:
    policy = breaker(key=lambda call: "writes" if call.method.endswith("create") else "reads")
    trip(runtime, policy)
    (refused,) = calls(runtime, policy, Target())
    assert refused.target == "writes"
    assert calls(runtime, policy, Target(), method="orders.list")[0].result == "done"


# -- recovery


def test_recovers_when_the_target_does(runtime: Bench) -> None:
    policy, target = breaker(), Target(Interrupted("gone"))
    calls(runtime, policy, target, 3)
    runtime.advance(5)
    calls(runtime, policy, target)
    assert policy.state("orders") is OPEN
    assert calls(runtime, policy, target)[0].retry_after == 10, "longer than before"
    runtime.advance(10)
    target.error = None
    assert [reply.result for reply in calls(runtime, policy, target, 3)] == ["done"] * 3
    assert policy.state("orders") is CLOSED
    assert target.calls == 7


def test_a_probe_that_hangs_is_given_up_and_its_late_failure_ignored(runtime: Bench) -> None:
    policy = breaker(permits=1, successes_required=1)
    policy.half_open("orders")
    hanging, quick = Target(Interrupted("late"), seconds=50.0), Target()

    async def then() -> None:
        await runtime.port.sleep(29)
        with pytest.raises(CircuitOpen):
            await compose([policy], quick)(runtime.make())
        await runtime.port.sleep(1)
        assert (await compose([policy], quick)(runtime.make())).result == "done"
        assert policy.state("orders") is CLOSED

    found = runtime.together(lambda: compose([policy], hanging)(runtime.make()), then, return_errors=True)
    assert isinstance(found[0], Interrupted)
    assert found[1] is None
    assert (policy.state("orders"), policy._circuits.of("orders").late) == (CLOSED, 1)


# -- by hand


def test_forced_open_in_either_mode(runtime: Bench) -> None:
    for mode in ("normal", "metrics_only"):
        policy = breaker(mode=mode)
        policy.force_open("orders")
        runtime.advance(1e6)
        (refused,) = calls(runtime, policy, Target())
        assert "forced open" in str(refused)
        assert (refused.state, refused.retry_after, refused.retryable) == ("forced_open", None, False)
        policy.close("orders")
        assert calls(runtime, policy, Target())[0].result == "done"


def test_disabled_refuses_nothing(runtime: Bench) -> None:
    policy = breaker()
    policy.disable("orders")
    assert all(type(error) is Interrupted for error in calls(runtime, policy, Target(Interrupted("gone")), 50))
    assert policy.state("orders") is DISABLED
    policy.reset("orders")
    trip(runtime, policy)


def test_opened_by_hand_it_recovers_by_itself(runtime: Bench) -> None:
    policy = breaker()
    policy.open("orders")
    assert calls(runtime, policy, Target())[0].retry_after == 5
    runtime.advance(5)
    assert calls(runtime, policy, Target())[0].result == "done"
    policy.reset("orders")
    assert policy.state("orders") is CLOSED


def test_what_an_operator_said_is_not_forgotten_for_want_of_room(runtime: Bench) -> None:
    policy = breaker()
    policy.force_open("orders")
    for number in range(1_200):
        policy.state(f"typo-{number}")
    assert policy.state("orders") is FORCED_OPEN
    assert len(policy.states()) == 1_000


# -- events


def test_every_change_and_refusal_is_announced(runtime: Bench) -> None:
    events, seen = listening(CircuitStateChanged, CallRejected)
    policy = breaker(successes_required=1, name="main")
    trip(runtime, policy, events=events)
    calls(runtime, policy, Target(), events=events, attempt=2)
    runtime.advance(5)
    calls(runtime, policy, Target(), events=events)
    common: dict[str, Any] = {"policy": "main", "method": "orders.create", "target": "orders"}
    assert seen == [
        CircuitStateChanged(**common, old=CLOSED, new=OPEN, reason="consecutive", generation=1, open_for=5.0),
        CallRejected(**common, attempt=2, reason="open", retry_after=5.0),
        CircuitStateChanged(**common, old=OPEN, new=HALF_OPEN, reason="open_time_over", generation=2),
        CircuitStateChanged(**common, old=HALF_OPEN, new=CLOSED, reason="probes_succeeded", generation=3),
    ]


def test_a_change_by_hand_is_announced_to_the_client_of_the_last_call(runtime: Bench) -> None:
    events, seen = listening(CircuitStateChanged, CallRejected)
    policy = breaker()
    policy.half_open("orders")
    calls(runtime, policy, Target(), events=events)
    policy.force_open("orders")
    policy.force_open("orders")
    calls(runtime, policy, Target(), events=events)
    assert seen == [
        CircuitStateChanged(
            policy="CircuitBreaker",
            method="",
            target="orders",
            old=HALF_OPEN,
            new=FORCED_OPEN,
            reason="manual",
            generation=2,
        ),
        CallRejected(policy="CircuitBreaker", method="orders.create", target="orders", reason="forced_open"),
    ]


def test_a_refusal_of_a_half_open_circuit_is_announced_as_such(runtime: Bench) -> None:
    events, seen = listening(CallRejected)
    policy = breaker(permits=1)
    policy.half_open("orders")
    chain = compose([policy], Target(seconds=1))
    runtime.together(*[lambda: chain(runtime.make(events=events))] * 2, return_errors=True)
    assert [event.reason for event in seen] == ["half_open"]


def test_nothing_is_built_that_nobody_wants(runtime: Bench) -> None:
    events, seen = listening(CircuitWouldReject)
    policy = breaker()
    trip(runtime, policy, events=events)
    calls(runtime, policy, Target(), events=events)
    assert seen == []


def test_metrics_only_refuses_nothing_and_says_what_it_would_have_refused(runtime: Bench) -> None:
    events, seen = listening(CircuitStateChanged, CallRejected, CircuitWouldReject)
    policy, target = breaker(mode="metrics_only", permits=1, successes_required=1), Target(Interrupted("gone"))
    found = calls(runtime, policy, target, 5, events=events)
    assert [type(error) for error in found] == [Interrupted] * 5
    assert [type(event) for event in seen] == [CircuitStateChanged, CircuitWouldReject, CircuitWouldReject]
    assert (seen[1].reason, seen[1].retry_after) == ("open", 5.0)
    runtime.advance(5)
    chain = compose([policy], Target(seconds=1))
    runtime.together(*[lambda: chain(runtime.make(events=events))] * 3)
    assert [getattr(event, "reason", "") for event in seen[3:]] == [
        "open_time_over", "half_open", "half_open", "probes_succeeded",
    ]  # fmt: skip
    assert policy.state("orders") is CLOSED


# -- reload, fork, memory, order


def test_a_reload_keeps_the_circuits_and_applies_the_new_settings(runtime: Bench) -> None:
    old = breaker()
    calls(runtime, old, Target(Interrupted("gone")), 2)
    new = breaker(consecutive=4)
    new.adopt(old)
    calls(runtime, new, Target(Interrupted("gone")))
    assert new.state("orders") is CLOSED
    calls(runtime, new, Target(Interrupted("gone")))
    assert new.state("orders") is OPEN
    assert old.state("orders") is OPEN, "calls that are under way in the old chain see the same circuit"


def test_a_call_of_the_old_chain_brings_its_probe_back_to_the_new_one(runtime: Bench) -> None:
    old, new = breaker(permits=1, successes_required=1), breaker(permits=1, successes_required=1)
    old.half_open("orders")

    async def reload() -> None:
        await runtime.port.sleep(1)
        new.adopt(old)

    runtime.together(lambda: compose([old], Target(seconds=2))(runtime.make()), reload)
    assert new.state("orders") is CLOSED


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_child_of_a_fork_begins_anew() -> None:
    policy = breaker()
    policy.open("orders")
    with policy._circuits._lock, policy._circuits.of("orders")._lock:  # as another thread of the parent might
        child = os.fork()
        if child == 0:
            policy.disable("stock")
            os._exit(0 if policy.states() == {"stock": DISABLED} and policy.state("orders") is CLOSED else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert policy.state("orders") is OPEN


def test_eight_threads_use_one_breaker_at_once() -> None:
    policy = CircuitBreaker(min_calls=10**9, consecutive=None, window=3600.0)
    good, bad = Reply(result=1), Interrupted("gone")

    async def alternates(call: Call) -> Reply:
        if call.attempt % 4 == 0:
            raise bad
        return good

    step = compose([policy], alternates)

    def run() -> None:
        for turn in range(2_000):
            call = Call(method="orders.create", params={}, runtime=BLOCKING, deadline=1e18, attempt=turn)
            with contextlib.suppress(Interrupted):
                drive(step(call))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    window = policy._circuits.of("orders").window
    assert (window.calls, window.failures) == (16_000, 4_000)


@pytest.mark.parametrize("listeners", [(), (pybreaker.CircuitBreakerListener(),)])
def test_a_target_takes_less_than_8_kib(listeners: tuple[Any, ...]) -> None:
    policy, error = breaker(consecutive=1, listeners=listeners), Interrupted("gone")

    async def fails(call: Call) -> Reply:
        raise error

    def call_to(target: str) -> None:
        call = Call(method=f"{target}.create", params={}, runtime=BLOCKING, deadline=1e18)
        with pytest.raises(Interrupted):
            drive(compose([policy], fails)(call))

    call_to("warm-up")
    names = [f"target-{number}" for number in range(300)]
    gc.collect()
    tracemalloc.start()
    try:
        for name in names:
            call_to(name)
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(policy.states()) == 301
    assert taken / len(names) < 8 * 1024


def test_passing_a_call_through_costs_little() -> None:
    reply = Reply(result=1)

    async def proceed(call: Call) -> Reply:
        return reply

    policy = CircuitBreaker()
    call = Call(method="orders.create", params={}, runtime=BLOCKING, deadline=1e18)

    def best(step: Callable[[], Any]) -> float:
        return min(timeit.repeat(step, number=2_000, repeat=20)) / 2_000

    cost = best(lambda: drive(policy(call, proceed))) - best(lambda: drive(proceed(call)))
    assert cost < 10e-6  # 0.7 µs where nothing else runs; the margin is for machines that do much else


def test_pybreaker_is_not_loaded_before_it_is_asked_for() -> None:
    code = (
        "import sys\n"
        "from resilient_rpc.policies.breaker import CircuitBreaker\n"
        "breaker = CircuitBreaker()\n"
        "breaker.open('orders')\n"
        "assert not {'pybreaker', 'redis'} & set(sys.modules)\n"
        "assert breaker.pybreaker('orders').current_state == 'open'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)


class _Retry:
    role = "retry"

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        return await proceed(call)


class _Limit(_Retry):
    role = "rate_limit"


@pytest.mark.parametrize(
    ("policies", "reason"),
    [
        ([CircuitBreaker(), _Retry()], "one failure for several failed attempts"),
        ([_Limit(), CircuitBreaker()], "must not use up a token"),
        ([AttemptTimeout(), CircuitBreaker()], "attempt that took too long"),
    ],
)
def test_a_wrong_place_in_a_chain_is_refused_with_the_reason(policies: list[Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        Chain(policies, Target())


def test_the_right_place_is_between_retry_and_limits() -> None:
    chain = Chain([_Retry(), CircuitBreaker(), _Limit(), AttemptTimeout()], Target())
    assert "CircuitBreaker(window=30.0, min_calls=20" in str(chain)
    assert "random" not in str(chain)


def test_it_checks_its_settings() -> None:
    with pytest.raises(ConfigurationError, match=r"CircuitBreaker\.permits must be at least 1, not 0"):
        CircuitBreaker(permits=0)
