"""What every server answers by itself, over every transport: `rpc.ping`, `rpc.health`, `rpc.discover`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from resilient_rpc import (
    Call,
    Client,
    Context,
    Handler,
    InvalidParams,
    Limits,
    MethodNotFound,
    Refused,
    Reply,
    Server,
)
from resilient_rpc.errors import TooLarge
from resilient_rpc.events import CallServed, Event, RequestRefused
from resilient_rpc.openrpc import describe
from resilient_rpc.policies import Idempotency
from resilient_rpc.stores import MemoryStore
from tests.colours import Colour
from tests.contract.sides import Side
from tests.served import running
from tests.waiting import PATIENCE, until

NAMES = ["rpc.ping", "rpc.health", "rpc.discover"]


class Shop:
    """A server with a method that can be held."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.events: list[Event] = []

    @contextmanager
    def open(self, **settings: Any) -> Iterator[Server]:
        server = Server(self.side.url, service=self.side.service, name="one", **settings)
        server.on(Event, self.events.append)

        @server.method(safety="read_only", timeout=PATIENCE)
        def hold(value: int = 0) -> int:
            self.entered.release()
            self.gate.wait(PATIENCE)
            return value

        with running(server, gate=self.gate):
            yield server

    def method(self, name: str) -> str:
        return f"{self.side.service}.{name}"


@pytest.fixture
def shop(side: Side) -> Shop:
    return Shop(side)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_every_server_says_who_it_is_how_it_is_and_what_it_offers(shop: Shop, colour: Colour, codec: str) -> None:
    with shop.open() as server:
        client = colour.client(shop.side.url, codec=codec)
        expected = describe(server._methods)
        who = {"service": shop.side.service, "server": "one", "version": expected.version}
        assert colour.call(client, shop.method("rpc.ping")) == who
        assert colour.call(client, shop.method("rpc.discover"), []) == expected.document
        health = colour.call(client, shop.method("rpc.health"), {})
        assert who.items() <= health.items()
        assert (health["consuming"], health["running"], health["pid"]) == (True, 0, os.getpid())
        assert set(server.health()) <= set(health)


@pytest.fixture
def holder(shop: Shop) -> Iterator[Client]:
    """For calls that do not end while the test goes on."""
    with Client(shop.side.url) as client:
        yield client


def test_they_are_answered_while_every_slot_is_taken(shop: Shop, holder: Client, colour: Colour) -> None:
    with shop.open(concurrency=1, prefetch=10):
        held = [holder.submit(shop.method("hold"), [number]) for number in range(3)]
        assert shop.entered.acquire(timeout=PATIENCE)
        client = colour.client(shop.side.url)
        for name in NAMES:
            assert colour.call(client, shop.method(name), timeout=PATIENCE)
        until(lambda: colour.call(client, shop.method("rpc.health"))["waiting"] == 2)
        assert colour.call(client, shop.method("rpc.health"))["running"] == 1
        shop.gate.set()
        assert [future.result(PATIENCE) for future in held] == [0, 1, 2]


def test_no_policy_and_no_record_of_keys_is_asked(shop: Shop, colour: Colour) -> None:
    seen: list[str] = []

    async def noted(call: Call, proceed: Handler) -> Reply:
        seen.append(call.method)
        return await proceed(call)

    with shop.open(policies=[noted, Idempotency(MemoryStore())]):
        shop.gate.set()
        client = colour.client(shop.side.url)
        for name in NAMES:
            first = colour.do(client, "request", shop.method(name), idempotency_key="k-1")
            assert not first.replayed
            assert not colour.do(client, "request", shop.method(name), idempotency_key="k-1").replayed
        assert seen == []
        assert colour.call(client, shop.method("hold"), [1]) == 1
        assert seen == [shop.method("hold")]
        until(lambda: [each for each in shop.events if isinstance(each, CallServed)])
        assert [each.method for each in shop.events if isinstance(each, CallServed)] == seen


def test_whoever_may_not_call_learns_nothing(shop: Shop, colour: Colour) -> None:
    asked: list[tuple[str, str, Any]] = []

    def allow(ctx: Context) -> bool:
        asked.append((ctx.method, ctx.safety, ctx.tags.get("who")))
        return ctx.tags.get("who") == "friend"

    with shop.open(allow=allow):
        client = colour.client(shop.side.url)
        for name in NAMES:
            with pytest.raises(Refused, match="not allowed"):
                colour.call(client, shop.method(name))
            assert colour.call(client, shop.method(name), tags={"who": "friend"})[
                "openrpc" if "disc" in name else "server"
            ]
        assert asked[:2] == [("rpc.ping", "read_only", None), ("rpc.ping", "read_only", "friend")]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_they_take_no_arguments(shop: Shop, colour: Colour, codec: str) -> None:
    with shop.open():
        client = colour.client(shop.side.url, codec=codec)
        for params in ([1], {"a": 1}, ["x" * 1000], [[]]):
            with pytest.raises(InvalidParams, match="takes no arguments"):
                colour.call(client, shop.method("rpc.ping"), params)
        for name in ("rpc.other", "rpc", "rpc.ping.more"):
            with pytest.raises(MethodNotFound):
                colour.call(client, shop.method(name))
    refused = [each for each in shop.events if isinstance(each, RequestRefused)]
    assert len(refused) == 7


def test_a_cast_to_them_is_nothing(shop: Shop, colour: Colour) -> None:
    with shop.open():
        client = colour.client(shop.side.url)
        for name in NAMES:
            colour.do(client, "cast", shop.method(name))
        until(lambda: colour.call(client, shop.method("rpc.health"))["unacked"] == 1)  # the question itself
        assert not [each for each in shop.events if isinstance(each, RequestRefused)]


def test_the_description_is_given_once_a_message(shop: Shop, colour: Colour) -> None:
    with shop.open():
        client = colour.client(shop.side.url)
        colour.call(client, shop.method("rpc.ping"))
        names = ["rpc.discover", "rpc.discover", "rpc.discover"]
        outcomes = colour.together(*[_asking(colour, client, shop.method(name)) for name in names])
        assert all(isinstance(each, dict | Refused) for each in outcomes)
        assert [each for each in outcomes if isinstance(each, dict)]
        assert colour.call(client, shop.method("rpc.discover"))["info"]["title"] == shop.side.service


def _asking(colour: Colour, client: Any, name: str) -> Any:
    return lambda: colour.call(client, name)


def test_a_description_that_is_too_large_is_an_error(shop: Shop, colour: Colour) -> None:
    with shop.open(limits=Limits(max_body=600)) as server:
        for number in range(3):
            server.method(name=f"m{number}")(lambda value="": value)
        client = colour.client(shop.side.url)
        with pytest.raises(TooLarge, match="over the limit of 600"):
            colour.call(client, shop.method("rpc.discover"))
        assert colour.call(client, shop.method("rpc.ping"))


def test_what_is_registered_later_is_described_too(shop: Shop, colour: Colour) -> None:
    with shop.open() as server:
        client = colour.client(shop.side.url)
        before = colour.call(client, shop.method("rpc.discover"))
        assert colour.call(client, shop.method("rpc.ping"))["version"] == before["info"]["version"]
        server.method(name="late")(lambda: None)
        after = colour.call(client, shop.method("rpc.discover"))
        assert [each["name"] for each in after["methods"]] == ["hold", "late"]
        assert after["info"]["version"] != before["info"]["version"]
        assert colour.call(client, shop.method("rpc.ping"))["version"] == after["info"]["version"]


def test_a_broadcast_finds_all_servers(shop: Shop, side: Side, colour: Colour) -> None:
    other = Server(side.url, service=side.service, name="two")
    other.method(name="hold")(lambda: None)
    with shop.open(), running(other):
        found = colour.do(colour.client(side.url), "broadcast", shop.method("rpc.health"), timeout=PATIENCE, expect=2)
    assert {name: health["consuming"] for name, health in found} == {"one": True, "two": True}
