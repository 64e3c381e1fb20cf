"""LeasingPublisher: a reply queue for each message. Some are ready in advance, so that publishing waits for none."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Any

from pika import exceptions

from resilient_rpc.errors import RpcError
from resilient_rpc.transport.amqp.publisher import AmqpPublisher
from resilient_rpc.transport.amqp.reply_consumers import ReplyConsumers
from resilient_rpc.transport.reply_queues import ReplyQueues

READY = 16
"""Queues that wait for a message."""
MOST = 1_000
"""Queues of one connection: each is a process of the broker."""


class LeasingPublisher(AmqpPublisher):
    """`transport.base.Leasing` on a connection of its own."""

    _consumers: ReplyConsumers

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._ready: deque[str] = deque()
        self._tags: dict[str, str] = {}
        """The consumers of the queues that are ready or leased."""
        self._released: deque[str] = deque()
        """Consumers that are not needed any more."""
        self._keeper: asyncio.Task[None] | None = None

    @property
    def writable(self) -> bool:
        """See `transport.base.Publisher`: also False while no queue is ready."""
        return bool(self._ready) and self._connection.stream.writable

    def lease(self) -> str:
        """See `transport.base.Leasing`."""
        address = self._ready.popleft()
        self._keep()
        return address

    def release(self, address: str) -> None:
        """See `transport.base.Leasing`."""
        tag = self._tags.pop(address, None)
        if tag is not None:
            self._released.append(tag)
            self._keep()

    async def close(self) -> None:
        """See `transport.base.Publisher`."""
        if self._keeper is not None:
            self._keeper.cancel()
        await super().close()

    async def _consume(self, queues: ReplyQueues) -> None:
        self._consumers = ReplyConsumers(self._channel, self._lane, self.ask, queues)
        await self._make()

    async def _make(self) -> None:
        name, tag = await self._consumers.exclusive()
        self._tags[name] = tag
        self._ready.append(name)

    def _keep(self) -> None:
        if self._keeper is None and self._ended is None:
            self._keeper = self._loop.create_task(self._restock(), name="rpc-reply-queues")

    async def _restock(self) -> None:
        """Make and delete queues, in turn, until there is nothing to do."""
        try:
            with contextlib.suppress(RpcError, exceptions.AMQPError):  # the session has ended, which its owner is told
                while self._released or self._wanting():
                    if self._wanting():
                        await self._make()
                        if len(self._ready) == 1:
                            self._tell(self._events.writable)
                    if self._released:  # a queue goes with its only consumer
                        await self.ask(self._channel.basic_cancel, self._released.popleft())
        finally:
            self._keeper = None

    def _wanting(self) -> bool:
        return len(self._ready) < READY and len(self._tags) + len(self._released) < MOST
