"""``resilient-rpc demo``: thousands of calls, a server killed among them, and what became of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated

import typer
from rich.console import Console

from resilient_rpc.cli import demo_keys as keyed
from resilient_rpc.cli.demo_calls import Plan
from resilient_rpc.cli.demo_keys_report import report_keys
from resilient_rpc.cli.demo_load import IN_FLIGHT, TIMEOUT, Load
from resilient_rpc.cli.demo_progress import display
from resilient_rpc.cli.demo_redis import Redis
from resilient_rpc.cli.demo_report import report
from resilient_rpc.cli.demo_servers import (
    DemoError,
    ServerProcess,
    SupplyApart,
    SupplyHere,
    knock,
    servers_apart,
    servers_here,
)
from resilient_rpc.cli.demo_service import SERVICE
from resilient_rpc.cli.demo_tally import SLACK
from resilient_rpc.cli.demo_trouble import AWAITED, LIMIT, PERIOD, SUFFIX, Side, run, sides
from resilient_rpc.cli.demo_trouble_report import report_trouble
from resilient_rpc.cli.fail import FAILED, NOT_EXECUTED, USAGE, fail
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies import CircuitBreaker
from resilient_rpc.transport.urls import MemoryUrl, parse_url

CALLS = 8_000
KEYS = 240
REFRESH = 0.1
"""Seconds between two looks at the counts."""
STUCK_AFTER = TIMEOUT + SLACK + 5.0
"""Seconds without any call that ended, after which the demo gives up on those under way."""


def demo(
    *,
    broker: Annotated[
        str, typer.Option(help="A RabbitMQ, to which the demo leaves some empty queues; memory:// needs none.")
    ] = "memory://demo",
    redis: Annotated[
        str | None,
        typer.Option(help="A Redis for the third part, which the demo leaves as it was.", show_default="no third part"),
    ] = None,
    calls: Annotated[
        int | None,
        typer.Option(
            min=0, help="How many; 0 leaves the first part out.", show_default=f"{CALLS}, or as many as --seconds allow"
        ),
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="End after this time.", show_default=False)] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads that share a Client.")] = 8,
    servers: Annotated[
        int | None, typer.Option(min=1, help="How many.", show_default="2 in memory, 3 on a broker")
    ] = None,
    kill: Annotated[bool, typer.Option(help="Kill one of the server processes in the middle (on a broker).")] = True,
    phase: Annotated[
        float, typer.Option(min=0.0, help="Seconds of each phase of the second part; 0 leaves it out.")
    ] = 2.5,
    keys: Annotated[int, typer.Option(min=1, help="How many idempotency keys, in the third part.")] = KEYS,
    service: Annotated[str, typer.Option(help="The name under which the servers are called.")] = SERVICE,
) -> None:
    """Make some thousand calls from threads and from asyncio, kill a server, and see that every call ends.

    Then a service fails half of its calls, dies, comes back and becomes slow, while the same calls are made without
    policies and with two chains of them: how many succeed, and how many are sent.

    With --redis, calls with idempotency keys and without are made while servers are killed in the middle of them: how
    often each key took effect.
    """
    if calls is None and seconds is None:
        calls = CALLS
    console = Console(highlight=False)
    try:
        url = parse_url(broker)
        here = isinstance(url, MemoryUrl)
        servers = servers or (2 if here else 3)
        kill = kill and not here and calls != 0
        if kill and servers == 1:
            raise ConfigurationError("--servers 1 leaves nobody after the kill: give more, or --no-kill")
        if redis is not None and here:
            raise ConfigurationError(
                "--redis needs a --broker: the third part kills servers, and this process is not one"
            )
        store = Redis(redis) if redis is not None else None
        console.print(f"broker   {url.redacted}", soft_wrap=True, markup=False)
        if not here:
            knock(broker)
        if store is not None:
            store.knock()
        ok = True
        if calls != 0:
            processes = "in this process" if here else "in processes of their own"
            console.print(f"servers  {servers} {processes}")
            console.print(f"clients  {threads} threads with a Client, {IN_FLIGHT} calls in flight with an AsyncClient")
            console.print(f"calls    {_amount(calls, seconds)}, each with a deadline of {TIMEOUT:g} s")
            with ExitStack() as running:
                start = servers_here if here else servers_apart
                with console.status("starting the servers"):
                    started = running.enter_context(start(broker, service, servers))
                ok = _run(console, Load(broker, service, Plan(calls, seconds), threads), started, kill=kill)
        if phase:
            three = sides(broker, service + SUFFIX, SupplyHere if here else SupplyApart)
            ok = _trouble(console, three, phase) and ok
        if store is not None:
            ok = _keys(console, broker, service + keyed.SUFFIX, store, keys) and ok
    except ConfigurationError as error:
        fail(str(error), USAGE)
    except DemoError as error:
        fail(str(error), NOT_EXECUTED)
    raise typer.Exit(0 if ok else FAILED)


def _amount(calls: int | None, seconds: float | None) -> str:
    limits = [f"{calls:,}"] if calls is not None else []
    if seconds is not None:
        limits.append(f"as many as begin within {seconds:g} s")
    return ", or ".join(limits)


def _run(console: Console, load: Load, processes: Sequence[ServerProcess], *, kill: bool) -> bool:
    try:
        _watch(console, load, processes[0] if kill else None)
        for process in processes:
            if why := process.crashed():
                console.print(why, style="red", markup=False)
        return report(console, load.sides)
    finally:
        load.close()


def _trouble(console: Console, three: Sequence[Side], phase_seconds: float) -> bool:
    """The second part."""
    usual = CircuitBreaker().open_for
    console.print()
    console.print(f"trouble  {1 / PERIOD:,.0f} calls/s for each of three chains, each to a server of its own;")
    console.print(f"         each call with a deadline of {LIMIT:g} s, each phase lasts {phase_seconds:g} s;")
    console.print(f"         back again: until all three have results again, up to {AWAITED:g} s more.")
    console.print(f"         The default circuit opens for {usual / 2:g} to {usual:g} s, longer after a failed")
    console.print("         probe: that spares a service which broke down under its load")
    for side in three:
        console.print(f"chain    {side.name}: {side.chain}", soft_wrap=True, markup=False)
    try:
        for side in three:
            side.supply.start()
        asyncio.run(run(three, phase_seconds, lambda phase: console.print(f"phase    {phase.name}")))
    finally:
        for side in three:
            side.supply.kill()
    return report_trouble(console, three)


def _keys(console: Console, url: str, name: str, redis: Redis, keys: int) -> bool:
    """The third part."""
    console.print()
    console.print(f"redis    {redis.shown}, left as it was found", soft_wrap=True, markup=False)
    console.print(f"keys     {keys:,}, each called once, twice, or twice at once; and the same without")
    console.print(
        f"servers  {keyed.SERVERS} a side; up to {keyed.KILLS} are killed in mid-call with SIGKILL, and replaced"
    )
    console.print("ledger   a file in which the servers note each effect")
    with ExitStack() as running:
        with console.status("starting the servers"):
            two = running.enter_context(keyed.both_sides(url, name, redis))
        with display(console, len(two) * keyed.calls_of(keys)) as shown:
            asyncio.run(keyed.run(two, keys, shown))
        for why in [why for side in two for why in side.fleet.crashed()]:
            console.print(why, style="red", markup=False)
        return report_keys(console, two)


def _watch(console: Console, load: Load, victim: ServerProcess | None) -> None:
    """Run the load, show how far it is, and kill `victim` in the middle."""
    with display(console, load.plan.calls) as shown:
        load.start()
        last, since = 0, time.monotonic()
        while load.running:
            if victim is not None and load.plan.halfway.wait(REFRESH):
                victim.kill()
                at = f"with SIGKILL, {load.ended()[0]:,} calls having ended"
                console.print(f"killed   server process {victim.pid} {at}", style="bold red")
                victim = None
            elif victim is None:
                time.sleep(REFRESH)
            ended, failed = load.ended()
            shown.show(ended, failed)
            if ended != last:
                last, since = ended, time.monotonic()
            elif time.monotonic() - since > STUCK_AFTER:
                console.print(f"no call ended in the last {STUCK_AFTER:g} s", style="bold red")
                return
        shown.show(*load.ended())
