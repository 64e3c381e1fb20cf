"""One suite over every transport: what may be relied on by who publishes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resilient_rpc.errors import TooLarge
from resilient_rpc.transport.base import DIRECT_REPLY
from resilient_rpc.transport.properties import decode_headers, encode_headers, encode_properties
from tests.contract.sessions import PLAIN, consumers, consuming, declare, publishing
from tests.contract.sides import Side


def test_a_published_message_is_delivered_once_and_gone_when_acked(side: Side) -> None:
    async def scenario() -> None:
        async with publishing(side) as (publisher, sent):
            async with consuming(side) as (consumer, got):
                tag = publisher.publish(side.queue, b"one", PLAIN, mandatory=True)
                (delivery,) = await got.received(1)
                assert (delivery.body, delivery.redelivered, delivery.routing_key) == (b"one", False, side.queue)
                consumer.ack(delivery.tag)
                assert await sent.confirmation(tag)
            async with consuming(side) as (_, again):
                publisher.publish(side.queue, b"two", PLAIN, mandatory=True)
                assert [d.body for d in await again.received(1)] == [b"two"]

    asyncio.run(scenario())


def test_every_publish_is_confirmed_by_its_tag(side: Side) -> None:
    async def scenario() -> None:
        await declare(side)
        async with publishing(side) as (publisher, sent):
            tags = [publisher.publish(side.queue, b"%d" % n, PLAIN, mandatory=True) for n in range(100)]
            assert tags == sorted(set(tags))
            await sent.until(lambda: set(tags) <= sent.settled.keys())
            assert all(sent.settled.values())

    asyncio.run(scenario())


def test_nothing_is_reported_before_publish_has_returned(side: Side) -> None:
    async def scenario() -> None:
        async with publishing(side) as (publisher, sent):
            publisher.publish(f"{side.queue}.nobody", b"", PLAIN, mandatory=True)
            assert sent.entries == []
            await sent.until(lambda: bool(sent.settled))

    asyncio.run(scenario())


def test_without_a_queue_a_mandatory_message_is_returned_and_then_confirmed(side: Side) -> None:
    async def scenario() -> None:
        async with publishing(side) as (publisher, sent):
            named = encode_properties(correlation_id="abc")
            tag = publisher.publish(f"{side.queue}.nobody", b"x", named, mandatory=True)
            assert await sent.confirmation(tag)
            assert sent.returns == [("abc", 312, "NO_ROUTE")]
            assert sent.kinds == ["returned", "confirmed"]

    asyncio.run(scenario())


def test_each_return_comes_before_its_own_confirm(side: Side) -> None:
    async def scenario() -> None:
        await declare(side)
        async with publishing(side) as (publisher, sent):
            expected: dict[int, str] = {}
            for n in range(30):
                name = f"id{n}"
                target = side.queue if n % 3 else f"{side.queue}.nobody"
                expected[publisher.publish(target, b"", encode_properties(correlation_id=name), mandatory=True)] = name
            seen_at_confirm: dict[int, set[str]] = {}

            def all_confirmed() -> bool:
                names = {name for name, _, _ in sent.returns}
                for tag in sent.settled:
                    seen_at_confirm.setdefault(tag, names)
                return expected.keys() <= sent.settled.keys()

            await sent.until(all_confirmed)
            returned = {name for name, _, _ in sent.returns}
            assert returned == {f"id{n}" for n in range(0, 30, 3)}
            assert all(expected[tag] in seen for tag, seen in seen_at_confirm.items() if expected[tag] in returned)

    asyncio.run(scenario())


def test_without_a_queue_any_other_message_is_confirmed_and_dropped(side: Side) -> None:
    async def scenario() -> None:
        async with publishing(side) as (publisher, sent):
            tag = publisher.publish(f"{side.queue}.nobody", b"x", PLAIN, mandatory=False)
            assert await sent.confirmation(tag)
            assert sent.kinds == ["confirmed"]

    asyncio.run(scenario())


def test_a_reply_reaches_who_asked_and_nobody_else(side: Side) -> None:
    async def scenario() -> None:
        async with (
            publishing(side, replies=True) as (asker, asked),
            publishing(side, replies=True) as (_, other),
            publishing(side) as (server, replied),
            consuming(side) as (consumer, got),
        ):
            request = encode_properties(correlation_id="q1", reply_to=asker.reply_to)
            asker.publish(side.queue, b"ask", request, mandatory=True)
            (delivery,) = await got.received(1)
            address = delivery.properties["reply_to"]
            assert address.startswith(f"{DIRECT_REPLY}.")
            assert len([part for part in address.removeprefix(f"{DIRECT_REPLY}.").split(".") if part]) == 2
            tag = server.publish(address, b"answer", encode_properties(correlation_id="q1"), mandatory=False)
            (reply,) = await asked.received(1)
            assert (reply.body, reply.properties["correlation_id"]) == (b"answer", "q1")
            assert await replied.confirmation(tag)
            consumer.ack(delivery.tag)
            assert other.deliveries == []

    asyncio.run(scenario())


def test_a_reply_to_who_has_gone_is_confirmed_and_dropped(side: Side) -> None:
    async def scenario() -> None:
        async with publishing(side) as (server, replied), consuming(side) as (_, got):
            async with publishing(side, replies=True) as (asker, _):
                asker.publish(side.queue, b"", encode_properties(reply_to=asker.reply_to), mandatory=True)
                (delivery,) = await got.received(1)
            tag = server.publish(delivery.properties["reply_to"], b"late", PLAIN, mandatory=False)
            assert await replied.confirmation(tag)
            assert replied.kinds == ["confirmed"]

    asyncio.run(scenario())


def test_without_replies_there_is_no_address(side: Side) -> None:
    async def scenario() -> None:
        async with publishing(side) as (publisher, _):
            assert publisher.reply_to == ""

    asyncio.run(scenario())


@pytest.mark.parametrize("size", [0, 1, 131_064, 131_065, 300_000, 5_000_000])
def test_bodies_of_any_size_arrive_whole(side: Side, size: int) -> None:
    async def scenario() -> None:
        body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
        async with publishing(side) as (publisher, _), consuming(side, acks=True) as (_, got):
            publisher.publish(side.queue, body, PLAIN, mandatory=True)
            (delivery,) = await got.received(1)
            assert delivery.body == body

    asyncio.run(scenario())


def test_properties_that_no_frame_carries_are_refused(side: Side) -> None:
    async def scenario() -> None:
        async with publishing(side) as (publisher, sent), consuming(side, acks=True) as (_, got):
            with pytest.raises(TooLarge):
                publisher.publish(side.queue, b"", PLAIN + b"x" * 131_072, mandatory=True)
            tag = publisher.publish(side.queue, b"well", PLAIN, mandatory=True)
            assert await sent.confirmation(tag)
            assert [d.body for d in await got.received(1)] == [b"well"]

    asyncio.run(scenario())


def test_all_properties_arrive_as_they_were_sent(side: Side) -> None:
    fields: dict[str, Any] = {
        "content_type": "application/json",
        "content_encoding": "gzip",
        "delivery_mode": 2,
        "priority": 3,
        "correlation_id": "é" * 100,
        "reply_to": "rpc.reply.x",
        "expiration": "60000",
        "message_id": "m",
        "timestamp": 1_700_000_000,
        "type": "rpc.call",
        "app_id": "app",
        "user_id": "guest",
    }
    headers: dict[str, Any] = {
        "text": "é",
        "number": 2**40,
        "flag": True,
        "none": None,
        "list": [1, "a"],
        "table": {"b": b"x"},
    }

    async def scenario() -> None:
        async with publishing(side) as (publisher, _), consuming(side, acks=True) as (_, got):
            encoded = encode_properties(headers=encode_headers(headers), **fields)
            publisher.publish(side.queue, b"", encoded, mandatory=True)
            publisher.publish(side.queue, b"", encode_properties(), mandatory=True)
            full, bare = await got.received(2)
            assert decode_headers(full.properties.pop("headers")) == headers
            assert full.properties == fields
            assert bare.properties == {}

    asyncio.run(scenario())


def test_a_closed_session_reports_nothing_and_takes_nothing(side: Side) -> None:
    async def scenario() -> None:
        async with publishing(side) as (watcher, _):
            async with publishing(side, replies=True) as (publisher, sent), consuming(side) as (consumer, got):
                publisher.publish(side.queue, b"x", PLAIN, mandatory=True)
                (delivery,) = await got.received(1)
            entries = list(sent.entries), list(got.entries)
            await consumer.close()
            await publisher.close()
            consumer.ack(delivery.tag)
            consumer.nack(delivery.tag, requeue=True)
            with pytest.raises(ConnectionError):
                publisher.publish(side.queue, b"y", PLAIN, mandatory=True)
            await consumers(watcher, side.queue, 0)
            assert (sent.entries, got.entries) == entries

    asyncio.run(scenario())


def test_consumers_are_counted(side: Side) -> None:
    async def scenario() -> None:
        async with publishing(side) as (publisher, sent):
            assert await publisher.consumers(side.queue) is None
            async with consuming(side):
                assert await publisher.consumers(side.queue) == 1
                async with consuming(side):
                    assert await publisher.consumers(side.queue) == 2
                await consumers(publisher, side.queue, 1)
            await consumers(publisher, side.queue, 0)
            # The publisher is none the worse for having asked for a queue that did not exist.
            assert await sent.confirmation(publisher.publish(side.queue, b"", PLAIN, mandatory=True))
            assert sent.errors == []

    asyncio.run(scenario())


def test_a_message_that_the_broker_refuses_ends_the_session(side: Side) -> None:
    async def scenario() -> None:
        await declare(side)
        async with publishing(side) as (publisher, sent):
            publisher.publish(side.queue, b"", b"\x01\x00\x04soon", mandatory=True)
            await sent.loss()
            with pytest.raises(ConnectionError):
                publisher.publish(side.queue, b"", PLAIN, mandatory=True)
            assert len(sent.errors) == 1

    asyncio.run(scenario())
