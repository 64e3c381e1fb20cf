"""The service of the demo's third part: it charges cards, and writes into a ledger what it really did."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path

from resilient_rpc.cli.demo_ledger import Ledger
from resilient_rpc.cli.demo_service import SERVICE_VARIABLE, URL_VARIABLE, end_with_parent
from resilient_rpc.context import Context
from resilient_rpc.policies import Idempotency
from resilient_rpc.server import Server
from resilient_rpc.stores import RedisStore

LEDGER_VARIABLE = "RESILIENT_RPC_DEMO_LEDGER"
REDIS_VARIABLE, NAMESPACE_VARIABLE = "RESILIENT_RPC_DEMO_REDIS", "RESILIENT_RPC_DEMO_NAMESPACE"
WORK = 0.2
"""Seconds before a card is charged: the middle of a call, in which servers are killed."""
LEASE = 1.0
KEPT = 300.0
"""Seconds after which Redis forgets what the demo could not delete."""
IN_REDIS = 2.0
"""Seconds that a step in Redis may take: more than in earnest, for the demo keeps the machine busy."""


def build(url: str, service: str, ledger: Ledger, redis: str | None, namespace: str) -> Server:
    """A server; without `redis` it keeps no record of keys."""
    policies = []
    if redis is not None:
        store = RedisStore(redis, namespace=namespace, timeout=IN_REDIS)
        policies.append(Idempotency(store, lease=LEASE, ttl=KEPT))
    server = Server(url, service=service, policies=policies, concurrency=8, grace=5.0)

    @server.method
    async def charge(ctx: Context, order: str) -> str:
        """Charges a card; gives the number of the receipt, which is another one each time."""
        ledger.note("began", order, ctx.fencing_token)
        await asyncio.sleep(WORK)
        receipt = secrets.token_hex(4)
        ledger.note("charged", order, ctx.fencing_token, receipt)
        return receipt

    return server


def server() -> Server:
    """For ``resilient-rpc serve``, as `demo` starts it; it ends when `demo` has ended."""
    end_with_parent()
    environment = os.environ
    ledger = Ledger(Path(environment[LEDGER_VARIABLE]))
    redis, namespace = environment.get(REDIS_VARIABLE), environment.get(NAMESPACE_VARIABLE, "")
    return build(environment[URL_VARIABLE], environment[SERVICE_VARIABLE], ledger, redis, namespace)
