"""Calls of the first moment after a start of the broker, which RabbitMQ 3.12 to 4.1 would leave without an answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from resilient_rpc import Client, Server
from resilient_rpc.events import ConnectionStateChanged
from tests.broker.amqp import publishing, run, transport
from tests.faults.group import Watch
from tests.servers.handle import Broker

STARTING, READY = "rabbit_boot_state:set(core_started).", "rabbit_boot_state:set(ready)."


@pytest.fixture
def starting(private_broker: Broker) -> Iterator[Broker]:
    """A broker that accepts connections, and does not count its node among those that run."""
    private_broker.ctl("eval", STARTING)
    try:
        yield private_broker
    finally:
        private_broker.ctl("eval", READY)


def test_a_call_to_a_broker_that_is_about_to_be_up_is_answered(starting: Broker, service: str) -> None:
    ran: list[int] = []
    connected = threading.Event()
    server = Server(starting.url, service=service)

    @server.method
    def twice(n: int) -> int:
        ran.append(n)
        return 2 * n

    def note(event: ConnectionStateChanged) -> None:
        if event.state == "connected":
            connected.set()

    server.on(ConnectionStateChanged, note)
    server.start()
    try:
        assert connected.wait(10.0)
        with Client(starting.url, policies=[]) as client:
            future = client.submit(f"{service}.twice", [21], timeout=30.0)
            starting.ctl("eval", READY)
            watch = Watch()
            assert future.result(30.0) == 42
            assert watch.seconds < 5.0, "it went out as soon as the broker was up"
            assert client.call(f"{service}.twice", [4]) == 8
    finally:
        server.stop()
    assert ran == [21, 4]


def test_to_find_out_leaves_no_channel(private_broker: Broker) -> None:
    async def scenario() -> None:
        async with publishing(transport(private_broker.url), replies=True) as (publisher, events):
            found = publisher._connection._channels  # type: ignore[attr-defined]
            assert len([channel for channel in found.values() if not channel.is_closing]) == 1
            assert not events.deliveries
            assert not events.errors

    run(scenario)
