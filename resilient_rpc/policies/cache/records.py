"""What stands in Redis, read as the word of a stranger."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

MAX_LIFE = 86_400.0
"""Seconds that a value may stay in Redis."""
NEVER = 2**63


class Record(msgspec.Struct, array_like=True, kw_only=True, forbid_unknown_fields=True):
    """A value."""

    version: Literal[1] = 1
    since: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    """Redis's clock when its call was sent, ms."""
    names: Annotated[list[str], msgspec.Meta(max_length=1024)]
    """By which it can be invalidated."""
    server: str | None = None
    payload: bytes

    @property
    def tags(self) -> tuple[str, ...]:
        """Those of its names that are tags."""
        return tuple(name[2:] for name in self.names if name.startswith("t:"))


_decoder = msgspec.msgpack.Decoder(Record)


def read_record(data: bytes) -> Record | None:
    """The record, or None for what is none."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def read_void(mark: bytes | None) -> int:
    """When a name was invalidated, ms; what is no number voids everything."""
    if mark is None:
        return -1
    return int(mark) if mark.isdigit() and len(mark) < len(str(NEVER)) else NEVER
