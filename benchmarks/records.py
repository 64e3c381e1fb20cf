"""``python -m benchmarks store``: idempotency records in Redis, beside AWS Lambda Powertools, without a broker."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import store
from benchmarks.peers import environments

ROOT = Path(__file__).resolve().parent.parent
CASES = {
    "store fresh 1": ("store: begin and complete, one at a time", "store fresh 1"),
    "store replay 1": ("store: a replay, one at a time", "store replay 1"),
    "store fresh 64": ("store: begin and complete, 64 at once", "store fresh 64"),
    "store replay 64": ("store: a replay, 64 at once", "store replay 64"),
    "function fresh 1": ("a function, fresh keys, one thread", "function fresh 1"),
    "function replay 1": ("a function, replays, one thread", "function replay 1"),
    "function fresh 64": ("a function, fresh keys, 64 threads", "function fresh 64"),
    "function replay 64": ("a function, replays, 64 threads", "function replay 64"),
    "coroutine fresh 64": ("a coroutine function, fresh keys, 64 tasks", "function fresh 64"),
    "coroutine replay 64": ("a coroutine function, replays, 64 tasks", "function replay 64"),
}
"""Ours, its title, and the case of the peer that it is compared with."""
Rates = dict[str, float]


def main(options: Namespace, console: Console) -> dict[str, Any]:
    """Run both in turns, each in a process of its own, and print the table."""
    python, missing = environments.python("powertools") if options.peers else ("", "")
    if missing:
        console.print(f"AWS Lambda Powertools is missing: {missing}")
    rounds: list[tuple[Rates, Rates | None]] = []
    with store.redis_url(options.redis) as url:
        for number in range(1, options.rounds + 1):
            ours = _run(sys.executable, "benchmarks.records_ours", url, options.seconds)
            theirs = _run(python, "benchmarks.peers.powertools", url, options.seconds) if python else None
            rounds.append((ours, theirs))
            console.print(f"round {number} of {options.rounds}")
    console.print(table(rounds))
    return {"seconds": options.seconds, "missing": missing, "rounds": rounds}


def _run(python: str, module: str, url: str, seconds: float) -> Rates:
    command = [python, "-W", "ignore::DeprecationWarning", "-m", module, url, str(seconds)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: Rates = json.loads(done.stdout.splitlines()[-1])
    return found


def table(rounds: list[tuple[Rates, Rates | None]]) -> Table:
    """Medians of the rounds; a ratio is taken within its round."""
    made = Table(title="calls/s: medians of the rounds (least - greatest)", title_justify="left")
    for name in ("case", "resilient_rpc", "Powertools", "ratio"):
        made.add_column(name, justify="left" if name == "case" else "right")
    for case, (title, other) in CASES.items():
        pairs = [(ours[case], theirs[other]) for ours, theirs in rounds if theirs is not None]
        ratios = [mine / peers for mine, peers in pairs]
        made.add_row(
            title,
            spread([ours[case] for ours, _ in rounds]),
            spread([peers for _, peers in pairs]) if pairs else "missing",
            spread(ratios, "{:.1f}") if pairs else "-",
        )
    return made


def spread(values: list[float], form: str = "{:,.0f}") -> str:
    """The median, the least and the greatest."""
    low, middle, high = (form.format(value) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} - {high})"
