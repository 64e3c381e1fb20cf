"""The hot frames of one channel, encoded and decoded here instead of by pika."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from typing import Any, Protocol

from resilient_rpc.errors import MalformedMessage, TooLarge
from resilient_rpc.transport.amqp.frames import (
    ACK,
    BASIC,
    DELIVER,
    GET,
    GET_EMPTY,
    GET_OK,
    HEADER,
    HEADER_FLAGS,
    METHOD,
    NACK,
    OVERHEAD,
    RETURN,
    read_method,
    read_u16,
    read_u64,
)
from resilient_rpc.transport.amqp.stream import Stream
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.properties import decode_properties
from resilient_rpc.transport.tables import short_string

log = logging.getLogger(__name__)

MAX_BODY = 16 * 1024 * 1024
"""What RabbitMQ 4 accepts by default; a larger message ends the channel."""
_TARGETS = 1_000
"""Encoded routes that are kept: reply addresses come and go."""
_END = b"\xce"
_PUBLISH = b"\x00\x3c\x00\x28\x00\x00"
"""basic.publish, to where its exchange is named."""
_pack_head = struct.Struct(">BHI").pack
_pack_header = struct.Struct(">BHIHHQ").pack
_pack_ack = struct.Struct(">BHIHHQBB").pack
_pack_method = struct.Struct(">HH").pack
_CONFIRMS, _CONTENTS = (ACK, NACK), (DELIVER, GET_OK)


def ignore(*_: Any) -> None:
    """Take any report and do nothing."""


class Reports:
    """Where a lane reports what arrives; the session puts its owner's methods in once it is open."""

    __slots__ = ("confirmed", "delivered", "empty", "returned")

    def __init__(self) -> None:
        self.delivered: Callable[[Delivery], None] = ignore
        self.confirmed: Callable[[int, bool, bool], None] = ignore
        self.returned: Callable[[str, int, str], None] = ignore
        self.empty: Callable[[], None] = ignore
        """What was asked for with `FastLane.get` is not there."""

    def silence(self) -> None:
        """Report nothing from here on."""
        self.delivered = self.confirmed = self.returned = self.empty = ignore


class Lane(Protocol):
    """Publishes, acks and receives on one open channel; pika keeps everything that is seldom."""

    def on_deliver(self, channel: Any, method: Any, properties: Any, body: bytes, /) -> None:
        """What to give to pika's basic_consume."""

    def on_confirm(self, frame: Any, /) -> None:
        """What to give to pika's confirm_delivery."""

    def publish(self, target: str, body: bytes, properties: bytes, *, mandatory: bool) -> int:
        """See `transport.base.Publisher`."""

    def announce(
        self, exchange: str, body: bytes, properties: bytes, *, mandatory: bool = False, name: str = ""
    ) -> int:
        """See `transport.base.Publisher`; to a topic exchange under a name."""

    def ack(self, tag: int, multiple: bool = False, /) -> None:
        """See `transport.base.Consumer`; with `multiple`, everything up to `tag`."""

    def nack(self, tag: int, *, requeue: bool) -> None:
        """See `transport.base.Consumer`."""

    def close(self) -> None:
        """Send nothing from here on."""


def check_size(body: bytes, properties: bytes, room: int, max_body: int) -> None:
    """Raise for what would make the broker end the channel (a body), or the whole connection (a header)."""
    if len(properties) + HEADER_FLAGS > room:
        raise TooLarge(f"properties of {len(properties)} bytes do not fit a frame of {room}")
    if len(body) > max_body:
        raise TooLarge(f"a body of {len(body)} bytes is over the limit of {max_body}")


class FastLane:
    """A `Lane` by our own codec. pika never sees a deliver, ack, nack or return of this channel."""

    def __init__(self, connection: Any, channel: Any, reports: Reports, max_body: int = MAX_BODY) -> None:
        self._stream: Stream = connection.stream
        self._reports = reports
        self._number: int = channel.channel_number
        self._room: int = connection.params.frame_max - OVERHEAD
        self._max_body, self._harmless = max_body, min(max_body, self._room)
        self._closed = False
        self._published = 0
        self._targets: dict[tuple[str, bool], bytes] = {}
        self._method: tuple[int, int, Any, str] | None = None  # of the content that is arriving
        self._properties: dict[str, Any] = {}
        self._parts: list[bytes] = []
        self._left = 0
        self._stream.lanes[self._number] = self
        channel.add_on_close_callback(self._detach)  # pika gives the number to the next channel

    def close(self) -> None:
        """See `Lane`."""
        self._closed = True

    def on_deliver(self, *_: Any) -> None:
        """See `Lane`; pika has nothing to deliver here."""

    def on_confirm(self, *_: Any) -> None:
        """See `Lane`; pika has nothing to confirm here."""

    def _detach(self, *_: Any) -> None:
        self._closed = True
        if self._stream.lanes.get(self._number) is self:
            del self._stream.lanes[self._number]

    # -- out

    def publish(self, target: str, body: bytes, properties: bytes, *, mandatory: bool) -> int:
        """See `transport.base.Publisher`."""
        if self._closed or self._stream.closed:
            raise ConnectionError("the session has ended")
        method = self._targets.get((target, mandatory)) or self._route(target, mandatory)
        size, number, room = len(body), self._number, self._room
        fields = len(properties) + HEADER_FLAGS
        if size > self._harmless or fields > room:
            check_size(body, properties, room, self._max_body)
        head = _pack_header(HEADER, number, fields, BASIC, 0, size)
        if 0 < size <= room:
            data = b"".join((method, head, properties, _END, _pack_head(3, number, size), body, _END))
        else:
            data = b"".join((method, head, properties, _END, *self._split(body)))
        self._stream.write(data)
        self._published += 1
        return self._published

    def announce(
        self, exchange: str, body: bytes, properties: bytes, *, mandatory: bool = False, name: str = ""
    ) -> int:
        """See `Lane`. Seldom: nothing of it is kept."""
        if self._closed or self._stream.closed:
            raise ConnectionError("the session has ended")
        check_size(body, properties, self._room, self._max_body)
        payload = _PUBLISH + short_string(exchange) + short_string(name) + (b"\x01" if mandatory else b"\x00")
        method = _pack_head(METHOD, self._number, len(payload)) + payload
        head = _pack_header(HEADER, self._number, len(properties) + HEADER_FLAGS, BASIC, 0, len(body))
        self._stream.write(b"".join((method, _END, head, properties, _END, *self._split(body))))
        self._published += 1
        return self._published

    def ack(self, tag: int, multiple: bool = False, /) -> None:
        """See `Lane`."""
        if not self._closed:
            self._stream.write(_pack_ack(METHOD, self._number, 13, BASIC, ACK, tag, multiple, 0xCE))

    def nack(self, tag: int, *, requeue: bool) -> None:
        """See `transport.base.Consumer`."""
        if not self._closed:
            self._stream.write(_pack_ack(METHOD, self._number, 13, BASIC, NACK, tag, 2 if requeue else 0, 0xCE))

    def get(self, queue: str) -> None:
        """Ask for one message; the answer is reported as a delivery, or as `empty`. Answers come in their order."""
        payload = _pack_method(BASIC, GET) + b"\x00\x00" + short_string(queue) + b"\x00"
        self._stream.write(_pack_head(METHOD, self._number, len(payload)) + payload + _END)

    def give_back(self) -> None:
        """Requeue all that was delivered and not acked."""
        if not self._closed:
            self._stream.write(_pack_ack(METHOD, self._number, 13, BASIC, NACK, 0, 3, 0xCE))  # 3: multiple, requeue

    def _route(self, target: str, mandatory: bool) -> bytes:
        payload = _PUBLISH + b"\x00" + short_string(target) + (b"\x01" if mandatory else b"\x00")
        method = _pack_head(METHOD, self._number, len(payload)) + payload + _END
        if len(self._targets) >= _TARGETS:
            self._targets.clear()
        self._targets[target, mandatory] = method
        return method

    def _split(self, body: bytes) -> list[bytes]:
        pieces: list[bytes] = []
        for at in range(0, len(body), self._room):
            piece = body[at : at + self._room]
            pieces += _pack_head(3, self._number, len(piece)), piece, _END
        return pieces

    # -- in

    def feed(self, kind: int, buffer: bytearray, at: int, end: int) -> bool:
        """Take one frame; False leaves it to pika."""
        if kind == METHOD:
            return self._begin(buffer, at)
        if self._method is None:  # the content of a method that was left to pika
            return False
        if kind == HEADER:
            self._left = read_u64(buffer, at + 4)[0]
            self._properties = _readable(bytes(buffer[at + HEADER_FLAGS : end]))
        else:
            self._left -= end - at
            self._parts.append(bytes(buffer[at:end]))
        if self._left <= 0:
            self._complete()
        return True

    def _begin(self, buffer: bytearray, at: int) -> bool:
        group, method = read_method(buffer, at)
        if group != BASIC:
            return False
        if method in _CONTENTS:  # (consumer tag, which a get has not,) delivery tag, redelivered, exchange, routing key
            at += 5 + buffer[at + 4] if method == DELIVER else 4
            key = at + 10 + buffer[at + 9]
            name = bytes(buffer[key + 1 : key + 1 + buffer[key]]).decode("utf-8", "replace")
            self._method = (DELIVER, read_u64(buffer, at)[0], buffer[at + 8] != 0, name)
        elif method in _CONFIRMS:
            try:
                self._reports.confirmed(read_u64(buffer, at + 4)[0], bool(buffer[at + 12] & 1), method == ACK)
            except Exception:
                log.exception("the owner of a session failed to take a confirm")
        elif method == RETURN:
            text = bytes(buffer[at + 7 : at + 7 + buffer[at + 6]]).decode("utf-8", "replace")
            self._method = (RETURN, read_u16(buffer, at + 4)[0], None, text)
        elif method == GET_EMPTY:
            self._reports.empty()
        else:
            return False
        return True

    def _complete(self) -> None:
        method, properties, parts = self._method, self._properties, self._parts
        self._method, self._parts = None, []
        if method is None:
            return
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        try:
            if method[0] == DELIVER:
                self._reports.delivered(Delivery(method[1], method[2], properties, body, method[3]))
            else:
                self._reports.returned(properties.get("correlation_id", ""), method[1], method[3])
        except Exception:
            log.exception("the owner of a session failed to take a message")


def _readable(data: bytes) -> dict[str, Any]:
    """The properties, or none where they are broken: the message is still its consumer's to refuse."""
    try:
        return decode_properties(data)
    except MalformedMessage:
        return {}
