"""``python -m benchmarks [memory|soak|idle|overhead|policies|store|model|publish]``; see the package's docstring."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import broker, idle, machine, memory, model, overhead, policies, publish, records, soak, suite
from benchmarks.sweeps import CATALOGUE, FAMILIES
from tests.servers.handle import ServerError

PROGRAM = os.environ.get("RESILIENT_RPC_BENCH_PROGRAM", "python -m benchmarks")


def parser() -> argparse.ArgumentParser:
    """What may be asked."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--broker", metavar="URL", help="a running RabbitMQ; default: as the tests find or start one")
    common.add_argument("--json", metavar="FILE", type=Path, help="save all numbers there")
    families = [family.key for family in FAMILIES]
    about = "What a call costs, beside what people use today."
    top = argparse.ArgumentParser(prog=PROGRAM, parents=[common], description=about)
    top.add_argument("--quick", action="store_true", help="fewer points and shorter runs: at most 90 s after set-up")
    top.add_argument("--out", metavar="DIR", type=Path, help="write results.json, report.html and the charts there")
    top.add_argument("--compare", metavar="FILE", type=Path, help="a results.json: mark what became slower since then")
    top.add_argument("--only", nargs="+", choices=families, metavar="FAMILY", help=f"of: {', '.join(families)}")
    top.add_argument("--redis", metavar="URL", help="a running Redis, for calls with keys; default: as the broker")
    top.add_argument("--rounds", type=int, help="default: 3 quick, 5 full")
    top.add_argument("--seconds", type=float, help="of each run; default: 0.4 quick, 1.2 full")
    top.add_argument("--budget", type=float, metavar="SECONDS", help="to measure all in; default: 80 or 1150")
    top.add_argument(
        "--loop", choices=("asyncio", "uvloop"), default="asyncio", help="of AsyncClient, server, aio-pika"
    )
    top.add_argument("--cases", nargs="+", choices=CATALOGUE.cases, metavar="CASE", help="these alone, by their keys")
    top.add_argument("--peers", nargs="*", choices=suite.PEER_KEYS, default=suite.PEER_KEYS, help="default: all")
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
    asked = commands.add_parser("policies", parents=[common], help="microseconds a call of each policy, no broker")
    asked.add_argument("--times", type=int, default=9, help="runs, of which the best counts (default %(default)s)")
    asked = commands.add_parser("store", parents=[common], help="idempotency records in Redis, without a broker")
    asked.add_argument("--redis", metavar="URL", help="a running Redis; default: as the tests find or start one")
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--seconds", type=float, default=0.5, help="of each case (default %(default)s)")
    asked.add_argument("--peers", nargs="*", choices=["powertools"], default=["powertools"])
    asked = commands.add_parser("model", parents=[common], help="the model of docs/scaling.md, from a results.json")
    asked.add_argument("file", type=Path)
    asked = commands.add_parser("publish", parents=[common], help="write a run into the docs: tables and pictures")
    asked.add_argument("file", type=Path, help="a results.json, beside its pictures")
    return top


ALONE = {"overhead": overhead.main, "policies": policies.main, "store": records.main}
READING = {"model": model.main, "publish": publish.main}
WITH_BROKER = {"memory": memory.main, "soak": soak.main, "idle": idle.main}


def main() -> None:
    options, console = parser().parse_args(), Console(highlight=False, width=max(Console().width, 120))
    try:
        found = _run(options, console)
    except (ServerError, ValueError) as error:
        sys.exit(f"error: {error}")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def _run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    if options.command is None:
        return suite.main(options, console)
    if reading := READING.get(options.command):
        return reading(options, console)
    if alone := ALONE.get(options.command):
        return {"environment": machine.environment(None), **alone(options, console)}
    with broker.broker_url(options.broker) as url:
        options.broker = url
        around = machine.environment(url)
        console.print(", ".join(f"{name} {value}" for name, value in around.items()))
        return {"environment": around, **WITH_BROKER[options.command](options, console)}


if __name__ == "__main__":
    main()
