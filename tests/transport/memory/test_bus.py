"""What only the in-memory bus has: names, faults on demand, many threads, a clock of one's own."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from resilient_rpc.errors import ConfigurationError, MalformedMessage, TooLarge
from resilient_rpc.transport.base import DIRECT_REPLY, QueueSpec
from resilient_rpc.transport.memory import Bus, MemoryTransport
from resilient_rpc.transport.memory.consumer import MemoryConsumer
from resilient_rpc.transport.memory.publisher import HIGH_WATER, MemoryPublisher, new_address
from resilient_rpc.transport.properties import decode_headers, encode_headers, encode_properties
from tests.contract.recorder import Recorder, Worker
from tests.transport.memory import virtual

PLAIN = encode_properties()
QUEUE = "rpc.svc"


@pytest.fixture
def bus(service: str) -> Iterator[Bus]:
    bus = Bus.named(service)
    yield bus
    bus.reset()


def spec(arguments: Mapping[str, Any] | None = None) -> QueueSpec:
    return QueueSpec(name=QUEUE, service="svc", arguments=arguments or {})


async def publisher(bus: Bus, *, name: str = "client", replies: bool = False) -> tuple[MemoryPublisher, Recorder]:
    events = Recorder()
    transport = MemoryTransport(bus.name, session_name=name)
    return await transport.publisher(events, replies=replies, timeout=5), events


async def consumer(
    bus: Bus,
    *,
    name: str = "server",
    prefetch: int = 10,
    acks: bool = False,
    arguments: Mapping[str, Any] | None = None,
) -> tuple[MemoryConsumer, Worker]:
    events = Worker(acks=acks)
    transport = MemoryTransport(bus.name, session_name=name)
    session = await transport.consumer(events, spec(arguments), prefetch=prefetch, timeout=5)
    events.consumer = session
    return session, events


@asynccontextmanager
async def failing_reports() -> AsyncIterator[list[dict[str, Any]]]:
    contexts: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: contexts.append(context))
    yield contexts
    loop.set_exception_handler(None)


class TestNames:
    def test_one_name_is_one_bus(self) -> None:
        assert Bus.named("one") is MemoryTransport("one").bus
        assert Bus.named("one") is not Bus.named("other")

    def test_a_bus_nobody_uses_is_forgotten_with_its_queues(self) -> None:
        async def use() -> None:
            transport = MemoryTransport("short-lived")
            session = await transport.consumer(Worker(acks=False), spec(), prefetch=1, timeout=5)
            assert transport.bus.queues
            await session.close()

        asyncio.run(use())
        gc.collect()
        assert Bus.named("short-lived").queues == []

    def test_an_open_session_keeps_its_bus(self) -> None:
        async def use() -> None:
            session = await MemoryTransport("kept").consumer(Worker(acks=False), spec(), prefetch=1, timeout=5)
            gc.collect()
            assert Bus.named("kept").queue(QUEUE).consumers == 1
            await session.close()

        asyncio.run(use())

    def test_reset_empties_it_and_ends_the_sessions(self, bus: Bus) -> None:
        async def use() -> None:
            _, got = await consumer(bus)
            bus.block()
            bus.reset()
            assert isinstance(await got.loss(), ConnectionError)
            assert (bus.queues, bus.connections) == ([], [])
            session, sent = await publisher(bus)
            assert await sent.confirmation(session.publish("x", b"", PLAIN, mandatory=False))

        asyncio.run(use())

    def test_a_queue_that_is_not_there_is_named(self, bus: Bus) -> None:
        with pytest.raises(LookupError, match=r"rpc\.nobody"):
            bus.queue("rpc.nobody")

    def test_a_forked_child_begins_empty(self) -> None:
        code = """
import asyncio, os, sys
from resilient_rpc.transport.base import QueueSpec
from resilient_rpc.transport.memory import Bus, MemoryTransport
from tests.contract.recorder import Worker

async def main():
    bus = Bus.named("b")
    spec = QueueSpec(name="q", service="s")
    session = await MemoryTransport("b").consumer(Worker(acks=False), spec, prefetch=1, timeout=5)
    bus.broker.turn.__enter__()  # another thread of the parent may hold the lock at the fork
    pid = os.fork()
    if pid == 0:
        clean = Bus.named("b") is bus and not bus.queues and not bus.connections
        session.ack(1)
        asyncio.events._set_running_loop(None)
        os._exit(0 if clean else 1)
    bus.broker.turn.__exit__()
    status = os.waitpid(pid, 0)[1]
    assert bus.queue("q").consumers == 1
    sys.exit(os.waitstatus_to_exitcode(status))

asyncio.run(main())
"""
        done = subprocess.run([sys.executable, "-c", code], timeout=30, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


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
            assert client.writable
            tag = client.publish("nobody", b"x" * HIGH_WATER, PLAIN, mandatory=False)
            assert not client.writable
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

    def test_a_closed_loop_is_a_dead_process(self, bus: Bus) -> None:
        async def begin() -> tuple[MemoryConsumer, Worker]:
            session, got = await consumer(bus)
            bus.publish(QUEUE, b"job")
            await got.received(1)
            return session, got

        kept = asyncio.run(begin())
        bus.publish(QUEUE, b"wakes nobody")
        assert bus.connections == []
        assert [(m.body, m.redelivered) for m in bus.queue(QUEUE).messages()] == [
            (b"job", True),
            (b"wakes nobody", True),
        ]
        assert len(kept[1].deliveries) == 1

    def test_a_report_that_raises_is_contained(self, bus: Bus) -> None:
        async def scenario() -> None:
            session, got = await consumer(bus)

            def fail(_: object) -> None:
                raise ZeroDivisionError

            got.on_delivery = fail
            async with failing_reports() as contexts:
                bus.publish(QUEUE, b"1")
                bus.publish(QUEUE, b"2")
                await got.received(2)
                await session.cancel()
            assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError] * 2

        asyncio.run(scenario())

    def test_closing_within_a_report_ends_the_reports(self, bus: Bus) -> None:
        async def scenario() -> None:
            session, got = await consumer(bus)

            def close(_: object) -> None:
                coroutine = session.close()
                with pytest.raises(StopIteration):
                    coroutine.send(None)

            got.on_delivery = close
            for n in range(3):
                bus.publish(QUEUE, b"%d" % n)
            await got.received(1)
            assert bus.queue(QUEUE).depth == 3
            assert got.bodies == [b"0"]

        asyncio.run(scenario())

    def test_opening_fails_when_the_bus_goes_down_meanwhile(self, bus: Bus) -> None:
        async def scenario() -> None:
            bus.freeze()
            opening = asyncio.ensure_future(publisher(bus))
            await asyncio.sleep(0)  # it has begun, and waits
            assert bus.connections == ["client"]
            bus.down()
            with pytest.raises(ConnectionError):
                await opening
            assert bus.connections == []

        asyncio.run(scenario())


class TestAddresses:
    def test_addresses_are_shaped_like_rabbitmqs_and_never_repeat(self) -> None:
        addresses = {new_address() for _ in range(1000)}
        assert len(addresses) == 1000
        for address in addresses:
            node, key = address.removeprefix(f"{DIRECT_REPLY}.").split(".")
            assert node.startswith("g1h2")
            assert min(len(node), len(key)) > 20

    def test_the_pseudonym_is_replaced_by_the_address(self, bus: Bus) -> None:
        async def scenario() -> None:
            _, got = await consumer(bus)
            client, _ = await publisher(bus, replies=True)
            client.publish(QUEUE, b"", encode_properties(reply_to=DIRECT_REPLY, type="t"), mandatory=True)
            (delivery,) = await got.received(1)
            assert delivery.properties == {"reply_to": client.reply_to, "type": "t"}

        asyncio.run(scenario())

    def test_the_pseudonym_needs_a_reply_consumer(self, bus: Bus) -> None:
        async def scenario() -> None:
            client, sent = await publisher(bus)
            client.publish(QUEUE, b"", encode_properties(reply_to=DIRECT_REPLY), mandatory=True)
            assert "fast reply consumer does not exist" in str(await sent.loss())

        asyncio.run(scenario())

    def test_a_mandatory_reply_is_our_own_mistake(self, bus: Bus) -> None:
        async def scenario() -> None:
            client, _ = await publisher(bus, replies=True)
            with pytest.raises(AssertionError):
                client.publish(client.reply_to, b"", PLAIN, mandatory=True)

        asyncio.run(scenario())

    def test_a_test_can_forge_a_reply(self, bus: Bus) -> None:
        async def scenario() -> None:
            client, sent = await publisher(bus, replies=True)
            assert bus.publish(client.reply_to, b"forged", correlation_id="x")
            (delivery,) = await sent.received(1)
            assert delivery.properties == {"correlation_id": "x"}
            assert not bus.publish(new_address(), b"to nobody")

        asyncio.run(scenario())


class TestLimits:
    def test_a_body_over_the_limit_is_refused_before_it_is_sent(self, bus: Bus) -> None:
        async def scenario() -> None:
            bus.max_message = 10
            client, sent = await publisher(bus)
            with pytest.raises(TooLarge, match=r"11 bytes.*10"):
                client.publish(QUEUE, b"x" * 11, PLAIN, mandatory=True)
            with pytest.raises(TooLarge):
                client.publish("é" * 128, b"", PLAIN, mandatory=True)
            assert client.publish(QUEUE, b"x" * 10, PLAIN, mandatory=False) == 1
            await sent.confirmation(1)

        asyncio.run(scenario())

    def test_nobody_shares_an_object_through_the_bus(self, bus: Bus) -> None:
        async def scenario() -> None:
            client, _ = await publisher(bus)
            server, got = await consumer(bus)
            body = bytearray(b"before")
            client.publish(QUEUE, body, encode_properties(type="t"), mandatory=True)  # type: ignore[arg-type]
            body[:] = b"after!"
            (delivery,) = await got.received(1)
            assert delivery.body == b"before"
            delivery.properties["type"] = "changed"
            server.nack(delivery.tag, requeue=True)
            assert (await got.received(2))[1].properties == {"type": "t"}

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("x-max-length", -1),
            ("x-max-length", "5"),
            ("x-message-ttl", True),
            ("x-overflow", "explode"),
            ("x-max-priority", 256),
            ("x-dead-letter-routing-key", 5),
            ("x-expires", 5),
        ],
    )
    def test_arguments_that_mean_nothing_are_refused(self, bus: Bus, name: str, value: object) -> None:
        async def scenario() -> None:
            with pytest.raises(ConfigurationError, match=name):
                await consumer(bus, arguments={name: value})
            assert bus.connections == []

        asyncio.run(scenario())

    def test_properties_that_are_cut_off_end_the_session(self, bus: Bus) -> None:
        async def scenario() -> None:
            client, sent = await publisher(bus)
            client.publish(QUEUE, b"", b"\x80", mandatory=True)
            await sent.loss()
            with pytest.raises(MalformedMessage):
                bus.publish(QUEUE, b"", b"\x80")

        asyncio.run(scenario())


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


def test_threads_with_loops_of_their_own_lose_and_repeat_nothing(bus: Bus) -> None:
    """Four threads, each a server and a client of all; servers requeue some and lose their connections meanwhile."""
    threads, calls = 4, 500
    echoes: list[Counter[bytes]] = [Counter() for _ in range(threads)]
    problems: list[BaseException] = []
    everybody = threading.Barrier(threads)

    async def serve(events: Worker) -> None:
        transport = MemoryTransport(bus.name)
        replies = await transport.publisher(Recorder(), replies=False, timeout=5)

        def answer(delivery: Any) -> None:
            assert events.consumer is not None
            if not delivery.redelivered and delivery.tag % 7 == 0:
                events.consumer.nack(delivery.tag, requeue=True)
            else:
                replies.publish(delivery.properties["reply_to"], delivery.body, PLAIN, mandatory=False)
                events.consumer.ack(delivery.tag)

        events.on_delivery = answer
        events.consumer = await transport.consumer(events, spec(), prefetch=8, timeout=5)

    async def work(number: int) -> None:
        await serve(Worker(acks=False))
        client, sent = await publisher(bus, replies=True)
        await asyncio.to_thread(everybody.wait, 30)
        properties = encode_properties(reply_to=client.reply_to)
        for n in range(calls):
            client.publish(QUEUE, b"%d" % n, properties, mandatory=True)
            if n % 50 == 0:
                await asyncio.sleep(0)
        await sent.until(lambda: len(sent.deliveries) >= calls and len(sent.settled) == calls)
        await asyncio.to_thread(everybody.wait, 30)  # the others still need this server
        echoes[number].update(sent.bodies)
        assert sent.returns == []
        assert all(sent.settled.values())

    def thread(number: int) -> None:
        try:
            asyncio.run(work(number))
        except BaseException as error:
            problems.append(error)
            everybody.abort()

    workers = [threading.Thread(target=thread, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(50)
    assert problems == []
    expected = Counter(b"%d" % n for n in range(calls))
    assert echoes == [expected] * threads
    view = bus.queue(QUEUE)
    assert (view.depth, view.unacked) == (0, 0)
