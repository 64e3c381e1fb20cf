"""Clients that ask services what their methods declare, over every transport."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from resilient_rpc import AsyncClient, Call, Client, ConfigurationError, Context, Handler, MethodNotFound, Reply, Server
from resilient_rpc import discovery as discovering
from resilient_rpc.events import AttemptEnded, CallEnded, ServiceDiscovered
from tests.colours import Colour
from tests.contract.sides import Side
from tests.served import running
from tests.waiting import PATIENCE, until


class Line(msgspec.Struct):
    id: uuid.UUID
    day: dt.date


class Shop:
    """A server, and a client that notes what passes its chain."""

    def __init__(self, side: Side, colour: Colour) -> None:
        self.side, self.colour = side, colour
        self.seen: list[Call] = []
        self.heard: list[ServiceDiscovered] = []
        self.contexts: list[Context] = []
        self.questions = 0

    @contextmanager
    def open(self, name: str = "one", **more: Any) -> Iterator[Server]:
        server = Server(self.side.url, service=self.side.service, name=name, allow=self._count)

        @server.method(safety="read_only", timeout=7.5)
        def read(ctx: Context, value: int = 0) -> list[Line]:
            self.contexts.append(ctx)
            return [Line(uuid.UUID(int=value), dt.date(2026, 5, 1))]

        @server.method
        def plain() -> str:
            return "x"

        @server.method
        def lies() -> uuid.UUID:
            return "no uuid"  # type: ignore[return-value]

        for called, function in more.items():
            server.method(name=called)(function)
        with running(server):
            yield server

    def _count(self, ctx: Context) -> bool:
        self.questions += ctx.method == "rpc.discover"
        return True

    def client(self, **settings: Any) -> Any:
        async def noted(call: Call, proceed: Handler) -> Reply:
            self.seen.append(call)
            return await proceed(call)

        settings.setdefault("discover", True)
        client = self.colour.client(self.side.url, policies=[noted], **settings)
        client.on(ServiceDiscovered, self.heard.append)
        return client

    def call(self, client: Any, name: str, *args: Any, **how: Any) -> Any:
        return self.colour.call(client, f"{self.side.service}.{name}", *args, **how)


@pytest.fixture
def shop(side: Side, colour: Colour) -> Shop:
    return Shop(side, colour)


def test_safety_timeout_and_types_come_from_the_service(shop: Shop) -> None:
    with shop.open():
        client = shop.client()
        expected = [{"id": uuid.UUID(int=5), "day": dt.date(2026, 5, 1)}]
        assert [shop.call(client, "read", [5]) for _ in range(3)] == [expected] * 3
        assert shop.call(client, "plain") == "x"
        assert [(call.safety, call.timeout) for call in shop.seen] == [("read_only", 7.5)] * 3 + [("unsafe", 30.0)]
        assert all(0 < call.remaining() <= call.timeout for call in shop.seen)
        assert shop.questions == 1
        assert [(each.service, each.methods, each.error) for each in shop.heard] == [(shop.side.service, 3, None)]


def test_a_result_that_is_not_what_was_declared_arrives_as_it_is(shop: Shop) -> None:
    with shop.open():
        assert shop.call(shop.client(), "lies") == "no uuid"


def test_a_method_that_is_to_be_deduplicated_gets_a_key(shop: Shop) -> None:
    with shop.open() as server:
        server.method(name="once", safety="dedup")(lambda: 1)
        client = shop.client()
        for _ in range(2):
            with pytest.raises(Exception, match="keeps no record"):
                shop.call(client, "once")
        first, second = shop.seen
        assert first.safety == second.safety == "dedup"
        assert first.key
        assert second.key
        assert first.key != second.key


def test_whoever_says_more_goes_before(shop: Shop) -> None:
    with shop.open():
        client = shop.client(timeout=20.0, safety={f"{shop.side.service}.plain": "idempotent"})
        shop.call(client, "read")
        shop.call(client, "read", timeout=3.0, safety="unsafe")
        shop.call(client, "plain")
        shop.call(client, "read", returns=list[Line])
        assert [(str(call.safety), call.timeout) for call in shop.seen] == [
            ("read_only", 20.0), ("unsafe", 3.0), ("idempotent", 20.0), ("read_only", 20.0),
        ]  # fmt: skip
    other = Shop(shop.side, shop.colour)
    with other.open():
        client = other.client(safety="idempotent")
        other.call(client, "read")
        assert shop.call(client, "read", [3], returns=list[Line]) == [Line(uuid.UUID(int=3), dt.date(2026, 5, 1))]
        assert [(str(call.safety), call.timeout) for call in other.seen] == [("idempotent", 7.5)] * 2


def test_a_call_that_says_everything_asks_nothing(shop: Shop) -> None:
    with shop.open():
        client = shop.client()
        shop.call(client, "plain", timeout=5.0, safety="read_only", returns=str)
        shop.call(client, "rpc.ping")
        assert shop.questions == 0
        shop.call(shop.client(discover=False), "plain")
        assert shop.questions == 0


def test_calls_that_begin_together_share_a_question(shop: Shop) -> None:
    with shop.open():
        client = shop.client()
        asks = [lambda: shop.call(client, "read") for _ in range(8)]
        assert all(isinstance(each, list) for each in shop.colour.together(*asks))
        assert shop.questions == 1
        assert {str(call.safety) for call in shop.seen} == {"read_only"}


def test_map_and_submit_ask_too(shop: Shop) -> None:
    with shop.open():
        client = shop.client()
        name = f"{shop.side.service}.read"
        assert len(shop.colour.do(client, "map", name, [[n] for n in range(20)])) == 20
        assert {str(call.safety) for call in shop.seen} == {"read_only"}
        shop.colour.do(client, "cast", name)  # says for itself what it is
        shop.colour.do(client, "broadcast", name, expect=1, timeout=PATIENCE)
        assert shop.questions == 1


def test_a_service_that_does_not_answer_the_question_is_called_all_the_same(shop: Shop) -> None:
    with shop.open() as server:
        server._serving._introspection._methods_of_all.clear()  # type: ignore[union-attr]  # as a foreign one
        client = shop.client()
        assert shop.call(client, "read")[0]["day"] == "2026-05-01"
        assert [(str(call.safety), call.timeout) for call in shop.seen] == [("unsafe", 30.0)]
        (heard,) = shop.heard
        assert isinstance(heard.error, MethodNotFound)
        shop.call(client, "read")
        assert len(shop.heard) == 1


def test_a_plain_speaker_is_not_asked(shop: Shop) -> None:
    with shop.open():
        client = shop.client()
        client.service(shop.side.service, dialect="plain")
        shop.call(client, "plain")
        assert shop.questions == 0


def test_another_contract_and_a_missing_method_have_it_asked_anew(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovering, "PAUSE", 0.0)
    with shop.open() as server:
        client = shop.client()
        shop.call(client, "read")
        server.method(name="late", safety="idempotent")(lambda: 1)
        shop.call(client, "plain")  # its reply brings the new version
        assert shop.call(client, "late") == 1
        assert shop.questions == 2
        assert str(shop.seen[-1].safety) == "idempotent"
        with pytest.raises(MethodNotFound):
            shop.call(client, "never")
        shop.call(client, "plain")
        assert shop.questions == 3


def test_a_call_in_a_handler_keeps_the_deadline_that_it_inherits(side: Side, colour: Colour) -> None:
    shop = Shop(side, colour)
    left: list[float] = []

    async def outer(ctx: Context) -> str:
        async with AsyncClient(side.url, discover=True) as client:
            await client.call(f"{side.service}.read")
            left.append(ctx.remaining())
        return "done"

    with shop.open(outer=outer):
        client = shop.client(discover=False)
        assert shop.call(client, "outer", timeout=5.0) == "done"
        inner = next(ctx for ctx in shop.contexts if ctx.method == "read")
        assert inner.remaining() < 5.0
        assert left[0] < 5.0


def test_the_question_is_nobodys_call(shop: Shop) -> None:
    ended: list[Any] = []
    with shop.open():
        client = shop.client()
        client.on(CallEnded, ended.append)
        client.on(AttemptEnded, ended.append)
        shop.call(client, "plain")
        assert [each.method for each in ended] == [f"{shop.side.service}.plain"] * 2
        assert client.stats().completed == 1
        client.reload([])
        assert shop.call(client, "read")[0]["day"] == dt.date(2026, 5, 1)
        assert shop.questions == 1


def test_nobody_there_ends_as_without_it(shop: Shop) -> None:
    client = shop.client()
    with pytest.raises(Exception, match=r"."):
        shop.call(client, "read", timeout=0.5)
    until(lambda: len(shop.heard) == 1)
    assert shop.heard[0].error is not None


def test_a_prepared_call_is_a_call(side: Side) -> None:
    with Client(side.url, discover=True) as client:
        call = client.prepare(f"{side.service}.read", [1])
        assert isinstance(call, Call)
        assert call.safety == "unsafe"


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_discover_is_true_or_false(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="discover"):
        Client("memory://x", discover=value)
