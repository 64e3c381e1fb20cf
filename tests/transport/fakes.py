"""A transport whose publisher does what the test says, and nothing by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from resilient_rpc.transport.base import Consumer, ConsumerEvents, Delivery, PublisherEvents, QueueSpec, QueueState
from resilient_rpc.transport.properties import decode_headers, decode_properties, encode_headers
from resilient_rpc.transport.reply_queues import ReplyQueues
from resilient_rpc.wire.codec import JSON
from tests.waiting import turns

REPLY_TO = "amq.rabbitmq.reply-to.fake.address"


class Published(NamedTuple):
    """A message as it was handed over."""

    tag: int
    target: str
    body: bytes
    properties: dict[str, Any]
    headers: dict[str, Any]
    mandatory: bool

    @property
    def correlation_id(self) -> str:
        return str(self.properties["correlation_id"])

    @property
    def ids(self) -> list[Any]:
        found = JSON.anything.decode(self.body)
        return [item["id"] for item in found] if isinstance(found, list) else [found["id"]]


class FakePublisher:
    """One session."""

    def __init__(self, events: PublisherEvents, *, replies: bool | ReplyQueues) -> None:
        self.events = events
        self.replies = replies
        self.reply_to = REPLY_TO if replies else ""
        self.addresses: Sequence[str] = (self.reply_to,)
        self.kept = isinstance(replies, ReplyQueues) and replies.kind == "named" and replies.epoch > 0
        self.writable = True
        self.sent: list[Published] = []
        self.raises: BaseException | None = None
        self.after: Callable[[], object] | None = None
        self.closed = False
        self.exchanges: set[str] = set()
        self.asked: list[str] = []
        self.gate: asyncio.Event | None = None

    def publish(self, target: str, body: bytes, properties: bytes, *, mandatory: bool) -> int:
        if self.raises is not None:
            raise self.raises
        assert not self.closed
        assert self.writable
        found = decode_properties(properties)
        headers = decode_headers(found.get("headers", b""))
        self.sent.append(Published(len(self.sent) + 1, target, body, found, headers, mandatory))
        if self.after is not None:
            self.after()
        return len(self.sent)

    def announce(self, exchange: str, body: bytes, properties: bytes, *, mandatory: bool = False) -> int:
        assert exchange in self.exchanges, "RabbitMQ would end the session"
        return self.publish(exchange, body, properties, mandatory=mandatory)

    async def reaches(self, exchange: str) -> bool:
        self.asked.append(exchange)
        if self.gate is not None:
            await self.gate.wait()
        if self.closed:
            raise ConnectionError("the session has ended")
        return exchange in self.exchanges

    async def consumers(self, target: str) -> int | None:
        return 0

    async def inspect(self, target: str) -> QueueState | None:
        return QueueState(0, 0)

    def flush(self) -> None:
        """See `transport.base.Publisher`; what is published is seen at once."""

    async def close(self) -> None:
        self.closed = True

    def confirm(self, tag: int | None = None, *, multiple: bool = False, ok: bool = True) -> None:
        self.events.confirmed(len(self.sent) if tag is None else tag, multiple, ok)

    def reply(
        self,
        message: Published | str,
        body: Any,
        *,
        modern: bool = True,
        content_type: str | None = "application/json",
        **properties: Any,
    ) -> None:
        """Have a reply arrive: `body` is encoded unless it is bytes."""
        correlation = message if isinstance(message, str) else message.correlation_id
        fields: dict[str, Any] = {"correlation_id": correlation, "content_type": content_type, **properties}
        if modern:
            fields["headers"] = encode_headers({"rpc-version": "1"})
        data = body if isinstance(body, bytes) else JSON.encode(body)
        present = {name: value for name, value in fields.items() if value is not None}
        self.events.delivered(Delivery(1, False, present, data, self.reply_to))

    def answer(self, message: Published, result: Any = None, *, modern: bool = True, **meta: Any) -> None:
        """Answer every call of a message."""
        items = [
            {"jsonrpc": "2.0", "id": id_, "result": result, "meta": {"room": 64, "t": 1, **meta}} for id_ in message.ids
        ]
        self.reply(message, items if len(items) > 1 else items[0], modern=modern)

    def lose(self, error: BaseException | None = None) -> None:
        self.closed = True
        self.events.lost(error or ConnectionResetError("cut"))


class FakeTransport:
    """Opens what stands in `openings`: an error to raise, or nothing for a session; when that is used up, sessions."""

    def __init__(self, *openings: BaseException | None) -> None:
        self.openings = list(openings)
        self.sessions: list[FakePublisher] = []
        self.attempts = 0
        self.gate: asyncio.Event | None = None
        self.connect_timeout = 5.0
        self.opened: Callable[[FakePublisher], object] | None = None

    async def publisher(self, events: PublisherEvents, *, replies: bool | ReplyQueues, timeout: float) -> FakePublisher:
        self.attempts += 1
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        error = self.openings.pop(0) if self.openings else None
        if error is not None:
            raise error
        session = FakePublisher(events, replies=replies)
        self.sessions.append(session)
        if self.opened is not None:
            self.opened(session)
        return session

    async def consumer(self, events: ConsumerEvents, queue: QueueSpec, *, prefetch: int, timeout: float) -> Consumer:
        raise NotImplementedError

    async def session(self, number: int = 1) -> FakePublisher:
        """The session of this number, once it is there and its owner knows it."""
        await turns(lambda: len(self.sessions) >= number)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return self.sessions[number - 1]
