from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any

import pytest

from resilient_rpc.call import Call, Reply
from resilient_rpc.chain import compose
from resilient_rpc.errors import RateLimited
from resilient_rpc.events import PolicyBypassed
from resilient_rpc.hub import Events
from resilient_rpc.policies import RateLimit
from resilient_rpc.policies.shared_rate import PAUSE, Ask, Lease
from resilient_rpc.runtime import running_runtime
from resilient_rpc.testing import VirtualClock
from tests.runtimes import Bench

AT_ONCE = Lease(granted=True, wait=0.0, mark=b"1")


@dataclass
class Fake:
    """A shared count that answers after `seconds` with `answer`, or raises it."""

    answer: Any = AT_ONCE
    seconds: float = 0.01
    timeout: float = 0.1
    instances: int = 1
    asked: list[Ask] = field(default_factory=list)
    returned: list[tuple[Ask, Lease]] = field(default_factory=list)
    ended: int = 0

    async def take(self, ask: Ask, /) -> Lease:
        self.asked.append(ask)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.ended += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        answer: Lease = self.answer
        return answer

    async def refund(self, ask: Ask, lease: Lease, /) -> None:
        self.returned.append((ask, lease))


async def target(call: Call) -> Reply:
    return Reply(result="done")


class Told:
    """Who hears of bypasses."""

    def __init__(self) -> None:
        self.events = Events()
        self.reasons: list[str] = []
        self.events.on(PolicyBypassed, lambda event: self.reasons.append(event.reason))


def test_the_others_are_asked_and_nobody_else(runtime: Bench) -> None:
    fake = Fake()
    policy = RateLimit(rate=2, burst=1, max_wait=3.0, shared=fake, name="mine")
    assert runtime.call(compose([policy], target)).result == "done"
    assert fake.asked == [Ask("mine:orders", 2, 1.0, 3.0)]
    assert runtime.passed == pytest.approx(0.01)
    assert policy._buckets.snapshot() == {}


def test_what_they_say_is_done(runtime: Bench) -> None:
    fake = Fake(Lease(granted=True, wait=2.0))
    chain = compose([RateLimit(rate=2, max_wait=3.0, shared=fake)], target)
    runtime.call(chain)
    assert runtime.passed == pytest.approx(2.01)
    fake.answer = Lease(granted=False, wait=7.0)
    with pytest.raises(RateLimited) as info:
        runtime.call(chain)
    assert info.value.retry_after == 7.0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (ConnectionError("refused"), "unavailable"),
        (asyncio.CancelledError(), "unavailable"),
        (None, "unavailable"),
        (Lease(granted=True, wait=-1.0), "implausible"),
        (Lease(granted=True, wait=math.nan), "implausible"),
        (Lease(granted=True, wait=5.0), "implausible"),
        (Lease(granted=False, wait=math.inf), "implausible"),
    ],
)
def test_without_an_answer_to_rely_on_the_own_share_holds(runtime: Bench, answer: Any, reason: str) -> None:
    told = Told()
    policy = RateLimit(rate=8, burst=8, max_wait=3.0, shared=Fake(answer, instances=4))
    chain = compose([policy], target)
    for _ in range(3):
        assert runtime.call(chain, events=told.events).result == "done"
    assert told.reasons == [reason, "unavailable", "unavailable"]
    assert runtime.passed == pytest.approx(0.51)  # two of the burst at once, the third one after half a second
    assert runtime.call(compose([RateLimit(rate=8, shared=Fake(answer))], target)).result == "done"  # nobody listens


def test_a_call_waits_no_longer_than_the_timeout_for_an_answer(runtime: Bench) -> None:
    told, fake = Told(), Fake(seconds=60)
    runtime.call(compose([RateLimit(rate=8, shared=fake)], target), events=told.events)
    assert runtime.passed == pytest.approx(0.1)
    assert told.reasons == ["timeout"]
    runtime.advance(0.01)
    assert fake.ended == 1  # it was cancelled


def test_after_a_failure_one_call_in_a_second_finds_out(runtime: Bench) -> None:
    told, fake = Told(), Fake(ConnectionError("refused"))
    chain = compose([RateLimit(rate=100, shared=fake)], target)
    for _ in range(5):
        runtime.call(chain, events=told.events)
    assert len(fake.asked) == 1
    runtime.advance(PAUSE)
    runtime.together(*[lambda: chain(runtime.make(events=told.events))] * 5)
    assert len(fake.asked) == 2
    fake.answer = AT_ONCE
    runtime.advance(PAUSE)
    runtime.together(*[lambda: chain(runtime.make())] * 5)
    runtime.together(*[lambda: chain(runtime.make())] * 5)
    assert len(fake.asked) == 8
    assert len(told.reasons) == 10


def test_a_call_in_a_hurry_proves_nothing(runtime: Bench) -> None:
    fake = Fake(seconds=0.05)
    chain = compose([RateLimit(rate=100, shared=fake)], target)
    runtime.call(chain, timeout=0.02)
    runtime.call(chain)
    assert len(fake.asked) == 2


def cancelled(clock: VirtualClock, fake: Fake, after: float) -> None:
    """A call of an asyncio program that is cancelled so many seconds after it began."""
    chain = compose([RateLimit(rate=1, burst=1, max_wait=5.0, shared=fake)], target)

    async def main() -> None:
        call = Call(method="a.b", params={}, runtime=running_runtime(), deadline=clock.now() + 10)
        running = asyncio.create_task(chain(call))
        await asyncio.sleep(after)
        running.cancel()
        (result,) = await asyncio.gather(running, return_exceptions=True)
        assert isinstance(result, asyncio.CancelledError)
        await asyncio.sleep(0.1)

    with asyncio.Runner(loop_factory=clock.new_loop) as runner:
        runner.run(main())


def test_a_cancelled_call_returns_its_token(clock: VirtualClock) -> None:
    lease = Lease(granted=True, wait=3.0, mark=b"1")
    fake = Fake(lease)
    cancelled(clock, fake, 1.0)
    assert [(ask.key, returned) for ask, returned in fake.returned] == [("RateLimit:a", lease)]


def test_a_call_that_is_cancelled_while_it_asks_does_not_go_on(clock: VirtualClock) -> None:
    fake = Fake(seconds=8, timeout=9)
    cancelled(clock, fake, 1.0)
    assert (fake.ended, fake.returned) == (1, [])
    assert clock.now() < 1000 + 2
