"""Faults on demand: killed, dropped, down, blocked, frozen."""

from __future__ import annotations

import asyncio

import pytest

from resilient_rpc.transport.memory import Bus, MemoryTransport
from resilient_rpc.transport.memory.publisher import HIGH_WATER
from resilient_rpc.transport.properties import encode_properties
from tests.contract.recorder import Recorder
from tests.transport.memory.support import PLAIN, QUEUE, consumer, publisher


class TestFaults:
    def test_a_killed_server_hears_nothing_says_nothing_and_its_work_is_redone(self, bus: Bus) -> None:
        async def scenario() -> None:
            client, sent = await publisher(bus, replies=True)
            victim, first = await consumer(bus, name="a")
            replier, replied = await publisher(bus, name="a")
            client.publish(QUEUE, b"job", encode_properties(reply_to=client.reply_to), mandatory=True)
            (delivery,) = await first.received(1)
            assert bus.kill("a") == 2
            replier.publish(client.reply_to, b"from the grave", PLAIN, mandatory=False)
            victim.ack(delivery.tag)
            survivor, second = await consumer(bus, name="b")
            (again,) = await second.received(1)
            assert (again.body, again.redelivered) == (b"job", True)
            survivor.ack(again.tag)
            client.publish(QUEUE, b"next", PLAIN, mandatory=True)
            await second.received(2)
            assert sent.deliveries == []
            assert (first.kinds, replied.kinds) == (["delivered"], [])
            assert bus.connections == ["client", "b"]

        asyncio.run(scenario())

    def test_what_is_on_its_way_to_the_killed_never_arrives(self, bus: Bus) -> None:
        async def scenario() -> None:
            _, first = await consumer(bus, name="a")
            bus.publish(QUEUE, b"job")
            assert bus.queue(QUEUE).unacked == 1
            bus.kill("a")
            view = bus.queue(QUEUE)
            assert (view.depth, view.unacked, view.consumers) == (1, 0, 0)
            _, second = await consumer(bus, name="b")
            await second.received(1)
            assert first.entries == []

        asyncio.run(scenario())

    def test_one_session_can_be_killed(self, bus: Bus) -> None:
        async def scenario() -> None:
            session, _ = await consumer(bus, name="a")
            await consumer(bus, name="a")
            assert bus.kill(session) == 1
            assert bus.queue(QUEUE).consumers == 1

        asyncio.run(scenario())

    def test_dropped_connections_are_told_and_none_inherits_from_another(self, bus: Bus) -> None:
        async def scenario() -> None:
            client, sent = await publisher(bus, replies=True)
            _, first = await consumer(bus, prefetch=2)
            _, second = await consumer(bus, prefetch=2)
            for n in range(6):
                client.publish(QUEUE, b"%d" % n, PLAIN, mandatory=True)
            await first.received(2)
            await second.received(2)
            bus.drop_connections()
            for events in (sent, first, second):
                assert isinstance(await events.loss(), ConnectionError)
            assert (len(first.deliveries), len(second.deliveries)) == (2, 2)
            assert [(m.body, m.redelivered) for m in bus.queue(QUEUE).messages()] == [
                (b"%d" % n, n < 4) for n in range(6)
            ]
            with pytest.raises(ConnectionError):
                client.publish(QUEUE, b"", PLAIN, mandatory=True)
            with pytest.raises(ConnectionError):
                await client.consumers(QUEUE)

        asyncio.run(scenario())

    def test_what_was_reported_before_the_loss_comes_before_it(self, bus: Bus) -> None:
        async def scenario() -> None:
            client, sent = await publisher(bus)
            client.publish(QUEUE, b"", PLAIN, mandatory=False)
            bus.drop_connections()
            await sent.loss()
            assert sent.kinds == ["confirmed", "lost"]

        asyncio.run(scenario())

    def test_down_refuses_connections_and_keeps_the_messages(self, bus: Bus) -> None:
        async def scenario() -> None:
            _, got = await consumer(bus)
            bus.publish(QUEUE, b"kept")
            bus.down()
            await got.loss()
            with pytest.raises(ConnectionRefusedError):
                await publisher(bus)
            bus.up()
            _, again = await consumer(bus)
            assert [d.body for d in await again.received(1)] == [b"kept"]

        asyncio.run(scenario())

    def test_in_an_alarm_publishers_are_told_and_held_and_consumers_go_on(self, bus: Bus) -> None:
        async def scenario() -> None:
            _, got = await consumer(bus, acks=True)
            client, sent = await publisher(bus)
            bus.block("disk")
            tags = [client.publish(QUEUE, b"%d" % n, PLAIN, mandatory=True) for n in range(3)]
            late, late_events = await publisher(bus)
            await late_events.until(lambda: late_events.blocks == ["disk"])
            tags.append(late.publish(QUEUE, b"late", PLAIN, mandatory=True) + 2)
            bus.publish(QUEUE, b"by another way")
            await got.received(1)
            assert sent.kinds == ["blocked"]
            bus.unblock()
            await sent.confirmation(tags[-1])
            await got.received(5)
            assert got.bodies == [b"by another way", b"0", b"1", b"2", b"late"]
            assert sent.blocks == late_events.blocks == ["disk", None]

        asyncio.run(scenario())

    def test_a_peer_that_reads_nothing_takes_only_so_much(self, bus: Bus) -> None:
        async def scenario() -> None:
            client, sent = await publisher(bus)
            bus.block()
            client.publish("nobody", b"x" * (HIGH_WATER // 2), PLAIN, mandatory=False)
            assert client.writable is True
            tag = client.publish("nobody", b"x" * HIGH_WATER, PLAIN, mandatory=False)
            assert client.writable is False
            bus.unblock()
            await sent.confirmation(tag)
            await sent.until(lambda: "writable" in sent.kinds)
            assert client.writable

        asyncio.run(scenario())

    def test_a_frozen_bus_answers_nobody_and_goes_on_where_it_stopped(self, bus: Bus) -> None:
        async def scenario() -> None:
            server, got = await consumer(bus, prefetch=1)
            client, sent = await publisher(bus)
            bus.publish(QUEUE, b"0")
            (delivery,) = await got.received(1)
            bus.freeze()
            server.ack(delivery.tag)
            tag = client.publish(QUEUE, b"1", PLAIN, mandatory=True)
            with pytest.raises(TimeoutError):
                await MemoryTransport(bus.name).publisher(Recorder(), replies=False, timeout=0.01)
            assert (sent.entries, len(got.deliveries)) == ([], 1)
            assert bus.connections == ["server", "client"]
            bus.thaw()
            assert await sent.confirmation(tag)
            await got.received(2)

        asyncio.run(scenario())

    def test_a_queue_that_is_deleted_cancels_its_consumers(self, bus: Bus) -> None:
        async def scenario() -> None:
            server, got = await consumer(bus)
            bus.publish(QUEUE, b"gone")
            (delivery,) = await got.received(1)
            bus.delete(QUEUE)
            assert "deleted" in str(await got.loss())
            server.nack(delivery.tag, requeue=True)
            client, _ = await publisher(bus)
            assert await client.consumers(QUEUE) is None

        asyncio.run(scenario())
