"""Who is let in by a server that has more to do than slots."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from resilient_rpc import Admission, AsyncClient, ConfigurationError, RpcError, Server
from resilient_rpc.call import Safety
from resilient_rpc.errors import Overloaded
from resilient_rpc.events import RequestRefused
from resilient_rpc.serving.options import ServingOptions
from tests.serving.bench import OURS, Bench, bench, call, notification
from tests.waiting import turns

Scenario = Callable[[Bench], Awaitable[None]]


def run(scenario: Scenario) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), bench() as made:
            await scenario(made)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"in_time": 1}, "in_time"),
        ({"max_age": 0}, "max_age"),
        ({"max_age": "1"}, "max_age"),
        ({"max_waiting": -1}, "max_waiting"),
        ({"max_waiting": 1.5}, "max_waiting"),
        ({"max_waiting": True}, "max_waiting"),
    ],
)
def test_a_setting_out_of_range_is_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"Admission.{named}="):
        Admission(**settings)


def test_a_server_takes_an_admission_or_none() -> None:
    assert ServingOptions().admission == Admission()
    Server("memory://x", service="x", admission=None)
    with pytest.raises(ConfigurationError, match="admission="):
        Server("memory://x", service="x", admission=5)  # type: ignore[arg-type]


# -- max_waiting


async def full(made: Bench, **settings: Any) -> Any:
    """A server with two slots, both taken."""
    serving = await made.serve(concurrency=2, prefetch=100, admission=Admission(**settings))
    for number in (-1, -2):
        made.send(call("wait", [number]))
    await turns(lambda: sorted(made.ran) == [-2, -1])
    return serving


def test_a_full_line_refuses_at_once() -> None:
    async def scenario(made: Bench) -> None:
        serving = await full(made, max_waiting=3)
        for number in range(5):
            made.send(call("note_quickly", [number], number))
        told = [json.loads(reply.body) for reply in await made.received(2)]
        assert [(reply["id"], reply["error"]["code"]) for reply in told] == [(3, -32001), (4, -32001)]
        assert told[0]["error"]["data"]["executed"] is False
        assert serving.health()["waiting"] == 3
        assert serving.health()["refused"] == 2
        refused = [event.error for event in made.events if isinstance(event, RequestRefused)]
        assert [type(error) for error in refused] == [Overloaded, Overloaded]
        made.gate.set()
        await made.settled()
        assert made.ran[2:] == [0, 1, 2]

    run(scenario)


def test_calls_of_one_message_count_too() -> None:
    async def scenario(made: Bench) -> None:
        await full(made, max_waiting=3)
        made.send([call("note_quickly", [number], number) for number in range(5)], OURS)
        made.gate.set()
        await made.settled()
        assert made.ran[2:] == [0, 1, 2]

    run(scenario)


def test_without_a_place_only_what_finds_a_slot_is_let_in() -> None:
    async def scenario(made: Bench) -> None:
        await made.serve(concurrency=2, prefetch=100, admission=Admission(max_waiting=0))
        for number in range(4):
            made.send(call("wait", [number], number))
        assert sorted([json.loads(reply.body)["id"] for reply in await made.received(2)]) == [2, 3]
        assert sorted(made.ran) == [0, 1]

    run(scenario)


def test_a_full_line_makes_room_for_a_higher_priority() -> None:
    async def scenario(made: Bench) -> None:
        serving = await full(made, max_waiting=2)
        for number, priority in enumerate([0, 3, 9, 1]):
            made.send(call("note_quickly", [number], number), priority=priority)
        told = [json.loads(reply.body) for reply in await made.received(2)]
        assert [(reply["id"], reply["error"]["code"]) for reply in told] == [(0, -32001), (3, -32001)]
        assert serving._scheduler.waiting == 2
        made.gate.set()
        await made.settled()
        assert made.ran[2:] == [2, 1]
        assert serving._scheduler.ended == 4

    run(scenario)


def test_what_nobody_waits_for_is_never_refused() -> None:
    async def scenario(made: Bench) -> None:
        await full(made, max_waiting=0, max_age=0.001)
        made.send(notification("note_quickly", ["notification"]))
        made.send(call("note_quickly", ["no address"]), reply_to="")
        await turns(lambda: made.depth == 0)
        made.send(call("note_quickly", ["passed over"], 1), priority=5)
        assert json.loads((await made.received(1))[0].body)["error"]["code"] == -32001
        made.gate.set()
        await made.settled()
        assert sorted(made.ran[2:]) == ["no address", "notification"]
        assert made.dead() == []

    run(scenario)


def test_what_was_delivered_before_is_let_in() -> None:
    async def scenario(made: Bench) -> None:
        made.method(made.wait, "wait_safely", safety=Safety.IDEMPOTENT)
        await made.as_redelivered([call("wait_safely", [number], number) for number in range(3)])
        serving = await made.serve(concurrency=1, admission=Admission(max_waiting=0))
        await turns(lambda: serving.health()["waiting"] == 2)
        made.gate.set()
        await made.settled()
        assert made.ran == [0, 1, 2]

    run(scenario)


# -- age


def test_a_burst_is_worked_off_and_a_standing_queue_is_cut() -> None:
    async def scenario(made: Bench) -> None:
        serving = await full(made, max_age=0.05, in_time=False)

        def send(number: int, age_ms: int) -> None:
            at = int(time.time() * 1000) - age_ms
            made.send(call("note_quickly", [number], number, ttl=30_000, at=at), OURS, correlation_id=f"token.{number}")

        send(0, 0)
        send(1, 2_000)
        await turns(lambda: serving.health()["waiting"] == 2)
        await asyncio.sleep(0.12)  # all of them were too old for so long
        send(2, 2_000)
        told = json.loads((await made.received(1))[0].body)
        assert (told["id"], told["error"]["code"]) == (2, -32001)
        assert told["error"]["data"]["retry_after"] == pytest.approx(2.0, abs=0.3)
        send(3, 0)
        send(4, 2_000)
        await turns(lambda: serving.health()["waiting"] == 4)
        made.gate.set()
        await made.settled()
        assert made.ran[2:] == [1, 4, 0, 3], "by deadline, which their age has brought nearer"

    run(scenario)


# -- in time


class Load:
    """More calls than a server can carry out, one after the other at a steady rate."""

    SLOTS, SERVICE, TIMEOUT = 8, 0.02, 0.4

    def __init__(self, admission: Admission | None, name: str) -> None:
        self.outcomes: Counter[str] = Counter()
        self.waits: list[float] = []
        self.retry_after: list[float | None] = []
        url = f"memory://{name}"
        self.server = Server(url, service="s", concurrency=self.SLOTS, admission=admission, grace=1.0)
        self.client = AsyncClient(url, policies=[])
        self.server.method(self.work)

    async def work(self) -> None:
        await asyncio.sleep(self.SERVICE)

    async def one(self) -> None:
        begin = time.monotonic()
        try:
            await self.client.call("s.work", timeout=self.TIMEOUT)
        except RpcError as error:
            self.outcomes[type(error).__name__] += 1
            if isinstance(error, Overloaded):
                self.retry_after.append(error.retry_after)
                self.waits.append(time.monotonic() - begin)
        else:
            self.outcomes["answered"] += 1

    async def run(self, *, times: float, seconds: float) -> float:
        """The share of what the server could do at best that was answered."""
        async with self.server, self.client:
            await self.client.call("s.work")
            begin, tasks = time.monotonic(), []
            while (now := time.monotonic() - begin) < seconds:
                while len(tasks) < now * times * self.SLOTS / self.SERVICE:
                    tasks.append(asyncio.create_task(self.one()))
                await asyncio.sleep(0.002)
            await asyncio.gather(*tasks)
        return self.outcomes["answered"] / (seconds * self.SLOTS / self.SERVICE)


@pytest.mark.serial
def test_three_times_too_much_takes_nothing_from_what_the_server_can_do() -> None:
    without, default = Load(None, "load-without"), Load(Admission(), "load-default")
    aged = Load(Admission(max_age=0.1), "load-aged")
    shares = [asyncio.run(load.run(times=3.0, seconds=2.0)) for load in (without, default, aged)]
    assert shares[0] < 0.6, (shares, without.outcomes)
    assert shares[1] > shares[0] + 0.2, (shares, default.outcomes)
    assert shares[2] > shares[0] + 0.2, (shares, aged.outcomes)
    assert min(shares[1:]) > 0.6, (shares, default.outcomes, aged.outcomes)
    assert without.outcomes["Overloaded"] == 0
    assert all(seconds is None or 0 <= seconds < 5 for seconds in default.retry_after)
    assert aged.outcomes["DeadlineExceeded"] < without.outcomes["DeadlineExceeded"] / 4
    quick = sorted(aged.waits)[len(aged.waits) // 2]
    assert quick < Load.TIMEOUT, "a refusal is of use only before the deadline"


def test_ordinary_work_is_never_refused() -> None:
    """Bursts that are far over the slots, of quick and slow methods, all with time enough."""

    async def scenario(made: Bench) -> None:
        async def slow() -> None:
            await asyncio.sleep(0.05)

        made.method(slow)
        serving = await made.serve(concurrency=8)
        url, total = f"memory://{made.bus.name}", 0
        async with AsyncClient(url, policies=[]) as client:
            for _ in range(3):
                burst = [client.call("shop.slow", timeout=20) for _ in range(100)]
                burst += [client.call("shop.note", timeout=2) for _ in range(300)]
                await asyncio.gather(*burst)
                total += len(burst)
        assert len(made.ran) == 900
        assert serving.health()["refused"] == serving.health()["expired"] == 0

    run(scenario)


def test_a_call_with_too_little_time_is_refused_by_a_busy_server_alone() -> None:
    async def scenario(made: Bench) -> None:
        async def slow() -> str:
            await asyncio.sleep(0.1)
            return "done"

        made.method(slow)
        serving = await made.serve(concurrency=4, prefetch=200)
        async with AsyncClient(f"memory://{made.bus.name}", policies=[], batching=None) as client:
            await client.call("shop.slow")
            assert await client.call("shop.slow", timeout=0.125) == "done", "it is not busy"
            crowd = [asyncio.ensure_future(client.call("shop.slow", timeout=20)) for _ in range(60)]
            await turns(lambda: serving._scheduler.ended > 30)
            begin = time.monotonic()
            with pytest.raises(Overloaded, match="its turn would come in") as info:
                await client.call("shop.slow", timeout=0.3)
            assert time.monotonic() - begin < 0.3
            assert info.value.retry_after == pytest.approx(0.7, abs=0.4)
            assert await asyncio.gather(*crowd) == ["done"] * 60

    run(scenario)


def test_a_method_that_was_slow_once_gets_another_chance() -> None:
    async def scenario(made: Bench) -> None:
        seconds = 0.3

        async def warms_up() -> str:
            await asyncio.sleep(seconds)
            return "done"

        made.method(warms_up)
        serving = await made.serve(concurrency=2)
        async with AsyncClient(f"memory://{made.bus.name}", policies=[]) as client:
            await asyncio.gather(*[client.call("shop.warms_up") for _ in range(4)])
            seconds = 0.001
            answered = 0
            async with asyncio.timeout(20):
                while not answered:
                    try:
                        answered += await client.call("shop.warms_up", timeout=0.2) == "done"
                    except Overloaded:
                        await asyncio.sleep(0.05)
        assert serving._scheduler.usual.of(made.methods.find("warms_up")) < 0.3

    run(scenario)
