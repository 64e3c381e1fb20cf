"""How soon calls succeed again after the broker was killed and started."""

from __future__ import annotations

import secrets
import time
from argparse import Namespace
from collections.abc import Iterator

from benchmarks import broker
from benchmarks.drive import say
from benchmarks.families import Found, Point
from benchmarks.plan import Plan
from benchmarks.process import party, servers
from resilient_rpc import AsyncClient, RpcError

GAP = 0.25
"""Seconds without a success that are an outage."""


async def client(options: Namespace) -> None:
    """Calls one after the other, and tells of each success after a gap."""
    method = f"{options.service}.echo"
    async with AsyncClient(options.url, safety="read_only") as rpc:
        await rpc.call(method, {"n": 0})
        say(event="begin")
        last = time.monotonic()
        while True:
            try:
                await rpc.call(method, {"n": 1}, timeout=30.0)
            except RpcError:
                continue  # an outage may be longer than what a policy waits for
            now = time.monotonic()
            if now - last > GAP:
                say(event="back", at=time.time())
            last = now


def restart(plan: Plan) -> Iterator[tuple[Point, Found]]:
    """The probe; nothing, if the broker is not ours."""
    if plan.own is None:
        return
    service = f"bench{secrets.token_hex(4)}"
    common = ("--url", plan.url, "--service", service)
    try:
        with servers(1, "ours-server", *common), party("calling-on", *common) as caller:
            caller.hear("begin")
            plan.own.kill()
            plan.own.start()
            up = time.time()
            while (back := caller.hear("back")["at"]) < up - 1.0:
                pass
    finally:
        broker.forget(plan.url, f"rpc.{service}")
    name = "AsyncClient and Server, default policies"
    yield Point(key="recovery", x=name, series="AsyncClient"), {"elapsed_us": max(back - up, 0.0) * 1e6}
