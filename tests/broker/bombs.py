"""Header tables that no ordinary client writes, as bytes of the wire: each is the properties of a message."""

from __future__ import annotations

import struct


def headers(kind: bytes, payload: bytes) -> bytes:
    """One header of this type."""
    data = b"\x04bomb" + kind + payload
    return b"\x20\x00" + struct.pack(">I", len(data)) + data


def nested(kind: bytes, depth: int) -> bytes:
    """Arrays in arrays, or tables in tables."""
    data = b""
    for _ in range(depth):
        data = (b"\x01k" if kind == b"F" else b"") + kind + struct.pack(">I", len(data)) + data
    return headers(kind, struct.pack(">I", len(data)) + data)


# Numbers that are infinite are not here: RabbitMQ itself does not read them, and ends their publisher.
BOMBS = {
    "timestamp in milliseconds": headers(b"T", struct.pack(">Q", 1_700_000_000_000)),
    "timestamp of all bits": headers(b"T", b"\xff" * 8),
    "1,100 arrays": nested(b"A", 1_100),
    "1,100 tables": nested(b"F", 1_100),
    "20,000 arrays": nested(b"A", 20_000),
}
