"""Sessions on a real RabbitMQ, for tests that break something below them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import psutil

from resilient_rpc.transport.amqp import AmqpTransport
from resilient_rpc.transport.base import Consumer, Publisher, QueueSpec
from resilient_rpc.transport.properties import encode_properties
from resilient_rpc.transport.urls import AmqpUrl, parse_url
from tests.contract.recorder import Recorder, Worker

PLAIN = encode_properties(delivery_mode=1)
TIMEOUT = 10.0


def transport(url: str, *, lane: bool = True, **options: Any) -> AmqpTransport:
    parsed = parse_url(url, **options)
    assert isinstance(parsed, AmqpUrl)
    return AmqpTransport(parsed, lane=lane)


def spec(service: str, **arguments: Any) -> QueueSpec:
    """A queue that goes away by itself, without dead letters: those stay."""
    return QueueSpec(
        name=f"rpc.{service}", service=service, arguments={"x-expires": 60_000, **arguments}, dead_letters=False
    )


@asynccontextmanager
async def publishing(over: AmqpTransport, *, replies: bool = False) -> AsyncIterator[tuple[Publisher, Recorder]]:
    events = Recorder()
    session = await over.publisher(events, replies=replies, timeout=TIMEOUT)
    try:
        yield session, events
    finally:
        await session.close()


@asynccontextmanager
async def consuming(
    over: AmqpTransport, queue: QueueSpec, *, prefetch: int = 10, acks: bool = False
) -> AsyncIterator[tuple[Consumer, Worker]]:
    events = Worker(acks=acks)
    session = await over.consumer(events, queue, prefetch=prefetch, timeout=TIMEOUT)
    events.consumer = session
    try:
        yield session, events
    finally:
        await session.close()


def run(scenario: Callable[[], Coroutine[Any, Any, None]], seconds: float = 40.0, *, proxied: bool = False) -> None:
    """Run it, and see that it leaves neither tasks nor timers nor sockets (a proxy has some of its own)."""

    async def limited() -> None:
        loop = asyncio.get_running_loop()
        complaints: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(seconds):
            await scenario()
        for _ in range(3):  # what was closed a moment ago says so in the next turns
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        timers = getattr(loop, "_scheduled", ())  # uvloop shows none
        assert [timer for timer in timers if not timer.cancelled()] == []
        assert complaints == []

    before = sockets()
    asyncio.run(limited())
    assert proxied or sockets() <= before


def sockets() -> int:
    """How many TCP connections this process has."""
    return len([found for found in psutil.Process().net_connections("tcp") if found.status == psutil.CONN_ESTABLISHED])
