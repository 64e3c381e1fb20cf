"""A broker that is away, killed, frozen, full or forgetful: every call ends, and the next one works again."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Self

import pytest

from resilient_rpc import (
    AsyncClient,
    Certainty,
    Client,
    ConnectionLost,
    NotConnected,
    RpcError,
    Server,
    Unroutable,
)
from tests.servers.handle import Broker
from tests.servers.ports import free_port


class Held:
    """A server with one method that answers at once and one that waits until it is let go."""

    def __init__(self, url: str, service: str) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.runs = 0
        self.server = Server(url, service=service, concurrency=32)
        self.server.method(self.echo)
        self.server.method(self.hold)

    async def echo(self, n: int) -> int:
        return n

    def hold(self, n: int) -> int:
        self.runs += 1
        self.begun.release()
        self.go.wait(60.0)
        return n

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self.server.stop()


def test_a_missing_queue_is_unroutable_at_once(amqp_url: str, service: str) -> None:
    with Client(amqp_url, policies=[]) as client:  # the default Retry asks three times, with pauses of 75 ms on average
        for _ in range(2):  # the first one also connects
            begin = time.monotonic()
            with pytest.raises(Unroutable) as caught:
                client.call(f"{service}.anything", timeout=10.0)
            took = time.monotonic() - begin

    assert caught.value.certainty is Certainty.NOT_EXECUTED
    assert took < 0.1


def test_a_broker_that_is_down_ends_the_call_at_its_deadline_not_connected(service: str) -> None:
    url = f"amqp://guest:guest@127.0.0.1:{free_port()}/"

    took: list[float] = []

    async def from_asyncio() -> NotConnected:
        async with AsyncClient(url) as client:
            begin = time.monotonic()
            with pytest.raises(NotConnected) as caught:
                await client.call(f"{service}.echo", timeout=0.5)
            took.append(time.monotonic() - begin)
            return caught.value

    error = asyncio.run(from_asyncio())
    with Client(url) as client:
        begin = time.monotonic()
        with pytest.raises(NotConnected) as caught:
            client.call(f"{service}.echo", timeout=0.5)
        took.append(time.monotonic() - begin)

    assert {error.certainty, caught.value.certainty} == {Certainty.NOT_EXECUTED}
    assert min(took) >= 0.5
    assert max(took) < 0.9


def test_wrong_credentials_end_the_call_at_once_and_are_not_shown(amqp_url: str, service: str) -> None:
    url = amqp_url.replace("guest:guest", "guest:hunter2-secret")
    begin = time.monotonic()
    with Client(url) as client, pytest.raises(RpcError) as caught:
        client.call(f"{service}.echo", timeout=10.0)

    assert caught.value.certainty is Certainty.NOT_EXECUTED
    assert time.monotonic() - begin < 5.0
    assert "hunter2-secret" not in repr(caught.value) + str(caught.value.__cause__)


@pytest.mark.timeout(120)
def test_a_killed_broker_ends_each_call_at_once_and_the_next_succeeds_after_the_restart(
    private_broker: Broker, service: str
) -> None:
    with Held(private_broker.url, service) as held, Client(private_broker.url, timeout=60.0) as client:
        assert client.call(f"{service}.echo", [1]) == 1
        futures = [client.submit(f"{service}.hold", [n]) for n in range(20)]
        for _ in futures:
            assert held.begun.acquire(timeout=10.0)
        killed = time.monotonic()
        private_broker.kill()
        errors = [future.exception(timeout=10.0) for future in futures]
        assert time.monotonic() - killed < 2.0
        assert {type(error) for error in errors} == {ConnectionLost}
        assert {error.certainty for error in errors if isinstance(error, RpcError)} == {Certainty.UNKNOWN}

        with pytest.raises(NotConnected):  # while it is down
            client.call(f"{service}.echo", [2], timeout=0.3)
        held.go.set()
        private_broker.start()
        begin = time.monotonic()
        assert client.call(f"{service}.echo", [3], timeout=15.0) == 3
        assert time.monotonic() - begin < 5.0
