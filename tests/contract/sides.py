"""The transports under contract, each with what the contract itself cannot say: reading any queue, cleaning up."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import pika

from resilient_rpc.transport.amqp import AmqpTransport
from resilient_rpc.transport.base import Delivery, QueueSpec, Transport
from resilient_rpc.transport.memory import Bus, MemoryTransport
from resilient_rpc.transport.properties import decode_headers
from resilient_rpc.transport.queues import MAX_DEAD
from resilient_rpc.transport.topology import DEAD_LETTER, EXPIRED_ARGUMENTS, dead_arguments
from resilient_rpc.transport.urls import AmqpUrl, parse_url
from tests.contract.recorder import PATIENCE, Worker


@dataclass
class Found:
    """A message that was read from a queue, and removed."""

    body: bytes
    headers: dict[str, Any]
    expiration: str | None
    routing_key: str


class Side(ABC):
    """One transport, with a service of its own."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.queue = f"rpc.{service}"
        self.dead = f"rpc.{service}.dead"
        self.expired = f"rpc.{service}.expired"

    def spec(self, *, control: str = "", **arguments: Any) -> QueueSpec:
        return QueueSpec(name=self.queue, service=self.service, arguments=arguments, control=control)

    @property
    @abstractmethod
    def url(self) -> str:
        """For a server or a client."""

    @abstractmethod
    def transport(self) -> Transport:
        """A transport of its own, as another process would have it."""

    async def read(self, queue: str, count: int) -> list[Found]:
        """Wait for as many messages in the dead or expired queue, and take them out."""
        arguments = {DEAD_LETTER: None, **(EXPIRED_ARGUMENTS if queue == self.expired else dead_arguments(MAX_DEAD))}
        spec = QueueSpec(name=queue, service=self.service, arguments=arguments, dead_letters=False)
        worker = Worker(acks=False)
        consumer = await self.transport().consumer(worker, spec, prefetch=count, timeout=PATIENCE)
        found = await worker.received(count)
        for delivery in found:
            consumer.ack(delivery.tag)
        await consumer.cancel()
        await consumer.close()
        return [_found(delivery) for delivery in found]

    @abstractmethod
    async def break_off(self, session: Any) -> None:
        """Break the connection of a session."""

    @abstractmethod
    async def delete(self, queue: str, *, owner: Any = None) -> None:
        """Delete a queue; an exclusive one, in the name of the session that has it."""

    @abstractmethod
    def clean(self) -> None:
        """Remove the service's queues."""


class MemorySide(Side):
    def __init__(self, service: str) -> None:
        super().__init__(service)
        self._bus = Bus.named(service)  # it would be forgotten whenever a test has no session open

    @property
    def url(self) -> str:
        return f"memory://{self.service}"

    def transport(self) -> Transport:
        return MemoryTransport(self.service)

    async def break_off(self, session: Any) -> None:
        assert self._bus.drop_connections(session) == 1

    async def delete(self, queue: str, *, owner: Any = None) -> None:
        self._bus.delete(queue)

    def clean(self) -> None:
        assert self._bus.connections == [], "a test left sessions open"
        self._bus.reset()


class AmqpSide(Side):
    def __init__(self, service: str, url: str, *, lane: bool) -> None:
        super().__init__(service)
        self._text, self._lane = url, lane

    @property
    def url(self) -> str:
        return self._text

    def transport(self) -> Transport:
        url = parse_url(self._text)
        assert isinstance(url, AmqpUrl)
        return AmqpTransport(url, lane=self._lane)

    async def break_off(self, session: Any) -> None:
        session._connection.stream.abort()

    async def delete(self, queue: str, *, owner: Any = None) -> None:
        if owner is not None:
            owner._channel.queue_delete(queue)
            return

        def delete() -> None:
            with pika.BlockingConnection(pika.URLParameters(self._text)) as connection:
                connection.channel().queue_delete(queue)

        await asyncio.to_thread(delete)

    def clean(self) -> None:
        with pika.BlockingConnection(pika.URLParameters(self._text)) as connection:
            for name in (self.queue, self.dead, self.expired):
                connection.channel().queue_delete(name)
            connection.channel().exchange_delete(f"{self.queue}.control")


def _found(delivery: Delivery) -> Found:
    properties = delivery.properties
    headers = decode_headers(properties.get("headers", b""))
    return Found(delivery.body, headers, properties.get("expiration"), delivery.routing_key)
