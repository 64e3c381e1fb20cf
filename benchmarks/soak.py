"""``python -m benchmarks soak``: whether the memory of a client and of a server grows with the calls they have made.

First both work for longer than a call may take (35 s: the default timeout is 30 s), so that every table, cache and pool
has its size; then the calls are counted, and the memory of both is read after each 50,000.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
import statistics
import time
from argparse import Namespace
from typing import Any

from rich.console import Console

from benchmarks import broker
from benchmarks.drive import check, say
from benchmarks.process import party, servers
from resilient_rpc import AsyncClient

SAMPLE = 50_000
WARM_SECONDS = 35.0
FLAT = 2.0
"""Bytes a call: 2 MB in a million calls is the noise of an allocator."""


async def client(options: Namespace) -> None:
    method, made, begun = f"{options.service}.echo", 0, 0
    async with AsyncClient(options.url) as rpc:

        async def warm(end: float) -> None:
            while time.monotonic() < end:
                check(await rpc.call(method, {"n": 0}), 0)

        async def work() -> None:
            nonlocal made, begun
            while begun < options.calls:
                begun += 1
                number = begun
                check(await rpc.call(method, {"n": number}), number)
                made += 1
                if not made % SAMPLE:
                    gc.collect()
                    say(event="sample", calls=made)

        end = time.monotonic() + WARM_SECONDS
        await asyncio.gather(*[warm(end) for _ in range(options.window)])
        await asyncio.gather(*[work() for _ in range(options.window)])
        say(event="done", calls=made)


def slope(samples: list[tuple[int, int]]) -> float:
    """Bytes a call, by least squares."""
    if len(samples) < 2:
        return 0.0
    return statistics.linear_regression([calls for calls, _ in samples], [size for _, size in samples]).slope


def main(options: Namespace, console: Console) -> dict[str, Any]:
    """Run it, print, and return the samples."""
    service = f"bench{secrets.token_hex(4)}"
    common = ("--url", options.broker, "--service", service)
    seen: dict[str, list[tuple[int, int]]] = {"client": [], "server": []}
    count, window = str(options.calls), str(options.window)
    try:
        with (
            servers(1, "ours-server", *common) as (server,),
            party("soak-client", *common, "--calls", count, "--window", window) as caller,
        ):
            while (said := caller.next())["event"] == "sample":
                seen["client"].append((said["calls"], caller.rss()))
                seen["server"].append((said["calls"], server.rss()))
                sizes = [f"{name} {samples[-1][1] / 1e6:.1f} MB" for name, samples in seen.items()]
                console.print(f"{said['calls']:>10,} calls: {', '.join(sizes)}")
    finally:
        broker.forget(options.broker, f"rpc.{service}")
    slopes = {name: slope(samples) for name, samples in seen.items()}
    for name, value in slopes.items():
        verdict = "yes" if value <= FLAT else "no"
        console.print(f"{name}: {value:+.3f} bytes a call; flat (at most {FLAT:g}): {verdict}")
    return {"samples": seen, "slopes": slopes}
