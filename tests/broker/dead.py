"""A service's queues on a real broker, and dead letters in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pika

from resilient_rpc import Classic, Quorum, Server
from resilient_rpc.errors import Interrupted
from resilient_rpc.transport.deadletters import Reason, label


class Graveyard:
    """Speaks to the broker by pika: nothing of what is tested is used to test it."""

    def __init__(self, url: str, service: str) -> None:
        self.url, self.service = url, service
        self.queue, self.dead, self.expired = f"rpc.{service}", f"rpc.{service}.dead", f"rpc.{service}.expired"
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()

    def declare(self, queue: Classic | Quorum = Classic()) -> None:  # noqa: B008 - frozen
        """As a server does it."""
        server = Server(self.url, service=self.service, queue=queue)
        server.method(name="price")(lambda: None)
        server.start()
        server.stop()

    def bury(self, number: int, reason: Reason = "failed", method: str = "price", **headers: Any) -> None:
        """Put a dead letter there."""
        named = label(reason, Interrupted("the secret of the caller"), queue=self.queue, attempts=2, server="s1")
        named |= {"rpc-version": "1", "rpc-method": method, **headers}
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": [number], "id": number}).encode()
        properties = pika.BasicProperties(
            headers=named,
            message_id=f"m{number}",
            correlation_id=f"c.{number}",
            content_type="application/json",
            reply_to="amq.rabbitmq.reply-to.gone.gone",
            delivery_mode=2,
        )
        self.channel.basic_publish("", self.dead, body, properties, mandatory=True)

    def depth(self, queue: str) -> int:
        """Messages that nobody has."""
        return int(self.channel.queue_declare(queue, passive=True).method.message_count)

    def take(self, queue: str) -> list[tuple[pika.BasicProperties, bytes]]:
        """All messages of a queue, in order; they are gone then."""
        found = []
        while True:
            method, properties, body = self.channel.basic_get(queue, auto_ack=True)
            if method is None:
                return found
            found.append((properties, body))

    def ids(self, queue: str) -> list[str]:
        """The message ids of a queue, in order; they are gone then."""
        return [properties.message_id for properties, _ in self.take(queue)]

    def clean(self) -> None:
        """Leave nothing behind."""
        for name in (self.queue, self.dead, self.expired):
            self.channel.queue_delete(name)
        self.connection.close()


@contextmanager
def graveyard(url: str, service: str) -> Iterator[Graveyard]:
    """For the length of a test."""
    made = Graveyard(url, service)
    try:
        yield made
    finally:
        made.clean()
