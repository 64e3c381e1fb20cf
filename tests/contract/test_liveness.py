"""Servers that fall silent and callers that give up, over every transport."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilient_rpc import AsyncClient, Certainty, Client, Context, Server, ServerLost
from resilient_rpc.policies import Hedge, Idempotency
from resilient_rpc.replies import Direct, Exclusive, Named, PerCall, Pool
from resilient_rpc.serving import control as serving_control
from resilient_rpc.stores import MemoryStore
from resilient_rpc.transport import control as client_control
from tests.waiting import PATIENCE, turns, until

STRATEGIES = [Direct(), Exclusive(), Named(app="shop"), Pool(size=2), PerCall()]


class Reports:
    """A server whose handlers wait until they are let go, and say how they ended."""

    def __init__(self, url: str, service: str, **settings: Any) -> None:
        self.begun, self.ended = list[Any](), list[tuple[Any, str]]()
        self.go = threading.Event()
        self.service = service
        self.server = Server(url, service=service, **settings)
        for function in (self.wait, self.block, self.hog, self.quick):
            self.server.method(function)
        self.server.start()
        until(lambda: self._reachable)

    @property
    def _reachable(self) -> bool:
        serving = self.server._serving
        return serving is not None and serving.session is not None and bool(serving.session.control)

    async def wait(self, name: str) -> str:
        self.begun.append(name)
        try:
            await turns(self.go.is_set, 4 * PATIENCE)
        except asyncio.CancelledError:
            self.ended.append((name, "cancelled"))
            raise
        self.ended.append((name, "done"))
        return name

    def block(self, ctx: Context, name: str) -> str:
        self.begun.append(name)
        until(lambda: ctx.cancelled or self.go.is_set())
        self.ended.append((name, "cancelled" if ctx.cancelled else "done"))
        return name

    async def hog(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - what no handler should do

    async def quick(self) -> int:
        return 1

    def health(self) -> Any:
        return self.server.health()


@pytest.fixture
def reports(url: str, service: str) -> Iterator[Callable[..., Reports]]:
    made: list[Reports] = []

    def make(**settings: Any) -> Reports:
        made.append(Reports(url, service, **settings))
        return made[-1]

    yield make
    for each in made:
        each.go.set()
        each.server.stop()


@pytest.mark.parametrize("method", ["wait", "block"])
@pytest.mark.parametrize("known", [False, True], ids=["first-call", "later-call"])
def test_a_future_that_is_cancelled_ends_its_call_on_the_server(
    url: str, reports: Callable[..., Reports], method: str, known: bool
) -> None:
    served = reports()
    with Client(url) as client:
        if known:
            client.call(f"{served.service}.quick")
        future = client.submit(f"{served.service}.{method}", ["x"], timeout=60)
        until(lambda: served.begun)
        assert future.cancel()
        until(lambda: served.ended == [("x", "cancelled")])
        until(lambda: (served.health()["running"], served.health()["unacked"]) == (0, 0))
        assert served.health()["cancelled"] == 1
        assert client.call(f"{served.service}.quick") == 1
        assert client.stats().unknown_replies == 0


@pytest.mark.parametrize("replies", STRATEGIES, ids=lambda strategy: type(strategy).__name__)
def test_wherever_replies_arrive_calls_can_be_cancelled(
    url: str, reports: Callable[..., Reports], replies: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_control, "TICK", 0.02)
    served = reports()
    with Client(url, replies=replies, liveness=1.0) as client:
        early = client.submit(f"{served.service}.wait", ["early"], timeout=60)
        until(lambda: served.begun == ["early"])
        assert early.cancel()
        until(lambda: served.ended == [("early", "cancelled")])

        late = client.submit(f"{served.service}.wait", ["late"], timeout=60)
        until(lambda: _heard(client))
        assert late.cancel()
        until(lambda: served.ended[1:] == [("late", "cancelled")])


def _heard(client: Client) -> int:
    assert client._caller is not None
    assert client._caller.pool is not None
    return len(client._caller.pool.links[0]._control._liveness)


def test_a_task_that_is_cancelled_ends_its_call_on_the_server(url: str, reports: Callable[..., Reports]) -> None:
    served = reports()

    async def scenario() -> None:
        async with AsyncClient(url) as client:
            task = client.submit(f"{served.service}.wait", ["x"], timeout=60)
            await turns(lambda: served.begun)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await turns(lambda: served.ended)

    asyncio.run(scenario())
    assert served.ended == [("x", "cancelled")]


def test_work_that_waits_for_a_slot_is_not_begun(url: str, reports: Callable[..., Reports]) -> None:
    served = reports(concurrency=1, prefetch=5)
    with Client(url) as client:
        first = client.submit(f"{served.service}.wait", ["first"], timeout=60)
        until(lambda: served.begun)
        second = client.submit(f"{served.service}.wait", ["second"], timeout=60)
        until(lambda: served.health()["waiting"] == 1)
        second.cancel()
        until(lambda: served.health()["cancelled"] == 1)
        served.go.set()
        assert first.result(PATIENCE) == "first"
    assert served.begun == ["first"]


def test_work_in_the_brokers_queue_is_not_begun(url: str, reports: Callable[..., Reports]) -> None:
    served = reports(concurrency=1, prefetch=1)
    with Client(url) as client:
        first = client.submit(f"{served.service}.wait", ["first"], timeout=60)
        until(lambda: served.begun)
        second = client.submit(f"{served.service}.wait", ["second"], timeout=60)
        last = client.submit(f"{served.service}.wait", ["last"], timeout=60)
        until(lambda: client._caller is not None and len(client._caller.pool.links[0]._calls.entries) == 3)  # type: ignore[union-attr]
        second.cancel()
        serving = served.server._serving
        assert serving is not None
        until(lambda: len(serving._control.early.marks) == 1)
        served.go.set()
        assert [first.result(PATIENCE), last.result(PATIENCE)] == ["first", "last"]
    assert served.begun == ["first", "last"]


def test_a_call_with_a_key_runs_to_its_end(url: str, reports: Callable[..., Reports]) -> None:
    served = reports(policies=[Idempotency(MemoryStore())])
    with Client(url) as client:
        future = client.submit(f"{served.service}.wait", ["x"], timeout=60, idempotency_key="k")
        until(lambda: served.begun)
        future.cancel()
        until(lambda: served.health()["cancels_ignored"] == 1)
        served.go.set()
        until(lambda: served.ended == [("x", "done")])
        assert client.call(f"{served.service}.wait", ["x"], idempotency_key="k") == "x"
    assert served.begun == ["x"]


def test_the_attempt_that_lost_a_hedge_is_cancelled(url: str, reports: Callable[..., Reports]) -> None:
    served = reports()
    answered = threading.Event()

    @served.server.method
    async def race() -> int:
        served.begun.append("race")
        if len(served.begun) > 1:
            return 2
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            answered.set()
            raise
        return 1

    with Client(url, policies=[Hedge(delay=0.05)]) as client:
        assert client.call(f"{served.service}.race", safety="read_only", timeout=60) == 2
        assert answered.wait(PATIENCE)


def test_who_closes_its_client_gives_up_what_has_a_beat(
    url: str, reports: Callable[..., Reports], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_control, "TICK", 0.02)
    served = reports()
    with Client(url, liveness=1.0) as client:
        client.submit(f"{served.service}.wait", ["x"], timeout=60)
        until(lambda: _heard(client))
    until(lambda: served.ended == [("x", "cancelled")])


def test_a_call_whose_server_holds_its_loop_fails_at_once(
    url: str, reports: Callable[..., Reports], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_control, "TICK", 0.02)
    served = reports(name="hogged")
    with Client(url, liveness=1.0, policies=[]) as client:
        future = client.submit(f"{served.service}.wait", ["x"], timeout=60)
        until(lambda: _heard(client))
        client.submit(f"{served.service}.hog", [4.0], timeout=60)
        begin = time.monotonic()
        error = future.exception(PATIENCE)
        assert isinstance(error, ServerLost)
        assert (error.server, error.certainty) == ("hogged", Certainty.UNKNOWN)
        assert time.monotonic() - begin < 3.0


def test_a_call_that_has_beats_may_take_longer_than_liveness(
    url: str, reports: Callable[..., Reports], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_control, "TICK", 0.1)
    served = reports()
    with Client(url, liveness=1.0, policies=[]) as client:
        calls = [client.submit(f"{served.service}.{name}", [name], timeout=60) for name in ("wait", "block")]
        until(lambda: _heard(client) == 2)
        threading.Timer(2.0, served.go.set).start()
        assert [call.result(PATIENCE) for call in calls] == ["wait", "block"]


def test_a_foreign_service_is_neither_cancelled_nor_disturbed(
    url: str, reports: Callable[..., Reports], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    known = client_control.Control._ask

    async def ask(self: Any, session: Any, queue: str) -> None:
        await known(self, session, queue)
        asked.append(self._reached[queue] == client_control.REACHED)

    monkeypatch.setattr(client_control.Control, "_ask", ask)
    monkeypatch.setattr(client_control, "control_exchange", lambda queue: f"{queue}.of-nobody")
    served = reports()
    with Client(url) as client:
        future = client.submit(f"{served.service}.wait", ["x"], timeout=60)
        until(lambda: served.begun)
        future.cancel()
        until(lambda: asked)
        assert asked == [False]
        assert client.call(f"{served.service}.quick") == 1
