"""A server whose handler ends its process: `python -m tests.faults.poisoned URL SERVICE classic|quorum`."""

from __future__ import annotations

import os
import sys

from resilient_rpc import Classic, Quorum, Server

LIMIT = 2

if __name__ == "__main__":
    queue = Quorum(delivery_limit=LIMIT) if sys.argv[3] == "quorum" else Classic(delivery_limit=LIMIT)
    server = Server(sys.argv[1], service=sys.argv[2], queue=queue)

    @server.method(safety="idempotent")
    def poison() -> None:
        os._exit(9)

    @server.method(safety="idempotent")
    def price(n: int) -> int:
        return n

    server.run()
