"""How large, how many and how deep a message may be."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from resilient_rpc.errors import ConfigurationError, TooLarge

MIB = 1024 * 1024
# Possessive, and a string may end with the text: what is tried once is never tried again, whatever stands there.
_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on what is sent and on what is accepted. Beyond each of them the error is `TooLarge`.

    `max_body`: bytes of a message body (default 4 MiB; RabbitMQ 4 itself refuses more than 16 MiB).
    `max_headers`: bytes of its header table (default 32 KiB; a frame has room for 128 KiB, and one that does not fit
    closes the whole connection). `max_items`: calls in one message (default 1,000). `max_depth`: nesting of
    the arguments or the result (default 64).
    """

    max_body: int = 4 * MIB
    max_headers: int = 32 * 1024
    max_items: int = 1_000
    max_depth: int = 64

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < 1:
                raise ConfigurationError(f"Limits({field.name}={value!r}): give a whole number of at least 1")

    def check_body(self, size: int, what: str) -> None:
        """Raise `TooLarge` if a body of `size` bytes is over the limit."""
        if size > self.max_body:
            raise TooLarge(f"{what} of {size} bytes is over the limit of {self.max_body}")

    def check_items(self, count: int) -> None:
        """Raise `TooLarge` if a batch of `count` calls is over the limit."""
        if count > self.max_items:
            raise TooLarge(f"a batch of {count} calls is over the limit of {self.max_items}")

    def check_json_depth(self, data: bytes) -> None:
        """Raise `TooLarge` if the JSON text `data` is nested too deeply; the common case is two counts of a byte."""
        if data.count(b"{") + data.count(b"[") > self.max_depth and json_depth(data) > self.max_depth:
            raise TooLarge(f"nested deeper than {self.max_depth} levels")

    def check_msgpack_depth(self, data: bytes) -> None:
        """Raise `TooLarge` if the MessagePack value `data` is nested too deeply."""
        if len(data) > self.max_depth and msgpack_depth(data, self.max_depth) > self.max_depth:
            raise TooLarge(f"nested deeper than {self.max_depth} levels")


def json_depth(data: bytes) -> int:
    """How deeply a JSON text is nested. Brackets in strings do not count."""
    depth = deepest = 0
    for match in _BRACKETS.finditer(data):
        first = data[match.start()]
        if first in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in b"]}":
            depth -= 1
    return deepest


_FIXED = {
    **dict.fromkeys((0xC0, 0xC2, 0xC3), 0),
    0xCA: 4,
    0xCB: 8,
    **{0xCC + n: 1 << n for n in range(4)},
    **{0xD0 + n: 1 << n for n in range(4)},
    **{0xD4 + n: 1 + (1 << n) for n in range(5)},
}
"""Payload sizes of MessagePack's fixed-size types."""
_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""How many bytes of length follow the tag of a string, a byte string or an extension."""
_CONTAINERS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""How many bytes of count follow the tag of an array (1 value each) or map (2 values each)."""


def msgpack_depth(data: bytes, enough: int) -> int:
    """How deeply a MessagePack value is nested; stops counting above `enough`. Truncated data counts as it stands."""
    left = [1]  # values still to come, at each level
    at, deepest, end = 0, 0, len(data)
    while left and at < end and deepest <= enough:
        if not left[-1]:
            left.pop()
            continue
        left[-1] -= 1
        step, inside = _msgpack_item(data, at)
        at += step
        if inside is not None:
            left.append(inside)
            deepest = max(deepest, len(left) - 1)
    return deepest


def _msgpack_item(data: bytes, at: int) -> tuple[int, int | None]:
    """How many bytes the value's own head (and payload) takes, and how many values stand inside it."""
    tag = data[at]
    if tag < 0x80 or tag >= 0xE0:  # noqa: PLR2004 - MessagePack's own numbers, here and below
        return 1, None
    if tag < 0x90:  # noqa: PLR2004
        return 1, 2 * (tag & 0x0F)
    if tag < 0xA0:  # noqa: PLR2004
        return 1, tag & 0x0F
    if tag < 0xC0:  # noqa: PLR2004
        return 1 + (tag & 0x1F), None
    if tag in _CONTAINERS:
        width, each = _CONTAINERS[tag]
        return 1 + width, each * int.from_bytes(data[at + 1 : at + 1 + width], "big")
    if tag in _LENGTHS:
        width = _LENGTHS[tag]
        extension = 1 if 0xC7 <= tag <= 0xC9 else 0  # noqa: PLR2004
        return 1 + width + extension + int.from_bytes(data[at + 1 : at + 1 + width], "big"), None
    return 1 + _FIXED.get(tag, 0), None
