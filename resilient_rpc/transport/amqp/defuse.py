"""Hostile headers, disarmed on the wire before pika's decoder sees them."""

from __future__ import annotations

import struct

from resilient_rpc.transport.amqp.frames import HEADER_FLAGS, read_u16, read_u32, read_u64
from resilient_rpc.transport.tables import MAX_DEPTH, MAX_TIME

_SIZES = {
    ord(kind): size
    for kind, size in {
        "t": 1, "b": 1, "B": 1, "U": 2, "u": 2, "s": 2, "I": 4, "i": 4, "L": 8, "l": 8, "f": 4, "d": 8, "D": 5, "T": 8,
        "V": 0,
    }.items()
}  # fmt: skip
_TABLE, _ARRAY, _TIME, _STRING, _BYTES, _FLOAT, _DOUBLE, _LONG, _INT = b"FATSxfdlI"
_INFINITE = {_FLOAT: 0x7F80, _DOUBLE: 0x7FF0}


def defuse(buffer: bytearray, at: int, end: int) -> int:
    """Make the header table of the content header `buffer[at:end]` safe for pika; returns how many values were not.

    pika raises out of its frame decoder, which ends the connection, for a timestamp beyond year 9999, for a float
    that is not finite, and for some thousand nested tables; the broker then delivers the message again, so every
    consumer dies for ever. Each is disarmed by changing one byte, its type, for a type of the same length: a
    timestamp and a double become a long, a float an int, a table or array nested too deep a byte string. A table
    that is broken becomes one of empty values.

    Raises:
        ValueError: the header ends before its table: no broker sends that.
    """
    try:
        start = _start(buffer, at)
    except (IndexError, struct.error) as error:
        raise ValueError("a content header is cut off") from error
    if start < 0:
        return 0
    if start + 4 > end or (stop := start + 4 + read_u32(buffer, start)[0]) > end:
        raise ValueError("a header table reaches beyond its frame")
    try:
        return _disarm(buffer, start + 4, stop)
    except (IndexError, struct.error, ValueError):
        return _blank(buffer, start + 4, stop)


def _start(buffer: bytearray, at: int) -> int:
    """Where the header table begins; below zero if there is none."""
    at += HEADER_FLAGS
    flags: int = read_u16(buffer, at)[0]
    at += 2
    if not flags & 0x2000:
        return -1
    more = flags & 1
    while more:  # further words of flags; none is defined
        more = buffer[at + 1] & 1
        at += 2
    for flag in (0x8000, 0x4000):  # content_type and content_encoding stand before it
        if flags & flag:
            at += 1 + buffer[at]
    return at


def _disarm(buffer: bytearray, at: int, end: int) -> int:
    stack = [(end, True)]  # where each open container ends, and whether it has keys
    changed = 0
    while stack:
        stop, keyed = stack[-1]
        if at >= stop:
            if at > stop:
                raise ValueError("a value reaches beyond its container")
            stack.pop()
            continue
        if keyed:
            at += 1 + buffer[at]
        kind = buffer[at]
        at += 1
        size = _SIZES.get(kind)
        if size is not None:
            changed += _retype(buffer, kind, at)
            at += size
            continue
        length: int = read_u32(buffer, at)[0]
        at += 4
        if kind in (_STRING, _BYTES):
            at += length
        elif kind not in (_TABLE, _ARRAY) or at + length > stop:
            raise ValueError(f"a value of type {kind} and {length} bytes")
        elif len(stack) >= MAX_DEPTH:
            buffer[at - 5] = _BYTES
            changed += 1
            at += length
        else:
            stack.append((at + length, kind == _TABLE))
    return changed


def _retype(buffer: bytearray, kind: int, at: int) -> int:
    """Give the number at `at` another type, if pika would raise for it."""
    if kind == _TIME:
        hostile = read_u64(buffer, at)[0] > MAX_TIME
    elif kind in _INFINITE:  # all bits of the exponent are set: not a number, or infinite
        hostile = read_u16(buffer, at)[0] & _INFINITE[kind] == _INFINITE[kind]
    else:
        return 0
    if hostile:
        buffer[at - 1] = _INT if kind == _FLOAT else _LONG
    return int(hostile)


def _blank(buffer: bytearray, at: int, end: int) -> int:
    """Overwrite a broken table with pairs of an empty key and no value, which decode to almost nothing."""
    size = end - at
    if size % 2:
        if size == 1:
            raise ValueError("a header table of one byte")
        buffer[at : at + 3] = b"\x01?V"
        at += 3
    buffer[at:end] = b"\x00V" * ((end - at) // 2)
    return 1
