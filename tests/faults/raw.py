"""A caller that knows nothing of this library: whatever it wants to say, by pika."""

from __future__ import annotations

import contextlib
import json
import time
from types import TracebackType
from typing import Any, Self

import pika
from pika.exceptions import AMQPError


class Raw:
    """Publishes to the queue of a service, and has a reply queue of its own."""

    def __init__(self, url: str, service: str) -> None:
        self.queue = f"rpc.{service}"
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        self.address = self.channel.queue_declare("", exclusive=True).method.queue

    def send(self, items: Any, *, reply_to: str | None = None, correlation_id: str = "c", **properties: Any) -> None:
        """One message: an item of JSON-RPC, or a list of them."""
        self.channel.basic_publish(
            "",
            self.queue,
            json.dumps(items).encode(),
            pika.BasicProperties(
                content_type="application/json",
                reply_to=reply_to or self.address,
                correlation_id=correlation_id,
                **properties,
            ),
        )

    def reply(self, seconds: float = 20.0) -> Any:
        """The next reply, decoded."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            method, _, body = self.channel.basic_get(self.address, auto_ack=True)
            if method is not None:
                return json.loads(body)
            self.connection.sleep(0.01)
        raise AssertionError(f"no reply within {seconds} s")

    def ask(self, items: Any, **properties: Any) -> Any:
        """Send it, and wait for the reply."""
        self.send(items, **properties)
        return self.reply()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(AMQPError):
            self.connection.close()


def call(method: str, params: Any = None, *, key: Any = None, number: Any = 1, **meta: Any) -> dict[str, Any]:
    """A request; `meta` only if there is something in it."""
    item: dict[str, Any] = {"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}}
    if key is not None:
        meta["key"] = key
    return {**item, "meta": meta} if meta else item
