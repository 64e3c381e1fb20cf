"""One suite over every transport: how servers are reached one by one, and all together."""

from __future__ import annotations

import asyncio

from resilient_rpc.transport.base import DIRECT_REPLY, Consumer
from resilient_rpc.transport.properties import encode_properties
from resilient_rpc.wire.control import control_exchange, is_control_queue
from tests.contract.sessions import PLAIN, consuming, publishing
from tests.contract.sides import Side
from tests.waiting import turns


async def _ready(consumer: Consumer) -> str:
    await turns(lambda: bool(consumer.control))
    return consumer.control


def test_a_control_queue_hears_what_is_sent_to_it_and_what_is_sent_to_all(side: Side) -> None:
    exchange = control_exchange(side.queue)
    spec = side.spec(control=exchange)

    async def scenario() -> None:
        async with (
            consuming(side, spec=spec) as (one, heard),
            consuming(side, spec=spec) as (two, other),
            publishing(side) as (publisher, sent),
        ):
            names = [await _ready(one), await _ready(two)]
            assert all(is_control_queue(name) for name in names)
            assert names[0] != names[1]
            assert await publisher.reaches(exchange)

            publisher.publish(names[0], b"one", PLAIN, mandatory=False)
            tag = publisher.announce(exchange, b"all", PLAIN)
            assert await sent.confirmation(tag)
            await heard.until(lambda: [d.body for d in heard.controls if d.body] == [b"one", b"all"])
            await other.until(lambda: [d.body for d in other.controls if d.body] == [b"all"])

            direct, fanned = [d for d in heard.controls if d.body]
            assert (direct.routing_key, fanned.routing_key) == (names[0], "")
            assert heard.deliveries == other.deliveries == []
            assert publisher.publish(side.queue, b"a request", PLAIN, mandatory=True) == tag + 1

    asyncio.run(scenario())


def test_what_is_announced_carries_the_very_address_that_requests_carry(side: Side) -> None:
    exchange = control_exchange(side.queue)

    async def scenario() -> None:
        async with (
            consuming(side, spec=side.spec(control=exchange)) as (consumer, heard),
            publishing(side, replies=True) as (publisher, _),
        ):
            name = await _ready(consumer)
            addressed = encode_properties(reply_to=publisher.reply_to)
            publisher.publish(side.queue, b"request", addressed, mandatory=True)
            publisher.publish(name, b"direct", addressed, mandatory=False)
            publisher.announce(exchange, b"all", addressed)
            await heard.until(lambda: len(heard.controls) == 2)
            (request,) = await heard.received(1)

            addresses = {d.properties["reply_to"] for d in (request, *heard.controls)}
            assert len(addresses) == 1
            assert addresses.pop().startswith(f"{DIRECT_REPLY}.")

    asyncio.run(scenario())


def test_an_exchange_that_nobody_has_declared_is_not_reached_and_nothing_else_ends(side: Side) -> None:
    async def scenario() -> None:
        async with consuming(side) as (consumer, got), publishing(side) as (publisher, sent):
            assert not await publisher.reaches(control_exchange(side.queue))
            assert consumer.control == ""
            tag = publisher.publish(side.queue, b"on", PLAIN, mandatory=True)
            assert await sent.confirmation(tag)
            assert [d.body for d in await got.received(1)] == [b"on"]
            assert sent.errors == []

    asyncio.run(scenario())


def test_a_control_queue_ends_with_its_session(side: Side) -> None:
    exchange = control_exchange(side.queue)

    async def scenario() -> None:
        async with publishing(side) as (publisher, sent):
            async with consuming(side, spec=side.spec(control=exchange)) as (consumer, heard):
                name = await _ready(consumer)
            tag = publisher.publish(name, b"late", PLAIN, mandatory=True)
            await sent.until(lambda: bool(sent.returns))
            assert await sent.confirmation(tag)
            assert await sent.confirmation(publisher.announce(exchange, b"late", PLAIN))
            assert heard.controls == []

    asyncio.run(scenario())
