"""One process of a measurement: ``python -m benchmarks.party ours-server --url ... --service ...``."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

from benchmarks import idle, memory, ours, soak
from benchmarks.peers import aio_pika_jsonrpc, pika_tutorial

PARTIES: dict[str, Callable[[argparse.Namespace], Any]] = {
    "ours-server": ours.server,
    "ours-async": ours.calls_by_tasks,
    "ours-keyed": ours.keyed_calls,
    "ours-threads": ours.calls_by_threads,
    "ours-map": ours.calls_by_map,
    "ours-burst": ours.bursts,
    "memory-calls": memory.pending_calls,
    "memory-bare": memory.bare_coroutines,
    "soak-client": soak.client,
    "idle-async": idle.async_client,
    "idle-client": idle.blocking_client,
    "aio-pika-server": aio_pika_jsonrpc.server,
    "aio-pika-client": aio_pika_jsonrpc.client,
    "pika-server": pika_tutorial.server,
    "pika-client": pika_tutorial.client,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("party", choices=PARTIES)
    parser.add_argument("--url", required=True)
    parser.add_argument("--service", required=True)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--prefetch", type=int, default=256)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--single", action="store_true", help="batching off")
    parser.add_argument("--chain", action="store_true", help="the default policies, instead of none")
    parser.add_argument("--store", action="store_true", help="the server keeps records of keys in --redis")
    parser.add_argument("--redis", default="", metavar="URL")
    parser.add_argument("--replay", action="store_true", help="keys that were used before")
    parser.add_argument("--arguments", action="store_true")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    options = parser.parse_args()
    party = PARTIES[options.party]
    if not asyncio.iscoroutinefunction(party):
        party(options)
    elif options.loop == "uvloop":
        import uvloop  # noqa: PLC0415 - an extra

        uvloop.run(party(options))
    else:
        asyncio.run(party(options))
    sys.stdout.flush()
    os._exit(0)  # what a peer leaves behind when it ends is not measured


if __name__ == "__main__":
    main()
