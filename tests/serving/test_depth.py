"""How many messages wait, and the limit of that: looked at seldom, and told once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from resilient_rpc.errors import ConnectionLost
from resilient_rpc.events import Event, QueueLimit
from resilient_rpc.hub import Events
from resilient_rpc.serving import depth
from resilient_rpc.serving.depth import Depth
from resilient_rpc.transport.base import QueueState
from tests.waiting import turns


class Session:
    """Says what the test says."""

    def __init__(self) -> None:
        self.found: QueueState | BaseException | None = QueueState(0, 1)
        self.asked = 0
        self.gate: asyncio.Event | None = None

    async def inspect(self, target: str) -> QueueState | None:
        assert target == "rpc.shop"
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.found, BaseException):
            raise self.found
        return self.found


class Bench:
    def __init__(self, limit: int | None = None) -> None:
        self.session: Session | None = Session()
        self.events: list[Event] = []
        hub = Events()
        hub.on(Event, self.events.append)
        self.depth = Depth("rpc.shop", lambda: self.session, hub, limit)

    async def see(self, messages: int) -> None:
        assert self.session is not None
        self.session.found = QueueState(messages, 2)
        self.depth._looked = -10.0
        assert await self.depth.now() == (messages, 2)


def run(scenario: Callable[[Bench], Coroutine[Any, Any, None]], limit: int | None = None) -> None:
    async def main() -> None:
        bench = Bench(limit)
        bench.depth.start()
        await scenario(bench)
        await bench.depth.close()
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "rpc-queue-depth"]

    asyncio.run(asyncio.wait_for(main(), 20))


def test_it_asks_at_most_once_a_second_however_many_want_to_know() -> None:
    async def scenario(b: Bench) -> None:
        assert b.session is not None
        b.session.gate = asyncio.Event()
        b.session.found = QueueState(5, 1)
        several = [asyncio.ensure_future(b.depth.now()) for _ in range(5)]
        await turns(lambda: b.session is not None and b.session.asked == 1)
        b.session.gate.set()
        assert await asyncio.gather(*several) == [(5, 1)] * 5
        b.depth.refresh()
        assert await b.depth.now() == (5, 1)
        assert b.session.asked == 1
        b.depth._looked -= depth.EVERY
        await b.depth.now()
        assert b.session.asked == 2

    run(scenario)


@pytest.mark.parametrize("trouble", [ConnectionLost("gone"), ConnectionError("gone"), TimeoutError()])
def test_a_session_that_ends_meanwhile_leaves_what_was_known(trouble: BaseException) -> None:
    async def scenario(b: Bench) -> None:
        await b.see(3)
        assert b.session is not None
        b.session.found = trouble
        b.depth._looked = -10.0
        assert await b.depth.now() == (3, 2)
        assert b.depth.age < depth.EVERY, "and it is not asked again at once"
        b.session, b.depth._looked = None, -10.0
        assert await b.depth.now() == (3, 2)

    run(scenario)


def test_a_queue_that_is_gone_holds_nothing() -> None:
    async def scenario(b: Bench) -> None:
        assert b.session is not None
        b.session.found = None
        assert await b.depth.now() is None

    run(scenario, limit=1)


def test_a_limit_is_told_when_it_is_passed_and_when_that_is_clearly_over() -> None:
    async def scenario(b: Bench) -> None:
        for messages in (0, 9, 10, 50, 9, 8, 7, 9, 10):
            await b.see(messages)
        told = [(event.over, event.messages) for event in b.events if isinstance(event, QueueLimit)]
        assert told == [(True, 10), (False, 7), (True, 10)]
        assert b.events[0] == QueueLimit(queue="rpc.shop", over=True, messages=10, consumers=2, limit=10)

    run(scenario, limit=10)


def test_without_a_limit_it_never_looks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth, "EVERY", 0.01)

    async def scenario(b: Bench) -> None:
        await asyncio.sleep(0.1)
        assert b.session is not None
        assert b.session.asked == 0
        await b.see(1_000_000)
        assert b.events == []

    run(scenario)


def test_with_a_limit_it_looks_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth, "EVERY", 0.01)

    async def scenario(b: Bench) -> None:
        assert b.session is not None
        b.session.found = QueueState(1, 0)
        await turns(lambda: bool(b.events))
        b.session.found = ConnectionLost("gone")
        before = b.session.asked
        await turns(lambda: b.session is not None and b.session.asked > before + 2)
        b.session.found = QueueState(0, 0)
        await turns(lambda: len(b.events) == 2)

    run(scenario, limit=1)


def test_after_its_end_it_asks_nobody() -> None:
    async def scenario(b: Bench) -> None:
        assert b.session is not None
        b.session.gate = asyncio.Event()
        b.depth.refresh()
        await turns(lambda: b.session is not None and b.session.asked == 1)
        await b.depth.close()
        b.depth._looked = -10.0
        b.depth.refresh()
        assert await b.depth.now() is None
        assert b.session.asked == 1

    run(scenario)
