"""One process of a measurement: ``python -m benchmarks.party ours-server --url ... --service ...``."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

PARTIES = {
    "ours-server": "benchmarks.ours:server",
    "ours-async": "benchmarks.ours:calls_by_tasks",
    "ours-rate": "benchmarks.ours:calls_at_rate",
    "ours-cached": "benchmarks.ours:cached_calls",
    "ours-cached-threads": "benchmarks.ours:cached_calls_by_threads",
    "ours-keyed": "benchmarks.ours:keyed_calls",
    "ours-threads": "benchmarks.ours:calls_by_threads",
    "ours-map": "benchmarks.ours:calls_by_map",
    "ours-burst": "benchmarks.ours:bursts",
    "failing-client": "benchmarks.failures:client",
    "calling-on": "benchmarks.recovery:client",
    "memory-calls": "benchmarks.memory:pending_calls",
    "memory-bare": "benchmarks.memory:bare_coroutines",
    "soak-client": "benchmarks.soak:client",
    "idle-async": "benchmarks.idle:async_client",
    "idle-client": "benchmarks.idle:blocking_client",
    "aio-pika-server": "benchmarks.peers.aio_pika_jsonrpc:server",
    "aio-pika-client": "benchmarks.peers.aio_pika_jsonrpc:client",
    "pika-server": "benchmarks.peers.pika_tutorial:server",
    "pika-client": "benchmarks.peers.pika_tutorial:client",
    "faststream-server": "benchmarks.peers.faststream_request:server",
    "faststream-client": "benchmarks.peers.faststream_request:client",
    "oslo-server": "benchmarks.peers.oslo_rpc:server",
    "oslo-client": "benchmarks.peers.oslo_rpc:client",
    "nameko-server": "benchmarks.peers.nameko_rpc:server",
    "nameko-client": "benchmarks.peers.nameko_rpc:client",
}
"""Where each is: a peer's own environment has nothing of ours, and a process imports what it needs alone."""


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
    parser.add_argument("--store", choices=("", "redis", "memory"), default="", help="where records of keys are kept")
    parser.add_argument("--rate", type=float, default=1000.0, help="calls a second, of an open loop")
    parser.add_argument("--payload", type=int, default=0, metavar="BYTES", help="of a text that is sent back")
    parser.add_argument("--shards", type=int, default=1, metavar="QUEUES", help="among which calls take turns")
    parser.add_argument("--codec", default="json")
    parser.add_argument("--replies", default="direct")
    parser.add_argument("--queue", default="classic")
    parser.add_argument("--compress", action="store_true", help="the filter Compression on both sides")
    parser.add_argument("--slow-lane", action="store_true", help="lane=False: pika reads and writes all frames")
    parser.add_argument("--plain", action="store_true", help="the handler is a plain function, run in threads")
    parser.add_argument("--redis", default="", metavar="URL")
    parser.add_argument("--replay", action="store_true", help="keys that were used before")
    parser.add_argument("--hold", action="store_true", help="import all, then begin when a line comes in")
    parser.add_argument("--arguments", action="store_true")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    options = parser.parse_args()
    module, _, name = PARTIES[options.party].partition(":")
    party: Callable[[argparse.Namespace], Any] = getattr(importlib.import_module(module), name)
    if options.hold:
        sys.stdin.readline()
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
