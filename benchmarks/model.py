"""``python -m benchmarks model FILE``: the model of docs/scaling.md, and how far it is from what was measured."""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from benchmarks import results

PROCESSES = ("client", "server", "broker")
LONE, ALONE, CROWD, BETWEEN = "async-1", "async-64-single", "async-1024", "async-64"
FAMILIES = "window clients servers queue trips cpu"
Runs = Mapping[str, list[dict[str, float]]]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Microseconds of a process: of each call, and of each message that calls share; of one that it has to wake for."""

    call: float
    message: float
    woken: float

    def at(self, calls_a_message: float, *, woken: bool = False) -> float:
        """Of a call in a message with so many."""
        return self.call + (self.woken if woken else self.message) / calls_a_message


def middle(runs: Runs, key: str, measure: str) -> float:
    """The median of the rounds; ValueError if it was not measured."""
    found = [run[measure] for run in runs.get(key, ()) if measure in run]
    if not found:
        raise ValueError(f"{key} was not measured: resilient-rpc bench --only {FAMILIES} --out DIR")
    return statistics.median(found)


def costs(runs: Runs) -> dict[str, Cost]:
    """From three ends: a call alone, a message for each of 64 calls, and what 1,024 in flight put into a message."""
    many = middle(runs, CROWD, "calls_a_message")
    found = {}
    for name in PROCESSES:
        one, shared = (middle(runs, key, f"{name}_cpu_us") for key in (ALONE, CROWD))
        message = (one - shared) / (1 - 1 / many)
        call = one - message
        found[name] = Cost(call=call, message=message, woken=middle(runs, LONE, f"{name}_cpu_us") - call)
    return found


def between(runs: Runs) -> Iterator[tuple[str, float, float]]:
    """For each process the cost of a call with 64 in flight, where all wait for one message; and as measured."""
    calls = middle(runs, BETWEEN, "calls_a_message")
    for name, cost in costs(runs).items():
        yield name, cost.at(calls, woken=True), middle(runs, BETWEEN, f"{name}_cpu_us")


def spread(runs: Runs, processors: int) -> Iterator[tuple[str, float, float]]:
    """The rate with so many processes, batching off, as the processors of one machine allow it; and as measured."""
    total = sum(cost.at(1) for cost in costs(runs).values())
    client, server = (costs(runs)[name].at(1) for name in ("client", "server"))
    for name, key, clients, servers in (
        ("1 client, 1 server", "single-window-256", 1, 1),
        ("1 client, 2 servers", "single-servers-2", 1, 2),
        ("2 clients, 2 servers, 1 queue", "one-queue-2", 2, 2),
        ("2 clients, 2 servers, 2 queues", "queues-2", 2, 2),
    ):
        ends = (processors * 1e6 / total, clients * 1e6 / client, servers * 1e6 / server)
        yield name, min(ends), middle(runs, key, "calls_per_s")


def main(options: Namespace, console: Console) -> dict[str, Any]:
    """Print the costs as the page has them, and both checks."""
    found = results.load(options.file)
    runs, processors = found["runs"], found["environment"]["processors"]
    for name, cost in costs(runs).items():
        console.print(f'    "{name}": ({cost.call:.1f}, {cost.message:.1f}, {cost.woken:.0f}),', markup=False)
    for name in ("batching off", "64 in flight"):
        own, rest = (middle(runs, f"queue-{name}-{part}", "broker_cpu_us") for part in ("the queue", "everything else"))
        console.print(f"the queue's share of the broker, {name}: {own / (own + rest):.2f}")
    for key in ("keyed-64", "keyed-64-replay"):
        console.print(f"Redis, {key}: {middle(runs, key, 'redis_cpu_us'):.0f} µs a call")
    more = middle(runs, "keyed-64", "server_cpu_us") - middle(runs, BETWEEN, "server_cpu_us")
    console.print(f"the server, for a key: {more:.0f} µs a call more")
    for window in (ALONE, BETWEEN, CROWD):
        console.print(f"{window}: {middle(runs, window, 'calls_a_message'):.0f} calls in a message")
    for title, rows in (
        ("processor time of a call, 64 in flight", between(runs)),
        (f"calls/s on {processors} processors, batching off", spread(runs, processors)),
    ):
        console.print(f"| {title} | model | measured | measured / model |", markup=False)
        for name, said, measured in rows:
            form = ",.1f" if said < 1000 else ",.0f"
            line = f"| {name} | {said:{form}} | {measured:{form}} | {measured / said:.2f} |"
            console.print(line, markup=False)
    return {"costs": {name: [cost.call, cost.message, cost.woken] for name, cost in costs(runs).items()}}
