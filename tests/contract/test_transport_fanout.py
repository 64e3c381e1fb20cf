"""What every transport does with an exchange that reaches all consumers of a queue."""

from __future__ import annotations

import asyncio

from resilient_rpc.transport.base import QueueSpec
from resilient_rpc.transport.properties import encode_properties
from resilient_rpc.transport.topology import fanout_exchange
from tests.contract.sessions import PLAIN, consuming, publishing
from tests.contract.sides import Side
from tests.waiting import turns


def spec(side: Side) -> QueueSpec:
    return QueueSpec(name=side.queue, service=side.service, fanout=fanout_exchange(side.queue))


def test_every_consumer_gets_what_is_published_to_all_and_one_of_them_what_is_published_to_the_queue(
    side: Side,
) -> None:
    async def scenario() -> None:
        async with (
            consuming(side, spec=spec(side), acks=True) as (_, one),
            consuming(side, spec=spec(side), acks=True) as (_, two),
            publishing(side, replies=True) as (publisher, sent),
        ):
            for n in range(30):
                properties = encode_properties(reply_to=publisher.reply_to, correlation_id=f"c{n}")
                publisher.announce(fanout_exchange(side.queue), b"all %d" % n, properties, mandatory=True)
            tag = publisher.publish(side.queue, b"one", PLAIN, mandatory=True)
            assert await sent.confirmation(tag)
            for each in (one, two):
                await each.received(30)
            await turns(lambda: len(one.deliveries) + len(two.deliveries) == 61)
            for each in (one, two):
                assert [body for body in each.bodies if body != b"one"] == [b"all %d" % n for n in range(30)]
            assert sent.returns == []
            heard = one.deliveries[0]
            assert heard.properties["correlation_id"] == "c0"
            publisher.publish(heard.properties["reply_to"], b"answer", PLAIN, mandatory=False)
            [reply] = await sent.received(1)
            assert reply.body == b"answer"

    asyncio.run(scenario())


def test_a_consumer_gets_no_more_of_it_ahead_than_it_asked_for_and_goes_on_when_it_acks(side: Side) -> None:
    async def scenario() -> None:
        async with (
            consuming(side, spec=spec(side), prefetch=2) as (consumer, heard),
            publishing(side) as (publisher, sent),
        ):
            for n in range(5):
                tag = publisher.announce(fanout_exchange(side.queue), b"%d" % n, PLAIN, mandatory=True)
            assert await sent.confirmation(tag)
            await heard.received(2)
            assert heard.bodies == [b"0", b"1"]
            consumer.ack(heard.deliveries[0].tag)
            consumer.nack(heard.deliveries[1].tag, requeue=False)
            await heard.received(4)
            for delivery in heard.deliveries[2:4]:
                consumer.ack(delivery.tag)
            await heard.received(5)
            assert heard.bodies == [b"0", b"1", b"2", b"3", b"4"]

    asyncio.run(scenario())


def test_an_exchange_is_there_as_soon_as_somebody_has_listened_and_says_when_nobody_does(side: Side) -> None:
    async def scenario() -> None:
        exchange = fanout_exchange(side.queue)
        async with publishing(side) as (publisher, sent):
            assert not await publisher.reaches(exchange)
            async with consuming(side, spec=spec(side)) as (consumer, heard):
                assert await publisher.reaches(exchange)
                await consumer.cancel()
                tag = publisher.announce(exchange, b"", encode_properties(correlation_id="nobody"), mandatory=True)
                assert await sent.confirmation(tag)
                assert [each.body for each in heard.deliveries if each.properties] == [], "what asks has nothing to say"
            assert sent.returns == [("nobody", 312, "NO_ROUTE")]
            assert await publisher.reaches(exchange)

    asyncio.run(scenario())


def test_what_was_heard_can_be_acked_after_the_consumer_was_cancelled(side: Side) -> None:
    async def scenario() -> None:
        async with (
            consuming(side, spec=spec(side)) as (consumer, heard),
            publishing(side) as (publisher, sent),
        ):
            publisher.announce(fanout_exchange(side.queue), b"late", PLAIN, mandatory=True)
            [delivery] = await heard.received(1)
            await consumer.cancel()
            consumer.ack(delivery.tag)
            tag = publisher.publish(side.queue, b"", PLAIN, mandatory=True)
            assert await sent.confirmation(tag)
            assert sent.returns == []
            assert heard.errors == []

    asyncio.run(scenario())


def test_to_publish_to_an_exchange_that_does_not_exist_ends_the_session(side: Side) -> None:
    async def scenario() -> None:
        async with publishing(side) as (publisher, sent):
            publisher.announce(fanout_exchange(side.queue), b"", PLAIN, mandatory=True)
            assert "no exchange" in str(await sent.loss())

    asyncio.run(scenario())
