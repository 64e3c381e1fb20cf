"""Calls to every server of a service, over every transport."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilient_rpc import (
    ApplicationError,
    AsyncClient,
    Call,
    Certainty,
    Context,
    Handler,
    MethodNotFound,
    Reply,
    Server,
    Unroutable,
)
from resilient_rpc.errors import ConfigurationError, MalformedMessage, NotConnected, RemoteError, RpcError
from resilient_rpc.transport.base import Delivery, QueueSpec
from resilient_rpc.transport.properties import encode_headers, encode_properties
from resilient_rpc.transport.topology import fanout_exchange
from resilient_rpc.wire.codec import JSON
from tests.colours import Colour
from tests.contract.sessions import consuming, publishing
from tests.contract.sides import MemorySide, Side
from tests.waiting import turns, until


class OutOfStock(ApplicationError):
    type = "out_of_stock"


class Fleet:
    """Servers of one service."""

    def __init__(self, side: Side) -> None:
        self.side, self.service = side, side.service
        self.servers: list[Server] = []
        self.flushed: list[str] = []
        self.gate = threading.Event()

    def add(self, name: str, **settings: Any) -> Server:
        server = Server(self.side.url, service=self.service, name=name, **settings)

        @server.method
        async def flush(ctx: Context, suffix: str = "") -> str:
            self.flushed.append(name)
            return name + suffix + ctx.tags.get("by", "")

        @server.method
        def odd() -> str:
            if name == "one":
                raise OutOfStock("none left", details={"sku": "A1"})
            return name

        @server.method
        def stuck() -> str:
            self.gate.wait(10)
            return name

        server.start()
        self.servers.append(server)
        return server

    def name(self, method: str) -> str:
        return f"{self.service}.{method}"

    def close(self) -> None:
        self.gate.set()
        for server in self.servers:
            server.stop()


@pytest.fixture
def fleet(side: Side) -> Iterator[Fleet]:
    made = Fleet(side)
    yield made
    made.close()


def test_every_server_answers_once(fleet: Fleet, colour: Colour) -> None:
    for name in ("one", "two", "three"):
        fleet.add(name)
    client = colour.client(fleet.side.url, batching=None)
    for _ in range(3):
        begin = time.monotonic()
        answers = colour.do(
            client, "broadcast", fleet.name("flush"), {"suffix": "!"}, expect=3, timeout=10.0, tags={"by": "me"}
        )
        assert time.monotonic() - begin < 5.0, "it ends when as many as expected have answered"
        assert sorted(answers) == [("one", "one!me"), ("three", "three!me"), ("two", "two!me")]
    assert sorted(fleet.flushed) == sorted(["one", "two", "three"] * 3)
    assert colour.call(client, fleet.name("flush")) in {"one", "two", "three"}, "calls go on as before"
    assert client.stats().completed == 4


def test_an_error_of_one_server_stands_beside_the_values_of_others(fleet: Fleet, colour: Colour) -> None:
    fleet.add("one")
    fleet.add("two")
    client = colour.client(fleet.side.url, errors=[OutOfStock])
    answers = dict(colour.do(client, "broadcast", fleet.name("odd"), expect=2, timeout=10.0))
    assert answers["two"] == "two"
    error = answers["one"]
    assert isinstance(error, OutOfStock)
    assert (error.details, error.certainty) == ({"sku": "A1"}, Certainty.EXECUTED)
    answers = dict(colour.do(client, "broadcast", fleet.name("missing"), expect=2, timeout=10.0))
    assert {type(each) for each in answers.values()} == {MethodNotFound}


def connected(fleet: Fleet, colour: Colour) -> Any:
    """A client whose next calls have all of their time for themselves."""
    client = colour.client(fleet.side.url)
    colour.do(client, "broadcast", fleet.name("flush"), expect=1, timeout=10.0)
    return client


def test_it_ends_by_its_time_with_what_has_come(fleet: Fleet, colour: Colour) -> None:
    fleet.add("one")
    client = connected(fleet, colour)
    begin = time.monotonic()
    assert colour.do(client, "broadcast", fleet.name("flush"), timeout=0.3) == [("one", "one")]
    assert colour.do(client, "broadcast", fleet.name("stuck"), timeout=0.3) == []
    assert 0.55 < time.monotonic() - begin < 3.0
    fleet.gate.set()


def test_with_no_server_there_it_ends_at_once(fleet: Fleet, colour: Colour) -> None:
    client = colour.client(fleet.side.url)
    with pytest.raises(Unroutable, match="no exchange") as caught:
        colour.do(client, "broadcast", fleet.name("flush"), timeout=10.0)
    assert caught.value.certainty is Certainty.NOT_EXECUTED
    fleet.add("one").stop()
    begin = time.monotonic()
    assert colour.do(client, "broadcast", fleet.name("flush"), timeout=10.0) == []
    assert time.monotonic() - begin < 5.0


def test_a_server_that_does_not_want_broadcasts_hears_none(fleet: Fleet, colour: Colour) -> None:
    fleet.add("one")
    fleet.add("two", broadcasts=False)
    client = connected(fleet, colour)
    assert colour.do(client, "broadcast", fleet.name("flush"), timeout=0.3) == [("one", "one")]


def test_no_policy_applies(fleet: Fleet, colour: Colour) -> None:
    async def never(call: Call, proceed: Handler) -> Reply:
        raise AssertionError("a policy saw it")

    fleet.add("one")
    client = colour.client(fleet.side.url, policies=[never])
    assert colour.do(client, "broadcast", fleet.name("flush"), expect=1, timeout=10.0) == [("one", "one")]


def test_answers_are_of_the_type_that_was_declared_or_errors_that_say_executed(fleet: Fleet, colour: Colour) -> None:
    fleet.add("one")
    client = colour.client(fleet.side.url)
    [(_, error)] = colour.do(client, "broadcast", fleet.name("flush"), expect=1, timeout=10.0, returns=int)
    assert isinstance(error, MalformedMessage)
    assert error.certainty is Certainty.EXECUTED


def test_a_server_that_lost_its_connection_hears_the_next_one(fleet: Fleet, colour: Colour) -> None:
    server = fleet.add("one")
    client = colour.client(fleet.side.url, policies=[])
    assert colour.do(client, "broadcast", fleet.name("flush"), expect=1, timeout=10.0)
    serving: Any = server._serving
    session = serving.session
    if isinstance(fleet.side, MemorySide):
        fleet.side._bus.drop_connections()
    else:
        assert server._background is not None
        assert server._background._loop is not None
        server._background._loop.call_soon_threadsafe(session._connection.stream.fail, ConnectionResetError("cut"))
    until(lambda: serving.session not in (None, session) and server.health()["consuming"])
    answers = colour.do(client, "broadcast", fleet.name("flush"), expect=1, timeout=10.0)
    assert answers == [("one", "one")]


def test_answers_of_strangers_do_not_count(side: Side) -> None:
    """A responder that breaks every rule, beside one that answers well."""
    bodies: list[Callable[[Delivery], bytes]] = [
        lambda _: b"\xff not json",
        lambda _: b"[]",
        lambda _: b'{"jsonrpc":"2.0","id":1}',
        lambda _: b'{"jsonrpc":"2.0","id":"x","result":"fine","meta":{"server":"stranger"}}',
    ]

    async def scenario() -> None:
        exchange = fanout_exchange(side.queue)
        spec = QueueSpec(name=side.queue, service=side.service, fanout=exchange)
        async with (
            consuming(side, spec=spec) as (consumer, worker),
            publishing(side) as (publisher, _),
            AsyncClient(side.url) as client,
        ):
            asked = asyncio.create_task(client.broadcast(f"{side.service}.flush", timeout=10.0, expect=2))
            await worker.until(lambda: any(delivery.body for delivery in worker.deliveries))
            request = worker.deliveries[-1]
            assert JSON.anything.decode(request.body)["method"] == "flush"
            assert request.properties["expiration"].isdigit()
            for body in bodies:
                answer = encode_properties(
                    correlation_id=request.properties["correlation_id"], headers=encode_headers({"rpc-version": "1"})
                )
                publisher.publish(request.properties["reply_to"], body(request), answer, mandatory=False)
            forged = encode_properties(correlation_id="guessed.1", content_type="application/json")
            publisher.publish(request.properties["reply_to"], bodies[3](request), forged, mandatory=False)
            found = await asked
            consumer.ack(request.tag)
            assert found == [("", None), ("stranger", "fine")]
            await turns(lambda: client.stats().unknown_replies == 1)

    asyncio.run(scenario())


def test_a_broker_that_is_away_is_waited_for_until_the_deadline(colour: Colour) -> None:
    client = colour.client("amqp://127.0.0.1:1")
    with pytest.raises(NotConnected):
        colour.do(client, "broadcast", "cache.flush", timeout=0.2)


@pytest.mark.parametrize("expect", [0, -1, 1.5, True, "all"])
def test_a_number_of_answers_is_checked(expect: Any, colour: Colour) -> None:
    client = colour.client("memory://broadcasts-refused")
    with pytest.raises(ConfigurationError, match="expect="):
        colour.do(client, "broadcast", "cache.flush", expect=expect)


def test_it_is_at_most_once_and_leaves_nothing_behind(fleet: Fleet, colour: Colour) -> None:
    fleet.add("one")
    client = colour.client(fleet.side.url)
    colour.do(client, "broadcast", fleet.name("flush"), expect=1, timeout=10.0)
    health = fleet.servers[0].health()
    until(lambda: fleet.servers[0].health()["unacked"] == 0)
    assert health["dead_lettered"] == 0
    assert fleet.flushed == ["one"]
    assert not [error for error in (RpcError, RemoteError) if client.stats().errors.get(error.__name__)]
