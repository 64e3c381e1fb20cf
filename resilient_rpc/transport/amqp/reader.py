"""AmqpReader: looks through a queue from its head, takes what is wanted, and leaves the rest as it was."""

from __future__ import annotations

import asyncio
import contextlib

from resilient_rpc.errors import ConfigurationError, RpcError
from resilient_rpc.transport.amqp.causes import NOT_FOUND
from resilient_rpc.transport.amqp.lane import FastLane
from resilient_rpc.transport.amqp.session import CLOSE_TIMEOUT, Session, settle
from resilient_rpc.transport.base import Delivery


class NoSuchQueue(ConfigurationError):
    """The queue that was to be read does not exist."""


class AmqpReader(Session):
    """Gets messages with manual acks. What is not acked when it closes stands where it stood before.

    While it is open nobody else sees what it got. Attributes: `waiting`, the messages that were there when it opened.
    """

    _lane: FastLane

    def __init__(self, queue: str, where: str, *, max_body: int) -> None:
        super().__init__(lambda _: None, where, lane=True, max_body=max_body)
        self._queue = queue
        self._found: list[Delivery] = []
        self._due = 0
        self._answered: asyncio.Future[None] | None = None
        self.waiting = 0

    async def get(self, most: int) -> list[Delivery]:
        """The next messages, at most so many; fewer: these were the last. Raises why the session ended."""
        with self._expecting() as answered:
            self._found, self._due, self._answered = [], most, answered
            for _ in range(most):
                self._lane.get(self._queue)
            await answered
        return self._found

    def ack(self, tag: int) -> None:
        """It is dealt with, and leaves the queue."""
        self._lane.ack(tag)

    async def close(self) -> None:
        """Give back what was not acked; returns when it stands in the queue again, where the broker still answers."""
        if self._ended is None:
            self._lane.give_back()
            with contextlib.suppress(RpcError, TimeoutError):  # it has just ended: the broker gives back by itself
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self.ask(self._channel.queue_declare, self._queue, passive=True)
        await super().close()

    async def _set_up(self) -> None:
        self.phase = f"looking for queue {self._queue}"
        try:
            found = await self.ask(self._channel.queue_declare, self._queue, passive=True)
        except RpcError as error:
            if getattr(error.__cause__, "reply_code", None) == NOT_FOUND:
                raise NoSuchQueue(f"there is no queue {self._queue!r}") from error
            raise
        self.waiting = found.method.message_count
        self._reports.delivered = self._take
        self._reports.empty = self._answer

    def _connect_reports(self) -> None:
        """They go to this session itself."""

    def _take(self, delivery: Delivery) -> None:
        self._found.append(delivery)
        self._answer()

    def _answer(self) -> None:
        self._due -= 1
        if not self._due and self._answered is not None:
            settle(self._answered, None)
