"""What tells one cached call from another, and the names by which cached values are invalidated."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from resilient_rpc.call import Call, Params

Vary = Callable[[Call], str]
Key = tuple[str, Any, bytes, Any]
"""Method, type of the result, arguments, and what else the answer depends on."""
EVERYTHING = "*"
"""The name that stands for all values."""

# MessagePack and not JSON: 1, 1.0 and True differ in it, and so do a text and bytes.
_encode = msgspec.msgpack.Encoder(order="sorted").encode


def key_of(call: Call, vary: Vary | None) -> Key:
    """The key of a call. Raises whatever encoding its arguments, or `vary`, raises."""
    if vary is not None:
        other: Any = vary(call)
        if not isinstance(other, str):
            raise TypeError(f"vary gave {other!r:.100}, not a text")
    else:
        other = tuple(sorted(call.tags.items())) if call.tags else None
    key = call.method, call.returns, _encode(call.params or ()), other
    hash(key)  # a type that cannot be hashed
    return key


def key_bytes(key: Key) -> bytes:
    """The same key in every process."""
    method, returns, arguments, other = key
    return hashlib.sha256(_encode((method, repr(returns), arguments, other))).digest()


def method_name(method: str) -> str:
    """Of all values of a method."""
    return "m:" + method


def arguments_name(method: str, arguments: bytes) -> str:
    """Of the values of one method and its arguments, whatever else they depend on."""
    return "k:" + hashlib.sha256(_encode((method, arguments))).hexdigest()


def tag_name(tag: str) -> str:
    """Of the values with a tag."""
    return "t:" + tag


def names_of(key: Key, tags: Sequence[str]) -> list[str]:
    """All names by which the value of a key can be invalidated."""
    method, _, arguments, _ = key
    return [EVERYTHING, method_name(method), arguments_name(method, arguments), *map(tag_name, tags)]


def name_to_void(method: str | None, params: Params | None, tag: str | None) -> str:
    """The name that an invalidation is about."""
    if tag is not None:
        return tag_name(tag)
    if method is None:
        return EVERYTHING
    return method_name(method) if params is None else arguments_name(method, _encode(params or ()))
