from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import tenacity
from tenacity import asyncio as tenacity_asyncio

from resilient_rpc.call import READ_ONLY, Call, Reply
from resilient_rpc.errors import ApplicationError, ConfigurationError, ConnectionLost, NotConnected, RpcError
from resilient_rpc.policies import Retry, RetryBudget
from resilient_rpc.runtime import running_runtime
from resilient_rpc.testing import VirtualClock
from tests.policies.attempts import Script, heard
from tests.runtimes import Bench

FREE = RetryBudget.unlimited()


def test_stop_replaces_the_number_of_attempts(runtime: Bench) -> None:
    script = Script([ConnectionLost(str(number)) for number in range(9)])
    with pytest.raises(ConnectionLost, match="4") as info:
        runtime.call(script.under(Retry(stop=tenacity.stop_after_attempt(5), budget=FREE)), safety=READ_ONLY)
    assert (len(script.calls), info.value.attempts, len(info.value.history)) == (5, 5, 4)


def test_wait_replaces_the_jitter(runtime: Bench) -> None:
    script = Script([ConnectionLost(), ConnectionLost(), "done"])
    policy = Retry(wait=tenacity.wait_incrementing(start=2, increment=3))
    assert runtime.call(script.under(policy), safety=READ_ONLY).result == "done"
    assert script.times == [0, 2, 7]


@pytest.mark.parametrize(
    ("stop", "times"),
    [
        (tenacity.stop_after_delay(3), [0, 2, 4]),
        (tenacity.stop_before_delay(timedelta(seconds=5)), [0, 2, 4]),
        (tenacity.stop_before_delay(4), [0, 2]),
        (tenacity.stop_after_delay(10) | tenacity.stop_after_attempt(2), [0, 2]),
        (tenacity.stop_never, [0, 2, 4, 6, 8]),
    ],
)
def test_delays_are_those_of_the_clock_of_the_call(runtime: Bench, stop: Any, times: list[float]) -> None:
    script = Script([ConnectionLost() for _ in range(9)])
    with pytest.raises(ConnectionLost):
        runtime.call(script.under(Retry(wait=tenacity.wait_fixed(2), stop=stop)), safety=READ_ONLY, timeout=9.5)
    assert script.times == times


def test_retry_replaces_what_the_error_says(runtime: Bench) -> None:
    policy = Retry(retry=tenacity.retry_if_exception_message(match="busy"))
    script = Script([ApplicationError("busy"), "done"])
    assert runtime.call(script.under(policy), safety=READ_ONLY).result == "done"
    script = Script([NotConnected("gone")])
    with pytest.raises(NotConnected) as info:
        runtime.call(script.under(policy))
    assert info.value.retryable
    assert len(script.calls) == 1


def test_what_is_unsafe_is_not_repeated_whatever_the_strategy_says(runtime: Bench) -> None:
    policy = Retry(retry=tenacity.retry_if_exception_type())
    for error in (ConnectionLost(), ApplicationError(), ValueError()):
        script = Script([error, "done"])
        with pytest.raises(type(error)):
            runtime.call(script.under(policy))
        assert len(script.calls) == 1


def test_the_deadline_and_the_budget_hold_whatever_the_strategy_says(runtime: Bench) -> None:
    wait = tenacity.wait_fixed(2)
    script = Script([ConnectionLost() for _ in range(9)])
    events: list[Any] = []
    with pytest.raises(ConnectionLost):
        runtime.call(
            script.under(Retry(wait=wait, stop=tenacity.stop_never, budget=FREE)),
            safety=READ_ONLY,
            timeout=6,
            events=heard(events),
        )
    assert (script.times, events[-1].reason) == ([0, 2, 4], "deadline")
    with pytest.raises(ConnectionLost):
        runtime.call(
            Script([ConnectionLost(), "done"]).under(Retry(wait=wait, budget=RetryBudget(ratio=0, floor=0))),
            safety=READ_ONLY,
            events=heard(events),
        )
    assert events[-1].reason == "budget"


def test_a_strategy_sees_the_call_and_its_attempts(runtime: Bench) -> None:
    seen: list[tuple[Any, ...]] = []

    def stop(state: tenacity.RetryCallState) -> bool:
        assert state.outcome is not None
        method = state.args[0].method
        seen.append((method, state.attempt_number, state.upcoming_sleep, state.idle_for, state.seconds_since_start))
        return False

    script = Script([ConnectionLost("1"), ConnectionLost("2"), "done"])
    runtime.call(script.under(Retry(wait=tenacity.wait_incrementing(1, 1), stop=stop)), "a.b", safety=READ_ONLY)
    assert seen == [("a.b", 1, 1.0, 0.0, 0.0), ("a.b", 2, 2.0, 1.0, 1.0)]


def test_tasks_and_threads_share_a_policy_with_an_async_predicate(runtime: Bench) -> None:
    """T7: on a shared AsyncRetrying five of six such calls return None."""

    async def lost(error: BaseException) -> bool:
        if runtime.name == "asyncio":
            await asyncio.sleep(0.01)
        return isinstance(error, ConnectionLost)

    policy = Retry(retry=tenacity_asyncio.retry_if_exception(lost), stop=tenacity.stop_after_attempt(3), budget=FREE)
    scripts = [Script([ConnectionLost(), ConnectionLost(), number]) for number in range(6)]
    never = Script([ApplicationError("sold out")])
    chains = [script.under(policy) for script in [*scripts, never]]
    makers = [lambda chain=chain: chain(runtime.make(safety=READ_ONLY)) for chain in chains]
    *replies, refused = runtime.together(*makers, return_errors=True)
    assert [reply.result for reply in replies] == list(range(6))
    assert [reply.attempts for reply in replies] == [3] * 6
    assert isinstance(refused, ApplicationError)


def test_async_strategies_of_every_sort_are_awaited(runtime: Bench) -> None:
    async def wait(state: tenacity.RetryCallState) -> float:
        call: Call = state.args[0]
        await call.runtime.sleep(1)
        return 2

    async def stop(state: tenacity.RetryCallState) -> bool:
        return state.attempt_number == 2

    script = Script([ConnectionLost() for _ in range(9)])
    with pytest.raises(ConnectionLost):
        runtime.call(script.under(Retry(wait=wait, stop=stop)), safety=READ_ONLY)
    assert script.times == [0, 3]


def test_a_strategy_that_hangs_is_given_up_at_the_deadline(clock: VirtualClock) -> None:
    ended: list[str] = []

    async def hanging(error: BaseException) -> bool:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("given up")
        return True

    async def main() -> float:
        runtime = running_runtime()
        begin = runtime.now()
        call = Call(method="a.b", params={}, runtime=runtime, deadline=begin + 5)
        policy = Retry(retry=tenacity_asyncio.retry_if_exception(hanging))
        with pytest.raises(NotConnected) as info:
            await Script([NotConnected()]).under(policy)(call)
        assert "no answer by the deadline" in info.value.__notes__[0]
        await asyncio.sleep(0)
        return runtime.now() - begin

    with asyncio.Runner(loop_factory=clock.new_loop) as runner:
        assert runner.run(main()) == 5
    assert ended == ["given up"]


def bug(state: object) -> Any:
    raise KeyError("idle_for")


@pytest.mark.parametrize(
    "settings",
    [{"retry": bug}, {"wait": bug}, {"stop": bug}, {"wait": lambda _: -1}, {"wait": lambda _: float("nan")}],
)
def test_a_strategy_that_fails_leaves_the_caller_with_the_targets_error(
    runtime: Bench, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    script, events = Script([ConnectionLost("away"), "done"]), []
    with pytest.raises(ConnectionLost, match="away") as info:
        runtime.call(script.under(Retry(**settings)), safety=READ_ONLY, events=heard(events))
    assert any("a strategy failed" in note for note in info.value.__notes__)
    assert [event.reason for event in events] == ["strategy"]
    assert "a strategy of Retry(" in caplog.text


@pytest.mark.parametrize("name", ["retry", "wait", "stop"])
@pytest.mark.parametrize("wrong", [3, "three", tenacity.stop_after_attempt, RpcError])
def test_what_is_no_strategy_is_refused(name: str, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"Retry\.{name} must be a strategy of tenacity") as info:
        Retry(**{name: wrong})
    assert repr(wrong) in str(info.value)


@pytest.mark.parametrize(
    "about_results",
    [
        tenacity.retry_if_result(bool),
        tenacity.retry_if_not_result(bool),
        tenacity_asyncio.retry_if_result(lambda _: asyncio.sleep(0)),  # type: ignore[arg-type,return-value]
    ],
)
def test_a_strategy_about_results_is_refused(about_results: Any) -> None:
    with pytest.raises(ConfigurationError, match="judges results"):
        Retry(retry=about_results)


@pytest.mark.parametrize(
    ("settings", "pair"),
    [
        ({"stop": tenacity.stop_never, "attempts": 4}, ("stop", "attempts=4")),
        ({"wait": tenacity.wait_fixed(1), "cap": 9.0}, ("wait", "cap=9.0")),
        ({"wait": tenacity.wait_fixed(1), "overload_base": 2}, ("wait", "overload_base=2")),
        ({"retry": tenacity.retry_always, "retry_on": ["busy"]}, ("retry", "retry_on=['busy']")),
    ],
)
def test_two_settings_of_which_one_replaces_the_other_are_refused(
    settings: dict[str, Any], pair: tuple[str, str]
) -> None:
    with pytest.raises(ConfigurationError) as info:
        Retry(**settings)
    assert f"Retry.{pair[0]} replaces Retry.{pair[1]}" in str(info.value)


def test_a_reply_is_never_asked_about(runtime: Bench) -> None:
    async def answer(call: Call) -> Reply:
        return Reply(result=None)

    policy = Retry(retry=bug, wait=bug, stop=bug)
    assert runtime.run(lambda: policy(runtime.make(), answer)).result is None
