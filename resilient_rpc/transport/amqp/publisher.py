"""AmqpPublisher: publishes with confirms, and may receive replies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pika import exceptions

from resilient_rpc.transport.amqp.causes import NOT_FOUND, channel_error
from resilient_rpc.transport.amqp.directreply import passes_replies
from resilient_rpc.transport.amqp.reply_consumers import ReplyConsumers
from resilient_rpc.transport.amqp.session import Session, fail, settle
from resilient_rpc.transport.amqp.topics import Topics
from resilient_rpc.transport.base import DIRECT_REPLY, Delivery, PublisherEvents, QueueState
from resilient_rpc.transport.reply_queues import ReplyQueues


class AmqpPublisher(Session):
    """`transport.base.Publisher` on a connection of its own."""

    def __init__(
        self, events: PublisherEvents, where: str, *, replies: bool | ReplyQueues, lane: bool, max_body: int
    ) -> None:
        super().__init__(events.lost, where, lane=lane, max_body=max_body)
        self._events = events
        self._queues = replies if isinstance(replies, ReplyQueues) else None
        self.addresses: Sequence[str] = (DIRECT_REPLY,) if replies is True else ()
        self.kept = False
        self._topics: Topics | None = None
        self._deliver: Callable[[Delivery], None] = events.delivered

    @property
    def reply_to(self) -> str:
        """See `transport.base.Publisher`."""
        return self.addresses[0] if self.addresses else ""

    @property
    def writable(self) -> bool:
        """See `transport.base.Publisher`."""
        return self._connection.stream.writable

    def publish(self, target: str, body: bytes, properties: bytes, *, mandatory: bool) -> int:
        """See `transport.base.Publisher`. An open session has its lane's method in place of this."""
        return self._lane.publish(target, body, properties, mandatory=mandatory)

    def announce(self, exchange: str, body: bytes, properties: bytes, *, mandatory: bool = False) -> int:
        """See `transport.base.Publisher`."""
        return self._lane.announce(exchange, body, properties, mandatory=mandatory)

    async def emit(self, exchange: str, name: str, body: bytes, properties: bytes, *, sent: Callable[[], None]) -> bool:
        """See `transport.base.Publisher`."""
        topics = self._topics
        if topics is None:
            opening = self._new_channel, self._new_lane
            topics = self._topics = Topics(*opening, self.ask, self._expecting, self._where)
        return await topics.emit(exchange, name, body, properties, sent)

    async def reaches(self, exchange: str) -> bool:
        """See `transport.base.Publisher`."""
        channel = await self._new_channel()  # one that is missing or forbidden closes its channel
        try:
            with self._expecting() as answer:
                channel.add_on_close_callback(lambda _, error: fail(answer, error))
                await self.ask(channel.confirm_delivery, lambda _: settle(answer, None))
                channel.basic_publish(exchange, "", b"")
                await answer
        except exceptions.ChannelClosed:
            return False
        finally:
            if channel.is_open:
                channel.close()
        return True

    def flush(self) -> None:
        """See `transport.base.Publisher`."""
        self._connection.stream.flush()

    async def consumers(self, target: str) -> int | None:
        """See `transport.base.Publisher`."""
        found = await self.inspect(target)
        return None if found is None else found.consumers

    async def inspect(self, target: str) -> QueueState | None:
        """See `transport.base.Publisher`."""
        channel = await self._new_channel()  # a queue that is missing closes its channel
        try:
            with self._expecting() as answer:
                channel.add_on_close_callback(lambda _, error: fail(answer, error))
                channel.queue_declare(target, passive=True, callback=lambda frame: settle(answer, frame))
                found = (await answer).method
                return QueueState(found.message_count, found.consumer_count)
        except exceptions.ChannelClosed as error:
            if error.reply_code == NOT_FOUND:
                return None
            raise channel_error(error, None, self._where, opening=False) from error
        finally:
            if channel.is_open:
                channel.close()

    async def close(self) -> None:
        """See `transport.base.Publisher`: a named queue goes with its owner, not five minutes later."""
        if self._queues is not None and self._queues.kind == "named" and self._ended is None:
            self._channel.queue_delete(self._queues.name)
        await super().close()

    async def _set_up(self) -> None:
        tell, events, reports = self._tell, self._events, self._reports
        reports.delivered = lambda delivery: tell(self._deliver, delivery)
        reports.confirmed = lambda *args: tell(events.confirmed, *args)
        reports.returned = lambda *args: tell(events.returned, *args)
        connection = self._connection
        connection.stream.on_writable = lambda: tell(events.writable)
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        self.phase = "confirms"
        await self.ask(self._channel.confirm_delivery, self._lane.on_confirm)
        if self.reply_to:
            self.phase = "replies"
            await self.ask(self._channel.basic_consume, DIRECT_REPLY, self._lane.on_deliver, auto_ack=True)
            if connection.broker.drops_first_replies:
                self.phase = "a first direct reply"
                await self._first_reply()
        elif self._queues is not None:
            self.phase = "reply queues"
            self._channel.add_on_cancel_callback(self._on_cancelled)
            await self._consume(self._queues)
        self.publish = self._lane.publish  # type: ignore[method-assign]  # it saves a call for each message

    async def _first_reply(self) -> None:
        # In an alarm the broker does not read on: then it is up, and the owner hears of the alarm when this is open.
        with self._expecting() as blocked:
            self._connection.add_on_connection_blocked_callback(lambda *_: settle(blocked, None))
            await passes_replies(await self._new_channel(), self._expecting, self.ask_on, blocked)

    async def _consume(self, queues: ReplyQueues) -> None:
        consumers = ReplyConsumers(self._channel, self._lane, self.ask, queues)
        if queues.kind == "named":
            self.kept = queues.epoch > 0 and await self.inspect(queues.name) is not None
            self._deliver = consumers.acking(self._events.delivered)
        self.addresses = await consumers.open()

    def _connect_reports(self) -> None:
        events, reports = self._events, self._reports
        reports.delivered, reports.confirmed, reports.returned = self._deliver, events.confirmed, events.returned

    def _on_cancelled(self, _frame: Any) -> None:
        self._end(Exception("the broker cancelled the consumer of replies: its queue was deleted or moved"))

    def _on_blocked(self, _connection: Any, frame: Any) -> None:
        self._tell(self._events.blocked, str(frame.method.reason) or "blocked")

    def _on_unblocked(self, _connection: Any, _frame: Any) -> None:
        self._tell(self._events.blocked, None)
