"""Between the wire's properties and what filters see of them. Used only where there are filters."""

from __future__ import annotations

from typing import Literal

import msgspec

from resilient_rpc.errors import ConfigurationError, FilterRefused, MalformedMessage
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.properties import decode_headers, encode_headers, encode_properties
from resilient_rpc.wire.filters import Filters, Message

MAX_DIGITS = 15
"""Of an expiration that is taken for a number."""
_PLAIN = (
    "content_type", "content_encoding", "correlation_id", "reply_to", "type", "timestamp", "message_id", "user_id",
    "app_id", "priority", "delivery_mode",
)  # fmt: skip


def outgoing(filters: Filters, message: Message) -> tuple[bytes, bytes]:
    """Body and encoded properties of what is sent for a message.

    Raises `FilterRefused`, or what encoding the properties raises.
    """
    sent = filters.outgoing(message)
    return sent.body, encode_properties(
        content_type=sent.content_type,
        content_encoding=sent.content_encoding,
        headers=encode_headers(sent.headers),
        delivery_mode=message.delivery_mode,
        priority=message.priority,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        expiration=None if message.expiration is None else str(message.expiration),
        message_id=message.message_id,
        timestamp=message.timestamp,
        type=message.type,
        user_id=message.user_id,
        app_id=message.app_id,
    )


def incoming(
    filters: Filters, delivery: Delivery, direction: Literal["request", "reply"], target: str
) -> tuple[Delivery, Message]:
    """What is to be read instead of a delivery, and the message as the filters left it.

    Raises `FilterRefused`; `MalformedMessage` for properties that cannot be read.
    """
    came = _message(delivery, direction, target)
    seen = filters.incoming(came)
    properties = {
        **delivery.properties,
        "content_type": seen.content_type,
        "content_encoding": seen.content_encoding,
    }
    if seen.headers is not came.headers:
        try:
            properties["headers"] = encode_headers(seen.headers)
        except ConfigurationError as error:
            raise FilterRefused(f"headers that a filter has set: {error}") from error
    return msgspec.structs.replace(delivery, properties=properties, body=seen.body), seen


def _message(delivery: Delivery, direction: Literal["request", "reply"], target: str) -> Message:
    properties = delivery.properties
    known = {name: properties[name] for name in _PLAIN if name in properties}
    return Message(
        direction=direction,
        body=delivery.body,
        target=target,
        headers=decode_headers(properties.get("headers", b"")),
        expiration=_milliseconds(properties.get("expiration")),
        redelivered=delivery.redelivered,
        **known,
    )


def _milliseconds(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > MAX_DIGITS:
        raise MalformedMessage(f"expiration {text!r:.40} is not a number of milliseconds")
    return int(text)
