"""A server whose handler ends its process: `python -m tests.faults.poisoned URL SERVICE classic|quorum [REDIS_URL]`."""

from __future__ import annotations

import os
import sys

from resilient_rpc import Classic, Quorum, Server
from resilient_rpc.policies import Idempotency
from resilient_rpc.stores import RedisStore

LIMIT = 2
LEASE = 0.5

if __name__ == "__main__":
    queue = Quorum(delivery_limit=LIMIT) if sys.argv[3] == "quorum" else Classic(delivery_limit=LIMIT)
    records = [RedisStore(url, timeout=2.0) for url in sys.argv[4:]]
    safety = "dedup" if records else "idempotent"
    policies = [Idempotency(store, lease=LEASE) for store in records]
    server = Server(sys.argv[1], service=sys.argv[2], queue=queue, policies=policies)

    @server.method(safety=safety)
    def poison() -> None:
        os._exit(9)

    @server.method(safety=safety)
    def price(n: int) -> int:
        return n

    server.run()
