"""One rate for many processes, counted in Redis: one script, one round trip."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.perloop import PerLoop
from resilient_rpc.policies.settings import check_count, check_seconds, shown
from resilient_rpc.policies.shared_rate import Ask, Lease
from resilient_rpc.stores.secured import settings_for

if TYPE_CHECKING:
    from redis.asyncio import Redis

HORIZON = 3600.0
"""Seconds that nobody waits for a token: an instant further away is not of our making, and is put right."""
CONNECTIONS = 16
"""To Redis, from one event loop, at most."""
MICROSECONDS = 1_000_000


class _Script:
    """A Lua script, run by its digest: Redis is sent the text only when it has forgotten it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, redis: Redis, key: str, *arguments: str | bytes) -> Any:
        from redis.exceptions import NoScriptError  # noqa: PLC0415 - see RedisRate

        try:
            return await redis.evalsha(self._digest, 1, key, *arguments)
        except NoScriptError:
            return await redis.eval(self._text, 1, key, *arguments)


# What `bucket.Bucket` does, kept as one instant (GCRA): when the bucket will be full, in microseconds of the clock of
# Redis. What stands in the key may be anything: it is used only if it is an instant that can have come from here.
# `%.3f`, for Lua itself writes 14 digits, and an instant has 16.
TAKE = _Script("""
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local interval, depth = tonumber(ARGV[1]), tonumber(ARGV[2])
local patience, horizon = tonumber(ARGV[3]), tonumber(ARGV[4])
local full_at = tonumber(redis.call('GET', KEYS[1]) or now)
if not full_at or full_at ~= full_at or full_at < now then full_at = now end
local foreign = full_at > now + depth + horizon
if foreign then full_at = now + depth end
local wait = math.max(0, math.ceil(full_at + interval - depth - now))
local granted = wait <= patience
if granted then full_at = full_at + interval end
local mark = string.format('%.3f', full_at)
if granted or foreign then redis.call('SET', KEYS[1], mark, 'PX', math.ceil((full_at - now) / 1000)) end
return {granted and 1 or 0, wait, mark}
""")

# Only the last slot can be returned: behind another one, it would let two calls go at the same instant.
REFUND = _Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('SET', KEYS[1], string.format('%.3f', ARGV[1] - ARGV[2]), 'KEEPTTL')
end
""")


@dataclass(frozen=True, kw_only=True, eq=False)
class RedisRate:
    """Counts a `RateLimit` in Redis, for all processes that use the same `prefix`, name and key.

    The time is that of Redis. The cancelled wait of the latest caller is returned; that of one before it is lost. A key
    lives no longer than it takes to fill the bucket. Redis 6 or newer. redis-py's own retries are off.
    """

    url: str = field(kw_only=False, repr=False)
    """``redis://`` or ``rediss://``, as redis-py takes it."""
    prefix: str = "rpc:rate"
    """What the keys begin with."""
    timeout: float = 0.1
    """Seconds that a call waits for Redis, before it does without."""
    instances: int = 1
    """How many processes share the rate: while Redis is away, each keeps to its part of it."""
    _clients: PerLoop[Redis] = field(default_factory=PerLoop, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.prefix or not isinstance(self.prefix, str):
            raise ConfigurationError(f"RedisRate.prefix must be a str that is not empty, not {shown(self.prefix)}")
        check_seconds("RedisRate.timeout", self.timeout)
        check_count("RedisRate.instances", self.instances)
        try:
            self._connect()  # opens nothing yet; imports what takes 0.3 s, and must not do so on an event loop
        except ConfigurationError:
            raise
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigurationError(f"RedisRate.url is not one of Redis: {error}") from None

    async def take(self, ask: Ask, /) -> Lease:
        """Take a token."""
        interval = MICROSECONDS / ask.rate
        patience = min(ask.patience, HORIZON) * MICROSECONDS
        numbers = (interval, ask.burst * interval, patience, HORIZON * MICROSECONDS)
        answer = await TAKE.run(self._clients.get(self._connect), self._key(ask), *[repr(number) for number in numbers])
        match answer:
            case [0 | 1 as granted, int(wait), bytes(mark)]:
                return Lease(granted=granted == 1, wait=wait / MICROSECONDS, mark=mark)
        raise ValueError(f"not an answer of the script: {answer!r}")

    async def refund(self, ask: Ask, lease: Lease, /) -> None:
        """Return a token, if no other was taken after it."""
        await REFUND.run(self._clients.get(self._connect), self._key(ask), lease.mark, repr(MICROSECONDS / ask.rate))

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        client = self._clients.pop()
        if client is not None:
            await client.aclose()

    def _key(self, ask: Ask) -> str:
        return f"{self.prefix}:{{{ask.key}}}"

    def _connect(self) -> Redis:
        from redis.asyncio import BlockingConnectionPool, Redis  # noqa: PLC0415 - only who shares a rate needs it
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415

        pool = BlockingConnectionPool.from_url(
            self.url,
            max_connections=CONNECTIONS,
            timeout=self.timeout,
            socket_timeout=self.timeout,
            socket_connect_timeout=self.timeout,
            retry=Retry(NoBackoff(), 0),
            protocol=2,  # and no notifications: with them a connection is used again with an answer unread on it
            **settings_for("RedisRate.url", self.url),
        )
        return Redis.from_pool(pool)
