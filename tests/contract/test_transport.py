"""One suite over every transport: what a client or a server may rely on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from resilient_rpc.errors import ConfigurationError, TooLarge
from resilient_rpc.transport.base import DIRECT_REPLY, Consumer, Publisher, QueueSpec
from resilient_rpc.transport.properties import decode_headers, encode_headers, encode_properties
from tests.contract.recorder import Recorder, Worker
from tests.contract.sides import AmqpSide, MemorySide, Side

PLAIN = encode_properties(delivery_mode=1)
TIMEOUT = 10.0


BROKER = pytest.mark.broker  # the marker cannot be read off the fixtures: the URL is asked for by name


@pytest.fixture(params=["memory", pytest.param("amqp", marks=BROKER), pytest.param("amqp-by-pika", marks=BROKER)])
def side(request: pytest.FixtureRequest, service: str) -> Iterator[Side]:
    found: Side
    match request.param:
        case "memory":
            found = MemorySide(service)
        case kind:
            found = AmqpSide(service, request.getfixturevalue("amqp_url"), lane=kind == "amqp")
    yield found
    found.clean()


@asynccontextmanager
async def publishing(side: Side, *, replies: bool = False) -> AsyncIterator[tuple[Publisher, Recorder]]:
    events = Recorder()
    publisher = await side.transport().publisher(events, replies=replies, timeout=TIMEOUT)
    try:
        yield publisher, events
    finally:
        await publisher.close()


@asynccontextmanager
async def consuming(
    side: Side, *, prefetch: int = 10, acks: bool = False, spec: QueueSpec | None = None
) -> AsyncIterator[tuple[Consumer, Worker]]:
    events = Worker(acks=acks)
    consumer = await side.transport().consumer(events, spec or side.spec(), prefetch=prefetch, timeout=TIMEOUT)
    events.consumer = consumer
    try:
        yield consumer, events
    finally:
        await consumer.close()


async def declare(side: Side, **arguments: Any) -> None:
    async with consuming(side, spec=side.spec(**arguments)):
        pass


async def consumers(publisher: Publisher, queue: str, count: int) -> None:
    """Wait until the broker counts as many: it notices the end of a session a moment later."""
    async with asyncio.timeout(TIMEOUT):
        while await publisher.consumers(queue) != count:
            pass


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
