"""A server of the soak of links: `python -m tests.faults.soak.plain_server AMQP_URL SERVICE FOLDER`."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from resilient_rpc import Server
from resilient_rpc.wire.filters import Message
from tests.faults.soak.crashpoints import die
from tests.faults.soak.ledger import Ledger
from tests.faults.soak.server import GRACE

NO_TOKEN = 0
"""Without keys there are no fencing tokens."""


class Addresses:
    """A filter that notes who wants replies, and changes nothing."""

    def __init__(self) -> None:
        self.latest: deque[tuple[str, str]] = deque(maxlen=50)

    def incoming(self, message: Message) -> Message:
        """Of a request."""
        if message.reply_to and message.correlation_id:
            self.latest.append((message.reply_to, message.correlation_id))
        return message

    def outgoing(self, message: Message) -> Message:
        """Of a reply."""
        return message


def command(amqp_url: str, service: str, folder: Path) -> list[str]:
    """The module and its arguments."""
    return [__name__, amqp_url, service, str(folder)]


def build(amqp_url: str, service: str, folder: Path) -> Server:
    """The server."""
    ledger, addresses = Ledger(folder / "ledger"), Addresses()
    server = Server(amqp_url, service=service, concurrency=32, grace=GRACE, filters=[addresses])

    async def act(id: str, seconds: float = 0.0) -> str:  # noqa: A002 - what callers say
        await asyncio.sleep(seconds / 2)
        token = ledger.effect(id, NO_TOKEN)
        await asyncio.sleep(seconds / 2)
        return token

    server.method(name="read", safety="read_only")(act)
    server.method(name="put", safety="idempotent")(act)
    server.method(name="create", safety="unsafe")(act)

    @server.method(safety="unsafe")
    def create_in_thread(id: str, seconds: float = 0.0) -> str:  # noqa: A002
        token = ledger.effect(id, NO_TOKEN)
        time.sleep(seconds)
        return token

    @server.method(safety="unsafe")
    async def poison(id: str) -> None:  # noqa: A002
        ledger.effect(id, NO_TOKEN)
        die()

    @server.method(safety="read_only")
    async def recent() -> list[tuple[str, str]]:
        return list(addresses.latest)

    @server.method(safety="read_only")
    async def state() -> dict[str, Any]:
        return {"pid": os.getpid(), **server.health()}

    return server


if __name__ == "__main__":
    build(sys.argv[1], sys.argv[2], Path(sys.argv[3])).run()
