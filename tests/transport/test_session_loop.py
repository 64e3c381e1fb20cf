from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.testing import VirtualClock
from resilient_rpc.transport.backoff import Backoff
from resilient_rpc.transport.session_loop import SessionLoop


class Session:
    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        self.closed = True


class Bench:
    """A session loop in virtual time, whose attempts go as the test says."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.begin = clock.now()
        self.plan: list[Any] = []
        self.attempts: list[float] = []
        self.opened: list[Session] = []
        self.failed: list[BaseException] = []
        self.urgent = False
        self.fail_opened = False
        self.loop: SessionLoop[Session] = SessionLoop(
            self._open,
            opened=self._opened,
            failed=self.failed.append,
            urgent=lambda: self.urgent,
            backoff=Backoff(random=lambda: 1.0),
        )

    async def _open(self) -> Session:
        self.attempts.append(round(self.clock.now() - self.begin, 6))
        step = self.plan.pop(0) if self.plan else None
        if callable(step):
            step = await step()
        if isinstance(step, BaseException):
            raise step
        return Session()

    def _opened(self, session: Session) -> None:
        self.opened.append(session)
        if self.fail_opened:
            self.fail_opened = False
            raise ValueError("the owner failed")


def run(scenario: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock)
        await scenario(bench)
        await bench.loop.close()
        left = [task for task in asyncio.all_tasks() if task.get_name() == "rpc-session"]
        assert not left

    with VirtualClock() as clock:
        clock.run_async(lambda: main(clock))


def test_it_connects_once_and_tells_its_owner() -> None:
    async def scenario(b: Bench) -> None:
        assert b.loop.session is None
        b.loop.start()
        b.loop.start()
        await asyncio.sleep(100)
        assert b.opened == [b.loop.session]
        assert len(b.attempts) == 1
        assert b.failed == []

    run(scenario)


def test_attempts_are_further_and_further_apart_and_begin_anew_after_a_success() -> None:
    async def scenario(b: Bench) -> None:
        b.plan = [OSError(str(n)) for n in range(9)]
        b.loop.start()
        await asyncio.sleep(60)
        waits = [second - first for first, second in itertools.pairwise(b.attempts)]
        assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10])
        assert [str(error) for error in b.failed] == [str(n) for n in range(9)]
        assert b.loop.last_error is None
        lost = b.clock.now() - b.begin
        b.loop.lost(OSError("cut"))
        assert b.loop.session is None
        await asyncio.sleep(1)
        assert b.attempts[-1] - lost == pytest.approx(0.1)
        assert b.loop.session is b.opened[-1]

    run(scenario)


def test_while_somebody_waits_the_attempts_are_closer() -> None:
    async def scenario(b: Bench) -> None:
        b.plan = [OSError()] * 20
        b.urgent = True
        b.loop.start()
        await asyncio.sleep(30)
        waits = [second - first for first, second in itertools.pairwise(b.attempts)]
        assert max(waits) <= 2.001

    run(scenario)


def test_whoever_comes_while_it_sleeps_shortens_the_sleep() -> None:
    async def scenario(b: Bench) -> None:
        b.plan = [OSError()] * 9
        b.loop.start()
        await asyncio.sleep(13)  # it sleeps for ten seconds now
        count = len(b.attempts)
        b.urgent = True
        b.loop.hurry()
        await asyncio.sleep(2.1)
        assert len(b.attempts) == count + 1
        b.loop.hurry()  # once is enough: it is not shortened for each that comes
        await asyncio.sleep(0.5)
        assert len(b.attempts) == count + 1

    run(scenario)


def test_one_that_does_not_wait_shortens_nothing() -> None:
    async def scenario(b: Bench) -> None:
        b.plan = [OSError()] * 9
        b.loop.start()
        await asyncio.sleep(13)
        count = len(b.attempts)
        for _ in range(5):
            b.loop.hurry()
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)
        assert len(b.attempts) == count

    run(scenario)


def test_hurrying_a_loop_that_is_connected_does_nothing() -> None:
    async def scenario(b: Bench) -> None:
        b.loop.start()
        await asyncio.sleep(1)
        b.loop.hurry()
        await asyncio.sleep(1)
        assert len(b.attempts) == 1

    run(scenario)


@pytest.mark.parametrize("error", [ConfigurationError("bad password"), TimeoutError(), RuntimeError("of a library")])
def test_any_error_is_told_and_tried_again(error: Exception) -> None:
    async def scenario(b: Bench) -> None:
        b.plan = [error]
        b.loop.start()
        await asyncio.sleep(1)
        assert b.failed == [error]
        assert b.loop.session is not None

    run(scenario)


def test_a_session_that_ended_before_its_owner_knew_it_is_not_kept() -> None:
    async def scenario(b: Bench) -> None:
        async def lost_at_once() -> None:
            b.loop.lost(OSError("cut"))

        b.plan = [lost_at_once]
        b.loop.start()
        await asyncio.sleep(1)
        assert len(b.opened) == 1
        assert len(b.attempts) == 2

    run(scenario)


def test_a_broker_that_drops_every_connection_at_once_is_not_stormed() -> None:
    async def scenario(b: Bench) -> None:
        async def lost_at_once() -> None:
            await asyncio.sleep(0.001)
            b.loop.lost(OSError("cut"))

        b.plan = [lost_at_once] * 1000
        b.loop.start()
        await asyncio.sleep(30)
        assert len(b.attempts) < 20

    run(scenario)


def test_a_broker_that_drops_every_connection_soon_is_not_stormed() -> None:
    async def scenario(b: Bench) -> None:
        b.loop.start()
        for _ in range(300):
            await asyncio.sleep(0.1)
            if b.loop.session is not None:
                b.loop.lost(OSError("cut"))
        assert len(b.attempts) <= 160

    run(scenario)


def test_closing_ends_the_session_and_the_attempts() -> None:
    async def scenario(b: Bench) -> None:
        b.loop.start()
        await asyncio.sleep(1)
        session = b.loop.session
        await b.loop.close()
        assert session is not None
        assert session.closed
        assert b.loop.session is None
        b.loop.start()
        await b.loop.close()
        await asyncio.sleep(30)
        assert len(b.attempts) == 1

    run(scenario)


@pytest.mark.parametrize("when", [0.0, 0.05, 5.0])
def test_closing_while_it_connects_or_sleeps_waits_for_nothing(when: float) -> None:
    async def scenario(b: Bench) -> None:
        b.plan = [lambda: asyncio.sleep(60)] if when == 0.05 else [OSError()] * 20
        b.loop.start()
        await asyncio.sleep(when)
        before = b.clock.now()
        await b.loop.close()
        assert b.clock.now() == before

    run(scenario)


def test_a_session_that_is_lost_while_it_closes_is_not_opened_again() -> None:
    async def scenario(b: Bench) -> None:
        b.loop.start()
        await asyncio.sleep(1)
        b.loop.lost(OSError("cut"))
        await b.loop.close()
        await asyncio.sleep(10)
        assert len(b.attempts) == 1

    run(scenario)


def test_an_owner_that_fails_when_it_is_told_keeps_its_session() -> None:
    async def scenario(b: Bench) -> None:
        b.fail_opened = True
        b.loop.start()
        await asyncio.sleep(1)
        assert b.loop.session is b.opened[-1]
        b.loop.lost(OSError("cut"))
        await asyncio.sleep(1)
        assert len(b.opened) == 2

    run(scenario)
