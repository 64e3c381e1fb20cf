"""Clients whose connections are cut, on a real RabbitMQ: who is answered, who is told that nobody knows."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest

from resilient_rpc import Client, Server
from resilient_rpc.errors import RpcError
from resilient_rpc.futures import CallFuture
from resilient_rpc.replies import Direct, Exclusive, Named, PerCall, Pool
from resilient_rpc.transport.base import Publisher
from resilient_rpc.transport.reply_queues import ReplyStrategy
from tests.broker.amqp import PLAIN, TIMEOUT, publishing, run, transport
from tests.contract.recorder import Recorder
from tests.servers.handle import Broker
from tests.servers.proxy import Proxy
from tests.waiting import PATIENCE, until

NAMED = Named(app="reconnect")


class Held:
    """A server whose calls wait until they are let go, and what it counted."""

    def __init__(self, url: str, service: str) -> None:
        self.service = service
        self.go = threading.Event()
        self.ran: Counter[int] = Counter()
        self.server = Server(url, service=service, concurrency=200)
        self.server.method(self.hold, safety="read_only")

    async def hold(self, value: int) -> int:
        self.ran[value] += 1
        while not self.go.is_set():  # noqa: ASYNC110 - a thread of the test sets it
            await asyncio.sleep(0.01)
        return value


@pytest.fixture
def held(amqp_url: str, service: str) -> Iterator[Held]:
    made = Held(amqp_url, service)
    made.server.start()
    yield made
    made.go.set()
    made.server.stop()


def unconfirmed(client: Client) -> int:
    assert client._caller is not None
    assert client._caller.pool is not None
    return sum(len(link._calls.unconfirmed) for link in client._caller.pool.links)


def ready(client: Client) -> int:
    """Reply queues that wait for a call."""
    assert client._caller is not None
    assert client._caller.pool is not None
    sessions: list[Any] = [link._sessions.session for link in client._caller.pool.links]
    return sum(len(session._ready) for session in sessions)


def addresses(client: Client) -> list[str]:
    """The reply queues of its connections."""
    assert client._caller is not None
    assert client._caller.pool is not None
    found: list[str] = []
    for link in client._caller.pool.links:
        session: Any = link._sessions.session
        found += session.addresses or session._tags
    return found


def exists(url: str, queue: str) -> bool:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        try:
            connection.channel().queue_declare(queue, passive=True)
        except pika.exceptions.ChannelClosedByBroker as error:
            return error.reply_code != 404  # 405: it is there, and locked
    return True


def outcomes(futures: list[CallFuture]) -> Counter[str]:
    found: Counter[str] = Counter()
    for value, future in enumerate(futures):
        error = future.exception(PATIENCE)
        if isinstance(error, RpcError):
            found[f"{type(error).__name__} {error.certainty}"] += 1
        else:
            assert future.result() == value
            found["answered"] += 1
    return found


@pytest.mark.parametrize(
    ("strategy", "expected", "late"),
    [
        (NAMED, {"answered": 40, "ConnectionLost unknown": 10}, 10),
        (Direct(), {"ConnectionLost unknown": 50}, 0),
        (Exclusive(), {"ConnectionLost unknown": 50}, 0),
        (Pool(), {"ConnectionLost unknown": 50}, 0),
        (PerCall(), {"ConnectionLost unknown": 50}, 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_forty_confirmed_and_ten_unconfirmed_calls_when_the_connection_is_cut(
    amqp_url: str,
    held: Held,
    proxy: Callable[[str], Proxy],
    strategy: ReplyStrategy,
    expected: dict[str, int],
    late: int,
) -> None:
    cut = proxy(amqp_url)
    with Client(cut.url, replies=strategy, policies=[], batching=None, timeout=60.0) as client:
        name = f"{held.service}.hold"
        futures = [client.submit(name, [n]) for n in range(40)]
        until(lambda: len(held.ran) == 40 and unconfirmed(client) == 0)
        if isinstance(strategy, PerCall):
            until(lambda: ready(client) >= 10)
        cut.freeze("down")  # what is sent arrives, and no confirm comes back
        futures += [client.submit(name, [n]) for n in range(40, 50)]
        until(lambda: len(held.ran) == 50)
        own = [] if strategy in (NAMED, Direct()) else addresses(client)
        cut.refuse()
        cut.reset()
        cut.thaw()
        lost = time.monotonic()
        until(lambda: not any(exists(amqp_url, address) for address in own))
        held.go.set()
        until(lambda: held.server.health()["unacked"] == 0)  # all replies are with the broker, or came back
        cut.accept()
        assert outcomes(futures) == expected
        assert time.monotonic() - lost < 10
        until(lambda: client.stats().unknown_replies == late)
        assert held.ran == Counter(range(50)), "each was run once"
        assert client.call(name, [50]) == 50
        gone = {Named: 0, Direct: 0}.get(type(strategy), 50)
        assert held.server.health()["replies_returned"] == gone


def test_calls_outlive_the_connections_of_both_sides(private_broker: Broker, service: str) -> None:
    made = Held(private_broker.url, service)
    made.server.start()
    try:
        with Client(private_broker.url, replies=NAMED, policies=[], timeout=60.0) as client:
            futures = [client.submit(f"{service}.hold", [n]) for n in range(100)]
            until(lambda: len(made.ran) == 100 and unconfirmed(client) == 0)
            private_broker.ctl("close_all_connections", "maintenance")
            until(lambda: bool(made.server.health()["consuming"]))
            made.go.set()
            assert outcomes(futures) == {"answered": 100}
            assert made.ran == Counter(range(100)), "the copies were recognised"
            until(lambda: client.stats().unknown_replies <= 100)
    finally:
        made.go.set()
        made.server.stop()


class TestHalfOpen:
    """A connection that is dead, and that the broker does not miss yet (row 21)."""

    def test_a_new_session_reads_the_named_queue_although_the_old_one_still_consumes_it(
        self, amqp_url: str, proxy: Callable[[str], Proxy]
    ) -> None:
        silent = proxy(amqp_url)

        async def scenario() -> None:
            own = NAMED.queues()
            assert own is not None
            async with publishing(transport(amqp_url)) as (server, replied):
                old = await transport(silent.url).publisher(Recorder(), replies=own, timeout=TIMEOUT)
                silent.freeze()
                in_vain = server.publish(own.name, b"to the dead", PLAIN, mandatory=True)
                assert await replied.confirmation(in_vain)
                heard = Recorder()
                new = await transport(amqp_url).publisher(heard, replies=own.again(), timeout=TIMEOUT)
                assert new.kept
                assert await server.consumers(own.name) == 2
                for n in range(20):
                    server.publish(own.name, b"%d" % n, PLAIN, mandatory=True)
                await heard.received(20)
                assert heard.bodies == [b"%d" % n for n in range(20)], "the new one goes before the old one"
                await asyncio.to_thread(silent.reset)  # the broker misses it now
                await heard.received(21)
                assert heard.bodies[20:] == [b"to the dead"]
                assert heard.deliveries[20].redelivered
                await end(old, new)

        run(scenario, proxied=True)

    def test_an_exclusive_queue_that_is_still_locked_is_in_nobodys_way(
        self, amqp_url: str, proxy: Callable[[str], Proxy]
    ) -> None:
        silent = proxy(amqp_url)

        async def scenario() -> None:
            own = Exclusive().queues()
            assert own is not None
            async with publishing(transport(amqp_url)) as (server, replied):
                old = await transport(silent.url).publisher(Recorder(), replies=own, timeout=TIMEOUT)
                silent.freeze()
                heard = Recorder()
                new = await transport(amqp_url).publisher(heard, replies=own.again(), timeout=TIMEOUT)
                assert new.reply_to != old.reply_to
                server.publish(new.reply_to, b"here", PLAIN, mandatory=True)
                assert await replied.confirmation(server.publish(old.reply_to, b"there", PLAIN, mandatory=True))
                assert [d.body for d in await heard.received(1)] == [b"here"]
                assert replied.returns == [], "it is still there, and locked"
                await asyncio.to_thread(silent.thaw)
                await end(old, new)

        run(scenario, proxied=True)


async def end(*sessions: Publisher) -> None:
    await asyncio.gather(*[session.close() for session in sessions])


FORKING = """
import os, sys
from resilient_rpc import Client
from resilient_rpc.replies import Named

def names(client):
    return [link._desk.queues.name for link in client._caller.pool.links]

client = Client(sys.argv[1], replies=Named(app="forked"), policies=[], links=2)
method = sys.argv[2] + ".hold"
assert client.call(method, [1]) == 1
before = names(client)
child = os.fork()
if child == 0:
    assert client.call(method, [2]) == 2
    assert not set(names(client)) & set(before), "a child reads replies of its own"
    os._exit(7)
assert [client.call(method, [n]) for n in range(3, 30)] == list(range(3, 30))
assert names(client) == before
assert os.waitpid(child, 0)[1] >> 8 == 7
client.close()
"""


def test_a_forked_child_has_reply_queues_of_its_own(amqp_url: str, held: Held) -> None:
    held.go.set()
    done: Any = subprocess.run(
        [sys.executable, "-c", FORKING, amqp_url, held.service],
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
