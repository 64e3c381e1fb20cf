"""A server process of the soak: `python -m tests.faults.soak.server AMQP_URL REDIS_URL SERVICE FOLDER LEASE`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from resilient_rpc import ApplicationError, Context, Server
from resilient_rpc.policies import Idempotency
from resilient_rpc.stores import RedisStore
from tests.faults.soak.crashpoints import CrashPoints, TappedStore, TappedTransport
from tests.faults.soak.ledger import Ledger

SOLD_OUT = "sold_out"
"""The error that `deliver` raises where it is asked to; it is an answer, and as good as any."""
GRACE = 5.0


def command(amqp_url: str, redis_url: str, service: str, folder: Path, lease: float) -> list[str]:
    """The module and its arguments."""
    return [__name__, amqp_url, redis_url, service, str(folder), str(lease)]


def build(amqp_url: str, redis_url: str, service: str, folder: Path, lease: float) -> Server:
    """The server."""
    ledger, points = Ledger(folder / "ledger"), CrashPoints(folder)
    store = TappedStore(RedisStore(redis_url, timeout=0.25), ledger, points)
    idempotency = Idempotency(store, lease=lease, wait=2 * lease)
    server = Server(amqp_url, service=service, concurrency=32, grace=GRACE, policies=[idempotency])
    server._transport = TappedTransport(server._transport, points=points)

    @server.method(safety="dedup")
    async def deliver(ctx: Context, seconds: float = 0.0, fail: bool = False, crash: str = "") -> str:
        assert ctx.key is not None
        assert ctx.fencing_token is not None
        points.expect(ctx.key, crash)
        points.reach(ctx.key, "before_effect")
        await asyncio.sleep(seconds / 2)
        token = ledger.effect(ctx.key, ctx.fencing_token)
        points.reach(ctx.key, "after_effect")
        await asyncio.sleep(seconds / 2)
        if fail:
            raise ApplicationError(token, type=SOLD_OUT)
        return token

    @server.method(safety="read_only")
    async def state() -> dict[str, Any]:
        return {"pid": os.getpid(), **server.health()}

    return server


if __name__ == "__main__":
    build(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), float(sys.argv[5])).run()
