"""The lane by pika's own codec: the fallback, for a pika or a broker that the fast one does not get on with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from resilient_rpc.errors import ConfigurationError, TooLarge
from resilient_rpc.transport.amqp.frames import BASIC, OVERHEAD
from resilient_rpc.transport.amqp.lane import MAX_BODY, Reports, check_size
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.tables import encode_headers, short_string

log = logging.getLogger(__name__)

_ROOM_FOR_HEADERS = 1 << 20
"""What arrived is kept, however large: the broker's limits apply to it, not ours."""


class Encoded:
    """Properties that are encoded already, for pika's Channel: it asks for INDEX and encode() only."""

    INDEX = BASIC

    def __init__(self, data: bytes) -> None:
        self._data = data

    def encode(self) -> list[bytes]:
        """See pika.BasicProperties."""
        return [self._data]


class PikaLane:
    """A `Lane` over pika's Channel."""

    def __init__(self, connection: Any, channel: Any, reports: Reports, max_body: int = MAX_BODY) -> None:
        self._stream = connection.stream
        self._channel, self._reports = channel, reports
        self._room: int = connection.params.frame_max - OVERHEAD
        self._max_body = max_body
        self._closed = False
        self._published = 0
        channel.add_on_return_callback(self._on_return)

    def close(self) -> None:
        """See `Lane`."""
        self._closed = True

    def publish(self, target: str, body: bytes, properties: bytes, *, mandatory: bool) -> int:
        """See `transport.base.Publisher`."""
        return self.announce("", body, properties, mandatory=mandatory, name=target)

    def announce(
        self, exchange: str, body: bytes, properties: bytes, *, mandatory: bool = False, name: str = ""
    ) -> int:
        """See `Lane`."""
        if self._closed or self._stream.closed:
            raise ConnectionError("the session has ended")
        check_size(body, properties, self._room, self._max_body)
        short_string(exchange)
        short_string(name)
        self._channel.basic_publish(exchange, name, body, Encoded(properties), mandatory)
        self._published += 1
        return self._published

    def ack(self, tag: int, multiple: bool = False, /) -> None:
        """See `Lane`."""
        if not self._closed:
            self._channel.basic_ack(tag, multiple)

    def nack(self, tag: int, *, requeue: bool) -> None:
        """See `transport.base.Consumer`."""
        if not self._closed:
            self._channel.basic_nack(tag, requeue=requeue)

    def on_deliver(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """For pika's basic_consume."""
        try:
            found = _properties(properties)
            key = _text(method.routing_key)
            self._reports.delivered(Delivery(method.delivery_tag, method.redelivered, found, body, key))
        except Exception:
            log.exception("the owner of a session failed to take a message")

    def on_confirm(self, frame: Any) -> None:
        """For pika's confirm_delivery."""
        method = frame.method
        try:
            self._reports.confirmed(method.delivery_tag, method.multiple, method.NAME == "Basic.Ack")
        except Exception:
            log.exception("the owner of a session failed to take a confirm")

    def _on_return(self, _channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        try:
            correlation_id = _text(properties.correlation_id or "")
            self._reports.returned(correlation_id, method.reply_code, _text(method.reply_text))
        except Exception:
            log.exception("the owner of a session failed to take a returned message")


def _properties(properties: Any) -> dict[str, Any]:
    """As the fast lane has them: text is text, and the headers are encoded."""
    found = {
        name: _text(value) if isinstance(value, bytes) else value
        for name, value in vars(properties).items()
        if value is not None and name not in {"headers", "cluster_id"}
    }
    if properties.headers is not None:
        found["headers"] = _encoded(properties.headers)
    return found


def _encoded(headers: Mapping[str | bytes, Any]) -> bytes:
    """The field table once more (pika keeps no bytes of it); what cannot be encoded is left out."""
    table = {_text(name): _texts(value) for name, value in headers.items()}
    try:
        return encode_headers(table, limit=_ROOM_FOR_HEADERS)
    except (ConfigurationError, TooLarge):
        return encode_headers({k: v for k, v in table.items() if _encodable(v)}, limit=_ROOM_FOR_HEADERS)


def _encodable(value: Any) -> bool:
    try:
        encode_headers({"": value}, limit=_ROOM_FOR_HEADERS)
    except (ConfigurationError, TooLarge):
        return False
    return True


def _texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {_text(name): _texts(inner) for name, inner in value.items()}
    return [_texts(inner) for inner in value] if isinstance(value, list) else value


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
