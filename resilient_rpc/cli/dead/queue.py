"""A service's dead queue, opened for a command."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any

import typer

from resilient_rpc.cli.dead.letter import DeadLetter, read
from resilient_rpc.cli.fail import NOT_EXECUTED, USAGE, exit_code, fail
from resilient_rpc.errors import ConfigurationError, RpcError
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.naming import Naming
from resilient_rpc.transport.topology import dead_queue
from resilient_rpc.transport.urls import AmqpUrl, parse_url

BATCH = 32
"""Messages that are asked for at once."""

Service = Annotated[
    str,
    typer.Argument(
        metavar="SERVICE",
        help="The service whose dead letters they are, with version and environment if it has them: orders.v2.prod.",
        show_default=False,
    ),
]
Prefix = Annotated[str, typer.Option("--prefix", help="What the names of the servers' queues begin with.")]
PREFIX = "rpc."
_SERVICE = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
Url = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="RESILIENT_RPC_URL",
        help="The broker. Rather set the variable: others can read the arguments of a process.",
        show_default=False,
    ),
]


class DeadQueue:
    """Reads letters in their order. What is not acked when it is closed stands where it stood."""

    def __init__(self, transport: Any, requests: str) -> None:
        """`requests`: the queue whose dead letters they are."""
        self.transport, self.requests, self.name = transport, requests, dead_queue(requests)
        self.waiting = 0
        self._reader: Any = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[DeadQueue]:
        """For the length of a block."""
        self._reader = await self.transport.reader(self.name, timeout=self.transport.connect_timeout)
        self.waiting = self._reader.waiting
        try:
            yield self
        finally:
            await self._reader.close()

    async def letters(self) -> AsyncIterator[tuple[int, DeadLetter, Delivery]]:
        """Those that were there when it was opened, numbered from 1 on: what dies meanwhile is not among them."""
        number = 0
        while number < self.waiting:
            asked = min(BATCH, self.waiting - number)
            found = await self._reader.get(asked)
            for delivery in found:
                number += 1
                yield number, read(delivery), delivery
            if len(found) < asked:
                return

    async def count(self, name: str) -> int:
        """How many messages another queue holds."""
        from resilient_rpc.transport.amqp.reader import NoSuchQueue  # noqa: PLC0415 - see `run`

        try:
            reader = await self.transport.reader(name, timeout=self.transport.connect_timeout)
        except NoSuchQueue:
            return 0
        await reader.close()
        return int(reader.waiting)

    def ack(self, delivery: Delivery) -> None:
        """Take it out of the queue."""
        self._reader.ack(delivery.tag)


def run(url: str, service: str, prefix: str, command: Callable[[DeadQueue], Coroutine[Any, Any, None]]) -> None:
    """Run a command on a service's dead queue; ends the process with a line when it cannot."""
    try:
        if not _SERVICE.fullmatch(service):
            raise ConfigurationError(f"service name {service[:200]!r}: give it as orders, or orders.v2.prod")
        requests = Naming(prefix=prefix).queue(service)
        parsed = parse_url(url)
        if not isinstance(parsed, AmqpUrl):
            fail(f"{url}: what is on a memory:// bus is in its own process only; give an amqp:// URL", USAGE)
        from resilient_rpc.transport.amqp import AmqpTransport  # noqa: PLC0415 - pika, which other commands do without
        from resilient_rpc.transport.amqp.reader import NoSuchQueue  # noqa: PLC0415

        queue = DeadQueue(AmqpTransport(parsed), requests)
        try:
            asyncio.run(_opened(queue, command))
        except NoSuchQueue as error:
            fail(f"{error}; a server of {service!r} declares it when it starts", NOT_EXECUTED)
    except RpcError as error:
        fail(f"{type(error).__name__}: {error}", exit_code(error))
    except (OSError, TimeoutError) as error:
        fail(str(error), NOT_EXECUTED)


async def _opened(queue: DeadQueue, command: Callable[[DeadQueue], Awaitable[None]]) -> None:
    async with queue.open():
        await command(queue)
