"""Calls without an answer, over every transport."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from resilient_rpc import (
    AsyncClient,
    Call,
    Certainty,
    Client,
    Context,
    Handler,
    NotConnected,
    Reply,
    Server,
    Unroutable,
)
from resilient_rpc.errors import ConfigurationError, ConnectionLost, DeadlineExceeded, Rejected
from resilient_rpc.events import CallServed, DeadLettered
from resilient_rpc.policies import Cache, CircuitBreaker, Fallback, Retry, for_
from resilient_rpc.transport.memory import Bus
from tests.colours import Colour
from tests.contract.sessions import consuming, declare
from tests.contract.sides import Side
from tests.served import running
from tests.waiting import turns, until


class Audit:
    """A server that notes what it ran."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.ran: list[tuple[Any, float, Any]] = []
        self.gate = threading.Event()
        self.ended: list[CallServed] = []
        self.dead: list[DeadLettered] = []

    @contextmanager
    def open(self, **settings: Any) -> Iterator[Server]:
        server = Server(self.side.url, service=self.side.service, name="one", **settings)
        server.on(DeadLettered, self.dead.append)
        server.on(CallServed, self.ended.append)

        @server.method
        async def write(ctx: Context, value: Any = None) -> str:
            self.ran.append((value, ctx.remaining(), dict(ctx.tags)))
            return "nobody reads this"

        @server.method
        def fail(text: str) -> None:
            raise ValueError(text)

        @server.method
        def slow() -> None:
            self.gate.wait(10)

        with running(server, gate=self.gate):
            yield server

    def name(self, method: str) -> str:
        return f"{self.side.service}.{method}"


@pytest.fixture
def audit(side: Side) -> Audit:
    return Audit(side)


def test_a_cast_is_executed_once_and_brings_no_answer(audit: Audit, colour: Colour) -> None:
    with audit.open():
        client = colour.client(audit.side.url)
        assert colour.do(client, "cast", audit.name("write"), {"value": 1}, tags={"a": "b"}) is None
        until(lambda: audit.ended)
        assert audit.ran == [(1, float("inf"), {"a": "b"})]
        stats = client.stats()
        assert (stats.completed, dict(stats.errors), stats.unknown_replies) == (1, {}, 0)
    assert audit.dead == []


def test_a_cast_waits_in_its_queue_persistent_and_for_ever(side: Side, colour: Colour) -> None:
    asyncio.run(declare(side))
    client = colour.client(side.url)
    colour.do(client, "cast", f"{side.service}.write", [1])
    colour.do(client, "cast", f"{side.service}.write", [2], ttl=60.0, safety="idempotent", idempotency_key="k")

    async def read() -> None:
        async with consuming(side, acks=True) as (_, worker):
            forever, for_a_minute = await worker.received(2)
        properties = forever.properties
        assert json.loads(forever.body) == {"jsonrpc": "2.0", "method": "write", "params": [1]}
        assert (properties["delivery_mode"], properties["type"]) == (2, "rpc.cast")
        assert not {"expiration", "reply_to"} & properties.keys()
        assert properties["message_id"] == properties["correlation_id"]
        assert for_a_minute.properties["expiration"] == "60000"
        assert json.loads(for_a_minute.body)["meta"] == {"key": "k", "safety": "idempotent"}

    asyncio.run(read())


def test_a_cast_to_a_service_that_nobody_has_served_is_an_error(side: Side, colour: Colour) -> None:
    client = colour.client(side.url)
    with pytest.raises(Unroutable) as caught:
        colour.do(client, "cast", f"{side.service}.write", [1], timeout=5.0)
    assert caught.value.certainty is Certainty.NOT_EXECUTED


def test_a_cast_that_fails_becomes_a_dead_letter(audit: Audit, colour: Colour) -> None:
    with audit.open():
        client = colour.client(audit.side.url)
        colour.do(client, "cast", audit.name("fail"), ["on purpose"])
        colour.do(client, "cast", audit.name("missing"))
        colour.do(client, "cast", audit.name("write"), {"unknown": 1})
        until(lambda: len(audit.dead) == 3)
    assert sorted(each.reason for each in audit.dead) == ["failed", "refused", "refused"]
    letters = asyncio.run(audit.side.read(audit.side.dead, 3))
    assert sorted(json.loads(letter.body)["method"] for letter in letters) == ["fail", "missing", "write"]


def test_a_cast_is_not_begun_when_its_ttl_has_passed(audit: Audit, colour: Colour) -> None:
    with audit.open(concurrency=1, prefetch=2) as server:
        client = colour.client(audit.side.url)
        colour.do(client, "cast", audit.name("slow"))
        until(lambda: server.health()["running"] == 1)  # else what is more urgent goes first
        for n in range(3):
            colour.do(client, "cast", audit.name("write"), [n], ttl=0.1)
        time.sleep(0.2)
        audit.gate.set()
        letters = asyncio.run(audit.side.read(audit.side.expired, 3))
        assert len(letters) == 3
        assert audit.ran == []


def test_policies_apply_but_for_those_that_stand_in_for_a_server(audit: Audit, colour: Colour) -> None:
    seen: list[str] = []

    async def watch(call: Call, proceed: Handler) -> Reply:
        seen.append(f"{type(call).__name__} {call.attempt}")
        return await proceed(call)

    async def twice(call: Call, proceed: Handler) -> Reply:
        await proceed(call)
        return await proceed(call.replace(attempt=2))

    policies = [
        Fallback(value="instead"),
        Cache(ttl=60),
        twice,
        watch,
        for_(audit.name("write"), Cache(ttl=30), without=["fallback"]),
        for_(audit.name("missing"), CircuitBreaker(), without=["cache"]),
    ]
    with audit.open():
        client = colour.client(audit.side.url, policies=policies, safety="read_only")
        for _ in range(2):
            colour.do(client, "cast", audit.name("write"), [1])
        until(lambda: len(audit.ended) == 4)
        assert len(audit.ran) == 4
    assert seen == ["Cast 1", "Cast 2"] * 2
    with pytest.raises(Unroutable):
        colour.do(client, "cast", f"{audit.side.service}nobody.write")


def test_a_reloaded_chain_applies_to_casts_too(audit: Audit, colour: Colour) -> None:
    async def refuse(call: Call, proceed: Handler) -> Reply:
        raise Rejected("closed")

    with audit.open():
        client = colour.client(audit.side.url)
        colour.do(client, "cast", audit.name("write"))
        client.reload([refuse])
        with pytest.raises(Rejected, match="closed"):
            colour.do(client, "cast", audit.name("write"))
        until(lambda: audit.ended)
        assert len(audit.ran) == 1


def test_a_broker_that_is_away_is_waited_for_until_the_deadline() -> None:
    with Client("amqp://127.0.0.1:1", policies=[]) as client:
        with pytest.raises(NotConnected) as caught:
            client.cast("audit.write", timeout=0.2)
        assert caught.value.certainty is Certainty.NOT_EXECUTED


def test_a_cast_without_a_confirm_is_unknown_and_repeated_only_where_that_is_harmless(service: str) -> None:
    bus = Bus.named(service)
    ran: list[int] = []

    async def write(ctx: Context) -> None:
        ran.append(ctx.attempt)

    async def scenario() -> None:
        server = Server(f"memory://{service}", service="audit")
        server.method(write)
        async with server, AsyncClient(f"memory://{service}", policies=[Retry(attempts=3, base=0.001)]) as client:
            await client.cast("audit.write")
            await turns(lambda: len(ran) == 1)
            unsafe = await unconfirmed(client, safety="unsafe")
            with pytest.raises(ConnectionLost) as caught:
                await unsafe
            assert caught.value.certainty is Certainty.UNKNOWN
            assert len(ran) == 1
            await (await unconfirmed(client, safety="idempotent"))
            await turns(lambda: len(ran) == 2)

    async def unconfirmed(client: AsyncClient, safety: str) -> asyncio.Task[None]:
        """A cast whose message is lost on the way with its connection."""
        bus.freeze()
        task = asyncio.create_task(client.cast("audit.write", safety=safety))
        await turns(lambda: any(session._held for session in bus.broker.sessions))
        bus.drop_connections()
        bus.thaw()
        return task

    asyncio.run(scenario())


def test_a_broker_that_says_nothing_ends_the_cast_by_its_deadline_as_unknown(service: str, colour: Colour) -> None:
    bus = Bus.named(service)
    client = colour.client(f"memory://{service}", policies=[])
    with pytest.raises(Unroutable):
        colour.do(client, "cast", "audit.write")
    bus.freeze()
    begin = time.monotonic()
    with pytest.raises(DeadlineExceeded) as caught:
        colour.do(client, "cast", "audit.write", timeout=0.2)
    assert time.monotonic() - begin < 1.0
    assert (caught.value.certainty, caught.value.stage) == (Certainty.UNKNOWN, "publish")
    bus.thaw()


@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ({"ttl": 0}, ConfigurationError, "ttl=0"),
        ({"ttl": "soon"}, ConfigurationError, "ttl='soon'"),
        ({"returns": int}, TypeError, "'returns'"),
        ({"timeout": -1}, ConfigurationError, "timeout=-1"),
    ],
)
def test_what_a_cast_cannot_be_told(how: dict[str, Any], error: type[Exception], says: str, colour: Colour) -> None:
    client = colour.client("memory://casts-refused")
    with pytest.raises(error, match=says):
        colour.do(client, "cast", "audit.write", **how)
