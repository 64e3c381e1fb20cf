"""Sessions for the length of a block, with what they report."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from resilient_rpc.transport.base import Consumer, Publisher, QueueSpec
from resilient_rpc.transport.properties import encode_properties
from resilient_rpc.transport.reply_queues import ReplyQueues
from tests.contract.recorder import Recorder, Worker
from tests.contract.sides import Side

PLAIN = encode_properties(delivery_mode=1)
TIMEOUT = 10.0


@asynccontextmanager
async def publishing(side: Side, *, replies: bool | ReplyQueues = False) -> AsyncIterator[tuple[Publisher, Recorder]]:
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
