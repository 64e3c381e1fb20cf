"""Row 38: a process that has all of this library at work forks, again and again: `python -m tests.faults.forking`.

Arguments: the URLs of RabbitMQ and Redis, a service, and what the child does. Exit code 0: parent and child are well.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from resilient_rpc import AsyncClient, Client, Server
from resilient_rpc.policies import Idempotency
from resilient_rpc.stores import RedisStore

SECONDS = 15


class World:
    """A server, a client and a store, all connected, and a call that has not ended."""

    def __init__(self, amqp_url: str, redis_url: str, service: str) -> None:
        self.amqp_url, self.service = amqp_url, service
        self.store = RedisStore(redis_url, namespace=service)
        self.go = threading.Event()
        self.effects: list[int] = []
        self.server = self.serve(service)
        self.client = Client(amqp_url, policies=[], timeout=10.0)
        assert self.client.call(f"{service}.whoami") == os.getpid()
        assert self.keyed("before") == 1
        self.held = self.client.submit(f"{service}.hold")
        while not self.server.health()["running"]:
            time.sleep(0.01)

    def serve(self, service: str) -> Server:
        server = Server(self.amqp_url, service=service, policies=[Idempotency(self.store)])

        @server.method(safety="dedup")
        async def once(n: int) -> int:
            self.effects.append(n)
            return len(self.effects)

        @server.method
        async def whoami() -> int:
            return os.getpid()

        @server.method
        def hold() -> int:
            self.go.wait(30.0)
            return os.getpid()

        server.start()
        return server

    def keyed(self, key: str) -> int:
        answer: int = self.client.call(f"{self.service}.once", [7], idempotency_key=key)
        return answer


def uses_the_client(world: World) -> None:
    """The client it was given, in both colours, while a call of its parent is under way."""
    parent = os.getppid()
    assert world.client.call(f"{world.service}.whoami") == parent
    assert world.keyed("before") == 1, "the record of the parent"
    assert world.client.stats().pending == 0, "the call under way is the parent's"

    async def ask() -> None:
        async with AsyncClient(world.amqp_url, policies=[]) as client:
            assert await client.call(f"{world.service}.whoami", timeout=10.0) == parent

    asyncio.run(ask())
    world.client.close()


def serves(world: World) -> None:
    """A server of its own, with the store that it was given."""
    server = world.serve(f"{world.service}child")
    assert world.client.call(f"{world.service}child.whoami") == os.getpid()
    first = world.client.call(f"{world.service}child.once", [1], idempotency_key="of the child")
    assert world.client.call(f"{world.service}child.once", [1], idempotency_key="of the child") == first
    server.stop()


def stops_the_server(world: World) -> None:
    """The server it was given is the parent's, and is its own when it starts it."""
    assert world.server.health()["consuming"] is False
    world.server.stop()
    world.server.start()
    assert world.server.health()["consuming"] is True
    world.server.stop()


def just_exits(_: World) -> None:
    """With everything that Python does at the end of a process."""
    sys.exit(0)


CHILDREN: dict[str, Callable[[World], None]] = {
    each.__name__: each for each in (uses_the_client, serves, stops_the_server, just_exits)
}


def _in_child(world: World, name: str) -> None:
    signal.alarm(SECONDS)
    CHILDREN[name](world)


def main() -> None:
    """See the module."""
    world = World(*sys.argv[1:4])
    child = multiprocessing.get_context("fork").Process(target=_in_child, args=(world, sys.argv[4]))
    child.start()
    assert world.client.call(f"{world.service}.whoami") == os.getpid(), "beside the child"
    child.join(SECONDS)
    assert child.exitcode == 0, child.exitcode
    assert world.client.call(f"{world.service}.whoami") == os.getpid(), "after the child"
    assert world.keyed("before") == 1
    assert world.keyed("after") == 2
    world.go.set()
    assert world.held.result(timeout=10.0) == os.getpid(), "its call was not disturbed"
    world.client.close()
    world.server.stop()


if __name__ == "__main__":
    main()
