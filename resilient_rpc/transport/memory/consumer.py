"""MemoryConsumer: consumes one queue with manual acks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilient_rpc.transport.base import ConsumerEvents, Delivery, QueueSpec
from resilient_rpc.transport.memory.message import Message, counted
from resilient_rpc.transport.memory.queue import Queue
from resilient_rpc.transport.memory.sessions import Session

if TYPE_CHECKING:
    from resilient_rpc.transport.memory.broker import Broker


class Ear:
    """The queue of a consumer alone, that hears what is published to a fanout exchange."""

    def __init__(self, consumer: MemoryConsumer, exchange: str, queue: Queue) -> None:
        self.exchange, self.queue = exchange, queue
        self.tags: set[int] = set()
        """What of it is not acked."""
        self.full = False
        self._consumer = consumer

    def take(self, message: Message) -> bool:
        """See `transport.memory.queue.Taker`. During a turn."""
        return self._consumer.overhear(self, message)


class MemoryConsumer(Session):
    """`transport.base.Consumer` on a bus."""

    def __init__(self, broker: Broker, events: ConsumerEvents, *, prefetch: int, name: str, keep: object) -> None:
        super().__init__(broker, events.lost, name=name, keep=keep)
        self.unacked: dict[int, Message] = {}
        self.queue: Queue | None = None
        self.control = self.unmarked_by = ""
        self._events, self._delivered = events, events.delivered
        self._prefetch = prefetch
        self._tag = 0
        self._full = False
        self._counts = False
        self._ear: Ear | None = None

    def consume(self, spec: QueueSpec) -> None:
        """Declare and begin. During a turn."""
        queue = self.queue = self._broker.declare(spec)
        self._counts = queue.settings.quorum
        queue.attach(self, self._broker.now())
        if spec.control:
            self.control = self._broker.open_control(self, spec.control)
        if spec.fanout:
            self._ear = Ear(self, spec.fanout, self._broker.listen(spec.fanout))
            self._ear.queue.attach(self._ear, self._broker.now())

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

    def overhear(self, ear: Ear, message: Message) -> bool:
        """Take what was published to all. During a turn."""
        self._tag = tag = self._tag + 1
        ear.tags.add(tag)
        self.post(self._delivered, Delivery(tag, False, message.fields(), message.body, message.target))
        ear.full = len(ear.tags) == self._prefetch
        return not ear.full

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
        if self._ear is not None:
            self._ear.queue.detach(self._ear)
            self._broker.unlisten(self._ear.exchange, self._ear.queue)

    def _ack(self, tag: int) -> None:
        if not self._heard(tag) and self._taken(tag) is not None:
            self._resume()

    def _heard(self, tag: int) -> bool:
        """Whether it was published to all; then it is done with, whatever its consumer says."""
        ear = self._ear
        if ear is None or tag not in ear.tags:
            return False
        ear.tags.discard(tag)
        if ear.full:
            ear.full = False
            if ear in ear.queue.takers:
                ear.queue.resume(ear, self._broker.now())
        return True

    def _nack(self, tag: int, requeue: bool) -> None:
        if self._heard(tag):
            return
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
