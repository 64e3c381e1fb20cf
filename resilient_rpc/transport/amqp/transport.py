"""AmqpTransport: opens sessions on a RabbitMQ, at whichever of its hosts answers."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable
from typing import TypeVar

from resilient_rpc.errors import ConfigurationError, NotConnected, RpcError
from resilient_rpc.transport.amqp.connect import cap_pika_logs, connect
from resilient_rpc.transport.amqp.consumer import AmqpConsumer
from resilient_rpc.transport.amqp.lane import MAX_BODY
from resilient_rpc.transport.amqp.leasing import LeasingPublisher
from resilient_rpc.transport.amqp.publisher import AmqpPublisher
from resilient_rpc.transport.amqp.reader import AmqpReader
from resilient_rpc.transport.amqp.session import Session
from resilient_rpc.transport.amqp.tls import tls_context
from resilient_rpc.transport.base import ConsumerEvents, PublisherEvents, QueueSpec
from resilient_rpc.transport.reply_queues import ReplyQueues, ReplyQueueTaken
from resilient_rpc.transport.urls import AmqpUrl

S = TypeVar("S", bound=Session)
MAX_PREFETCH = 65_535


class AmqpTransport:
    """`transport.base.Transport` over RabbitMQ.

    Attributes:
        url: Where it is; shown without the password.
    """

    def __init__(
        self, url: AmqpUrl, *, lane: bool = True, heartbeat: int | None = None, max_body: int = MAX_BODY
    ) -> None:
        """Read certificates; nothing is connected yet.

        Args:
            url: Where RabbitMQ is.
            lane: Encode and decode hot frames here. False leaves them to pika's codec, at a third of the speed.
            heartbeat: In place of the URL's.
            max_body: Bytes of a message; RabbitMQ 4 accepts 16 MiB unless told otherwise.

        Raises:
            ConfigurationError: a certificate cannot be used, or an argument is out of range.
        """
        self.url = url if heartbeat is None else dataclasses.replace(url, heartbeat=heartbeat)
        self._lane, self._max_body = lane, max_body
        self._tls = tls_context(self.url)
        self._first = random.randrange(len(url.hosts))  # so that many clients spread over the nodes
        if max_body < 1:
            raise ConfigurationError(f"max_body must be positive: {max_body}")
        cap_pika_logs()

    def __repr__(self) -> str:
        return f"AmqpTransport({self.url.redacted!r})"

    @property
    def user(self) -> str | None:
        """See `transport.base.Transport`."""
        return None if self.url.external else self.url.user

    @property
    def connect_timeout(self) -> float:
        """See `transport.base.Transport`."""
        return self.url.connect_timeout

    async def publisher(self, events: PublisherEvents, *, replies: bool | ReplyQueues, timeout: float) -> AmqpPublisher:
        """See `transport.base.Transport`."""
        leases = isinstance(replies, ReplyQueues) and replies.kind == "per_call"
        kind = LeasingPublisher if leases else AmqpPublisher

        def make(where: str) -> AmqpPublisher:
            return kind(events, where, replies=replies, lane=self._lane, max_body=self._max_body)

        return await self._open(make, timeout)

    async def consumer(
        self, events: ConsumerEvents, queue: QueueSpec, *, prefetch: int, timeout: float
    ) -> AmqpConsumer:
        """See `transport.base.Transport`."""
        if not 0 <= prefetch <= MAX_PREFETCH:
            raise ConfigurationError(f"prefetch is from 0 (no limit) to {MAX_PREFETCH}: {prefetch}")

        def make(where: str) -> AmqpConsumer:
            return AmqpConsumer(events, queue, where, prefetch=prefetch, lane=self._lane, max_body=self._max_body)

        return await self._open(make, timeout)

    async def reader(self, queue: str, *, timeout: float) -> AmqpReader:
        """Open a session that takes messages from a queue one by one. `NoSuchQueue` if there is none."""
        return await self._open(lambda where: AmqpReader(queue, where, max_body=self._max_body), timeout)

    async def _open(self, make: Callable[[str], S], timeout: float) -> S:
        """Try each host once, in turn, each with its share of the time that is left."""
        hosts, loop, failures = self._hosts(), asyncio.get_running_loop(), []
        deadline = loop.time() + timeout
        for number, address in enumerate(hosts):
            share = max(deadline - loop.time(), 0.0) / (len(hosts) - number)
            try:
                return await self._attempt(make, address, share)
            except (ConfigurationError, ReplyQueueTaken):
                raise
            except (RpcError, OSError) as error:
                failures.append(error)
        if len(failures) == 1:
            raise failures[0]
        raise NotConnected("no host accepts: " + "; ".join(str(error) for error in failures)) from failures[-1]

    def _hosts(self) -> list[tuple[str, int]]:
        hosts = self.url.hosts
        first, self._first = self._first, (self._first + 1) % len(hosts)
        return [*hosts[first:], *hosts[:first]]

    async def _attempt(self, make: Callable[[str], S], address: tuple[str, int], timeout: float) -> S:
        host, port = address
        session = make(f"{host}:{port}")
        deadline = asyncio.get_running_loop().time() + timeout
        connection = await connect(self.url, address, self._tls, timeout, session.connection_lost)
        try:
            async with asyncio.timeout_at(deadline):
                await session.open(connection)
        except TimeoutError as error:
            raise TimeoutError(
                f"{host}:{port} did not answer within {timeout:.3g} s: stuck at {session.phase}"
            ) from error
        return session
