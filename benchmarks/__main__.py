"""``python -m benchmarks [memory|soak|idle|overhead|policies|store]``; see the package's docstring."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import broker, idle, memory, overhead, policies, records, soak, store, table
from benchmarks.cases import CASES, KEYED, PEERS
from benchmarks.rounds import Plan, Runs, measure


def parser() -> argparse.ArgumentParser:
    """What may be asked."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--broker", metavar="URL", help="a running RabbitMQ; default: as the tests find or start one")
    common.add_argument("--json", metavar="FILE", type=Path, help="save all numbers there")
    top = argparse.ArgumentParser(prog="python -m benchmarks", parents=[common], description=__doc__)
    top.add_argument("--rounds", type=int, default=5)
    top.add_argument("--seconds", type=float, default=3.0, help="of each run (default %(default)s)")
    top.add_argument(
        "--loop", choices=("asyncio", "uvloop"), default="asyncio", help="of AsyncClient, server, aio-pika"
    )
    top.add_argument("--redis", metavar="URL", help="a running Redis, for calls with keys; default: as the broker")
    top.add_argument("--cases", nargs="+", choices=[case.key for case in CASES], default=[case.key for case in CASES])
    top.add_argument("--peers", nargs="*", choices=[peer.key for peer in PEERS], default=[peer.key for peer in PEERS])
    commands = top.add_subparsers(dest="command")
    asked = commands.add_parser("memory", parents=[common], help="calls that wait")
    asked.add_argument("--calls", type=int, default=100_000)
    asked.add_argument("--timeout", type=float, default=9.0, help="seconds; all must be sent within them")
    asked = commands.add_parser("soak", parents=[common], help="memory over many calls")
    asked.add_argument("--calls", type=int, default=1_000_000)
    asked.add_argument("--window", type=int, default=64)
    asked = commands.add_parser("idle", parents=[common], help="processor time without work")
    asked.add_argument("--seconds", type=float, default=20.0)
    commands.add_parser("overhead", parents=[common], help="microseconds a call of the parts, without a broker")
    commands.add_parser("policies", parents=[common], help="microseconds a call of each policy, without a broker")
    asked = commands.add_parser("store", parents=[common], help="idempotency records in Redis, without a broker")
    asked.add_argument("--redis", metavar="URL", help="a running Redis; default: as the tests find or start one")
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--seconds", type=float, default=0.5, help="of each case (default %(default)s)")
    asked.add_argument("--peers", nargs="*", choices=["powertools"], default=["powertools"])
    return top


def environment(url: str | None) -> dict[str, Any]:
    """What the numbers depend on."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "time": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    }
    if url is not None:
        found["rabbitmq"] = broker.version(url)
    for name in ("pika", "aio-pika", "msgspec", "uvloop"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def compare(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The table."""
    with contextlib.ExitStack() as running:
        if set(options.cases) & {case.key for case in KEYED}:
            options.redis = running.enter_context(store.redis_url(options.redis))
        return _compare(options, console)


def _compare(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    plan = Plan(
        url=options.broker,
        rounds=options.rounds,
        seconds=options.seconds,
        cases=options.cases,
        peers=options.peers,
        loop=options.loop,
        redis=options.redis or "",
    )
    runs: Runs = {}
    for number, one, found in measure(plan):
        runs.setdefault(one.key, []).append(found)
        rate, median = found["calls_per_s"], found["p50_us"]
        console.print(f"round {number}: {one.title}: {rate:,.0f} calls/s, p50 {median:,.0f} µs")
    return {"loop": options.loop, "seconds": options.seconds, "runs": runs, "verdicts": table.show(runs, console)}


COMMANDS = {None: compare, "memory": memory.main, "soak": soak.main, "idle": idle.main}


def main() -> None:
    options, console = parser().parse_args(), Console(highlight=False, width=max(Console().width, 120))
    if alone := {"overhead": overhead.main, "policies": policies.main, "store": records.main}.get(options.command):
        around: dict[str, Any] = environment(None)
        found = alone(options, console)
    else:
        with broker.broker_url(options.broker) as url:
            options.broker = url
            around = environment(url)
            console.print(", ".join(f"{name} {value}" for name, value in around.items()))
            found = COMMANDS[options.command](options, console)
    if options.json is not None:
        options.json.write_text(json.dumps({"environment": around, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
