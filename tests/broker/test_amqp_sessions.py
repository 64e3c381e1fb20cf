import asyncio
import struct
from typing import Any

import pika
import pytest

from resilient_rpc.errors import ConfigurationError, ConnectionLost, MalformedMessage, TooLarge
from resilient_rpc.transport.amqp import AmqpTransport
from resilient_rpc.transport.properties import decode_headers, encode_properties
from resilient_rpc.transport.urls import AmqpUrl, parse_url
from tests.broker.amqp import PLAIN, TIMEOUT, consuming, publishing, run, spec, transport
from tests.broker.bombs import BOMBS
from tests.contract.recorder import Recorder, Worker

LANES = pytest.mark.parametrize("lane", [True, False], ids=["fast", "pika"])


@LANES
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_hostile_header_is_a_message_like_any_other(amqp_url: str, service: str, lane: bool, bomb: str) -> None:
    async def scenario() -> None:
        over, queue = transport(amqp_url, lane=lane), spec(service)
        async with publishing(over) as (publisher, _), consuming(over, queue) as (consumer, got):
            publisher.publish(queue.name, b"bomb", BOMBS[bomb], mandatory=True)
            publisher.publish(queue.name, b"good", PLAIN, mandatory=True)
            first, second = await got.received(2)
            assert (first.body, second.body) == (b"bomb", b"good")
            if lane and "timestamp" not in bomb:
                with pytest.raises(MalformedMessage):
                    decode_headers(first.properties["headers"])
            else:
                assert len(decode_headers(first.properties["headers"])) <= 1
            consumer.nack(first.tag, requeue=True)
            again = (await got.received(3))[2]
            assert (again.body, again.redelivered) == (b"bomb", True)
            consumer.ack(again.tag)
            consumer.ack(second.tag)
            assert got.errors == []

    run(scenario)


def test_headers_that_would_end_the_connection_are_not_sent(amqp_url: str, service: str) -> None:
    async def scenario() -> None:
        over, queue = transport(amqp_url), spec(service)
        async with consuming(over, queue, acks=True) as (_, got), publishing(over) as (publisher, sent):
            large = b"\x20\x00" + struct.pack(">I", 200_000) + bytes(200_000)
            with pytest.raises(TooLarge):
                publisher.publish(queue.name, b"", large, mandatory=True)
            tag = publisher.publish(queue.name, b"next", PLAIN, mandatory=True)
            assert (tag, await sent.confirmation(tag), (await got.received(1))[0].body) == (1, True, b"next")

    run(scenario)


@LANES
def test_bodies_of_many_frames(amqp_url: str, service: str, lane: bool) -> None:
    bodies = [bytes([n]) * size for n, size in enumerate((131_064, 131_065, 5_000_000, 0, 1))]

    async def scenario() -> None:
        over, queue = transport(amqp_url, lane=lane), spec(service)
        async with publishing(over, replies=True) as (publisher, replies), consuming(over, queue) as (consumer, got):
            for body in bodies:
                publisher.publish(queue.name, body, encode_properties(reply_to=publisher.reply_to), mandatory=True)
            for request in await got.received(len(bodies)):
                publisher.publish(request.properties["reply_to"], request.body, PLAIN, mandatory=False)
                consumer.ack(request.tag)
            await replies.received(len(bodies))
            assert got.bodies == replies.bodies == bodies

    run(scenario)


def test_a_queue_with_other_arguments_names_both_values(amqp_url: str, service: str) -> None:
    async def scenario() -> None:
        over = transport(amqp_url)
        async with consuming(over, spec(service, **{"x-max-length": 7})):
            other = spec(service, **{"x-max-length": 8})
            with pytest.raises(ConfigurationError, match=r"x-max-length.*'8'.*'7'"):
                await over.consumer(Worker(acks=False), other, prefetch=1, timeout=TIMEOUT)

    run(scenario)


@LANES
def test_a_queue_that_is_deleted_ends_its_consumer(amqp_url: str, service: str, lane: bool) -> None:
    async def scenario() -> None:
        over, queue = transport(amqp_url, lane=lane), spec(service)
        async with consuming(over, queue) as (consumer, got):
            await asyncio.to_thread(delete, amqp_url, queue.name)
            error = await got.loss()
            assert type(error) is ConnectionLost
            assert queue.name in str(error)
            consumer.ack(1)
            await consumer.cancel()
            async with consuming(over, queue):
                assert got.errors == [error]

    run(scenario)


def delete(url: str, queue: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        connection.channel().queue_delete(queue)


@LANES
def test_a_channel_that_the_broker_closes_ends_the_session(amqp_url: str, service: str, lane: bool) -> None:
    async def scenario() -> None:
        over, queue = transport(amqp_url, lane=lane), spec(service)
        async with consuming(over, queue) as (consumer, got):
            consumer.ack(77)
            error = await got.loss()
            assert type(error) is ConnectionLost
            assert "406 PRECONDITION_FAILED - unknown delivery tag 77" in str(error)
        assert got.errors == [error]

        async with publishing(over) as (publisher, sent):
            publisher.publish("q", b"", encode_properties(user_id="somebody else"), mandatory=True)
            refused = await sent.loss()
            assert type(refused) is ConfigurationError
            assert "somebody else" in str(refused)
            with pytest.raises(ConnectionError):
                publisher.publish("q", b"", PLAIN, mandatory=True)
            with pytest.raises(ConfigurationError):
                await publisher.consumers("q")

    run(scenario)


@LANES
def test_cancelled_deliveries_go_back_and_acks_still_work(amqp_url: str, service: str, lane: bool) -> None:
    async def scenario() -> None:
        over, queue = transport(amqp_url, lane=lane), spec(service)
        async with publishing(over) as (publisher, _):
            async with consuming(over, queue, prefetch=1) as (consumer, got):
                for n in range(20):
                    publisher.publish(queue.name, b"%d" % n, PLAIN, mandatory=True)
                (first,) = await got.received(1)
                await asyncio.gather(consumer.cancel(), consumer.cancel())
                consumer.ack(first.tag)
                assert len(got.deliveries) == 1
            async with consuming(over, queue, prefetch=0) as (_, rest):
                assert sorted(int(d.body) for d in await rest.received(19)) == list(range(1, 20))

    run(scenario)


def test_an_open_that_is_cancelled_leaves_nothing(amqp_url: str, service: str) -> None:
    async def scenario() -> None:
        over, queue = transport(amqp_url), spec(service)

        async def attempt(steps: int) -> bool:
            task = asyncio.create_task(over.consumer(Worker(acks=True), queue, prefetch=1, timeout=TIMEOUT))
            for _ in range(steps):
                await asyncio.sleep(0)
            finished = task.done()
            task.cancel()
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            if not isinstance(outcome, BaseException):
                await outcome.close()
            return finished

        steps = 1
        while not await attempt(steps):
            steps += 1 + steps // 8
        async with publishing(over) as (publisher, _), asyncio.timeout(TIMEOUT):
            while await publisher.consumers(queue.name):
                pass

    run(scenario)


def test_a_count_that_is_given_up_leaves_no_channel(amqp_url: str, service: str) -> None:
    async def scenario() -> None:
        over, queue = transport(amqp_url), spec(service)
        async with consuming(over, queue), publishing(over) as (publisher, sent):
            for steps in range(6):
                counting = asyncio.create_task(publisher.consumers(queue.name))
                for _ in range(steps):
                    await asyncio.sleep(0)
                counting.cancel()
                await asyncio.gather(counting, return_exceptions=True)
            for _ in range(3):
                assert await publisher.consumers(queue.name) == 1
                assert await publisher.consumers(f"{queue.name}.nobody") is None
            assert sent.errors == []
            (own, *rest) = publisher._connection._channels.values()  # type: ignore[attr-defined]
            assert own.is_open
            assert all(channel.is_closing for channel in rest)

    run(scenario)


def test_a_loss_before_the_owner_knows_the_session_is_told_after(amqp_url: str) -> None:
    async def scenario() -> None:
        events = Recorder()
        session = await transport(amqp_url).publisher(events, replies=True, timeout=TIMEOUT)
        session.connection_lost(OSError("at once"))
        assert events.entries == []
        error = await events.loss()
        assert "at once" in str(error)
        await session.close()
        assert len(events.errors) == 1

    run(scenario)


def test_max_body(amqp_url: str) -> None:
    url = parse_url(amqp_url)
    assert isinstance(url, AmqpUrl)
    with pytest.raises(ConfigurationError, match="max_body"):
        AmqpTransport(url, max_body=0)
    assert AmqpTransport(url, heartbeat=7).url.heartbeat == 7

    async def scenario() -> None:
        async with publishing(AmqpTransport(url, max_body=10)) as (publisher, _):
            publisher.publish("nobody", bytes(10), PLAIN, mandatory=True)
            with pytest.raises(TooLarge, match="limit of 10"):
                publisher.publish("nobody", bytes(11), PLAIN, mandatory=True)

    run(scenario)


def test_prefetch_has_a_range(amqp_url: str, service: str) -> None:
    async def scenario() -> None:
        for prefetch in (-1, 65_536):
            with pytest.raises(ConfigurationError, match=str(prefetch)):
                await transport(amqp_url).consumer(Worker(acks=True), spec(service), prefetch=prefetch, timeout=TIMEOUT)

    run(scenario)


def test_owners_that_raise_are_contained(amqp_url: str, service: str, caplog: pytest.LogCaptureFixture) -> None:
    class Tripping(Recorder):
        def _note(self, kind: str, value: Any) -> None:
            super()._note(kind, value)
            raise LookupError(kind)

    async def scenario() -> None:
        events = Tripping()
        session = await transport(amqp_url).publisher(events, replies=True, timeout=TIMEOUT)
        session.publish(f"{service}.nobody", b"", PLAIN, mandatory=True)
        await events.until(lambda: "confirmed" in events.kinds)
        session.publish("q", b"", encode_properties(user_id="somebody else"), mandatory=True)
        await events.loss()
        await session.close()

    run(scenario)
    assert sum("failed to take" in record.message for record in caplog.records) == 3
