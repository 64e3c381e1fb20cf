"""ControlQueue: where one server is told what to stop, on a channel of its own, so that no fault of it ends more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from resilient_rpc.errors import RpcError
from resilient_rpc.transport.amqp.lane import Lane
from resilient_rpc.wire.control import new_control_queue

log = logging.getLogger(__name__)
MOST = 10_000
"""Messages that lie in it while its server does not read; beyond it the oldest gives way."""
Ask = Callable[..., Awaitable[Any]]
Opening = Callable[[], Awaitable[tuple[Any, Lane]]]


class ControlQueue:
    """Of one session, in the background. `name` is empty while it is not consumed.

    A server that may not have one serves all the same: it sends beats, and its callers cannot cancel.
    """

    def __init__(self, exchange: str, open_: Opening, ask: Ask) -> None:
        """`open_` gives a new channel and its lane, `ask` awaits one of pika's operations."""
        self.name = ""
        self._exchange, self._open, self._ask = exchange, open_, ask
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to declare it."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="rpc-control")

    async def close(self) -> None:
        """Give up on it."""
        self.name = ""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        try:
            await self._consume()
        except (RpcError, OSError) as error:  # the session has ended
            log.debug("no control queue: %s", error)

    async def _consume(self) -> None:
        channel, lane = await self._open()
        channel.add_on_close_callback(self._closed)
        name, ask = new_control_queue(), self._ask
        await ask(channel.exchange_declare, self._exchange, "fanout", durable=True)
        await ask(channel.queue_declare, name, exclusive=True, arguments={"x-max-length": MOST})
        await ask(channel.queue_bind, name, self._exchange)
        await ask(channel.basic_consume, name, lane.on_deliver, auto_ack=True)
        self.name = name

    def _closed(self, channel: Any, error: BaseException) -> None:
        """Its channel has ended, alone or with its session."""
        self.name = ""
        if channel.connection.is_open:
            log.warning("callers cannot cancel here: no control queue at %s: %s", self._exchange, error)
        if self._task is not None:
            self._task.cancel()
