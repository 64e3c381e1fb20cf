"""Buses by name, how long they live, and many threads on one."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections import Counter
from typing import Any

import pytest

from resilient_rpc.transport.memory import Bus, MemoryTransport
from resilient_rpc.transport.properties import encode_properties
from tests.contract.recorder import Recorder, Worker
from tests.transport.memory.support import PLAIN, QUEUE, consumer, publisher, spec


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


def test_threads_with_loops_of_their_own_lose_and_repeat_nothing(bus: Bus) -> None:
    """Four threads, each a server and a client of all; the servers give some requests back."""
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
