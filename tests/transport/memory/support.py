"""Sessions on a bus, with what they report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resilient_rpc.transport.base import QueueSpec
from resilient_rpc.transport.memory import Bus, MemoryTransport
from resilient_rpc.transport.memory.consumer import MemoryConsumer
from resilient_rpc.transport.memory.publisher import MemoryPublisher
from resilient_rpc.transport.properties import encode_properties
from tests.contract.recorder import Recorder, Worker

PLAIN = encode_properties()
QUEUE = "rpc.svc"


def spec(arguments: Mapping[str, Any] | None = None) -> QueueSpec:
    return QueueSpec(name=QUEUE, service="svc", arguments=arguments or {})


async def publisher(bus: Bus, *, name: str = "client", replies: bool = False) -> tuple[MemoryPublisher, Recorder]:
    events = Recorder()
    transport = MemoryTransport(bus.name, session_name=name)
    return await transport.publisher(events, replies=replies, timeout=5), events


async def consumer(
    bus: Bus,
    *,
    name: str = "server",
    prefetch: int = 10,
    acks: bool = False,
    arguments: Mapping[str, Any] | None = None,
) -> tuple[MemoryConsumer, Worker]:
    events = Worker(acks=acks)
    transport = MemoryTransport(bus.name, session_name=name)
    session = await transport.consumer(events, spec(arguments), prefetch=prefetch, timeout=5)
    events.consumer = session
    return session, events
