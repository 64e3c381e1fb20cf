"""What is signed: every part of a message that decides what becomes of it, as one unambiguous string of bytes."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from resilient_rpc import Message

HEADER = "rpc-signature"
"""The header in which a signature travels: ``1;<key id>;<Unix ms>;<hex>``."""
VERSION = "1"
KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
DIRECT_REPLY = "amq.rabbitmq.reply-to"
PREFIX = "rpc-"
"""Headers of these names are signed. Others are the broker's, which adds some on the way."""
_SIGNATURE = re.compile(rf"{VERSION};({KEY_ID.pattern});(0|[1-9][0-9]{{0,15}});([0-9a-f]{{64}})", re.ASCII)


class Signature(NamedTuple):
    """A signature as it travels."""

    key_id: str
    at: int
    """When it was made, Unix ms."""
    mac: bytes

    def __str__(self) -> str:
        return f"{VERSION};{self.key_id};{self.at};{self.mac.hex()}"


def parse(text: object) -> Signature | None:
    """The signature in a header; None if it is none."""
    found = _SIGNATURE.fullmatch(text) if isinstance(text, str) else None
    return Signature(found[1], int(found[2]), bytes.fromhex(found[3])) if found is not None else None


def canonical(message: Message, key_id: str, at: int) -> bytes:
    """The bytes that a signature is made of. ValueError for a header of ours that is neither text nor number.

    Every part stands behind its own length and kind, so that no two messages have the same bytes. The broker puts the
    whole direct reply-to address in place of its name: only that it is one is signed, because a client never learns
    the address. Left out are `user_id` (the broker's own proof), `delivery_mode` and headers that are not ours.
    """
    parts: list[bytes] = []
    for value in (
        VERSION, message.direction, key_id, at,
        _address(message.target) if message.direction == "reply" else message.target,
        _address(message.reply_to), message.correlation_id, message.type, message.content_type,
        message.content_encoding, message.expiration, message.timestamp, message.message_id, message.app_id,
        message.priority,
    ):  # fmt: skip
        _put(parts, value)
    ours = sorted(name for name in message.headers if name.startswith(PREFIX) and name != HEADER)
    _put(parts, len(ours))
    for name in ours:
        _put(parts, name)
        _put(parts, message.headers[name])
    _put(parts, message.body)
    return b"".join(parts)


def _address(name: str | None) -> str | None:
    return DIRECT_REPLY if name is not None and name.startswith(f"{DIRECT_REPLY}.") else name


def _put(parts: list[bytes], value: Any) -> None:
    if value is None:
        parts.append(b"n")
        return
    if isinstance(value, str):
        kind, data = b"s", value.encode("utf-8", "surrogatepass")
    elif isinstance(value, bytes):
        kind, data = b"b", value
    elif type(value) is int:
        kind, data = b"i", b"%d" % value
    else:
        raise ValueError(f"a {type(value).__name__} cannot be signed")
    parts += kind, b"%d:" % len(data), data
