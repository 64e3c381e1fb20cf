"""What is measured by other means than a client that calls a server for some seconds."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import failures as failing
from benchmarks import queueload
from benchmarks import recovery as recovering
from benchmarks.families import Found, Point
from benchmarks.plan import Plan
from benchmarks.process import ROOT
from benchmarks.records import CASES
from benchmarks.recordsize import sizes

failures, amplification, recovery = failing.until_known, failing.requests_sent, recovering.restart
queue = queueload.share
MEMORY_CALLS, SOAK_CALLS, IDLE_SECONDS = 100_000, 1_000_000, 20.0


def _command(*arguments: str) -> dict[str, Any]:
    """What another command of this package saved, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "found.json"
        command = [sys.executable, "-m", "benchmarks", *arguments, "--json", str(saved)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments[:1])} ended with {done.returncode}: {done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(saved.read_text())
        return found


def policies(plan: Plan) -> Iterator[tuple[Point, Found]]:
    """Each policy, blocking and asyncio, and the other libraries."""
    for cost in _command("policies", *(("--times", "3") if plan.quick else ()))["micros"]:
        for colour, series in (("blocking", "Client"), ("asyncio", "AsyncClient")):
            if cost[colour] is not None:
                point = Point(key=f"policy-{cost['name']}-{colour}", x=cost["name"], series=series)
                yield point, {"micros": max(cost[colour], 0.0)}


def store(plan: Plan) -> Iterator[tuple[Point, Found]]:
    """One round of records in Redis, ours and Powertools'."""
    peers = ("--peers", "powertools") if "powertools" in plan.peers else ("--peers",)
    found = _command("store", "--redis", plan.redis, "--rounds", "1", "--seconds", "0.4", *peers)
    ((ours, theirs),) = found["rounds"]
    for name, (title, other) in CASES.items():
        for series, rate in (("resilient_rpc", ours[name]), ("Powertools", theirs[other] if theirs else None)):
            if rate is not None:
                yield Point(key=f"records-{series}-{name}", x=title, series=series), {"calls_per_s": rate}


def memory(plan: Plan) -> Iterator[tuple[Point, Found]]:
    """Bytes of a call that waits, and of a record."""
    found = _command("memory", "--broker", plan.url, "--calls", str(MEMORY_CALLS))
    ours = found["ours"]
    waiting = {
        "a call that waits, beyond its task": found["beyond"],
        "the caller's task, alone": found["own"],
        f"a process with {MEMORY_CALLS:,} calls that wait": ours["after"],
    }
    for name, size in {**waiting, **sizes(plan.redis)}.items():
        yield Point(key=f"memory-{name}", x=name, series="resilient_rpc"), {"bytes": size}


def soak(plan: Plan) -> Iterator[tuple[Point, Found]]:
    """What a million calls leave behind."""
    found = _command("soak", "--broker", plan.url, "--calls", str(SOAK_CALLS))
    for name, slope in found["slopes"].items():
        yield Point(key=f"soak-{name}", x=name, series="resilient_rpc"), {"growth": slope}


def idle(plan: Plan) -> Iterator[tuple[Point, Found]]:
    """Processor time without work."""
    found = _command("idle", "--broker", plan.url, "--seconds", str(IDLE_SECONDS))
    for name, seconds in found["cpu"].items():
        yield Point(key=f"idle-{name}", x=name, series="resilient_rpc"), {"share": seconds / found["seconds"]}
