"""Who begins next, over a running server: order, methods with limits, and the end of a wait."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from resilient_rpc.events import RequestRefused
from tests.serving.bench import OURS, Bench, bench, call, notification
from tests.waiting import turns

Scenario = Callable[[Bench], Awaitable[None]]


def run(scenario: Scenario) -> None:
    async def main() -> None:
        async with asyncio.timeout(30), bench() as made:
            await scenario(made)

    asyncio.run(main())


async def full(made: Bench, **options: Any) -> Any:
    """A server with one slot, which is taken."""
    serving = await made.serve(concurrency=1, prefetch=options.pop("prefetch", 100), **options)
    made.send(call("wait", ["holds it"]))
    await turns(lambda: made.ran == ["holds it"])
    return serving


def test_a_higher_priority_begins_sooner_and_then_a_nearer_deadline() -> None:
    async def scenario(made: Bench) -> None:
        serving = await full(made)
        for number, (priority, ttl) in enumerate([(0, 9_000), (5, 9_000), (9, 9_000), (5, 8_000), (0, 8_000)]):
            made.send(call("note", [number], ttl=ttl), OURS, priority=priority, correlation_id=f"token.{number}")
        await turns(lambda: serving.health()["waiting"] == 5)
        made.gate.set()
        await made.settled()
        assert made.ran == ["holds it", 2, 3, 1, 4, 0]

    run(scenario)


@pytest.mark.parametrize("reply_to", ["own", "none"])
def test_a_call_is_let_go_when_its_time_is_up_though_no_slot_is_free(reply_to: str) -> None:
    async def scenario(made: Bench) -> None:
        serving = await full(made)
        properties = {} if reply_to == "own" else {"reply_to": ""}
        made.send(call("note", ["late"]), expiration="150", **properties)
        made.send(call("note", ["in time"]))
        await turns(lambda: serving.health()["waiting"] == 2)
        await turns(lambda: serving.health()["waiting"] == 1)
        assert serving.health()["running"] == 1, "nothing has ended meanwhile"
        if reply_to == "own":
            assert (await made.reply())["error"]["code"] == -32002
            assert [type(event) for event in made.events].count(RequestRefused) == 1
        made.gate.set()
        await made.settled()
        assert made.ran == ["holds it", "in time"]
        assert serving.health()["expired"] == 1
        assert serving._scheduler.ended == 2

    run(scenario)


class Narrow:
    """A method of which `limit` run at once; each says when it begins, and waits for its own gate."""

    def __init__(self, made: Bench, limit: int, **how: Any) -> None:
        self.began: list[int] = []
        self.gates: dict[int, asyncio.Event] = {}
        made.method(self.narrow, concurrency=limit, **how)

    async def narrow(self, number: int) -> int:
        self.began.append(number)
        gate = self.gates[number] = asyncio.Event()
        await gate.wait()
        return number


def test_calls_over_the_limit_of_their_method_are_in_nobodys_way() -> None:
    async def scenario(made: Bench) -> None:
        narrow = Narrow(made, 2)
        serving = await made.serve(concurrency=8, prefetch=50)
        for number in range(6):
            made.send(call("narrow", [number]))
        await turns(lambda: serving._scheduler.backlog.aside == 4)
        assert narrow.began == [0, 1]
        assert serving.health()["running"] == 2
        assert serving.health()["waiting"] == 4
        assert serving._scheduler.room == 6
        assert (await made.ask_beside(call("note_quickly", ["passes"], 9)))["result"] == "passes"
        for number in range(6):
            await turns(lambda number=number: number in narrow.began)  # type: ignore[misc]
            assert len(narrow.began) <= number + 2
            narrow.gates[number].set()
        await made.settled()
        assert narrow.began == list(range(6))
        assert serving._scheduler.ended == 7

    run(scenario)


def test_among_those_that_wait_for_their_method_a_higher_priority_is_the_next() -> None:
    async def scenario(made: Bench) -> None:
        narrow = Narrow(made, 1)
        serving = await made.serve(concurrency=8, prefetch=50)
        for number, priority in enumerate([0, 0, 7]):
            made.send(call("narrow", [number]), priority=priority)
            await turns(lambda: narrow.began == [0])
        await turns(lambda: serving._scheduler.backlog.aside == 2)
        for number in (0, 2, 1):
            await turns(lambda number=number: narrow.began[-1:] == [number])  # type: ignore[misc]
            narrow.gates[number].set()
        await made.settled()

    run(scenario)


def test_there_is_a_place_for_other_methods_however_many_wait_for_one() -> None:
    async def scenario(made: Bench) -> None:
        narrow = Narrow(made, 1)
        serving = await made.serve(concurrency=2, prefetch=4)
        for number in range(8):
            made.send(call("narrow", [number], number))
        refused = await made.received(5)
        assert len(refused) == 5, "one runs, two wait, and two more messages may be delivered"
        assert serving.health()["refused"] == 5
        assert serving.health()["waiting"] == 2
        assert (await made.ask_beside(call("note_quickly", ["passes"], 9)))["result"] == "passes"
        made.send(notification("narrow", [99]), reply_to="")
        for number in (0, 1, 2, 99):
            await turns(lambda number=number: number in narrow.began)  # type: ignore[misc]
            narrow.gates[number].set()
        await made.settled()
        assert narrow.began == [0, 1, 2, 99], "what nobody waits for can wait"
        assert made.dead() == []

    run(scenario)


def test_what_waits_for_its_method_is_let_go_when_its_time_is_up_and_the_next_still_comes() -> None:
    async def scenario(made: Bench) -> None:
        narrow = Narrow(made, 1)
        serving = await made.serve(concurrency=4, prefetch=50)
        made.send(call("narrow", [0]))
        await turns(lambda: narrow.began == [0])
        made.send(call("narrow", [1]), expiration="120")
        made.send(call("narrow", [2]))
        await turns(lambda: serving.health()["waiting"] == 2)
        await turns(lambda: serving.health()["waiting"] == 1)
        narrow.gates[0].set()
        await turns(lambda: narrow.began == [0, 2])
        narrow.gates[2].set()
        await made.settled()
        assert serving.health()["expired"] == 1

    run(scenario)


def test_one_that_is_late_when_its_turn_comes_does_not_keep_the_turn() -> None:
    async def scenario(made: Bench) -> None:
        narrow = Narrow(made, 1)

        async def blocks() -> None:
            narrow.gates[0].set()
            time.sleep(0.2)  # noqa: ASYNC251 - so that nobody looks who is late before turns are given

        made.method(blocks)
        serving = await made.serve(concurrency=2, prefetch=50)
        made.send(call("narrow", [0]))
        await turns(lambda: narrow.began == [0])
        made.send(call("narrow", [1]), expiration="100")
        made.send(call("narrow", [2]))
        await turns(lambda: serving.health()["waiting"] == 2)
        made.send(call("blocks"))
        await turns(lambda: 2 in narrow.gates)
        narrow.gates[2].set()
        await made.settled()
        assert narrow.began == [0, 2]

    run(scenario)


def test_a_drain_gives_back_what_waits_for_its_method_too() -> None:
    async def scenario(made: Bench) -> None:
        narrow = Narrow(made, 1)
        serving = await made.serve(concurrency=4, prefetch=50, grace=10.0)
        for number in range(3):
            made.send(call("narrow", [number], number))
        await turns(lambda: serving.health()["waiting"] == 2)
        draining = asyncio.ensure_future(serving.drain())
        codes = [reply["error"]["code"] for reply in [json.loads(found.body) for found in await made.received(2)]]
        assert codes == [-32009, -32009]
        narrow.gates[0].set()
        assert await draining
        assert narrow.began == [0]

    run(scenario)


def test_a_plain_function_has_its_limit_too() -> None:
    async def scenario(made: Bench) -> None:
        most = running = 0

        def blocks() -> None:
            nonlocal most, running
            running += 1
            most = max(most, running)
            time.sleep(0.01)
            running -= 1

        made.method(blocks, concurrency=1)
        serving = await made.serve(concurrency=8, prefetch=50)
        for number in range(10):
            made.send(call("blocks", id_=number))
        await made.received(10)
        assert most == 1
        assert serving._scheduler.ended == 10

    run(scenario)
