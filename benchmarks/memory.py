"""``python -m benchmarks memory``: what a call costs while it waits.

100,000 tasks await `AsyncClient.call` to a queue that exists and that nobody consumes. When the broker has confirmed
all of them, the process's resident memory is read. Another process does the same with tasks of as many nested
coroutines, the innermost of which awaits a bare future: that is what the caller's own tasks and frames take. What is
beyond is judged. A third one's coroutines hold the same arguments as well, which tells how much of it is not ours.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
import sys
import time
from argparse import Namespace
from typing import Any

import psutil
from rich.console import Console

from benchmarks import broker
from benchmarks.drive import say
from benchmarks.process import party
from resilient_rpc import AsyncClient, DeadlineExceeded

MAX_RSS, MAX_EACH = 450e6, 1.2 * 1024


def rss() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def frames(task: asyncio.Task[Any]) -> tuple[int, int]:
    """How many coroutines stand in a task, and the bytes of all of them and of the task."""
    depth, size, here = 0, sys.getsizeof(task), task.get_coro()
    while here is not None and hasattr(here, "cr_await"):
        depth, size, here = depth + 1, size + sys.getsizeof(here), here.cr_await
    return depth, size


async def pending_calls(options: Namespace) -> None:
    method, count, seconds = f"{options.service}.nothing", options.calls, options.seconds
    ended = late = 0.0
    async with AsyncClient(options.url, policies=()) as client:

        async def one(number: int) -> None:
            nonlocal ended, late
            deadline = time.monotonic() + seconds
            try:
                await client.call(method, {"n": number}, timeout=seconds)
            except DeadlineExceeded:
                ended += 1
                late = max(late, time.monotonic() - deadline)

        caller: Any = client._caller
        link = caller.pool.links[0]
        while not link.connected:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.05)
        before, begin = rss(), time.perf_counter()
        tasks = [asyncio.create_task(one(number)) for number in range(count)]
        await asyncio.sleep(0)
        depth, size = frames(tasks[-1])
        while len(link._calls.entries) < count or link._calls.unconfirmed or link._queue:
            assert time.perf_counter() - begin < seconds, "not all calls were sent before the first had to end"
            await asyncio.sleep(0.05)
        sent, after, all_there = time.perf_counter() - begin, rss(), len(link._calls.entries) == count
        say(event="pending", before=before, after=after, depth=depth, size=size, sent=sent, all_there=all_there)
        await asyncio.gather(*tasks)
        await asyncio.sleep(0.1)
        left = (
            len(link._calls.entries)
            + len(link._deadlines)
            + len(link._calls.unconfirmed)
            + len(link._queue)
            + link.pending
        )
        say(event="done", ended=ended, late=late, left=left, waiting=client.stats().pending)


async def bare_coroutines(options: Namespace) -> None:
    count, loop = options.calls, asyncio.get_running_loop()

    async def nested(depth: int, future: asyncio.Future[None]) -> None:
        if depth > 1:
            await nested(depth - 1, future)
        else:
            await future

    async with AsyncClient(options.url, policies=()):  # the same modules, and a connection
        await asyncio.sleep(1)
        before = rss()
        futures: list[asyncio.Future[None]] = []

        nothing: dict[str, int] = {}

        async def one(params: dict[str, int]) -> None:
            future = loop.create_future()
            futures.append(future)
            await nested(options.depth - 1, future)
            assert params or not options.arguments

        tasks = [asyncio.create_task(one({"n": number} if options.arguments else nothing)) for number in range(count)]
        await asyncio.sleep(0)
        say(event="done", before=before, after=rss(), size=frames(tasks[-1])[1])


def main(options: Namespace, console: Console) -> dict[str, Any]:
    """Run both, print, and return what was measured."""
    calls, service = options.calls, f"bench{secrets.token_hex(4)}"
    common = ("--url", options.broker, "--service", service, "--calls", str(calls), "--seconds", str(options.timeout))
    broker.declare(options.broker, f"rpc.{service}")
    try:
        with party("memory-calls", *common) as process:
            ours = process.hear("pending") | process.hear("done")
        with party("memory-bare", *common, "--depth", str(ours["depth"])) as process:
            bare = process.hear("done")
        with party("memory-bare", *common, "--depth", str(ours["depth"]), "--arguments") as process:
            full = process.hear("done")
    finally:
        broker.forget(options.broker, f"rpc.{service}")
    each = (ours["after"] - ours["before"]) / calls
    own = (bare["after"] - bare["before"]) / calls
    arguments = (full["after"] - full["before"]) / calls - own
    beyond, exact = each - own, each - ours["size"]
    rows = {
        f"resident memory with {calls:,} calls pending": (f"{ours['after'] / 1e6:.0f} MB", ours["after"] < MAX_RSS),
        "bytes a call": (f"{each:,.0f}", None),
        f"  task and {ours['depth']} bare coroutines alone": (f"{own:,.0f}", None),
        "  beyond them (at most 1.2 KiB)": (f"{beyond:,.0f}", beyond <= MAX_EACH),
        "    of them the caller's own arguments": (f"{arguments:,.0f}", None),
        "  beyond its real task and frames by sys.getsizeof (a check)": (f"{exact:,.0f}", None),
        "ended with DeadlineExceeded": (f"{ours['ended']:,.0f}", ours["ended"] == calls),
        "the latest ended after its deadline": (f"{ours['late'] * 1e3:.0f} ms", None),
        "left in tables": (str(ours["left"]), not ours["left"] and not ours["waiting"]),
        "sent and confirmed in": (f"{ours['sent']:.1f} s", None),
    }
    for name, (value, good) in rows.items():
        console.print(f"{name:66} {value:>10}  {'' if good is None else 'yes' if good else 'no'}")
    return {"ours": ours, "bare": bare, "each": each, "own": own, "beyond": beyond, "arguments": arguments}
