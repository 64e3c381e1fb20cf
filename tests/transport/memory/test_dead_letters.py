"""Where messages go that nobody handled, and what they carry; when they expire."""

from __future__ import annotations

import asyncio

from resilient_rpc.transport.base import QueueSpec
from resilient_rpc.transport.memory import Bus, MemoryTransport
from resilient_rpc.transport.properties import decode_headers, encode_headers, encode_properties
from tests.contract.recorder import Recorder
from tests.transport.memory import virtual
from tests.transport.memory.support import PLAIN, QUEUE, consumer, publisher


class TestDeadLetters:
    def test_the_same_death_is_counted(self, bus: Bus) -> None:
        async def scenario() -> None:
            server, got = await consumer(bus)
            bus.publish(QUEUE, b"1")
            for round_ in (1, 2):
                delivery = (await got.received(round_))[-1]
                server.nack(delivery.tag, requeue=False)
                (corpse,) = bus.queue("rpc.svc.dead").messages()
                bus.queue("rpc.svc.dead").purge()
                bus.publish(QUEUE, corpse.body, **corpse.properties)
            deaths = decode_headers(corpse.properties["headers"])["x-death"]
            assert [(death["count"], death["reason"], death["queue"]) for death in deaths] == [(2, "rejected", QUEUE)]

        asyncio.run(scenario())

    def test_a_circle_through_a_waiting_queue_goes_round_while_somebody_rejects(self, bus: Bus) -> None:
        async def scenario() -> None:
            server, got = await consumer(
                bus, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "wait"}
            )
            back = {"x-message-ttl": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": QUEUE}
            waiting = QueueSpec(name="wait", service="svc", arguments=back, dead_letters=False)
            transport = MemoryTransport(bus.name)
            await (await transport.consumer(Recorder(), waiting, prefetch=1, timeout=5)).close()
            bus.publish(QUEUE, b"again and again")
            for count in (1, 2, 3):
                delivery = (await got.received(count))[-1]
                server.nack(delivery.tag, requeue=False)
            delivery = (await got.received(4))[-1]
            deaths = decode_headers(delivery.properties["headers"])["x-death"]
            assert [(death["queue"], death["count"]) for death in deaths] == [("wait", 3), (QUEUE, 3)]

        asyncio.run(scenario())

    def test_a_circle_that_nobody_rejects_is_broken(self, bus: Bus) -> None:
        async def scenario() -> None:
            loop = {"x-max-length": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": QUEUE}
            server, _ = await consumer(bus, arguments=loop)
            await server.close()
            bus.publish(QUEUE, b"round and round")
            assert bus.queue(QUEUE).depth == 0

        asyncio.run(scenario())

    def test_headers_that_cannot_be_read_do_not_stop_a_burial(self, bus: Bus) -> None:
        async def scenario() -> None:
            server, got = await consumer(bus)
            bus.publish(QUEUE, b"", encode_properties(headers=b"\x00\x00\x00\x02\xff\xff"))
            (delivery,) = await got.received(1)
            server.nack(delivery.tag, requeue=False)
            assert bus.queue("rpc.svc.dead").depth == 1

        asyncio.run(scenario())

    def test_a_history_of_another_kind_is_replaced(self, bus: Bus) -> None:
        async def scenario() -> None:
            server, got = await consumer(bus)
            bus.publish(QUEUE, b"", headers=encode_headers({"x-death": "me?"}))
            (delivery,) = await got.received(1)
            server.nack(delivery.tag, requeue=False)
            (corpse,) = bus.queue("rpc.svc.dead").messages()
            assert len(decode_headers(corpse.properties["headers"])["x-death"]) == 1

        asyncio.run(scenario())

    def test_a_quorum_queue_counts_deliveries_up_to_its_limit(self, bus: Bus) -> None:
        async def scenario() -> None:
            server, got = await consumer(bus, arguments={"x-queue-type": "quorum", "x-delivery-limit": 2})
            bus.publish(QUEUE, b"poison", headers=encode_headers({"mine": 1}))
            counts = []
            for n in (1, 2, 3):
                delivery = (await got.received(n))[-1]
                counts.append(decode_headers(delivery.properties["headers"]).get("x-delivery-count"))
                server.nack(delivery.tag, requeue=True)
            assert counts == [None, 1, 2]
            (corpse,) = bus.queue("rpc.svc.dead").messages()
            headers = decode_headers(corpse.properties["headers"])
            assert (headers["x-first-death-reason"], headers["mine"]) == ("delivery_limit", 1)

        asyncio.run(scenario())

    def test_a_rejected_publish_may_be_buried_too(self, bus: Bus) -> None:
        async def scenario() -> None:
            server, _ = await consumer(bus, arguments={"x-max-length": 0, "x-overflow": "reject-publish-dlx"})
            await server.close()
            client, sent = await publisher(bus)
            assert not await sent.confirmation(client.publish(QUEUE, b"over", PLAIN, mandatory=True))
            assert [m.body for m in bus.queue("rpc.svc.dead").messages()] == [b"over"]

        asyncio.run(scenario())


class TestTime:
    def test_an_hour_of_a_virtual_clock_passes_at_once(self, bus: Bus) -> None:
        async def scenario() -> None:
            loop = asyncio.get_running_loop()
            bus.now = loop.time
            server, got = await consumer(bus, prefetch=1)
            bus.publish(QUEUE, b"held")
            await got.received(1)
            bus.publish(QUEUE, b"late", expiration="3600000")
            bus.publish(QUEUE, b"later", expiration="7200000")
            bus.publish(QUEUE, b"kept")
            await asyncio.sleep(3599)
            assert bus.queue("rpc.svc.expired").depth == 0
            await asyncio.sleep(2)
            assert [m.body for m in bus.queue("rpc.svc.expired").messages()] == [b"late"]
            await asyncio.sleep(3600)
            assert [m.body for m in bus.queue(QUEUE).messages()] == [b"kept"]
            # The first one has been in the queue of the expired for its hour by now.
            assert [m.body for m in bus.queue("rpc.svc.expired").messages()] == [b"later"]
            await server.close()

        virtual.run(scenario())

    def test_a_sooner_expiry_wakes_sooner(self, bus: Bus) -> None:
        async def scenario() -> None:
            bus.now = asyncio.get_running_loop().time
            server, got = await consumer(bus, arguments={"x-max-priority": 1})
            await server.cancel()
            bus.publish(QUEUE, b"slow", expiration="10000")
            bus.publish(QUEUE, b"quick", expiration="1000", priority=1)
            await asyncio.sleep(2)
            assert [m.body for m in bus.broker.queues["rpc.svc.expired"]] == [b"quick"]
            await asyncio.sleep(9)
            assert [m.body for m in bus.broker.queues["rpc.svc.expired"]] == [b"quick", b"slow"]
            assert got.deliveries == []
            await server.close()

        virtual.run(scenario())

    def test_without_a_session_it_expires_when_somebody_looks(self, bus: Bus) -> None:
        async def declare() -> None:
            server, _ = await consumer(bus)
            await server.close()

        asyncio.run(declare())
        clock = [0.0]
        bus.now = lambda: clock[0]
        bus.publish(QUEUE, b"late", expiration="1000")
        assert bus.queue(QUEUE).depth == 1
        clock[0] = 1.0
        assert bus.queue(QUEUE).depth == 0
