"""One suite over every transport: what may be relied on by who consumes, and of a queue."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.transport.properties import encode_headers, encode_properties
from tests.contract.sessions import PLAIN, consuming, declare, publishing
from tests.contract.sides import Side


def test_what_a_lost_consumer_had_comes_again_marked_and_in_order(side: Side) -> None:
    async def scenario() -> None:
        async with publishing(side) as (publisher, sent):
            async with consuming(side, prefetch=3) as (_, first):
                tags = [publisher.publish(side.queue, b"%d" % n, PLAIN, mandatory=True) for n in range(5)]
                await first.received(3)
                await sent.confirmation(tags[-1])
                assert first.bodies == [b"0", b"1", b"2"]
            async with consuming(side) as (_, second):
                await second.received(5)
                assert second.bodies == [b"0", b"1", b"2", b"3", b"4"]
                assert [d.redelivered for d in second.deliveries] == [True, True, True, False, False]

    asyncio.run(scenario())


def test_nack_with_requeue_brings_it_back_in_its_place(side: Side) -> None:
    async def scenario() -> None:
        async with publishing(side) as (publisher, sent), consuming(side, prefetch=1) as (consumer, got):
            for body in (b"a", b"b"):
                await sent.confirmation(publisher.publish(side.queue, body, PLAIN, mandatory=True))
            (delivery,) = await got.received(1)
            consumer.nack(delivery.tag, requeue=True)
            await got.received(2)
            assert got.bodies == [b"a", b"a"]
            assert got.deliveries[1].redelivered
            consumer.ack(got.deliveries[1].tag)
            assert (await got.received(3))[2].body == b"b"

    asyncio.run(scenario())


def test_nack_without_requeue_sends_it_to_the_dead(side: Side) -> None:
    async def scenario() -> None:
        before = datetime.now(UTC)
        async with publishing(side) as (publisher, _), consuming(side) as (consumer, got):
            properties = encode_properties(
                headers=encode_headers({"mine": 1}), correlation_id="c", expiration="60000", delivery_mode=2
            )
            publisher.publish(side.queue, b"bad", properties, mandatory=True)
            (delivery,) = await got.received(1)
            consumer.nack(delivery.tag, requeue=False)
            (found,) = await side.read(side.dead, 1)
        assert (found.body, found.expiration, found.routing_key) == (b"bad", None, side.queue)
        (death,) = found.headers["x-death"]
        died = death.pop("time")
        assert abs((died.replace(tzinfo=UTC) - before).total_seconds()) < 60
        assert death == {
            "count": 1,
            "reason": "rejected",
            "queue": side.queue,
            "exchange": "",
            "routing-keys": [side.queue],
            "original-expiration": "60000",
        }
        assert found.headers["x-first-death-reason"] == "rejected"
        assert found.headers["x-first-death-queue"] == side.queue
        assert found.headers["x-first-death-exchange"] == ""
        assert found.headers["mine"] == 1

    asyncio.run(scenario())


def test_what_expires_goes_to_the_expired(side: Side) -> None:
    async def scenario() -> None:
        await declare(side)
        async with publishing(side) as (publisher, _):
            publisher.publish(side.queue, b"late", encode_properties(expiration="1"), mandatory=True)
            (found,) = await side.read(side.expired, 1)
        assert (found.body, found.expiration) == (b"late", None)
        (death,) = found.headers["x-death"]
        assert (death["reason"], death["original-expiration"]) == ("expired", "1")
        assert found.headers["x-first-death-reason"] == "expired"

    asyncio.run(scenario())


def test_messages_expire_at_the_head_only(side: Side) -> None:
    async def scenario() -> None:
        await declare(side)
        async with publishing(side) as (publisher, _):
            publisher.publish(side.queue, b"first", encode_properties(expiration="150"), mandatory=True)
            publisher.publish(side.queue, b"second", encode_properties(expiration="1"), mandatory=True)
            assert [found.body for found in await side.read(side.expired, 2)] == [b"first", b"second"]

    asyncio.run(scenario())


def test_what_expired_while_it_waited_is_not_delivered(side: Side) -> None:
    async def scenario() -> None:
        async with publishing(side) as (publisher, _), consuming(side, prefetch=1) as (consumer, got):
            publisher.publish(side.queue, b"slow", PLAIN, mandatory=True)
            (delivery,) = await got.received(1)
            publisher.publish(side.queue, b"late", encode_properties(expiration="1"), mandatory=True)
            publisher.publish(side.queue, b"next", PLAIN, mandatory=True)
            assert [found.body for found in await side.read(side.expired, 1)] == [b"late"]
            consumer.ack(delivery.tag)
            assert (await got.received(2))[1].body == b"next"

    asyncio.run(scenario())


def test_what_a_consumer_holds_does_not_expire(side: Side) -> None:
    async def scenario() -> None:
        async with publishing(side) as (publisher, _), consuming(side, prefetch=1) as (consumer, got):
            publisher.publish(side.queue, b"held", encode_properties(expiration="50"), mandatory=True)
            publisher.publish(side.queue, b"late", encode_properties(expiration="100"), mandatory=True)
            (delivery,) = await got.received(1)
            assert [found.body for found in await side.read(side.expired, 1)] == [b"late"]
            consumer.ack(delivery.tag)
            publisher.publish(side.queue, b"next", PLAIN, mandatory=True)
            assert [d.body for d in await got.received(2)] == [b"held", b"next"]

    asyncio.run(scenario())


def test_no_consumer_has_more_than_its_prefetch(side: Side) -> None:
    async def scenario() -> None:
        async with publishing(side) as (publisher, _), consuming(side, prefetch=2) as (consumer, got):
            for n in range(40):
                publisher.publish(side.queue, b"%d" % n, PLAIN, mandatory=True)
            most = 0
            for done in range(40):
                await got.received(min(done + 2, 40))
                most = max(most, len(got.deliveries) - done)
                consumer.ack(got.deliveries[done].tag)
            assert most == 2
            assert got.bodies == [b"%d" % n for n in range(40)]

    asyncio.run(scenario())


def test_consumers_take_turns(side: Side) -> None:
    async def scenario() -> None:
        async with (
            publishing(side) as (publisher, _),
            consuming(side, prefetch=20) as (_, first),
            consuming(side, prefetch=20) as (_, second),
        ):
            for n in range(20):
                publisher.publish(side.queue, b"%d" % n, PLAIN, mandatory=True)
            await first.received(10)
            await second.received(10)
            assert sorted(map(int, first.bodies + second.bodies)) == list(range(20))

    asyncio.run(scenario())


def test_a_queue_that_exists_with_other_arguments_is_a_configuration_error(side: Side) -> None:
    async def scenario() -> None:
        await declare(side, **{"x-max-length": 5})
        with pytest.raises(ConfigurationError, match=r"x-max-length.*\b5\b.*\b7\b|x-max-length.*\b7\b.*\b5\b"):
            await declare(side, **{"x-max-length": 7})
        await declare(side, **{"x-max-length": 5})

    asyncio.run(scenario())


def test_after_cancel_nothing_new_comes_and_what_came_can_be_acked(side: Side) -> None:
    async def scenario() -> None:
        async with publishing(side) as (publisher, sent):
            async with consuming(side) as (consumer, first):
                publisher.publish(side.queue, b"before", PLAIN, mandatory=True)
                (delivery,) = await first.received(1)
                await consumer.cancel()
                assert await publisher.consumers(side.queue) == 0
                await sent.confirmation(publisher.publish(side.queue, b"after", PLAIN, mandatory=True))
                consumer.ack(delivery.tag)
            assert first.bodies == [b"before"]
            async with consuming(side) as (_, second):
                (delivery,) = await second.received(1)
                assert (delivery.body, delivery.redelivered) == (b"after", False)

    asyncio.run(scenario())


def test_a_full_queue_that_rejects_says_so(side: Side) -> None:
    async def scenario() -> None:
        await declare(side, **{"x-max-length": 1, "x-overflow": "reject-publish"})
        async with publishing(side) as (publisher, sent):
            first = await sent.confirmation(publisher.publish(side.queue, b"1", PLAIN, mandatory=True))
            second = await sent.confirmation(publisher.publish(side.queue, b"2", PLAIN, mandatory=True))
            assert (first, second) == (True, False)

    asyncio.run(scenario())


def test_a_full_queue_that_drops_its_head_buries_it(side: Side) -> None:
    async def scenario() -> None:
        await declare(side, **{"x-max-length": 2})
        async with publishing(side) as (publisher, _):
            for body in (b"1", b"2", b"3"):
                publisher.publish(side.queue, body, PLAIN, mandatory=True)
            (found,) = await side.read(side.dead, 1)
        assert (found.body, found.headers["x-first-death-reason"]) == (b"1", "maxlen")

    asyncio.run(scenario())


def test_higher_priorities_come_first(side: Side) -> None:
    arguments = {"x-max-priority": 5}

    async def scenario() -> None:
        await declare(side, **arguments)
        async with publishing(side) as (publisher, sent):
            for body, priority in ((b"low", 1), (b"none", 0), (b"high", 5), (b"higher", 9), (b"low2", 1)):
                properties = encode_properties(priority=priority)
                await sent.confirmation(publisher.publish(side.queue, body, properties, mandatory=True))
            async with consuming(side, spec=side.spec(**arguments), prefetch=1, acks=True) as (_, got):
                await got.received(5)
                assert got.bodies == [b"high", b"higher", b"low", b"low2", b"none"]

    asyncio.run(scenario())


def test_an_ack_of_what_was_not_delivered_ends_the_session_and_the_rest_comes_again(side: Side) -> None:
    async def scenario() -> None:
        async with publishing(side) as (publisher, _), consuming(side) as (consumer, first):
            publisher.publish(side.queue, b"x", PLAIN, mandatory=True)
            (delivery,) = await first.received(1)
            consumer.ack(delivery.tag + 1000)
            await first.loss()
            async with consuming(side) as (_, second):
                (delivery,) = await second.received(1)
                assert (delivery.body, delivery.redelivered) == (b"x", True)

    asyncio.run(scenario())
