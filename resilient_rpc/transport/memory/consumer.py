"""MemoryConsumer: consumes one queue with manual acks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilient_rpc.transport.base import ConsumerEvents, Delivery, QueueSpec
from resilient_rpc.transport.memory.message import Message, counted
from resilient_rpc.transport.memory.queue import Queue
from resilient_rpc.transport.memory.sessions import Session

if TYPE_CHECKING:
    from resilient_rpc.transport.memory.broker import Broker


class MemoryConsumer(Session):
    """`transport.base.Consumer` on a bus."""

    def __init__(self, broker: Broker, events: ConsumerEvents, *, prefetch: int, name: str, keep: object) -> None:
        super().__init__(broker, events.lost, name=name, keep=keep)
        self.unacked: dict[int, Message] = {}
        self.queue: Queue | None = None
        self.control = ""
        self._events, self._delivered = events, events.delivered
        self._prefetch = prefetch
        self._tag = 0
        self._full = False
        self._counts = False

    def consume(self, spec: QueueSpec) -> None:
        """Declare and begin. During a turn."""
        queue = self.queue = self._broker.declare(spec)
        self._counts = queue.settings.quorum
        queue.attach(self, self._broker.now())
        if spec.control:
            self.control = self._broker.open_control(self, spec.control)

    def hear(self, message: Message) -> None:
        """A control message arrived. During a turn."""
        self.post(self._events.control, Delivery(0, False, message.fields(), message.body, message.target))

    def ack(self, tag: int) -> None:
        """See `transport.base.Consumer`."""
        with self._turn:
            if self._end is None:
                if self.gated:
                    self.do(self._ack, tag)
                else:
                    self._ack(tag)

    def nack(self, tag: int, *, requeue: bool) -> None:
        """See `transport.base.Consumer`."""
        with self._turn:
            if self._end is None:
                self.do(self._nack, tag, requeue)

    async def cancel(self) -> None:
        """See `transport.base.Consumer`."""
        if self._end is None:
            await self.ask(self.halt)
            self._tell()  # another thread may have delivered before, and not yet woken this loop

    def take(self, message: Message) -> bool:
        """See `transport.memory.queue.Taker`. During a turn."""
        self._tag = tag = self._tag + 1
        self.unacked[tag] = message
        shown = counted(message) if self._counts and message.returns else message
        self.post(self._delivered, Delivery(tag, message.redelivered, shown.fields(), message.body, message.target))
        self._full = len(self.unacked) == self._prefetch
        return not self._full

    def leave(self) -> None:
        """Give back what is unacked."""
        self.halt()
        self._broker.close_control(self, self.control)
        if self.queue is not None:
            messages, self.unacked = list(self.unacked.values()), {}
            self._broker.requeue(self.queue, messages)
            self._broker.retire(self.queue)

    def halt(self) -> None:
        """Take no more. During a turn."""
        if self.queue is not None:
            self.queue.detach(self)

    def _ack(self, tag: int) -> None:
        if self._taken(tag) is not None:
            self._resume()

    def _nack(self, tag: int, requeue: bool) -> None:
        message = self._taken(tag)
        if message is None or self.queue is None:
            return
        if requeue:
            self._broker.requeue(self.queue, [message])
        else:
            self._broker.bury(self.queue, message, "rejected")
        self._resume()

    def _taken(self, tag: int) -> Message | None:
        message = self.unacked.pop(tag, None)
        if message is None:
            self.drop(ConnectionError(f"406 PRECONDITION_FAILED - unknown delivery tag {tag}"))
        return message

    def _resume(self) -> None:
        if self._full and self.queue is not None:
            self._full = False
            if self in self.queue.takers:
                self.queue.resume(self, self._broker.now())
                self._broker.watch(self.queue)
