"""Keys and begins for the tests of stores."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import redis

from resilient_rpc.stores import New, RecordKey, RedisStore, Store
from resilient_rpc.stores.base import Began

T = TypeVar("T")
PATIENT = 5.0
"""Seconds: the machine of the tests may be busy."""


def new_key(**parts: str) -> RecordKey:
    return RecordKey(**{"tenant": "t1", "service": "orders", "method": "create", "key": secrets.token_hex(8), **parts})


async def begin(store: Store, key: RecordKey | None = None, **settings: Any) -> Began:
    return await store.begin(key or new_key(), **{"fingerprint": b"f" * 32, "lease": 30.0, "ttl": 60.0, **settings})


async def new(store: Store, key: RecordKey | None = None, **settings: Any) -> int:
    began = await begin(store, key, **settings)
    assert isinstance(began, New)
    return began.epoch


@contextlib.asynccontextmanager
async def closing(*stores: Store) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for store in stores:
            await store.close()


def uninspected(url: str, **settings: Any) -> RedisStore:
    """A store that asks nothing of Redis but its steps."""
    store = RedisStore(url, **settings)
    store._inspected.set()
    return store


def on_a_loop(store: Store, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    async def main() -> T:
        async with closing(store):
            return await work()

    return asyncio.run(main())


async def eventually(condition: Callable[[], Awaitable[object]], what: str, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < until, f"{what} did not come about within {seconds} s"
        await asyncio.sleep(0.02)


def commands(url: str) -> dict[str, int]:
    """How often each command was carried out."""
    with redis.Redis.from_url(url) as client:
        found: Any = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): stats["calls"] for name, stats in found.items()}
