"""AmqpPublisher: publishes with confirms, and may receive replies by direct reply-to."""

from __future__ import annotations

from typing import Any

from pika import exceptions

from resilient_rpc.transport.amqp.causes import NOT_FOUND, channel_error
from resilient_rpc.transport.amqp.session import Session, fail, settle
from resilient_rpc.transport.base import DIRECT_REPLY, PublisherEvents


class AmqpPublisher(Session):
    """`transport.base.Publisher` on a connection of its own."""

    def __init__(self, events: PublisherEvents, where: str, *, replies: bool, lane: bool, max_body: int) -> None:
        super().__init__(events.lost, where, lane=lane, max_body=max_body)
        self._events = events
        self.reply_to = DIRECT_REPLY if replies else ""

    @property
    def writable(self) -> bool:
        """See `transport.base.Publisher`."""
        return self._connection.stream.writable

    def publish(self, target: str, body: bytes, properties: bytes, *, mandatory: bool) -> int:
        """See `transport.base.Publisher`. An open session has its lane's method in place of this."""
        return self._lane.publish(target, body, properties, mandatory=mandatory)

    def flush(self) -> None:
        """See `transport.base.Publisher`."""
        self._connection.stream.flush()

    async def consumers(self, target: str) -> int | None:
        """See `transport.base.Publisher`."""
        channel = await self._new_channel()  # a queue that is missing closes its channel
        try:
            with self._expecting() as answer:
                channel.add_on_close_callback(lambda _, error: fail(answer, error))
                channel.queue_declare(target, passive=True, callback=lambda frame: settle(answer, frame))
                found: int = (await answer).method.consumer_count
                return found
        except exceptions.ChannelClosed as error:
            if error.reply_code == NOT_FOUND:
                return None
            raise channel_error(error, None, self._where, opening=False) from error
        finally:
            if channel.is_open:
                channel.close()

    async def _set_up(self) -> None:
        tell, events, reports = self._tell, self._events, self._reports
        reports.delivered = lambda delivery: tell(events.delivered, delivery)
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
        self.publish = self._lane.publish  # type: ignore[method-assign]  # it saves a call for each message

    def _connect_reports(self) -> None:
        events, reports = self._events, self._reports
        reports.delivered, reports.confirmed, reports.returned = events.delivered, events.confirmed, events.returned

    def _on_blocked(self, _connection: Any, frame: Any) -> None:
        self._tell(self._events.blocked, str(frame.method.reason) or "blocked")

    def _on_unblocked(self, _connection: Any, _frame: Any) -> None:
        self._tell(self._events.blocked, None)
