"""A running server on a memory bus, and a client that speaks to it in raw messages."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from resilient_rpc import events
from resilient_rpc.binder import Binder
from resilient_rpc.call import Safety
from resilient_rpc.context import Context
from resilient_rpc.contract import Method, Methods
from resilient_rpc.events import Event
from resilient_rpc.hub import Events
from resilient_rpc.serving.core import Serving
from resilient_rpc.serving.options import ServingOptions
from resilient_rpc.transport.base import Delivery, QueueSpec
from resilient_rpc.transport.memory import Bus, MemoryTransport
from resilient_rpc.transport.properties import encode_headers, encode_properties
from resilient_rpc.wire.codec import CODECS, JSON
from resilient_rpc.wire.control import control_exchange
from tests.contract.recorder import Recorder, Worker
from tests.waiting import turns

_names = itertools.count(1)
QUEUE = "rpc.shop"
OURS = {"rpc-version": "1"}


class Bench:
    """See the module. `client` gets the replies; `calls` counts what handlers have noted."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.methods = Methods("shop")
        self.events: list[Event] = []
        self.hub = Events()
        self.hub.on(Event, self.events.append)
        self.replies = Recorder()
        self.client: Any = None
        self.ran: list[Any] = []
        self.gate = asyncio.Event()
        self._servings: list[Serving] = []
        for function in (echo, add, self.note, self.note_quickly, self.wait, fail):
            self.method(function)

    # -- handlers

    async def note(self, value: Any = None) -> Any:
        """Waits a turn."""
        self.ran.append(value)
        await asyncio.sleep(0)
        return value

    async def note_quickly(self, value: Any = None) -> Any:
        self.ran.append(value)
        return value

    async def wait(self, value: Any = None) -> Any:
        self.ran.append(value)
        await self.gate.wait()
        return value

    def method(
        self,
        function: Callable[..., Any],
        name: str = "",
        safety: Safety | None = None,
        timeout: float | None = None,
        **settings: Any,
    ) -> None:
        binder = Binder(function, Context)
        for codec in CODECS.values():
            binder.prepare(codec)
        is_async = asyncio.iscoroutinefunction(function)
        called = name or function.__name__
        self.methods.add(
            Method(
                name=called,
                function=function,
                binder=binder,
                safety=safety,
                timeout=timeout,
                is_async=is_async,
                **settings,
            )
        )

    # -- the server

    async def serve(self, name: str = "server", *, delivery_limit: int | None = None, **options: Any) -> Serving:
        transport = MemoryTransport(self.bus.name, session_name=name)
        queue = QueueSpec(name=QUEUE, service="shop", delivery_limit=delivery_limit, control=control_exchange(QUEUE))
        serving = Serving(transport, queue, self.methods, ServingOptions(**options), self.hub, name)
        self._servings.append(serving)
        serving.start()
        await serving.ready(10.0)
        return serving

    async def close(self) -> None:
        self.gate.set()
        self.bus.thaw()
        self.bus.unblock()
        for serving in self._servings:
            await serving.close()
        await self.client.close()

    def drop(self, kind: type) -> None:
        """Break the server's sessions of one kind."""
        for session in list(self.bus.broker.sessions):
            if isinstance(session, kind) and session is not self.client:
                self.bus.drop_connections(session)

    # -- the client

    def send(self, body: Any, headers: dict[str, Any] | None = None, **properties: Any) -> None:
        """Publish to the server; bytes as they are, anything else as JSON."""
        properties.setdefault("reply_to", self.client.reply_to)
        properties.setdefault("correlation_id", "token.1")
        data = body if isinstance(body, bytes) else JSON.encode(body)
        encoded = encode_properties(headers=encode_headers(headers) if headers is not None else None, **properties)
        self.client.publish(QUEUE, data, encoded, mandatory=False)

    async def received(self, count: int = 1) -> list[Delivery]:
        return await self.replies.received(count)

    async def reply(self) -> Any:
        """The only reply, decoded."""
        [delivery] = await self.received(1)
        return json.loads(delivery.body)

    async def ask(self, body: Any, headers: dict[str, Any] | None = None, **properties: Any) -> Any:
        """Send one message and decode the one reply to it."""
        before = len(self.replies.deliveries)
        self.send(body, headers, **properties)
        found = await self.replies.received(before + 1)
        await self.settled()
        assert len(self.replies.deliveries) == before + 1
        return json.loads(found[-1].body)

    async def ask_beside(self, body: Any) -> Any:
        """As `ask`, while others wait for their replies."""
        before = len(self.replies.deliveries)
        self.send(body)
        return json.loads((await self.replies.received(before + 1))[-1].body)

    async def settled(self) -> None:
        """Wait until the queue is empty and all is acked."""
        await turns(lambda: self.depth == 0 and self.unacked == 0)

    @property
    def depth(self) -> int:
        return self.bus.queue(QUEUE).depth

    @property
    def unacked(self) -> int:
        return self.bus.queue(QUEUE).unacked

    async def as_redelivered(self, body: Any, headers: dict[str, Any] | None = None, **properties: Any) -> None:
        """Leave a message in the queue that somebody took and gave back."""
        worker = Worker(acks=False)
        spec = QueueSpec(name=QUEUE, service="shop")
        other = await MemoryTransport(self.bus.name).consumer(worker, spec, prefetch=1, timeout=5)
        self.send(body, headers, **properties)
        await worker.received(1)
        await other.close()

    def dead(self) -> list[str]:
        """Why messages became dead letters."""
        return [event.reason for event in self.events if isinstance(event, events.DeadLettered)]


def call(method: str, params: Any = None, id_: Any = 1, **meta: Any) -> dict[str, Any]:
    item: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "id": id_}
    if params is not None:
        item["params"] = params
    if meta:
        item["meta"] = meta
    return item


def notification(method: str, params: Any = None) -> dict[str, Any]:
    item = call(method, params)
    del item["id"]
    return item


async def echo(value: Any = None) -> Any:
    return value


def add(a: int, b: int) -> int:
    return a + b


async def fail(text: str = "failed") -> None:
    raise ValueError(text)


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    bus = Bus.named(f"serving-{next(_names)}")
    made = Bench(bus)
    made.client = await MemoryTransport(bus.name, session_name="client").publisher(
        made.replies, replies=True, timeout=5
    )
    try:
        yield made
    finally:
        await made.close()
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if left:
            await asyncio.wait(left, timeout=1)
        assert not [task for task in left if not task.done()]
        assert bus.connections == []
