"""The parties of this library: a server, and clients of each kind."""

from __future__ import annotations

import asyncio
import gc
import itertools
import secrets
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from benchmarks.cases import BURST_CALLS, BURST_SECONDS
from benchmarks.drive import WARM_UP, check, drive_at_rate, drive_tasks, drive_threads, report, say
from benchmarks.process import shards
from resilient_rpc import AsyncClient, Batching, Classic, Client, Compression, Policy, Quorum, Server
from resilient_rpc.policies import Cache, Idempotency
from resilient_rpc.replies import Direct, Exclusive, Named, PerCall, Pool
from resilient_rpc.stores import MemoryStore, RedisStore
from resilient_rpc.wire.filters import Filter

REPLIES: dict[str, Callable[[], Any]] = {
    "direct": Direct,
    "exclusive": Exclusive,
    "named": lambda: Named(app="bench"),
    "pool": Pool,
    "per-call": PerCall,
}
QUEUES: dict[str, Callable[[], Classic | Quorum]] = {"classic": Classic, "quorum": Quorum}


def client_settings(options: Namespace) -> dict[str, Any]:
    """What a client of ours is made with."""
    settings: dict[str, Any] = {
        "batching": None if options.single else Batching(),
        "policies": None if options.chain else (),
        "codec": options.codec,
        "replies": REPLIES[options.replies](),
        "lane": not options.slow_lane,
        "filters": _filters(options),
    }
    return settings


def _filters(options: Namespace) -> list[Filter]:
    return [Compression()] if options.compress else []


def _records(options: Namespace) -> list[Policy]:
    if options.store == "memory":
        return [Idempotency(MemoryStore())]
    return [Idempotency(RedisStore(options.redis, timeout=1.0))] if options.store else []


def ask(client: AsyncClient | Client, options: Namespace) -> Callable[[int], Any]:
    """The call of this run, by its number: an echo, of a text of ``--payload`` bytes if it has one."""
    if not options.payload:
        methods = [f"{name}.echo" for name in shards(options.service, options.shards)]
        count = len(methods)
        return lambda number: client.call(methods[number % count], {"n": number})
    method, text = f"{options.service}.repeat", secrets.token_hex(options.payload // 2)

    async def call(number: int) -> Any:
        answer = await client.call(method, {"n": number, "text": text})
        assert answer["text"] == text
        return {"n": answer["n"]}

    return call


async def server(options: Namespace) -> None:
    ours = Server(
        options.url,
        service=options.service,
        concurrency=options.concurrency,
        batching=None if options.single else Batching(),
        policies=_records(options),
        queue=QUEUES[options.queue](),
        lane=not options.slow_lane,
        filters=_filters(options),
    )

    @ours.method(safety="idempotent")
    async def nap(n: int, seconds: float) -> dict[str, int]:
        await asyncio.sleep(seconds)
        return {"n": n}

    @ours.method(safety="idempotent")
    async def repeat(n: int, text: str) -> dict[str, int | str]:
        return {"n": n, "text": text}

    async def echo(n: int) -> dict[str, int]:
        return {"n": n}

    def plain(n: int) -> dict[str, int]:
        return {"n": n}

    if options.plain:
        ours.method(name="echo", safety="idempotent")(plain)
    else:
        ours.method(name="echo", safety="idempotent")(echo)

    gc.collect()
    gc.freeze()  # as `Server.run` does
    async with ours:
        say(event="ready")
        await asyncio.Event().wait()


async def calls_by_tasks(options: Namespace) -> None:
    async with AsyncClient(options.url, **client_settings(options)) as client:
        links = client._caller.pool.links
        sent = lambda: sum(link.messages for link in links)  # noqa: E731 - a name for the call below
        await drive_tasks(ask(client, options), options.window, options.seconds, sent)


async def cached_calls(options: Namespace) -> None:
    """One question again and again, of which the broker sees the first."""
    method = f"{options.service}.echo"
    async with AsyncClient(options.url, policies=[Cache(ttl=3600.0)], safety="read_only") as client:

        async def call(number: int) -> Any:
            check(await client.call(method, {"n": 1}), 1)
            return {"n": number}

        await drive_tasks(call, options.window, options.seconds)


def cached_calls_by_threads(options: Namespace) -> None:
    method = f"{options.service}.echo"
    with Client(options.url, policies=[Cache(ttl=3600.0)], safety="read_only") as client:

        def call(number: int) -> Any:
            check(client.call(method, {"n": 1}), 1)
            return {"n": number}

        drive_threads(call, options.window, options.seconds)


async def calls_at_rate(options: Namespace) -> None:
    async with AsyncClient(options.url, **client_settings(options)) as client:
        await drive_at_rate(ask(client, options), options.rate, options.seconds)


async def keyed_calls(options: Namespace) -> None:
    """Each call with a key of its own; for replays, the same few keys again and again."""
    method, run, fresh = f"{options.service}.echo", secrets.token_hex(8), itertools.count()
    async with AsyncClient(options.url) as client:

        async def call(number: int) -> Any:
            key = number % WARM_UP if options.replay else next(fresh)
            check(await client.call(method, {"n": key}, idempotency_key=f"{run}-{key}"), key)
            return {"n": number}

        await drive_tasks(call, options.window, options.seconds)


def calls_by_threads(options: Namespace) -> None:
    method = f"{options.service}.echo"
    with Client(options.url, **client_settings(options)) as client:
        drive_threads(lambda number: client.call(method, {"n": number}), options.window, options.seconds)


def calls_by_map(options: Namespace, size: int = 10_000) -> None:
    """The rate is that of the median map; the times are of whole maps."""
    method, params = f"{options.service}.echo", [{"n": number} for number in range(size)]
    with Client(options.url, **client_settings(options)) as client:
        client.map(method, params)
        say(event="begin")
        laps: list[float] = []
        cpu, end = time.process_time(), time.perf_counter() + options.seconds
        while (begin := time.perf_counter()) < end:
            answers = client.map(method, params)
            laps.append(time.perf_counter() - begin)
            for number, answer in enumerate(answers):
                check(answer, number)
        cpu = time.process_time() - cpu
        laps.sort()
        median = laps[len(laps) // 2]
        say(
            event="done",
            calls=len(laps) * size,
            calls_per_s=size / median,
            p50_us=median * 1e6,
            p95_us=laps[int(len(laps) * 0.95)] * 1e6,
            p99_us=laps[-1] * 1e6,
            p999_us=laps[-1] * 1e6,
            max_us=laps[-1] * 1e6,
            client_cpu_us=cpu / len(laps) / size * 1e6,
        )


async def bursts(options: Namespace) -> None:
    """The first burst of a client that knows nothing of the method is one of them."""
    method = f"{options.service}.nap"
    async with AsyncClient(options.url, **client_settings(options)) as client:
        await client.call(f"{options.service}.echo", {"n": 1})
        say(event="begin")
        laps: list[float] = []
        cpu, begin = time.process_time(), time.perf_counter()
        end = begin + options.seconds
        while (start := time.perf_counter()) < end:
            calls = [client.call(method, [number, BURST_SECONDS]) for number in range(BURST_CALLS)]
            for number, answer in enumerate(await asyncio.gather(*calls)):
                check(answer, number)
            laps.append(time.perf_counter() - start)
        report(laps, time.perf_counter() - begin, time.process_time() - cpu)
