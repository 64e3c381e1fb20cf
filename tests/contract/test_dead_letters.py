"""What a server can neither handle nor answer, over every transport."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from resilient_rpc import Classic, Context, Server
from resilient_rpc.events import DeadLettered
from resilient_rpc.transport.properties import encode_headers, encode_properties
from tests.contract.sessions import consuming, declare, publishing
from tests.contract.sides import Found, Side
from tests.served import running
from tests.waiting import turns, until

OURS = {"rpc-version": "1", "rpc-method": "note"}


class Shop:
    """A server that notes what it ran."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.ran: list[Any] = []
        self.dead: list[DeadLettered] = []

    @contextmanager
    def open(self, **settings: Any) -> Iterator[Server]:
        server = Server(self.side.url, service=self.side.service, name="one", **settings)
        server.on(DeadLettered, self.dead.append)

        @server.method
        async def note(ctx: Context, value: Any = None) -> bool:
            self.ran.append(value)
            return ctx.redelivered

        @server.method
        def fail(text: str) -> None:
            raise ValueError(text)

        with running(server):
            yield server


def item(method: str, *params: Any, **more: Any) -> dict[str, Any]:
    """A notification, unless `id` is among `more`."""
    return {"jsonrpc": "2.0", "method": method, "params": list(params), **more}


async def send(side: Side, body: Any, headers: dict[str, Any] | None = OURS, **properties: Any) -> None:
    """Put a message into the service's queue, as anybody could."""
    properties.setdefault("correlation_id", "token.1")
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    encoded = encode_properties(headers=encode_headers(headers or {}), **properties)
    async with publishing(side) as (publisher, events):
        assert await events.confirmation(publisher.publish(side.queue, data, encoded, mandatory=True))


async def come_back(side: Side) -> None:
    """Take the message that is in the queue, and die with it."""
    async with consuming(side) as (_, worker):
        await worker.received(1)


def died(side: Side, server: Server, count: int = 1) -> list[Found]:
    """So many dead letters; nothing is left of them elsewhere."""
    found = asyncio.run(side.read(side.dead, count))
    until(lambda: server.health()["unacked"] == 0)
    assert server.health()["dead_lettered"] == count
    return found


def test_a_body_that_cannot_be_read_is_kept_as_it_is(side: Side) -> None:
    shop = Shop(side)
    with shop.open() as server:
        asyncio.run(send(side, b'{"password": "sesame"', expiration="60000", user_id=None))
        [found] = died(side, server)
    assert (found.body, found.expiration) == (b'{"password": "sesame"', None)
    assert found.headers["rpc-method"] == "note"
    assert found.headers["rpc-dead-reason"] == "malformed"
    assert found.headers["rpc-dead-exception"] == "resilient_rpc.errors.MalformedMessage"
    assert found.headers["rpc-dead-queue"] == side.queue
    assert found.headers["rpc-dead-attempts"] == 1
    assert found.headers["rpc-dead-server"] == "one"
    assert "sesame" not in str(found.headers)
    assert [(event.reason, event.method, event.attempts) for event in shop.dead] == [("malformed", "note", 1)]


def test_a_failure_that_nobody_hears_of_leaves_its_type_and_place_but_not_its_text(side: Side) -> None:
    with Shop(side).open() as server:
        asyncio.run(send(side, item("fail", "sesame")))
        [found] = died(side, server)
    assert found.headers["rpc-dead-reason"] == "failed"
    assert found.headers["rpc-dead-exception"] == "builtins.ValueError"
    assert found.headers["rpc-dead-stack"].splitlines()[-1].startswith("contract/test_dead_letters.py:")
    assert found.headers["rpc-dead-stack"].endswith(" fail")
    assert "sesame" not in str(found.headers)


def test_what_is_answered_is_no_dead_letter(side: Side) -> None:
    async def ask() -> list[int]:
        async with publishing(side, replies=True) as (publisher, replies):
            for number, body in enumerate((b"garbage", json.dumps(item("nope", id=1)).encode())):
                encoded = encode_properties(correlation_id=f"t.{number}", reply_to=publisher.reply_to)
                publisher.publish(side.queue, body, encoded, mandatory=True)
            return [json.loads(reply.body)["error"]["code"] for reply in await replies.received(2)]

    with Shop(side).open() as server:
        assert sorted(asyncio.run(ask())) == [-32700, -32601]
        until(lambda: server.health()["unacked"] == 0)
        assert server.health()["dead_lettered"] == 0


def test_an_address_that_is_refused_can_be_told_nothing(side: Side) -> None:
    shop = Shop(side)
    with shop.open() as server:
        asyncio.run(send(side, item("note", 1, id=1), reply_to="rpc.payments"))
        [found] = died(side, server)
    assert shop.ran == []
    assert found.headers["rpc-dead-reason"] == "refused"
    assert found.headers["rpc-dead-exception"].endswith(".BadAddress")


def test_an_unsafe_call_that_came_back_is_answered_and_kept(side: Side) -> None:
    async def ask() -> int:
        async with publishing(side, replies=True) as (publisher, replies):
            encoded = encode_properties(
                correlation_id="t.1", reply_to=publisher.reply_to, message_id="t.1", headers=encode_headers(OURS)
            )
            publisher.publish(side.queue, json.dumps(item("note", 1, id=1)).encode(), encoded, mandatory=True)
            await come_back(side)
            with shop.open() as server:
                await replies.received(1)
                [found] = await side.read(side.dead, 1)
                await turns(lambda: server.health()["unacked"] == 0)
            assert found.headers["rpc-dead-reason"] == "interrupted"
            assert found.headers["rpc-dead-attempts"] == 2
            return int(json.loads(replies.deliveries[0].body)["error"]["code"])

    asyncio.run(declare(side))
    shop = Shop(side)
    assert asyncio.run(ask()) == -32010
    assert shop.ran == []


@pytest.mark.parametrize(("before", "runs"), [(0, True), (1, True), (2, False)])
def test_what_came_back_too_often_is_not_run_any_more(side: Side, before: int, runs: bool) -> None:
    async def scenario() -> None:
        headers = OURS | {"rpc-safety": "idempotent"} | ({"x-rpc-deliveries": before} if before else {})
        await send(side, item("note", 1), headers)
        await come_back(side)

    asyncio.run(declare(side))
    asyncio.run(scenario())
    shop = Shop(side)
    with shop.open(queue=Classic(delivery_limit=2)) as server:
        if runs:
            until(lambda: shop.ran == [1])
        else:
            [found] = died(side, server)
            assert found.headers["rpc-dead-reason"] == "delivery_limit"
            assert found.headers["rpc-dead-attempts"] == 3
            assert "x-rpc-deliveries" not in found.headers
            assert shop.ran == []
        until(lambda: server.health()["unacked"] == 0)
        assert server.health()["dead_lettered"] == (not runs)


def test_of_a_batch_only_the_dead_calls_are_kept(side: Side) -> None:
    batch = [item("note", 1), item("fail", "x"), item("note", 2), item("nope")]
    shop = Shop(side)
    with shop.open() as server:
        asyncio.run(send(side, batch, message_id="m"))
        [found] = died(side, server)
    assert sorted(shop.ran) == [1, 2]
    assert json.loads(found.body) == [batch[1], batch[3]]
    assert found.headers["rpc-calls"] == 2


def test_what_is_expired_lies_with_the_expired(side: Side) -> None:
    shop = Shop(side)
    with shop.open() as server:
        asyncio.run(send(side, item("note", 1, meta={"ttl": 0}), message_id="m"))
        [found] = asyncio.run(side.read(side.expired, 1))
        until(lambda: server.health()["unacked"] == 0)
        assert (server.health()["expired"], shop.ran) == (1, [])
    assert found.headers["rpc-dead-reason"] == "expired"


def test_an_unsafe_call_that_a_drain_finds_unbegun_is_run_by_the_next_server(side: Side) -> None:
    shop = Shop(side)
    with shop.open(concurrency=1, prefetch=2) as server:
        server.method(name="hold")(lambda: asyncio.run(asyncio.sleep(0.3)))
        asyncio.run(send(side, item("hold"), correlation_id="t.1"))
        until(lambda: server.health()["running"] == 1)
        asyncio.run(send(side, item("note", 1), correlation_id="t.2"))
        until(lambda: server.health()["waiting"] == 1)
    assert shop.ran == []
    with shop.open() as server:
        until(lambda: shop.ran == [1])
        until(lambda: server.health()["unacked"] == 0)
    assert shop.dead == []


def test_casts_of_a_batch_that_a_drain_finds_unbegun_are_run_by_the_next_server(side: Side) -> None:
    shop = Shop(side)
    with shop.open(concurrency=1) as server:
        server.method(name="hold")(lambda: asyncio.run(asyncio.sleep(0.3)))
        asyncio.run(send(side, [item("hold"), item("note", 1), item("note", 2)], message_id="m"))
        until(lambda: (server.health()["running"], server.health()["waiting"]) == (1, 2))
    assert shop.ran == []
    with shop.open() as server:
        until(lambda: shop.ran == [1, 2])
        until(lambda: server.health()["unacked"] == 0)
    assert shop.dead == []
