"""`RedisStore` and `@idempotent`: `python -m benchmarks.records_ours REDIS_URL SECONDS`."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import TypedDict

from benchmarks.peers.pace import WARM_UP, by_threads
from resilient_rpc.policies.idempotency import idempotent
from resilient_rpc.stores import New, RecordKey, RedisStore, Replay

AT_ONCE = 64
FINGERPRINT = bytes(32)
PATIENT = 10.0
"""Seconds: a disk that is busy must not end the run."""


class Order(TypedDict):
    """The argument of the functions."""

    run: str
    n: int


def key_of(order: Order) -> str:
    """The key of a call of them."""
    return f"{order['run']}.{order['n']}"


async def by_tasks(
    work: Callable[[int], Awaitable[object]], numbers: Iterator[int], seconds: float, tasks: int
) -> float:
    """Calls of `work` a second, by so many tasks."""
    for number in itertools.islice(numbers, WARM_UP):
        await work(number)
    begin = time.perf_counter()

    async def run() -> int:
        count = 0
        while time.perf_counter() < begin + seconds:
            await work(next(numbers))
            count += 1
        return count

    counts = await asyncio.gather(*[run() for _ in range(tasks)])
    return sum(counts) / (time.perf_counter() - begin)


def cases(base: int) -> tuple[Iterator[int], Iterator[int]]:
    """Fresh numbers, and known ones."""
    return itertools.count(base), itertools.cycle(range(base, base + WARM_UP))


async def store_alone(url: str, seconds: float) -> dict[str, float]:
    """Begin and complete; begin again."""
    store, run, found = RedisStore(url, namespace="bench", timeout=PATIENT), uuid.uuid4().hex, {}

    def key(number: int) -> RecordKey:
        return RecordKey("bench", "orders", "create", f"{run}.{number}")

    async def fresh(number: int) -> None:
        began = await store.begin(key(number), fingerprint=FINGERPRINT, lease=30, ttl=3600)
        if type(began) is not New:
            raise AssertionError(f"{began!r} of a fresh key")
        await store.complete(key(number), began.epoch, json.dumps({"n": number}).encode(), ok=True, ttl=3600)

    async def replay(number: int) -> None:
        began = await store.begin(key(number), fingerprint=FINGERPRINT, lease=30, ttl=3600)
        if type(began) is not Replay or json.loads(began.payload) != {"n": number}:
            raise AssertionError(f"{began!r} of a known key")

    for tasks, name in ((1, "1"), (AT_ONCE, "64")):
        new, known = cases(tasks * 10_000_000)
        found[f"store fresh {name}"] = await by_tasks(fresh, new, seconds, tasks)
        found[f"store replay {name}"] = await by_tasks(replay, known, seconds, tasks)
    await store.close()
    return found


def functions(url: str, seconds: float) -> dict[str, float]:
    """A function of one's own, in threads; and a coroutine function in tasks."""
    run, found = uuid.uuid4().hex, {}

    @idempotent(RedisStore(url, namespace="bench", timeout=PATIENT), key=key_of)
    def create(order: Order) -> dict[str, int]:
        return {"n": order["n"]}

    def decorated(number: int) -> None:
        if create({"run": run, "n": number}) != {"n": number}:
            raise AssertionError("a wrong answer")

    for threads, name in ((1, "1"), (AT_ONCE, "64")):
        new, known = cases(threads * 10_000_000)
        found[f"function fresh {name}"] = by_threads(decorated, new, seconds, threads)
        found[f"function replay {name}"] = by_threads(decorated, known, seconds, threads)
    return found


async def coroutines(url: str, seconds: float) -> dict[str, float]:
    """A coroutine function, in tasks."""
    run, found = uuid.uuid4().hex, {}
    store = RedisStore(url, namespace="bench", timeout=PATIENT)

    @idempotent(store, key=key_of)
    async def create(order: Order) -> dict[str, int]:
        return {"n": order["n"]}

    async def decorated(number: int) -> None:
        if await create({"run": run, "n": number}) != {"n": number}:
            raise AssertionError("a wrong answer")

    new, known = cases(10_000_000)
    found["coroutine fresh 64"] = await by_tasks(decorated, new, seconds, AT_ONCE)
    found["coroutine replay 64"] = await by_tasks(decorated, known, seconds, AT_ONCE)
    await store.close()
    return found


def main() -> None:
    """Print the calls a second of each case."""
    url, seconds = sys.argv[1], float(sys.argv[2])
    found = asyncio.run(store_alone(url, seconds))
    found |= functions(url, seconds)
    found |= asyncio.run(coroutines(url, seconds))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
