"""Messages that no client of ours sends: rows 24 to 28 of the fault matrix, by name, as bytes of the wire."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from resilient_rpc.transport.base import Publisher
from resilient_rpc.transport.properties import encode_headers, encode_properties
from tests.broker.amqp import publishing, transport
from tests.broker.bombs import BOMBS
from tests.contract.recorder import Recorder
from tests.faults.raw import call

JSON = "application/json"
BAD_TEXT = b"\x03\xff\xfe\xc3"
ADDRESS, QUEUE = "the address of the sender", "the queue of the service"


@dataclass(frozen=True, kw_only=True)
class Hostile:
    """One message. `code`: of the error reply that it gets; None: it gets none."""

    body: bytes
    properties: bytes | None = None
    """As they are; None: those of a good request."""
    reply_to: str = ADDRESS
    content_type: str = JSON
    content_encoding: str | None = None
    headers: dict[str, Any] | None = None
    code: int | None = None

    def properties_for(self, address: str, queue: str) -> bytes:
        """What is sent before the body."""
        if self.properties is not None:
            return self.properties
        return encode_properties(
            content_type=self.content_type,
            content_encoding=self.content_encoding,
            headers=encode_headers(self.headers) if self.headers is not None else None,
            correlation_id="hostile.1",
            reply_to=address if self.reply_to == ADDRESS else self.reply_to.replace(QUEUE, queue),
        )


def _ask(method: Any, params: Any = None) -> bytes:
    return json.dumps(call(method, params)).encode()


SERVED, REFUSED = 666, 667
GOOD, FORGED = _ask("echo", {"n": SERVED}), _ask("echo", {"n": REFUSED})
"""What is executed although its headers are odd, and what must not be."""
BODIES = {
    "no JSON": Hostile(body=b"\xff\x00garbage", code=-32700),
    "nothing": Hostile(body=b"", code=-32700),
    "brackets that nobody closes": Hostile(body=b"[" * 50_000, code=-32700),
    "deep JSON": Hostile(body=b"[" * 50_000 + b"]" * 50_000, code=-32700),
    "deep arguments": Hostile(body=_ask("echo", [json.loads("[" * 90 + "]" * 90)]), code=-32006),
    "no request": Hostile(body=b'{"a": 1}', code=-32600),
    "an empty batch": Hostile(body=b"[]", code=-32600),
    "a batch of too many": Hostile(body=b"[" + b",".join([GOOD] * 1_001) + b"]", code=-32006),
    "a number that is none": Hostile(body=_ask("echo", {"n": 1}).replace(b'"n": 1', b'"n": 1e999'), code=-32602),
    "a number of 5,000 digits": Hostile(
        body=b'{"jsonrpc":"2.0","id":1,"method":"echo","params":[' + b"9" * 5_000 + b"]}", code=-32602
    ),
    "an unknown method": Hostile(body=_ask("nobody"), code=-32601),
    "a method of every object": Hostile(body=_ask("__class__"), code=-32601),
    "a method of a method": Hostile(body=_ask("echo.__init__"), code=-32601),
    "a private method": Hostile(body=_ask("_note", [1]), code=-32601),
    "a look-alike": Hostile(body=_ask("\u0435cho", [1]), code=-32601),
    "a name of 10 KB": Hostile(body=_ask("x" * 10_240), code=-32601),
    "a name with a line break": Hostile(body=_ask("echo\nlevel=error forged"), code=-32601),
    "a method that is no text": Hostile(body=_ask(["echo"]), code=-32600),
    "arguments of a wrong type": Hostile(body=_ask("echo", {"n": {"x": []}}), code=-32602),
    "a surplus argument": Hostile(body=_ask("echo", {"n": 1, "self": 2}), code=-32602),
    "pickle": Hostile(body=b"cos\nsystem\n(S'true'\ntR.", content_type="application/x-python-serialize", code=-32007),
    "an unknown encoding": Hostile(body=GOOD, content_encoding="bzip2", code=-32007),
    "headers over the limit": Hostile(body=GOOD, headers={"x": "y" * 40_000}, code=-32006),
    "a body over the limit": Hostile(body=b'"' + b"x" * (4 * 1024 * 1024 + 1) + b'"', code=-32006),
}
"""Rows 24 and 28: whatever the body is, its sender is told."""
BOMBED = {f"header bomb: {name}": Hostile(body=GOOD, properties=bomb) for name, bomb in BOMBS.items()}
"""Row 25. They ask for no reply, and but for their headers they are in order: some are executed."""
FORGERIES = {
    "properties that are no text": Hostile(  # content type, correlation id, reply address and type
        body=FORGED, properties=b"\x86\x20" + BAD_TEXT * 4
    ),
    "the queue of another service": Hostile(body=FORGED, reply_to="rpc.other"),
    "the queue of the service itself": Hostile(body=FORGED, reply_to=QUEUE),
    "an exchange in the address": Hostile(body=FORGED, reply_to="amq.gen-x|amq.topic"),
    "an address of 255 bytes": Hostile(body=FORGED, reply_to="a" * 255),
    "an address with a line break": Hostile(body=FORGED, reply_to="rpc.reply.x\nforged"),
    "a direct address of too many parts": Hostile(body=FORGED, reply_to="amq.rabbitmq.reply-to.../.."),
}
"""Row 26: what is refused before it is executed."""
NOBODY = {
    "a queue of nobody": Hostile(body=GOOD, reply_to="rpc.reply.nobody.at.all"),
    "a direct address of nobody": Hostile(body=GOOD, reply_to="amq.rabbitmq.reply-to.junk.junk"),
    "a direct address of no node": Hostile(
        body=GOOD, reply_to="amq.rabbitmq.reply-to.g1h3BW5AZm9vAAAAAQAAAAAAAAAB.QUJD"
    ),
}
"""Row 26: what looks like an address. RabbitMQ before 4.2 closes the connection of who publishes to the direct ones."""


class Sender:
    """Publishes them to one service, with confirms, and hears what is answered."""

    def __init__(self, publisher: Publisher, events: Recorder, service: str) -> None:
        self.publisher, self.events, self.queue = publisher, events, f"rpc.{service}"

    async def send(self, hostile: Hostile) -> None:
        """Returns when the broker has it."""
        properties = hostile.properties_for(self.publisher.reply_to, self.queue)
        tag = self.publisher.publish(self.queue, hostile.body, properties, mandatory=True)
        await self.events.confirmation(tag)

    async def ask(self, hostile: Hostile) -> Any:
        """Its reply, decoded."""
        before = len(self.events.deliveries)
        await self.send(hostile)
        await self.events.received(before + 1)
        return json.loads(self.events.deliveries[before].body)


@contextlib.asynccontextmanager
async def sending(url: str, service: str) -> AsyncIterator[Sender]:
    """A connection for them."""
    async with publishing(transport(url), replies=True) as (publisher, events):
        yield Sender(publisher, events, service)
