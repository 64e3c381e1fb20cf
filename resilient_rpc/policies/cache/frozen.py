"""Values that a caller cannot change for the next one."""

from __future__ import annotations

import copy
import datetime as dt
import decimal
import gc
import sys
import types
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from resilient_rpc.errors import RemoteError, fresh
from resilient_rpc.wire.codec import JSON

_IMMUTABLE = frozenset({
    type(None), bool, int, float, str, bytes, decimal.Decimal, uuid.UUID,
    dt.datetime, dt.date, dt.time, dt.timedelta,
})  # fmt: skip
_PLAIN = frozenset({str, int, float, bool, type(None), bytes})
_NAMES = frozenset({str, int})
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
_unpack_any: Callable[[Any], Any] = _unpack


def is_immutable(value: Any) -> bool:
    """Whether everybody may have the very same object. A subclass may be anything."""
    return type(value) in _IMMUTABLE


Frozen = tuple[Any, Callable[[Any], Any] | None, int]
"""A value as it is kept; what makes a new one of that, or None where it can be handed out as it is; bytes, about."""


def freeze(value: Any, returns: Any) -> Frozen:
    """Keep `value`, the result of a call that declared the type `returns`.

    Encoded, if the same comes back: decoding is ten times as fast as copying. MessagePack where the type is not
    declared, for it knows bytes and keys that are numbers; JSON into the declared type, for MessagePack forgets in
    which zone a time was given. Else as a deep copy; raises what copying raises.
    """
    if type(value) in _IMMUTABLE:
        return value, None, sys.getsizeof(value)
    encoded = _encoded(value, returns)
    if encoded is not None:
        return encoded
    held = copy.deepcopy(value)
    return held, copy.deepcopy, weigh(held)


def pack(value: Any, returns: Any) -> bytes | None:
    """The bytes of `value` for another process; None: it would not be the same there."""
    encoded = _encoded(value, returns)
    return None if encoded is None else encoded[0]


def thawer(returns: Any) -> Callable[[Any], Any]:
    """What makes a value of the bytes of `pack`."""
    return _unpack_any if returns is None else JSON.decoder(returns).decode


def _encoded(value: Any, returns: Any) -> Frozen | None:
    try:
        if returns is None:
            if not _is_plain(value):
                return None
            data = _pack(value)
            return data, _unpack_any, len(data)
        thaw = JSON.decoder(returns).decode
        data = JSON.encode(value)
        twin = thaw(data)
    except Exception:  # whatever the type of a user does: it is copied instead
        return None
    return (data, thaw, len(data)) if type(twin) is type(value) and twin == value else None


def _is_plain(value: Any) -> bool:
    """Whether MessagePack gives back the very same: subclasses, tuples and sets would come back as something else."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind is dict:
        if not _NAMES.issuperset(map(type, value)):
            return False
        value = value.values()
    elif kind is not list:
        return False
    return all(type(inner) in _PLAIN or _is_plain(inner) for inner in value)


def weigh(value: Any) -> int:
    """The bytes of `value` with all that it refers to, but for what a program consists of."""
    seen: dict[int, Any] = {}
    todo = [value]
    while todo:
        thing = todo.pop()
        if id(thing) not in seen and not isinstance(thing, type | types.ModuleType | types.FunctionType):
            seen[id(thing)] = thing
            todo.extend(gc.get_referents(thing))
    return sum(map(sys.getsizeof, seen.values()))


def another(error: BaseException) -> BaseException:
    """A copy of `error` for one more caller, who may change its details."""
    twin = fresh(error)
    if isinstance(twin, RemoteError) and twin is not error:
        twin.details = copy.deepcopy(twin.details)
    return twin
