"""``python -m benchmarks policies``: what a policy costs a call that succeeds, beside other libraries."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import time
from argparse import Namespace
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NamedTuple

import pybreaker
import tenacity
from rich.console import Console
from rich.table import Table

from resilient_rpc import AsyncClient, Call, Client, Handler, Policy, Reply, Runtime, Safety, Server
from resilient_rpc.chain import compose
from resilient_rpc.options import default_policies
from resilient_rpc.policies import (
    AdaptiveLimit,
    AttemptTimeout,
    Bulkhead,
    Cache,
    Chaos,
    CircuitBreaker,
    Deadline,
    Fallback,
    Hedge,
    RateLimit,
    Retry,
)
from resilient_rpc.runtime import BLOCKING, drive, running_runtime

COUNT, TIMES = 10_000, 9
POLICY, CHAIN, HIT = 1.5, 3.0, 5.0
"""Microseconds that a policy, the default chain, and a cache hit through a client or a miss in a chain may cost."""


class Cost(NamedTuple):
    """Microseconds a call, in either colour; None where there is no such thing."""

    name: str
    blocking: float | None
    asyncio: float | None
    most: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether both are within the target; None without one."""
        if self.most is None:
            return None
        return all(found is None or found <= self.most for found in (self.blocking, self.asyncio))


REPLY = Reply(result={"n": 1})


async def answer(_: Call) -> Reply:
    """The call inside: ready at once."""
    return REPLY


def make(runtime: Runtime) -> Call:
    """A call that every policy has work with."""
    deadline = runtime.now() + 3600
    return Call(method="bench.echo", params={"n": 1}, runtime=runtime, deadline=deadline, safety=Safety.READ_ONLY)


def _laps(lap: Callable[[], float]) -> float:
    return min(lap() for _ in range(TIMES)) / COUNT * 1e6


def by_thread(work: Callable[[], Any]) -> float:
    """Microseconds of one `work()`."""

    def lap() -> float:
        begin = time.perf_counter()
        for _ in range(COUNT):
            work()
        return time.perf_counter() - begin

    return _laps(lap)


def by_task(work: Callable[[], Coroutine[Any, Any, Any]]) -> float:
    """Microseconds of one `await work()`, in one task."""

    async def lap() -> float:
        begin = time.perf_counter()
        for _ in range(COUNT):
            await work()
        return time.perf_counter() - begin

    with asyncio.Runner() as runner:
        return _laps(lambda: runner.run(lap()))


def both(handler: Handler) -> tuple[float, float]:
    """Microseconds of a call through `handler`, blocking and asyncio."""
    call = make(BLOCKING)

    async def timed() -> float:
        inner = make(running_runtime())
        begin = time.perf_counter()
        for _ in range(COUNT):
            await handler(inner)
        return time.perf_counter() - begin

    with asyncio.Runner() as runner:
        return by_thread(lambda: drive(handler(call))), _laps(lambda: runner.run(timed()))


def policies() -> Iterator[tuple[str, list[Policy], float]]:
    """Each built-in policy, with settings under which the call passes it, and the default chain."""
    yield "Retry", [Retry()], POLICY
    yield "CircuitBreaker", [CircuitBreaker()], POLICY
    yield "Deadline", [Deadline(limit=60.0)], POLICY
    yield "AttemptTimeout", [AttemptTimeout(limit=10.0)], POLICY
    yield "Bulkhead", [Bulkhead()], POLICY
    yield "AdaptiveLimit", [AdaptiveLimit()], POLICY
    yield "RateLimit", [RateLimit(rate=1e9)], POLICY
    yield "Fallback", [Fallback(value=None)], POLICY
    yield "Chaos, off", [Chaos(latency=1.0, enabled=False)], POLICY
    yield "Hedge, passed by", [Hedge(methods=("bench.other",))], POLICY
    yield "Cache, passed by", [Cache(methods=("bench.other",))], POLICY
    yield "the default chain", default_policies(), CHAIN


def misses() -> tuple[float, float]:
    """Microseconds of a call through cache, retry and circuit breaker that the cache cannot answer."""
    numbers = itertools.count()

    async def fresh(call: Call, proceed: Handler, /) -> Reply:
        return await proceed(call.replace(params={"n": next(numbers)}))

    cached: list[Policy] = [Cache(ttl=3600), Retry(), CircuitBreaker()]
    whole, bare = both(compose([fresh, *cached], answer)), both(compose([fresh], answer))
    return whole[0] - bare[0], whole[1] - bare[1]


def ours() -> Iterator[Cost]:
    """What our policies add to a call."""
    bare = both(compose((), answer))
    for name, chain, most in policies():
        found = both(compose(chain, answer))
        yield Cost(name, found[0] - bare[0], found[1] - bare[1], most)
    yield Cost("Cache that misses, Retry, CircuitBreaker", *misses(), HIT)
    yield Cost("a cache hit through client.call", *hits(), HIT)


def hits() -> tuple[float, float]:
    """Microseconds of `client.call` when the cache answers."""
    server = Server("memory://bench-hits", service="bench")

    @server.method
    async def echo(n: int) -> dict[str, int]:
        return {"n": n}

    server.start()
    try:
        with Client("memory://bench-hits", policies=[Cache(ttl=3600)], safety="read_only") as client:
            blocking = by_thread(lambda: client.call("bench.echo", {"n": 1}))

        async def timed() -> float:
            async with AsyncClient("memory://bench-hits", policies=[Cache(ttl=3600)], safety="read_only") as client:
                await client.call("bench.echo", {"n": 1})
                begin = time.perf_counter()
                for _ in range(COUNT):
                    await client.call("bench.echo", {"n": 1})
                return time.perf_counter() - begin

        return blocking, _laps(lambda: asyncio.run(timed()))
    finally:
        server.stop()


def plain() -> Reply:
    """What other libraries wrap."""
    return REPLY


async def plain_async() -> Reply:
    """The same, to be awaited."""
    return REPLY


def others() -> Iterator[Cost]:
    """What naive use of other libraries adds to the same call."""
    bare = by_thread(plain), by_task(plain_async)

    def cost(name: str, blocking: Callable[[], Any] | None, waiting: Callable[[], Any] | None) -> Cost:
        return Cost(
            name,
            None if blocking is None else by_thread(blocking) - bare[0],
            None if waiting is None else by_task(waiting) - bare[1],
        )

    again = tenacity.retry(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_random_exponential(max=5))
    yield cost("tenacity @retry", again(plain), again(plain_async))
    guard = pybreaker.CircuitBreaker()
    yield cost("pybreaker, call()", lambda: guard.call(plain), None)
    yield cost("tenacity around pybreaker", again(lambda: guard.call(plain)), None)
    if (stamina := _installed("stamina")) is not None:
        again = stamina.retry(on=OSError)
        yield cost("stamina @retry", again(plain), again(plain_async))
    if (nopanic := _installed("nopanic")) is not None:
        again, guarded = nopanic.retry(on=OSError), nopanic.circuit_breaker()
        yield cost("nopanic retry", again(plain), again(plain_async))
        yield cost("nopanic circuit_breaker", guarded(plain), guarded(plain_async))
        yield cost("nopanic retry around circuit_breaker", again(guarded(plain)), again(guarded(plain_async)))


def _installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def main(options: Namespace, console: Console) -> dict[str, Any]:
    """Run it, print, and return the microseconds."""
    global TIMES  # noqa: PLW0603 - a script
    TIMES = options.times
    table = Table("adds to a call that succeeds", "blocking µs", "asyncio µs", "at most", "reached", box=None)
    costs = [*ours(), *others()]
    for each in costs:
        cells = ["" if found is None else f"{found:.2f}" for found in (each.blocking, each.asyncio, each.most)]
        table.add_row(each.name, *cells, {True: "yes", False: "NO", None: ""}[each.reached])
    console.print(table)
    return {"micros": [each._asdict() | {"reached": each.reached} for each in costs]}
