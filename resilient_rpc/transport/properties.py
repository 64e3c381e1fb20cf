"""AMQP's basic properties: encoded once and cheaply, decoded without trusting what arrives."""

from __future__ import annotations

import struct
from typing import Any

from resilient_rpc.errors import ConfigurationError, MalformedMessage, TooLarge
from resilient_rpc.transport.tables import LENGTH, MAX_SHORT, MAX_TABLE, decode_headers, encode_headers, short_string

__all__ = ["Template", "decode_headers", "decode_properties", "encode_headers", "encode_properties"]

# In the order of the wire. s: short string, B: octet, Q: 64 bits, F: table, encoded already.
_FIELDS = (
    (0x8000, "content_type", "s"),
    (0x4000, "content_encoding", "s"),
    (0x2000, "headers", "F"),
    (0x1000, "delivery_mode", "B"),
    (0x0800, "priority", "B"),
    (0x0400, "correlation_id", "s"),
    (0x0200, "reply_to", "s"),
    (0x0100, "expiration", "s"),
    (0x0080, "message_id", "s"),
    (0x0040, "timestamp", "Q"),
    (0x0020, "type", "s"),
    (0x0010, "user_id", "s"),
    (0x0008, "app_id", "s"),
)
_ID, _REPLY_TO, _EXPIRATION, _MESSAGE_ID, _TIMESTAMP = 0x0400, 0x0200, 0x0100, 0x0080, 0x0040
_MAX_OCTET = 255
_U16 = struct.Struct(">H").unpack_from
_U32 = struct.Struct(">I").unpack_from
_U64 = struct.Struct(">Q").unpack_from
_pack16, _pack64 = struct.Struct(">H").pack, struct.Struct(">Q").pack
_layouts: dict[int, tuple[tuple[str, str], ...]] = {}
_MAX_LAYOUTS = 256  # a peer chooses the flags: it must not choose how much is remembered of them


def encode_properties(
    *,
    content_type: str | None = None,
    content_encoding: str | None = None,
    headers: bytes | None = None,
    delivery_mode: int | None = None,
    priority: int | None = None,
    correlation_id: str | None = None,
    reply_to: str | None = None,
    expiration: str | None = None,
    message_id: str | None = None,
    timestamp: int | None = None,
    type: str | None = None,  # noqa: A002 - the wire's own name
    user_id: str | None = None,
    app_id: str | None = None,
) -> bytes:
    """Flags and fields of a content header; `headers` as `encode_headers` gives them, `expiration` in ms as text.

    Raises:
        TooLarge: a text over 255 bytes, or headers over 65,536.
        ConfigurationError: a value of a wrong type or range.
    """
    flags, parts = 0, [b""]
    values = (
        content_type, content_encoding, headers, delivery_mode, priority, correlation_id, reply_to, expiration,
        message_id, timestamp, type, user_id, app_id,
    )  # fmt: skip
    for (flag, name, kind), value in zip(_FIELDS, values, strict=True):
        if value is not None:
            flags |= flag
            parts.append(_field(name, kind, value))
    parts[0] = _pack16(flags)
    return b"".join(parts)


def _field(name: str, kind: str, value: Any) -> bytes:
    if kind == "s":
        if name == "expiration" and not (isinstance(value, str) and value.isascii() and value.isdigit()):
            raise ConfigurationError(f"expiration must be milliseconds as text: {value!r:.100}")
        try:
            return short_string(value)
        except (TooLarge, ConfigurationError) as error:
            raise type(error)(f"{name}: {error}") from None
    if kind == "F":
        return _headers(value)
    if not isinstance(value, int) or not 0 <= value < (2**64 if kind == "Q" else _MAX_OCTET + 1):
        raise ConfigurationError(
            f"{name} must be a number from 0 to {2**64 - 1 if kind == 'Q' else _MAX_OCTET}: {value!r}"
        )
    return _pack64(value) if kind == "Q" else LENGTH[value]


def _headers(value: bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ConfigurationError(f"headers must be encoded, see encode_headers(): {value!r:.100}")
    if len(value) > MAX_TABLE:
        raise TooLarge(f"headers of {len(value)} bytes are over the limit of {MAX_TABLE}")
    return value


def decode_properties(data: bytes) -> dict[str, Any]:
    """The properties that are in `data`, by name; `headers` stay encoded until somebody wants them.

    Text that is not UTF-8 is replaced.

    Raises:
        MalformedMessage: it is cut off.
    """
    try:
        flags: int = _U16(data, 0)[0]
        return _decode(data, flags)
    except (struct.error, IndexError) as error:
        raise MalformedMessage("the properties are cut off") from error


def _decode(data: bytes, flags: int) -> dict[str, Any]:
    at, more = 2, flags & 1
    while more:  # further words of flags; none is defined
        more = data[at + 1] & 1
        at += 2
    found: dict[str, Any] = {}
    for name, kind in _layouts.get(flags) or _layout(flags):
        if kind == "s":
            end = at + 1 + data[at]
            found[name] = data[at + 1 : end].decode("utf-8", "replace")
            at = end
        elif kind == "B":
            found[name] = data[at]
            at += 1
        elif kind == "Q":
            found[name] = _U64(data, at)[0]
            at += 8
        else:
            end = at + 4 + _U32(data, at)[0]
            found[name] = data[at:end]
            at = end
    if at > len(data):
        raise IndexError(at)
    return found


def _layout(flags: int) -> tuple[tuple[str, str], ...]:
    layout = tuple((name, kind) for flag, name, kind in _FIELDS if flags & flag)
    if len(_layouts) < _MAX_LAYOUTS:
        _layouts[flags] = layout
    return layout


class Template:
    """Properties of many messages that differ in correlation id, expiration and timestamp only.

    `fill` puts those three in, and the correlation id as message id too. The rest is encoded when it is made, which
    raises what `encode_properties` raises.
    """

    __slots__ = ("_after", "_bare", "_between", "_expiring", "_timestamp", "_timestamped")

    def __init__(self, *, reply_to: str | None = None, **constant: Any) -> None:
        """Take the constant ones, as `encode_properties` does."""
        for name in ("correlation_id", "expiration", "timestamp", "message_id"):
            if name in constant:
                raise ConfigurationError(f"{name} is given to fill(), not to a Template")
        late = {name: constant.pop(name) for name in ("type", "user_id", "app_id") if name in constant}
        before, after = encode_properties(**constant), encode_properties(**late)
        flags = _U16(before, 0)[0] | _U16(after, 0)[0] | _ID | _MESSAGE_ID | _TIMESTAMP
        self._between = b""
        if reply_to is not None:
            flags |= _REPLY_TO
            self._between = _field("reply_to", "s", reply_to)
        self._after = after[2:]
        self._bare = _pack16(flags) + before[2:]
        self._expiring = _pack16(flags | _EXPIRATION) + before[2:]
        self._timestamp, self._timestamped = -1, b""

    def fill(self, correlation_id: str, timestamp: int, expiration: int | None = None) -> bytes:
        """The properties of one message; `timestamp` in seconds, `expiration` in milliseconds (None: it has none).

        Raises:
            TooLarge: a correlation id over 255 bytes.
            ConfigurationError: a time below zero.
        """
        data = correlation_id.encode()
        try:
            name = LENGTH[len(data)] + data
        except IndexError:
            raise TooLarge(f"correlation_id: {len(data)} bytes do not fit a short string of {MAX_SHORT}") from None
        if timestamp != self._timestamp:  # seldom: it has the grain of a second
            self._timestamped = _field("timestamp", "Q", timestamp) + self._after
            self._timestamp = timestamp
        if expiration is None:
            return b"".join((self._bare, name, self._between, name, self._timestamped))
        if expiration < 0:  # the broker would close the channel
            raise ConfigurationError(f"expiration must not be negative: {expiration}")
        ttl = b"%d" % expiration
        return b"".join((self._expiring, name, self._between, LENGTH[len(ttl)], ttl, name, self._timestamped))
