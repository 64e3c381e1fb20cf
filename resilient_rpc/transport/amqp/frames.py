"""What stream and lane know of AMQP's frames: numbers and compiled structs."""

from __future__ import annotations

import struct

METHOD, HEADER, BODY = 1, 2, 3
END = 0xCE
OVERHEAD = 8
"""Bytes of a frame around its payload."""

read_head = struct.Struct(">BHI").unpack_from
"""Type, channel and payload size of a frame."""
read_u16 = struct.Struct(">H").unpack_from
read_u32 = struct.Struct(">I").unpack_from
read_u64 = struct.Struct(">Q").unpack_from
read_method = struct.Struct(">HH").unpack_from
"""Class and method at the beginning of a method frame's payload."""

HEADER_FLAGS = 12
"""Where a content header's payload has the flags of its properties."""
HAS_HEADERS = 0x20
"""Bit of the first byte of those flags."""

CONNECTION_CLOSE = b"\x00\x0a\x00\x32"
BASIC = 60
RETURN, DELIVER, GET, GET_OK, GET_EMPTY, ACK, NACK = 50, 60, 70, 71, 72, 80, 120
