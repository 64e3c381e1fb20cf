"""The second level: values in Redis for all processes, and invalidations that reach all of them."""

from __future__ import annotations

import asyncio
import secrets
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from resilient_rpc import forking
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies.cache.keys import EVERYTHING
from resilient_rpc.policies.cache.records import MAX_LIFE, Record, read_record, read_void
from resilient_rpc.policies.cache.subscriber import Connections
from resilient_rpc.policies.settings import check_count, check_flag, check_seconds, shown
from resilient_rpc.stores.secured import settings_for

if TYPE_CHECKING:
    from resilient_rpc.policies.cache.voids import Voids
    from resilient_rpc.policy import Runtime

PAUSE = 1.0
"""Seconds for which Redis is not asked after a failure: each miss would wait for it."""
# By Redis's own clock, so that those of the clients do not matter.
# KEYS: the mark. ARGV: its life, the channel, the message.
_VOID = """
local t = redis.call('TIME')
redis.call('SET', KEYS[1], t[1] * 1000 + math.floor(t[2] / 1000), 'PX', ARGV[1])
return redis.call('PUBLISH', ARGV[2], ARGV[3])
"""


class Found(NamedTuple):
    """What Redis has for a key."""

    record: Record | None
    seconds: float
    """For how long it stays fresh."""
    since: int
    """Redis's clock, ms."""
    corrupt: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class RedisCache:
    """A second level for `Cache(shared=...)`: one Redis for all processes.

    Asked when this process does not know a value, and written to after each fetch. Fails open: what Redis does not
    answer within `timeout`, or answers with what is no value of ours, costs a call and no more. Values are JSON or
    MessagePack, never code; whoever may write to this Redis may put words into the mouth of your servers. With
    `broadcast`, an invalidation in one process reaches the others by Redis pub/sub; while a process is cut off, it
    keeps its values until their ttl, and forgets all of them when it is connected again.
    """

    url: str = field(kw_only=False, repr=False)
    """``redis://...``, ``rediss://...`` or ``unix://...``."""
    prefix: str = "rpc:cache:"
    """Of all keys and of the channel; clients with the same prefix share their values."""
    timeout: float = 0.1
    """Seconds for each question."""
    max_value: int = 1 << 20
    """Bytes; larger values stay in their process."""
    broadcast: bool = True
    _voids: weakref.WeakSet[Voids] = field(init=False, repr=False, default_factory=weakref.WeakSet)
    _connections: Connections = field(init=False, repr=False)
    _sender: str = field(init=False, repr=False, default_factory=lambda: secrets.token_hex(8))
    _down: list[float] = field(init=False, repr=False, default_factory=lambda: [0.0])

    def __post_init__(self) -> None:
        url: Any = self.url
        if not isinstance(url, str) or not url.startswith(("redis://", "rediss://", "unix://")):
            raise ConfigurationError("RedisCache.url must begin with redis://, rediss:// or unix://")
        settings_for("RedisCache.url", url)
        prefix: Any = self.prefix
        if not isinstance(prefix, str) or not prefix:
            raise ConfigurationError(f"RedisCache.prefix must be a text, not {shown(prefix)}")
        check_seconds("RedisCache.timeout", self.timeout)
        check_count("RedisCache.max_value", self.max_value)
        check_flag("RedisCache.broadcast", self.broadcast)
        connections = Connections(
            self.url,
            timeout=self.timeout,
            channel=self.prefix + "void" if self.broadcast else None,
            heard=self._heard,
            joined=lambda: self._mark(EVERYTHING),
        )
        object.__setattr__(self, "_connections", connections)
        forking.register(connections)

    def attach(self, voids: Voids) -> None:
        """Have invalidations of other processes marked here, too."""
        self._voids.add(voids)

    def is_up(self, now: float) -> bool:
        """Whether it is worth asking: not right after a failure."""
        return now >= self._down[0]

    def failed(self, now: float) -> None:
        """It did not answer."""
        self._down[0] = now + PAUSE

    async def load(self, runtime: Runtime, key: bytes, names: list[str]) -> Found:
        """What Redis has. Raises what its client raises."""
        client = self._connections.of(runtime)
        where = f"{self.prefix}v:{key.hex()}"
        async with client.pipeline(transaction=False) as pipe:
            # Not GET: a value of half a gigabyte would be fetched before we could refuse it.
            pipe.getrange(where, 0, self.max_value + 1024)
            pipe.pttl(where)
            pipe.time()
            pipe.mget([self._mark_key(name) for name in names])
            data, left, (seconds, micros), marks = await pipe.execute()
        since = seconds * 1000 + micros // 1000
        if not data:
            return Found(None, 0.0, since)
        record = read_record(data)
        if record is None or not 0 < left <= MAX_LIFE * 1000:
            return Found(None, 0.0, since, corrupt=True)
        more = [self._mark_key(name) for name in record.names if name not in names]
        if more:
            marks += await client.mget(more)
        if any(read_void(mark) >= record.since for mark in marks):
            return Found(None, 0.0, since)
        return Found(record, left / 1000, since)

    async def save(
        self,
        runtime: Runtime,
        key: bytes,
        payload: bytes,
        *,
        names: list[str],
        server: str | None,
        life: float,
        since: int,
    ) -> None:
        """Write a value that was asked for at `since` and lives for `life` seconds."""
        data = msgspec.msgpack.encode(Record(since=since, names=names, server=server, payload=payload))
        client = self._connections.of(runtime)
        async with asyncio.timeout(self.timeout):
            await client.set(f"{self.prefix}v:{key.hex()}", data, px=max(int(min(life, MAX_LIFE) * 1000), 1))

    async def void(self, runtime: Runtime, name: str) -> None:
        """Invalidate what has this name, and was asked for until now."""
        message = msgspec.msgpack.encode((self._sender, name))
        client = self._connections.of(runtime)
        async with asyncio.timeout(self.timeout):
            # Twice the life of a value: what is on its way now is written later.
            await client.eval(_VOID, 1, self._mark_key(name), int(MAX_LIFE * 2000), self.prefix + "void", message)

    def _mark_key(self, name: str) -> str:
        return f"{self.prefix}m:{name}"

    def _heard(self, message: bytes) -> None:
        try:
            sender, name = msgspec.msgpack.decode(message, type=tuple[str, str])
        except (msgspec.DecodeError, UnicodeDecodeError):  # from a stranger
            return
        if sender != self._sender:
            self._mark(name)

    def _mark(self, name: str) -> None:
        for voids in list(self._voids):
            voids.mark(name)
