"""MemoryTransport: opens sessions on a bus."""

from __future__ import annotations

import asyncio

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.transport.base import ConsumerEvents, PublisherEvents, QueueSpec
from resilient_rpc.transport.memory.bus import Bus
from resilient_rpc.transport.memory.consumer import MemoryConsumer
from resilient_rpc.transport.memory.leasing import LeasingPublisher
from resilient_rpc.transport.memory.publisher import MemoryPublisher
from resilient_rpc.transport.reply_queues import ReplyQueues

MAX_PREFETCH = 65_535


CONNECT_TIMEOUT = 10.0


class MemoryTransport:
    """`transport.base.Transport` over the bus `name` of this process; `session_name` is what `Bus.kill` goes by."""

    def __init__(self, name: str, *, session_name: str = "", user: str = "guest") -> None:
        self.bus = Bus.named(name)
        self.session_name = session_name
        self.user: str | None = user
        self._user = user

    @property
    def connect_timeout(self) -> float:
        """See `transport.base.Transport`."""
        return CONNECT_TIMEOUT

    async def publisher(
        self, events: PublisherEvents, *, replies: bool | ReplyQueues, timeout: float
    ) -> MemoryPublisher:
        """See `transport.base.Transport`."""
        broker = self.bus.broker
        leases = isinstance(replies, ReplyQueues) and replies.kind == "per_call"
        kind = LeasingPublisher if leases else MemoryPublisher
        session = kind(broker, events, replies=replies, name=self.session_name, user=self._user, keep=self.bus)
        async with asyncio.timeout(timeout):
            await session.begin(lambda: broker.open_publisher(session))
        return session

    async def consumer(
        self,
        events: ConsumerEvents,
        queue: QueueSpec,
        *,
        prefetch: int,
        timeout: float,
    ) -> MemoryConsumer:
        """See `transport.base.Transport`."""
        if not 0 <= prefetch <= MAX_PREFETCH:
            raise ConfigurationError(f"prefetch is from 0 (no limit) to {MAX_PREFETCH}: {prefetch}")
        broker = self.bus.broker
        session = MemoryConsumer(broker, events, prefetch=prefetch, name=self.session_name, keep=self.bus)
        async with asyncio.timeout(timeout):
            await session.begin(lambda: session.consume(queue))
        return session
