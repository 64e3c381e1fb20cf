"""MemoryPublisher: publishes with confirms, and may have a reply address."""

from __future__ import annotations

import secrets
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from resilient_rpc.errors import ConfigurationError, ProtocolError, TooLarge
from resilient_rpc.transport.base import DIRECT_REPLY, Delivery, PublisherEvents, QueueState
from resilient_rpc.transport.memory.message import Message
from resilient_rpc.transport.memory.reply_boxes import ReplyBoxes
from resilient_rpc.transport.memory.sessions import Session
from resilient_rpc.transport.reply_queues import ReplyQueues

if TYPE_CHECKING:
    from resilient_rpc.transport.memory.broker import Broker

REPLY_PREFIX = DIRECT_REPLY + "."
MAX_HEADER = 131_072 - 22
"""Bytes of encoded properties that fit one frame of RabbitMQ's default size, behind a content header's fixed part."""
MAX_NAME = 255
HIGH_WATER = 1 << 20
"""Bytes that a peer which does not read still takes: its socket's buffers."""
NO_ROUTE = (312, "NO_ROUTE")


class MemoryPublisher(Session):
    """`transport.base.Publisher` on a bus."""

    def __init__(
        self,
        broker: Broker,
        events: PublisherEvents,
        *,
        replies: bool | ReplyQueues,
        name: str,
        user: str,
        keep: object,
    ) -> None:
        super().__init__(broker, events.lost, name=name, keep=keep)
        self._user = user
        self.boxes = ReplyBoxes(broker, self, replies) if isinstance(replies, ReplyQueues) else None
        self.addresses: Sequence[str] = (new_address(),) if replies is True else ()
        self.writable = True
        self.blocked = events.blocked
        self._events = events
        self._confirmed, self._delivered = events.confirmed, events.delivered
        self._tag = 0
        self._bytes_held = 0

    @property
    def reply_to(self) -> str:
        """See `transport.base.Publisher`."""
        return self.addresses[0] if self.addresses else ""

    @property
    def kept(self) -> bool:
        """See `transport.base.Publisher`."""
        return self.boxes is not None and self.boxes.kept

    def publish(self, target: str, body: bytes, properties: bytes, *, mandatory: bool) -> int:
        """See `transport.base.Publisher`."""
        self._check(target, body, properties, mandatory)
        with self._turn:
            if self._end is not None and not self._killed:
                self._check_open()
            self._tag = tag = self._tag + 1
            if self._end is None:
                if self.gated:
                    self._hold(len(body) + len(properties))
                    self.do(self._send_held, tag, target, body, properties, mandatory)
                else:
                    self._send(tag, target, body, properties, mandatory)
        return tag

    def announce(self, exchange: str, body: bytes, properties: bytes, *, mandatory: bool = False) -> int:
        """See `transport.base.Publisher`."""
        self._check(exchange, body, properties, mandatory=False)
        with self._turn:
            if not self._killed:
                self._check_open()
            self._tag = tag = self._tag + 1
            if self._end is None:
                self.do(self._announce, tag, exchange, body, properties, mandatory)
        return tag

    async def emit(self, exchange: str, name: str, body: bytes, properties: bytes, *, sent: Callable[[], None]) -> bool:
        """See `transport.base.Publisher`."""
        self._check(exchange, b"", b"", mandatory=False)
        self._check(name, body, properties, mandatory=False)
        with self._turn:
            self._check_open()
        sent()
        return await self.ask(lambda: self._emit(exchange, name, body, properties))

    async def reaches(self, exchange: str) -> bool:
        """See `transport.base.Publisher`."""
        return await self.ask(lambda: self._broker.reaches(exchange))

    def flush(self) -> None:
        """See `transport.base.Publisher`."""

    async def consumers(self, target: str) -> int | None:
        """See `transport.base.Publisher`."""
        found = await self.inspect(target)
        return None if found is None else found.consumers

    async def inspect(self, target: str) -> QueueState | None:
        """See `transport.base.Publisher`."""
        return await self.ask(lambda: self._broker.state(target))

    async def close(self) -> None:
        """See `transport.base.Publisher`: a named queue goes with its owner."""
        with self._turn:
            if self._end is None and self.boxes is not None and not self.gated:
                self.boxes.delete()
        await super().close()

    def receive(self, message: Message) -> None:
        """A reply arrived. During a turn."""
        fields = message.fields()
        self.post(self._delivered, Delivery(1, message.redelivered, fields, message.body, message.target))

    def gate(self, closed: bool) -> None:
        """Read no more, or read on."""
        super().gate(closed)
        if not self.gated and not self.writable:
            self.post(self._writable)

    def halt(self) -> None:
        """Get no more replies."""
        self._broker.addresses.pop(self.reply_to, None)
        if self.boxes is not None:
            self.boxes.detach()

    def leave(self) -> None:
        """Give up the reply address."""
        self.halt()
        if self.boxes is not None:
            self.boxes.leave()

    def _check(self, target: str, body: bytes, properties: bytes, mandatory: bool) -> None:
        if len(body) > self._broker.max_message:
            raise TooLarge(f"a body of {len(body)} bytes is over the limit of {self._broker.max_message}")
        if len(properties) > MAX_HEADER:
            raise TooLarge(f"properties of {len(properties)} bytes do not fit a frame ({MAX_HEADER} bytes)")
        if len(target) > MAX_NAME or len(target.encode()) > MAX_NAME:
            raise TooLarge(f"a queue's name has at most {MAX_NAME} bytes, not {len(target.encode())}")
        if mandatory and target.startswith(REPLY_PREFIX):
            raise AssertionError("a reply to a direct reply address must not be mandatory: RabbitMQ returns it")

    def _send(self, tag: int, target: str, body: bytes, properties: bytes, mandatory: bool) -> None:
        message = self._read(target, body, properties)
        if message is None:
            return
        accepted = self._broker.route(message)
        if accepted is None and mandatory:
            self.post(self._events.returned, message.peek("correlation_id") or "", *NO_ROUTE)
        self._confirm(tag, accepted is not False)

    def _check_user(self, named: str | None) -> None:
        if named is not None and named != self._user:
            said = f"user_id property set to '{named}' but authenticated user was '{self._user}'"
            raise ConfigurationError(f"406 PRECONDITION_FAILED - {said}")

    def _announce(self, tag: int, exchange: str, body: bytes, properties: bytes, mandatory: bool) -> None:
        message = self._read("", body, properties)
        if message is None:
            return
        if not self._broker.reaches(exchange):
            self.drop(ConnectionError(f"404 NOT_FOUND - no exchange {exchange!r}"))
            return
        if not self._broker.announce(exchange, message) and mandatory:
            self.post(self._events.returned, message.peek("correlation_id") or "", *NO_ROUTE)
        self._confirm(tag, ok=True)

    def _emit(self, exchange: str, name: str, body: bytes, properties: bytes) -> bool:
        message = self._read(name, body, properties)
        if message is None:
            raise ConnectionError("the broker refuses the message")
        return self._broker.emit(exchange, message)

    def _read(self, target: str, body: bytes, properties: bytes) -> Message | None:
        """What was sent; None ends the session."""
        try:
            message = self._broker.message(target, body, properties)
            self._check_user(message.peek("user_id"))
            return self._addressed(message) if message.peek("reply_to") == DIRECT_REPLY else message
        except ConfigurationError as error:
            self.drop(error)
        except (ProtocolError, ValueError) as error:
            self.drop(ConnectionError(f"the broker refuses the message: {error}"))
        return None

    def _confirm(self, tag: int, ok: bool) -> None:
        if ok and self._reports:
            report, args = self._reports[-1]
            if report is self._confirmed and args[2]:
                self._reports[-1] = (report, (tag, True, True))
                return
        self.post(self._confirmed, tag, False, ok)

    def _addressed(self, message: Message) -> Message:
        """With the address in place of its pseudonym, as RabbitMQ does it."""
        if not self.reply_to:
            raise ValueError("fast reply consumer does not exist")
        return self._broker.amended(message, {"reply_to": self.reply_to})

    def _send_held(self, tag: int, target: str, body: bytes, properties: bytes, mandatory: bool) -> None:
        self._bytes_held -= len(body) + len(properties)
        self._send(tag, target, body, properties, mandatory)

    def _hold(self, size: int) -> None:
        self._bytes_held += size
        if self._bytes_held > HIGH_WATER:
            self.writable = False

    def _writable(self) -> None:
        self.writable = True
        self._events.writable()


def new_address() -> str:
    """An address like RabbitMQ's: nobody guesses it, and it says nothing of where it leads."""
    node, key = urlsafe_b64encode(secrets.token_bytes(24)).decode(), b64encode(secrets.token_bytes(16)).decode()
    return f"{REPLY_PREFIX}g1h2{node}.{key}"
