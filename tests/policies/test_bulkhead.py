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
from resilient_rpc.errors import NOT_EXECUTED, BulkheadFull, ConfigurationError
from resilient_rpc.events import CallRejected, PolicyBypassed
from resilient_rpc.hub import Events
from resilient_rpc.policies import AttemptTimeout, Bulkhead, Deadline, by_tag
from resilient_rpc.runtime import BLOCKING, drive, running_runtime
from resilient_rpc.testing import VirtualClock, check_policy
from tests.runtimes import Bench


class Target:
    """Takes `seconds` for each call, and remembers how many it had at once and in which order they came."""

    def __init__(self, seconds: float = 10.0) -> None:
        self.seconds = seconds
        self.now = self.most = 0
        self.order: list[Any] = []
        self._lock = threading.Lock()

    async def __call__(self, call: Call) -> Reply:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.order.append(call.params)
        try:
            await call.runtime.sleep(self.seconds)
        finally:
            with self._lock:
                self.now -= 1
        return Reply(result=call.params)


def calls(runtime: Bench, bulkhead: Bulkhead, target: Target, count: int, **fields: Any) -> list[Any]:
    """So many calls, a millisecond after one another."""
    chain = compose([bulkhead], target)

    def maker(number: int) -> Any:
        async def one() -> Reply:
            await runtime.port.sleep(number / 1000)
            return await chain(runtime.make(params={"n": number}, **fields))

        return one

    return runtime.together(*[maker(number) for number in range(count)], return_errors=True)


def outcomes(results: list[Any]) -> str:
    return "".join("." if isinstance(one, Reply) else "F" if isinstance(one, BulkheadFull) else "?" for one in results)


def numbers(target: Target) -> list[int]:
    return [params["n"] for params in target.order]


def test_no_more_than_the_limit_reach_the_target(runtime: Bench) -> None:
    target = Target()
    results = calls(runtime, Bulkhead(limit=2), target, 5)
    assert (outcomes(results), target.most) == ("..FFF", 2)
    assert runtime.passed == pytest.approx(10.001)


def test_a_refusal_says_that_nothing_was_executed(runtime: Bench) -> None:
    error = calls(runtime, Bulkhead(limit=1), Target(), 2)[1]
    assert isinstance(error, BulkheadFull)
    assert (error.certainty, error.retryable) == (NOT_EXECUTED, False)
    assert str(error) == "Bulkhead: all 1 permits of orders were taken, and no place in its line"


def test_who_finds_a_place_is_served_in_order(runtime: Bench) -> None:
    target = Target()
    results = calls(runtime, Bulkhead(limit=1, queue=2), target, 4, timeout=100)
    assert outcomes(results) == "...F"
    assert (numbers(target), target.most) == ([0, 1, 2], 1)
    assert runtime.passed == pytest.approx(30)


def test_nobody_waits_longer_than_max_wait(runtime: Bench) -> None:
    results = calls(runtime, Bulkhead(limit=1, queue=5, max_wait=15), Target(), 3, timeout=100)
    assert outcomes(results) == "..F"
    assert str(results[2]).endswith("were taken, for as long as the call could wait")


def test_nobody_waits_beyond_the_deadline(runtime: Bench) -> None:
    target = Target(60)
    assert outcomes(calls(runtime, Bulkhead(limit=1, queue=5), target, 2, timeout=7)) == ".F"
    assert len(target.order) == 1

    async def late() -> Reply:
        return await compose([Bulkhead(limit=1)], Target(0))(runtime.make(timeout=-1))

    assert runtime.run(late).result == {}  # a free permit is not refused: what is inside says that it is too late


def test_without_time_nobody_lines_up(runtime: Bench) -> None:
    bulkhead = Bulkhead(limit=1, queue=5, max_wait=0)
    assert outcomes(calls(runtime, bulkhead, Target(), 2)) == ".F"
    assert outcomes(calls(runtime, Bulkhead(limit=1, queue=5), Target(), 2, timeout=0)) == ".F"


def test_a_target_does_not_take_the_permits_of_another(runtime: Bench) -> None:
    target, bulkhead = Target(), Bulkhead(limit=1)
    chain = compose([bulkhead], target)
    results = runtime.together(
        lambda: chain(runtime.make("orders.create")), lambda: chain(runtime.make("stock.take")), return_errors=True
    )
    assert (outcomes(results), target.most) == ("..", 2)


def test_a_higher_class_goes_first_and_takes_the_last_place(runtime: Bench) -> None:
    target = Target()
    bulkhead = Bulkhead(limit=1, queue=2, priority=lambda call: call.params["n"])  # type: ignore[call-overload]
    results = calls(runtime, bulkhead, target, 5, timeout=100)
    assert outcomes(results) == ".FF.."
    assert numbers(target) == [0, 4, 3]
    assert str(results[1]).endswith("and no place in its line")


def test_a_class_may_come_from_a_tag(runtime: Bench) -> None:
    target = Target()
    chain = compose([Bulkhead(limit=1, queue=2, priority=by_tag("tier", {"gold": 1}))], target)

    def maker(number: int, tier: str) -> Any:
        async def one() -> Reply:
            await runtime.port.sleep(number / 1000)
            return await chain(runtime.make(params={"n": number}, tags={"tier": tier}))

        return one

    runtime.together(maker(0, "tin"), maker(1, "tin"), maker(2, "gold"))
    assert numbers(target) == [0, 2, 1]


def test_a_priority_that_fails_makes_the_call_an_ordinary_one_and_is_told(runtime: Bench) -> None:
    bus, told = Events(), []
    bus.on(PolicyBypassed, told.append)
    target = Target()
    bulkhead = Bulkhead(limit=1, queue=2, priority=lambda call: call.tags["tier"], name="mine")  # type: ignore[arg-type,return-value]
    assert outcomes(calls(runtime, bulkhead, target, 3, events=bus)) == "..."
    assert [(event.policy, event.target, event.reason) for event in told] == [("mine", "orders", "priority")] * 2
    assert outcomes(calls(runtime, bulkhead, target, 3)) == "..."  # nobody listens


@pytest.mark.parametrize(("settings", "reason"), [({}, "full"), ({"queue": 1, "max_wait": 1}, "wait")])
def test_a_refusal_is_an_event(runtime: Bench, settings: dict[str, Any], reason: str) -> None:
    bus, told = Events(), []
    bus.on(CallRejected, told.append)
    calls(runtime, Bulkhead(limit=1, **settings), Target(), 2, events=bus, attempt=2)
    assert told == [CallRejected(policy="Bulkhead", method="orders.create", target="orders", attempt=2, reason=reason)]


def test_an_error_gives_the_permit_back(runtime: Bench) -> None:
    async def failing(call: Call) -> Reply:
        raise KeyError("broken")

    bulkhead = Bulkhead(limit=1)
    with pytest.raises(KeyError):
        runtime.call(compose([bulkhead], failing))
    assert not bulkhead._state.permits.of("orders").busy()


def test_a_reload_keeps_permits_and_line_and_changes_the_limit(runtime: Bench) -> None:
    old, target = Bulkhead(limit=1, queue=5), Target()
    before, new = compose([old], target), Bulkhead(limit=2, queue=5)

    async def reload() -> Any:
        await runtime.port.sleep(5)
        new.adopt(old)
        return [await compose([new], target)(runtime.make())]

    results = runtime.together(*[lambda: before(runtime.make())] * 2, reload, return_errors=True)
    assert [type(one) for one in results] == [Reply, Reply, list]
    assert target.most == 2
    assert runtime.passed == pytest.approx(20)
    assert new._state.permits.of("stock").limit == 2


def test_a_target_whose_permits_are_out_is_not_forgotten(runtime: Bench) -> None:
    bulkhead = Bulkhead(limit=1)
    bulkhead._state.permits._limit = 1
    permits = bulkhead._state.permits.of("orders")
    permits.take()
    bulkhead._state.permits.of("stock")
    bulkhead._state.permits.of("audit")
    assert bulkhead._state.permits.of("orders") is permits


class TestCancelled:
    def run(self, clock: VirtualClock, when: float, order: list[int]) -> Bulkhead:
        """Three calls of ten seconds, one at a time; the second is cancelled."""
        bulkhead, target = Bulkhead(limit=1, queue=5), Target(10)
        chain = compose([bulkhead], target)

        async def one(number: int) -> Reply:
            call = Call(method="a.b", params={"n": number}, runtime=running_runtime(), deadline=clock.now() + 100)
            return await chain(call)

        async def main() -> None:
            tasks = [asyncio.create_task(one(number)) for number in range(3)]
            await asyncio.sleep(when)
            tasks[1].cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(results[1], asyncio.CancelledError)

        with asyncio.Runner(loop_factory=clock.new_loop) as runner:
            runner.run(main())
        assert numbers(target) == order
        return bulkhead

    @pytest.mark.parametrize(("when", "order"), [(5, [0, 2]), (15, [0, 1, 2])])
    def test_passes_on_its_place_or_its_permit(self, clock: VirtualClock, when: float, order: list[int]) -> None:
        permits = self.run(clock, when, order)._state.permits.of("a")
        assert (permits.out, permits.waiting) == (0, 0)

    def test_in_the_moment_of_being_served_it_passes_the_permit_on(self) -> None:
        bulkhead = Bulkhead(limit=1, queue=5)
        permits = bulkhead._state.permits.of("a")
        permits.take()

        async def main() -> None:
            call = Call(method="a.b", params={}, runtime=running_runtime(), deadline=time.monotonic() + 10)
            waiting = asyncio.create_task(compose([bulkhead], Target(0))(call))
            await asyncio.sleep(0)
            permits.give_back()
            waiting.cancel()
            (result,) = await asyncio.gather(waiting, return_exceptions=True)
            assert isinstance(result, asyncio.CancelledError)

        asyncio.run(main())
        assert (permits.out, permits.waiting) == (0, 0)


def test_threads_and_loops_share_the_permits() -> None:
    bulkhead, target = Bulkhead(limit=3, queue=100), Target(0.001)
    chain = compose([bulkhead], target)
    errors: list[BaseException] = []

    def make(runtime: Any) -> Call:
        return Call(method="a.b", params={}, runtime=runtime, deadline=time.monotonic() + 20)

    def blocking() -> None:
        for _ in range(20):
            drive(chain(make(BLOCKING)))

    def on_a_loop() -> None:
        async def main() -> None:
            await asyncio.gather(*[chain(make(running_runtime())) for _ in range(20)])

        asyncio.run(main())

    def guarded(work: Any) -> Any:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                errors.append(error)

        return run

    threads = [threading.Thread(target=guarded(work)) for work in [blocking] * 6 + [on_a_loop] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    permits = bulkhead._state.permits.of("a")
    assert not errors
    assert (target.most, len(target.order), permits.out, permits.waiting) == (3, 160, 0, 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", 0),
        ("limit", 1.5),
        ("limit", True),
        ("queue", -1),
        ("queue", math.inf),
        ("max_wait", -1),
        ("max_wait", math.nan),
        ("max_wait", "1"),
        ("priority", "tier"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"Bulkhead\.{name}") as info:
        Bulkhead(**{name: value})
    assert repr(value) in str(info.value)


@pytest.mark.parametrize("policies", [[Bulkhead(), Deadline(limit=5)], [AttemptTimeout(), Bulkhead()]])
def test_a_wrong_place_in_a_chain_is_refused_with_the_reason(policies: list[Any]) -> None:
    with pytest.raises(ConfigurationError, match="must stand before"):
        Chain(policies, Target())


def test_shows_its_settings_and_not_its_state() -> None:
    assert repr(Bulkhead(limit=2)) == "Bulkhead(limit=2, queue=0, max_wait=inf, priority=None, name='')"


@pytest.mark.parametrize("make", [Bulkhead, lambda: Bulkhead(limit=3), lambda: Bulkhead(limit=3, queue=20, max_wait=1)])
def test_it_keeps_the_rules_of_policies(make: Callable[[], Bulkhead]) -> None:
    check_policy(make)
