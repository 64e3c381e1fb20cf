"""AMQP field tables (the `headers` property), encoded and decoded without trusting what arrives."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from resilient_rpc.errors import ConfigurationError, MalformedMessage, TooLarge

MAX_TABLE = 65_536
"""Bytes of an encoded table. A content header has to fit one frame (128 KiB), and a larger one ends the connection."""
MAX_DEPTH = 32
MAX_SHORT = 255
MAX_TIME = 253_402_300_799  # 9999-12-31T23:59:59Z

Header = str | int | bool | float | bytes | None | list[Any] | dict[str, Any] | datetime | Decimal

LENGTH = [bytes((n,)) for n in range(MAX_SHORT + 1)]
"""Every octet, made once."""

_U32 = struct.Struct(">I")
_INT_MIN, _INT_MAX, _LONG_MIN, _LONG_MAX = -(2**31), 2**31 - 1, -(2**63), 2**63 - 1
_MAX_SCALE = 255
_TABLE, _ARRAY, _TIME, _STRING, _BYTES, _DECIMAL, _VOID, _BOOL = b"FATSxDVt"
# RabbitMQ's letters: `l` and `L` are both signed, `s` and `U` as well.
_NUMBERS = {
    ord(letter): struct.Struct(">" + code)
    for letter, code in {
        "b": "b", "B": "B", "s": "h", "U": "h", "u": "H", "I": "i", "i": "I", "l": "q", "L": "q", "f": "f", "d": "d",
    }.items()
}  # fmt: skip


def is_queue_name(name: Any) -> bool:
    """Whether a queue may be called so."""
    return isinstance(name, str) and 0 < len(name.encode("utf-8", "replace")) <= MAX_SHORT


def short_string(value: str) -> bytes:
    """`value` as a short string: one byte of length, then UTF-8.

    Raises:
        TooLarge: it has more than 255 bytes.
        ConfigurationError: it is not text, or not encodable.
    """
    data = _text(value)
    if len(data) > MAX_SHORT:
        raise TooLarge(f"{len(data)} bytes do not fit a short string of {MAX_SHORT}: {value!r:.50}...")
    return LENGTH[len(data)] + data


def encode_headers(headers: Mapping[str, Header], *, limit: int = MAX_TABLE) -> bytes:
    """`headers` as a field table with its four bytes of length.

    Raises:
        TooLarge: more than `limit` bytes, a key over 255 bytes, or nested deeper than 32.
        ConfigurationError: a value that AMQP, or a peer's decoder, has no room for.
    """
    parts: list[bytes] = []
    _put_table(parts, headers, 1)
    data = b"".join(parts)
    if len(data) > limit:
        raise TooLarge(f"headers of {len(data)} bytes are over the limit of {limit}")
    return data


def _put_table(parts: list[bytes], table: Mapping[str, Header], depth: int) -> None:
    inner: list[bytes] = []
    for key, value in table.items():
        inner.append(short_string(key))
        _put(inner, value, depth)
    data = b"".join(inner)
    parts += _U32.pack(len(data)), data


def _put(parts: list[bytes], value: Header, depth: int) -> None:
    if isinstance(value, str):
        data = _text(value)
        parts += b"S", _U32.pack(len(data)), data
    elif isinstance(value, Mapping | list | tuple):
        if depth >= MAX_DEPTH:
            raise TooLarge(f"headers nested deeper than {MAX_DEPTH}")
        if isinstance(value, Mapping):
            parts.append(b"F")
            _put_table(parts, value, depth + 1)
        else:
            inner: list[bytes] = []
            for item in value:
                _put(inner, item, depth + 1)
            data = b"".join(inner)
            parts += b"A", _U32.pack(len(data)), data
    else:
        parts.append(_scalar(value))


def _text(value: str) -> bytes:
    try:
        return value.encode()
    except (AttributeError, UnicodeEncodeError) as error:
        raise ConfigurationError(f"not a text that AMQP can carry: {value!r:.100}") from error


def _scalar(value: Any) -> bytes:
    if value is None:
        return b"V"
    if isinstance(value, bool):
        return b"t\x01" if value else b"t\x00"
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, bytes | bytearray):
        return b"x" + _U32.pack(len(value)) + bytes(value)
    if isinstance(value, float):
        if not math.isfinite(value):  # pika's decoder raises on it, which ends its connection
            raise ConfigurationError(f"a header must be finite, not {value!r}")
        return b"d" + struct.pack(">d", value)
    if isinstance(value, datetime):
        return _time(value)
    if isinstance(value, Decimal):
        return _decimal(value)
    raise ConfigurationError(f"a header cannot be a {type(value).__name__}: {value!r:.100}")


def _integer(value: int) -> bytes:
    if _INT_MIN <= value <= _INT_MAX:
        return b"I" + struct.pack(">i", value)
    if _LONG_MIN <= value <= _LONG_MAX:
        return b"l" + struct.pack(">q", value)
    raise ConfigurationError(f"a header holds 64 bits, not {value.bit_length()}")


def _time(value: datetime) -> bytes:
    seconds = int(value.timestamp())
    if seconds < 0:
        raise ConfigurationError(f"AMQP has no time before 1970: {value}")
    return b"T" + struct.pack(">Q", seconds)


def _decimal(value: Decimal) -> bytes:
    _, _, exponent = value.as_tuple()
    if isinstance(exponent, int):  # it is a letter for NaN and infinities
        scale = max(-exponent, 0)
        unscaled = int(value.scaleb(scale)) if abs(exponent) <= _MAX_SCALE else _LONG_MAX
        if scale <= _MAX_SCALE and _INT_MIN <= unscaled <= _INT_MAX:
            return b"D" + struct.pack(">Bi", scale, unscaled)
    raise ConfigurationError(f"AMQP's decimals hold 32 bits, not {value}")


def decode_headers(data: bytes, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """The field table `data`, given with its four bytes of length; empty `data` is an empty table.

    Text that is not UTF-8 is replaced, a timestamp beyond year 9999 stays a number.

    Raises:
        MalformedMessage: it is cut off, of unknown types, or nested deeper than `max_depth`.
    """
    if not data:
        return {}
    try:
        table, at = _get_table(data, 0, max_depth)
    except (struct.error, IndexError) as error:
        raise MalformedMessage("a header table is cut off") from error
    if at != len(data):
        raise MalformedMessage(f"{len(data) - at} bytes after a header table")
    return table


def _get_table(data: bytes, at: int, depth: int) -> tuple[dict[str, Any], int]:
    if depth < 1:
        raise MalformedMessage("headers are nested too deep")
    stop = _stop(data, at)
    at += 4
    table: dict[str, Any] = {}
    while at < stop:
        end = at + 1 + data[at]
        key = data[at + 1 : end].decode("utf-8", "replace")
        table[key], at = _get(data, end, depth)
    if at != stop:
        raise MalformedMessage("a header value reaches beyond its table")
    return table, at


def _get_array(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    if depth < 1:
        raise MalformedMessage("headers are nested too deep")
    stop = _stop(data, at)
    at += 4
    items: list[Any] = []
    while at < stop:
        item, at = _get(data, at, depth)
        items.append(item)
    if at != stop:
        raise MalformedMessage("a header value reaches beyond its array")
    return items, at


def _get(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    kind = data[at]
    at += 1
    if kind in (_STRING, _BYTES):
        stop = _stop(data, at)
        found = data[at + 4 : stop]
        return (found.decode("utf-8", "replace") if kind == _STRING else found), stop
    if (number := _NUMBERS.get(kind)) is not None:
        return number.unpack_from(data, at)[0], at + number.size
    if (reader := _READERS.get(kind)) is None:
        raise MalformedMessage(f"a header of unknown type {chr(kind)!r}")
    return reader(data, at, depth - 1)


def _stop(data: bytes, at: int) -> int:
    """Where what begins with a length at `at` ends."""
    stop: int = at + 4 + _U32.unpack_from(data, at)[0]
    if stop > len(data):
        raise MalformedMessage("a header value reaches beyond its table")
    return stop


def _get_time(data: bytes, at: int, _depth: int) -> tuple[datetime | int, int]:
    seconds: int = struct.unpack_from(">Q", data, at)[0]
    # Milliseconds are a common mistake, and no reason to lose the message.
    return (datetime.fromtimestamp(seconds, UTC) if seconds <= MAX_TIME else seconds), at + 8


def _get_decimal(data: bytes, at: int, _depth: int) -> tuple[Decimal, int]:
    scale, unscaled = struct.unpack_from(">Bi", data, at)
    return Decimal(unscaled).scaleb(-scale), at + 5


_READERS: dict[int, Callable[[bytes, int, int], tuple[Any, int]]] = {
    _TABLE: _get_table,
    _ARRAY: _get_array,
    _TIME: _get_time,
    _DECIMAL: _get_decimal,
    _VOID: lambda _data, at, _depth: (None, at),
    _BOOL: lambda data, at, _depth: (data[at] != 0, at + 1),
}
