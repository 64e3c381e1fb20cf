"""Message: what lies in a queue, and how a dead one is labelled."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from resilient_rpc.errors import MalformedMessage
from resilient_rpc.transport.properties import decode_headers, decode_properties, encode_headers, encode_properties


class Message:
    """One message. Its properties are bytes, as on the wire: nobody shares an object through the bus."""

    __slots__ = ("_fields", "body", "expires", "order", "priority", "properties", "redelivered", "returns", "target")

    def __init__(self, target: str, body: bytes, properties: bytes) -> None:
        fields = decode_properties(properties)
        self.target = target
        self.body = body
        self.properties = properties
        self.priority: int = fields.get("priority", 0)
        self.expires: float | None = None
        self.order = 0
        self.redelivered = False
        self.returns = 0
        self._fields: dict[str, Any] | None = fields

    def fields(self) -> dict[str, Any]:
        """The decoded properties, fresh for each who asks."""
        fields, self._fields = self._fields, None
        return decode_properties(self.properties) if fields is None else fields

    def peek(self, name: str) -> Any:
        """One property, for the bus itself; None if it was not sent."""
        fields = decode_properties(self.properties) if self._fields is None else self._fields
        return fields.get(name)

    def with_fields(self, changes: Mapping[str, Any]) -> Message:
        """A new message of the same content with some properties changed (None: without it)."""
        fields = decode_properties(self.properties) | dict(changes)
        kept = {name: value for name, value in fields.items() if value is not None}
        return Message(self.target, self.body, encode_properties(**kept))


def dead(message: Message, queue: str, reason: str, *, target: str | None = None) -> tuple[Message, dict[str, Any]]:
    """The message as it leaves `queue` for its dead-letter exchange, without expiration; and its new headers."""
    fields = decode_properties(message.properties)
    headers = _headers(fields)
    death: dict[str, Any] = {
        "count": 1,
        "reason": reason,
        "queue": queue,
        "time": datetime.now(UTC).replace(microsecond=0),
        "exchange": "",
        "routing-keys": [message.target],
    }
    if "expiration" in fields:
        death["original-expiration"] = fields["expiration"]
    headers["x-death"] = _history(headers.get("x-death"), death)
    if "x-first-death-reason" not in headers:
        headers |= {"x-first-death-exchange": "", "x-first-death-queue": queue, "x-first-death-reason": reason}
    corpse = message.with_fields({"headers": encode_headers(headers), "expiration": None})
    if target is not None:
        corpse.target = target
    return corpse, headers


def circles(headers: Mapping[str, Any], queue: str) -> bool:
    """Whether a dead message would come to `queue` again without anybody's doing: RabbitMQ drops it then."""
    history = headers["x-death"]
    return any(entry.get("queue") == queue for entry in history) and all(
        entry.get("reason") != "rejected" for entry in history
    )


def counted(message: Message) -> Message:
    """The message as a quorum queue delivers it again: the header `x-delivery-count` says how often it came back."""
    fields = decode_properties(message.properties)
    headers = _headers(fields)
    return message.with_fields({"headers": encode_headers(headers | {"x-delivery-count": message.returns})})


def _headers(fields: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return decode_headers(fields.get("headers", b""))
    except MalformedMessage:  # RabbitMQ would not have let it in; only a test gets here
        return {}


def _history(known: Any, death: dict[str, Any]) -> list[dict[str, Any]]:
    """`known` with `death` in front; the same death at the same place is counted instead of repeated."""
    entries = [entry for entry in known if isinstance(entry, dict)] if isinstance(known, list) else []
    for entry in entries:
        if (entry.get("queue"), entry.get("reason")) == (death["queue"], death["reason"]):
            count = entry.get("count")
            again = {**entry, "count": (count if isinstance(count, int) else 0) + 1}
            return [again, *(other for other in entries if other is not entry)]
    return [death, *entries]
