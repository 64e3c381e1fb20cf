"""The policies of a server from end to end, over every transport."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from resilient_rpc import AsyncClient, Call, Certainty, Context, Handler, RemoteError, Reply, Server
from resilient_rpc.errors import Overloaded
from resilient_rpc.policies import Bulkhead
from tests.colours import Colour
from tests.contract.sides import Side
from tests.waiting import PATIENCE, until


class Admission:
    """Refuses while it is closed."""

    def __init__(self) -> None:
        self.open = True

    async def __call__(self, call: Call, proceed: Handler) -> Reply:
        if not self.open:
            raise Overloaded("closed", retry_after=0.5)
        return await proceed(call)


class Memory:
    """Answers a second time from what it has kept: an idempotency without its difficulties."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    async def __call__(self, call: Call, proceed: Handler) -> Reply:
        key = f"{call.method} {call.params}"
        if key in self.kept:
            return Reply(result=self.kept[key], replayed=True)
        await call.runtime.sleep(0.001)
        reply = await proceed(call)
        self.kept[key] = reply.result
        return reply


class World:
    def __init__(self, side: Side) -> None:
        self.side, self.url = side, side.url
        self.ran: list[Any] = []
        self.gate = threading.Event()
        self.server: Server | None = None

    def serve(self, *policies: Any) -> Server:
        server = self.server = Server(self.url, service=self.side.service, policies=policies)
        for function in (self.create, self.create_in_thread, self.block):
            server.method(function)
        server.start()
        return server

    async def create(self, sku: str, qty: int = 1) -> dict[str, Any]:
        self.ran.append(sku)
        return {"sku": sku, "qty": qty}

    def create_in_thread(self, ctx: Context, sku: str) -> dict[str, Any]:
        self.ran.append(sku)
        return {"sku": sku, "attempt": ctx.attempt}

    def block(self) -> None:
        self.ran.append("block")
        self.gate.wait(PATIENCE)

    def name(self, method: str) -> str:
        return f"{self.side.service}.{method}"

    def close(self) -> None:
        self.gate.set()
        if self.server is not None:
            self.server.stop()


@pytest.fixture
def world(each_broker: Side) -> Iterator[World]:
    made = World(each_broker)
    yield made
    made.close()


@pytest.mark.parametrize("method", ["create", "create_in_thread"])
def test_a_policy_answers_in_place_of_a_handler(world: World, colour: Colour, method: str) -> None:
    world.serve(Memory())
    client = colour.client(world.url, policies=[])
    first = colour.do(client, "request", world.name(method), {"sku": "A1"})
    again = colour.do(client, "request", world.name(method), {"sku": "A1"})
    assert first.result == again.result
    assert (first.replayed, again.replayed) == (False, True)
    assert world.ran == ["A1"]


def test_a_refusal_reaches_the_caller_with_all_that_it_says(world: World, colour: Colour) -> None:
    admission = Admission()
    world.serve(admission)
    client = colour.client(world.url, policies=[])
    colour.call(client, world.name("create"), ["A1"])
    admission.open = False
    with pytest.raises(Overloaded, match="closed") as refused:
        colour.call(client, world.name("create"), ["A2"])
    assert (refused.value.retry_after, refused.value.certainty) == (0.5, Certainty.NOT_EXECUTED)
    assert world.ran == ["A1"]


def test_a_batch_passes_the_chain_call_by_call(world: World, colour: Colour) -> None:
    world.serve(Memory())
    client = colour.client(world.url, policies=[], safety="read_only")
    colour.call(client, world.name("create"), ["A0"])
    results = colour.do(client, "map", world.name("create"), [[f"A{number % 10}"] for number in range(50)])
    assert [result["sku"] for result in results] == [f"A{number % 10}" for number in range(50)]


def test_a_policy_of_the_library_limits_a_server(world: World, colour: Colour) -> None:
    world.serve(Bulkhead(limit=1))
    client = colour.client(world.url, policies=[])
    running = threading.Thread(target=lambda: _call_alone(world))
    running.start()
    until(lambda: world.ran == ["block"])
    with pytest.raises(Overloaded):
        colour.call(client, world.name("create"), ["A1"])
    world.gate.set()
    running.join(PATIENCE)
    assert world.ran == ["block"]


def _call_alone(world: World) -> None:
    async def main() -> None:
        async with AsyncClient(world.url, policies=[]) as client:
            await client.call(world.name("block"))

    asyncio.run(main())


def test_a_policy_that_breaks_does_not_end_the_server(world: World, colour: Colour) -> None:
    class Breaks:
        async def __call__(self, call: Call, proceed: Handler) -> Reply:
            if call.params == {"sku": "bad"}:
                raise KeyError("sku")
            return await proceed(call)

    world.serve(Breaks())
    client = colour.client(world.url, policies=[])
    with pytest.raises(RemoteError, match="a policy of the server failed") as broken:
        colour.call(client, world.name("create"), ["bad"])
    assert (broken.value.code, broken.value.certainty) == (-32603, Certainty.NOT_EXECUTED)
    assert colour.call(client, world.name("create"), ["good"])["sku"] == "good"
