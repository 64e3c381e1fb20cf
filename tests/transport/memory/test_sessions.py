"""Sessions: how they open, report and end, and the loops that they live on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from resilient_rpc.transport.base import QueueSpec
from resilient_rpc.transport.memory import Bus, MemoryTransport
from resilient_rpc.transport.memory.consumer import MemoryConsumer
from resilient_rpc.transport.topology import DEAD_LETTER, EXPIRED_ARGUMENTS
from tests.contract.recorder import Recorder, Worker
from tests.transport.memory.support import QUEUE, consumer, publisher

EXPIRED = {DEAD_LETTER: None, **EXPIRED_ARGUMENTS}


@asynccontextmanager
async def failing_reports() -> AsyncIterator[list[dict[str, Any]]]:
    contexts: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: contexts.append(context))
    yield contexts
    loop.set_exception_handler(None)


class TestSessions:
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

    def test_a_session_that_breaks_while_it_opens_was_never_open(self, bus: Bus) -> None:
        async def scenario() -> None:
            events = Recorder()
            opening = asyncio.ensure_future(MemoryTransport(bus.name).publisher(events, replies=True, timeout=5))
            await asyncio.sleep(0)  # the bus has answered, and the answer is on its way
            bus.drop_connections()
            with pytest.raises(ConnectionError):
                await opening
            assert (bus.connections, events.entries) == ([], [])

        asyncio.run(scenario())

    def test_an_opening_that_is_given_up_leaves_nothing(self, bus: Bus) -> None:
        async def scenario() -> None:
            opening = asyncio.ensure_future(consumer(bus))
            await asyncio.sleep(0)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            assert (bus.connections, bus.queue(QUEUE).consumers) == ([], 0)

        asyncio.run(scenario())

    def test_a_question_to_a_dropped_session_ends(self, bus: Bus) -> None:
        async def scenario() -> None:
            client, _ = await publisher(bus)
            bus.freeze()
            asking = asyncio.ensure_future(client.consumers(QUEUE))
            await asyncio.sleep(0)
            bus.drop_connections("client")
            with pytest.raises(ConnectionResetError):
                await asking

        asyncio.run(scenario())

    def test_a_nack_of_what_was_not_delivered_ends_the_session(self, bus: Bus) -> None:
        async def scenario() -> None:
            session, got = await consumer(bus)
            session.nack(1, requeue=False)
            assert "406" in str(await got.loss())
            session.ack(1)
            await session.cancel()
            await session.close()
            assert got.kinds == ["lost"]

        asyncio.run(scenario())

    def test_another_sessions_loop_takes_over_the_alarm_of_a_closed_one(self, bus: Bus) -> None:
        async def leave_open() -> None:
            server, _ = await consumer(bus, prefetch=1)
            await server.cancel()

        async def scenario() -> None:
            _, sent = await publisher(bus)
            bus.publish(QUEUE, b"late", expiration="1")
            view, grave = bus.queue(QUEUE), bus.broker.queues["rpc.svc.expired"]
            server = await MemoryTransport(bus.name).consumer(
                buried,
                QueueSpec(name=grave.name, service="svc", arguments=EXPIRED, dead_letters=False),
                prefetch=1,
                timeout=5,
            )
            assert [d.body for d in await buried.received(1)] == [b"late"]
            assert (view.depth, sent.entries) == (0, [])
            await server.close()

        buried = Worker(acks=False)
        asyncio.run(leave_open())
        asyncio.run(scenario())
