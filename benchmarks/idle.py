"""``python -m benchmarks idle``: processor time of clients and a server that are connected and have nothing to do."""

from __future__ import annotations

import asyncio
import secrets
import time
from argparse import Namespace
from typing import Any

from rich.console import Console

from benchmarks import broker
from benchmarks.drive import say
from benchmarks.process import party, servers
from resilient_rpc import AsyncClient, Client


async def async_client(options: Namespace) -> None:
    async with AsyncClient(options.url) as client:
        await client.call(f"{options.service}.echo", {"n": 1})
        say(event="ready")
        await asyncio.Event().wait()


def blocking_client(options: Namespace) -> None:
    with Client(options.url) as client:
        client.call(f"{options.service}.echo", {"n": 1})
        say(event="ready")
        time.sleep(1e6)


def main(options: Namespace, console: Console) -> dict[str, Any]:
    """Run it, print, and return the seconds."""
    service = f"bench{secrets.token_hex(4)}"
    common = ("--url", options.broker, "--service", service)
    try:
        with (
            servers(1, "ours-server", *common) as (server,),
            party("idle-async", *common) as first,
            party("idle-client", *common) as second,
        ):
            parties = {"server": server, "AsyncClient": first, "Client": second}
            first.hear("ready")
            second.hear("ready")
            time.sleep(1)
            before = {name: one.cpu() for name, one in parties.items()}
            time.sleep(options.seconds)
            spent = {name: one.cpu() - before[name] for name, one in parties.items()}
    finally:
        broker.forget(options.broker, f"rpc.{service}")
    for name, seconds in spent.items():
        share = seconds / options.seconds * 100
        console.print(f"{name:12} {seconds:.2f} s of processor time in {options.seconds:g} s ({share:.2f} %)")
    return {"seconds": options.seconds, "cpu": spent}
