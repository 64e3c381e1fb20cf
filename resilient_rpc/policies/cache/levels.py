"""Between the two levels: an entry of this process, and what stands in Redis."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from resilient_rpc.policies.cache.entries import Entry, size_of
from resilient_rpc.policies.cache.frozen import Frozen, is_immutable, pack, thawer
from resilient_rpc.policies.cache.keys import Key, key_bytes, names_of

if TYPE_CHECKING:
    from resilient_rpc.call import Call, Reply
    from resilient_rpc.pending import Started
    from resilient_rpc.policies.cache.redis_level import Found, RedisCache
    from resilient_rpc.policy import Runtime


class Loaded(NamedTuple):
    """What the second level said."""

    entry: Entry | None
    since: int | None
    """Redis's clock when it was asked: what is fetched now is as old as this. None: it did not answer."""
    trouble: str | None
    """Why it was of no use, for the event."""


async def load(shared: RedisCache, call: Call, key: Key, born: int) -> Loaded:
    """Ask the second level. Takes its `timeout` at most, and raises nothing."""
    runtime, begin = call.runtime, call.runtime.now()
    try:
        started = runtime.start(lambda rt: shared.load(rt, key_bytes(key), names_of(key, ())))
    except Exception:
        return Loaded(None, None, "shared")
    try:
        await runtime.wait((started,), min(shared.timeout, max(call.remaining(), 0.0)))
    finally:
        started.cancel()
    found = _result(started)
    if found is None:
        shared.failed(runtime.now())
        return Loaded(None, None, "shared")
    if found.record is None:
        return Loaded(None, found.since, "shared_value" if found.corrupt else None)
    try:
        frozen = _thawed(found.record.payload, call.returns)
    except Exception:  # written by a stranger, or by another version of the type
        return Loaded(None, found.since, "shared_value")
    fresh_until = begin + found.seconds
    entry = Entry(frozen, size_of(key, frozen), fresh_until, born, found.record.tags, found.record.server)
    return Loaded(entry, found.since, None)


def save(shared: RedisCache, call: Call, key: Key, reply: Reply, entry: Entry, life: float, since: int) -> None:
    """Write a value to the second level, in the background, if another process can read it."""
    payload = pack(reply.result, call.returns)
    if payload is None or len(payload) > shared.max_value or not shared.is_up(call.runtime.now()):
        return
    digest, names = key_bytes(key), names_of(key, entry.tags)

    async def write(runtime: Runtime) -> None:
        try:
            await shared.save(runtime, digest, payload, names=names, server=entry.server, life=life, since=since)
        except Exception:
            shared.failed(runtime.now())

    try:
        call.runtime.start(write)
    except Exception:  # the loop of this client is closing
        shared.failed(call.runtime.now())


def _result(started: Started[Found]) -> Found | None:
    """None: it failed, is not there yet, or was cancelled by a client that is closing."""
    try:
        return started.result()
    except (Exception, asyncio.CancelledError):
        return None


def _thawed(payload: bytes, returns: Any) -> Frozen:
    thaw = thawer(returns)
    value = thaw(payload)
    return (value, None, sys.getsizeof(value)) if is_immutable(value) else (payload, thaw, len(payload))
