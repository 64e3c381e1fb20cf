"""What an idempotency record takes: in Redis, and in the memory of a process."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import uuid

import redis

from resilient_rpc.stores import MemoryStore, New, RecordKey, RedisStore, Store

COUNT, ANSWER = 10_000, b'{"result":{"n":1}}'


async def _fill(store: Store) -> None:
    run = uuid.uuid4().hex[:8]

    async def one(number: int) -> None:
        key = RecordKey("bench", "orders", "create", f"{run}.{number}")
        began = await store.begin(key, fingerprint=bytes(32), lease=30, ttl=60)
        assert type(began) is New, began
        await store.complete(key, began.epoch, ANSWER, ok=True, ttl=60)

    for base in range(0, COUNT, 100):
        await asyncio.gather(*[one(base + number) for number in range(100)])


async def _in_redis(url: str) -> None:
    store = RedisStore(url, namespace="bench-size", timeout=10.0)
    await _fill(store)
    await store.close()


def sizes(url: str) -> dict[str, float]:
    """Bytes of a record with a key of 25 and an answer of 18 bytes."""
    found: dict[str, float] = {}
    if url:
        with redis.Redis.from_url(url) as client:
            before = client.info("memory")["used_memory"]
            asyncio.run(_in_redis(url))
            found["a record in Redis"] = (client.info("memory")["used_memory"] - before) / COUNT
    store = MemoryStore()
    gc.collect()
    tracemalloc.start()
    asyncio.run(_fill(store))
    gc.collect()
    found["a record in a MemoryStore"] = tracemalloc.get_traced_memory()[0] / COUNT
    tracemalloc.stop()
    return found
