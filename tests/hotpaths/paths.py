"""The paths that a call takes, each as so many calls in a row."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.policies import answer, make, policies
from resilient_rpc import AsyncClient, Handler, Policy, Server
from resilient_rpc.chain import compose
from resilient_rpc.policies import Idempotency
from resilient_rpc.runtime import BLOCKING, drive, running_runtime
from resilient_rpc.stores import MemoryStore
from resilient_rpc.transport.batching import Batching
from tests.hotpaths.counting import counted

CALLS = 64
WARM = 4
"""Rounds before the one that counts: caches are full then, and what is learned is learned."""
ROUNDS, SERVED = 3, 12
"""Rounds that count, of which the least is taken: of a policy, and of client and server, which the clock disturbs."""
_buses = itertools.count()
Counts = Counter[str]
Round = Callable[[], Awaitable[object]]


def all_paths() -> dict[str, Counts]:
    """Instructions for `CALLS` calls of each path, by file: of the round that nothing disturbed."""
    found = {f"{name}, a thread": by_thread(chain) for name, chain, _ in policies()}
    found |= {f"{name}, a task": asyncio.run(_by_task(chain)) for name, chain, _ in policies()}
    for name, run in _served():
        found[name] = asyncio.run(run())
    return found


def _least(rounds: Sequence[Counts]) -> Counts:
    """What the clock or another process brings into a round, a beat or a second message, only adds to it."""
    return min(rounds, key=Counter.total)


def by_thread(chain: Sequence[Policy], inside: Handler = answer) -> Counts:
    """Instructions for `CALLS` calls through `chain` to `inside`, in the calling thread."""
    handler, call = compose(chain, inside), make(BLOCKING)
    rounds = []
    for number in range(WARM + ROUNDS):
        counts: Counts = Counter()
        with counted(counts):
            for _ in range(CALLS):
                drive(handler(call))
        rounds += [counts] if number >= WARM else []
    return _least(rounds)


async def _by_task(chain: Sequence[Policy]) -> Counts:
    handler, call = compose(chain, answer), make(running_runtime())

    async def many() -> None:
        for _ in range(CALLS):
            await handler(call)

    return await _rounds(many, ROUNDS)


async def _rounds(work: Round, count: int = SERVED) -> Counts:
    rounds = []
    for number in range(WARM + count):
        counts: Counts = Counter()
        with counted(counts):
            await work()
        rounds += [counts] if number >= WARM else []
    return _least(rounds)


def _served() -> Iterator[tuple[str, Callable[[], Awaitable[Counts]]]]:
    yield "client and server, one call at a time", _alone
    yield "client and server, 64 calls in a message", _together
    yield "client and server, 64 calls with keys, a MemoryStore", _keyed


@asynccontextmanager
async def _pair(server_policies: Sequence[Policy] = ()) -> AsyncIterator[AsyncClient]:
    url = f"memory://hot{next(_buses)}"
    server = Server(url, service="hot", policies=server_policies, concurrency=2 * CALLS)

    @server.method(safety="dedup" if server_policies else "idempotent")
    async def echo(value: int) -> int:
        return value

    # So much time that how quick this machine is does not decide how many calls share a message.
    batching = Batching(max_seconds=3600.0, max_calls=CALLS)
    async with server, AsyncClient(url, policies=[], batching=batching) as client:
        yield client


async def _alone() -> Counts:
    async with _pair() as client:

        async def one_by_one() -> None:
            for number in range(CALLS):
                await client.call("hot.echo", {"value": number})

        return await _rounds(one_by_one)


async def _together() -> Counts:
    async with _pair() as client:
        return await _rounds(lambda: _burst(client))


async def _keyed() -> Counts:
    keys = itertools.count()
    async with _pair([Idempotency(MemoryStore())]) as client:
        return await _rounds(lambda: _burst(client, keys))


async def _burst(client: AsyncClient, keys: Iterator[int] | None = None) -> None:
    options: list[dict[str, Any]] = [
        {} if keys is None else {"idempotency_key": f"key-{next(keys)}"} for _ in range(CALLS)
    ]
    await asyncio.gather(*[client.call("hot.echo", {"value": 1}, **each) for each in options])
