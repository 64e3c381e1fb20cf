"""Queues for replies on a channel: declared, and consumed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from resilient_rpc.transport.amqp.acks import Acks
from resilient_rpc.transport.amqp.causes import PRECONDITION_FAILED
from resilient_rpc.transport.amqp.lane import Lane
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.reply_queues import ReplyQueues, ReplyQueueTaken

LOCKED = 405
"""RESOURCE_LOCKED: the queue is exclusive to a connection, which may be one that is dead and not missed yet."""
TAKEN = (LOCKED, PRECONDITION_FAILED)
Ask = Callable[..., Coroutine[Any, Any, Any]]


class ReplyConsumers:
    """Of one session."""

    def __init__(self, channel: Any, lane: Lane, ask: Ask, queues: ReplyQueues) -> None:
        """`ask`: awaits one of pika's operations."""
        self._channel, self._lane, self._ask, self._queues = channel, lane, ask, queues

    async def open(self) -> Sequence[str]:
        """Declare and consume; the addresses."""
        if self._queues.kind == "named":
            return (await self._named(),)
        return [(await self.exclusive())[0] for _ in range(self._queues.count)]

    async def exclusive(self) -> tuple[str, str]:
        """One more queue of this connection alone, which goes with its consumer: its name and the consumer's tag."""
        # Named by the broker: a name of ours could still be locked by a connection that the broker does not miss yet.
        found = await self._ask(self._channel.queue_declare, "", exclusive=True, auto_delete=True)
        name = found.method.queue
        started = await self._ask(self._channel.basic_consume, name, self._lane.on_deliver, auto_ack=True)
        return name, started.method.consumer_tag

    async def _named(self) -> str:
        queues = self._queues
        try:
            await self._ask(self._channel.queue_declare, queues.name, durable=True, arguments=queues.arguments)
            # The consumer of a connection that died unnoticed may be there still. Each new one goes before it; and what
            # the old one got in vain comes back, because it is acked only when it has arrived.
            first = {"x-priority": queues.epoch}
            await self._ask(self._channel.basic_consume, queues.name, self._lane.on_deliver, arguments=first)
        except Exception as error:
            if getattr(error.__cause__, "reply_code", None) in TAKEN:
                raise ReplyQueueTaken(f"reply queue {queues.name!r} is somebody else's: {error}") from error
            raise
        return queues.name

    def acking(self, deliver: Callable[[Delivery], None]) -> Callable[[Delivery], None]:
        """What takes a reply from a named queue: `deliver`, and then an ack."""
        acks = Acks(asyncio.get_running_loop().call_soon, self._lane.ack)

        def take(delivery: Delivery) -> None:
            try:
                deliver(delivery)
            finally:
                acks.add(delivery.tag)

        return take
