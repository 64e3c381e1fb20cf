"""Versions and environments of one service side by side, over every transport; and queues with limits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from resilient_rpc import Classic, Client, Quorum, Server, Unroutable
from resilient_rpc.errors import DeadlineExceeded, PublishRejected
from resilient_rpc.transport.properties import encode_properties
from tests.contract.sessions import publishing
from tests.contract.sides import Side
from tests.served import running
from tests.waiting import PATIENCE, until

BOTH = {"version": "v2", "environment": "prod"}


@contextmanager
def serving(side: Side, answer: Any, **settings: Any) -> Iterator[Server]:
    server = Server(side.url, service=side.service, **settings)
    server.method(name="who")(answer if callable(answer) else lambda: answer)
    with running(server):
        yield server


async def clean(side: Side, *queues: str) -> None:
    for queue in queues:
        for name in (queue, f"{queue}.dead", f"{queue}.expired"):
            await side.delete(name)


def test_each_version_and_environment_has_a_queue_of_its_own(side: Side) -> None:
    names: list[dict[str, Any]] = [{}, {"version": "v2"}, {"environment": "prod"}, BOTH, {"prefix": "shop.", **BOTH}]
    queues = [f"rpc.{side.service}{rest}" for rest in ("", ".v2", ".prod", ".v2.prod")] + [
        f"shop.{side.service}.v2.prod"
    ]
    for settings, queue in zip(names, queues, strict=True):
        with Client(side.url, policies=[], **settings) as client, pytest.raises(Unroutable, match=f"'{queue}'"):
            client.call(f"{side.service}.who")
        with serving(side, queue, **settings), Client(side.url, policies=[], **settings) as client:
            assert client.call(f"{side.service}.who") == queue
            assert client.service(side.service).who() == queue
    asyncio.run(clean(side, *queues[1:]))


def test_dead_letters_of_a_version_are_kept_by_themselves(side: Side) -> None:
    queue = f"rpc.{side.service}.v2.prod"

    async def send() -> None:
        async with publishing(side) as (publisher, sent):
            await sent.confirmation(
                publisher.publish(queue, b"garbage", encode_properties(correlation_id="c"), mandatory=True)
            )
            await sent.until(lambda: sent.returns == [])

    with serving(side, 1, **BOTH) as server:
        asyncio.run(send())
        until(lambda: server.health()["dead_lettered"] == 1)

    async def look() -> None:
        async with publishing(side) as (publisher, _):
            assert await publisher.inspect(f"{queue}.dead") == (1, 0)
            assert await publisher.inspect(side.dead) is None
        await clean(side, queue)

    asyncio.run(look())


KINDS = [pytest.param(Classic, id="classic"), pytest.param(Quorum, id="quorum")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_a_full_queue_refuses_is_told(side: Side, kind: Any) -> None:
    go = threading.Event()

    def work() -> None:
        go.wait(PATIENCE)

    queue = kind(max_length=2, overflow="reject-publish")
    with serving(side, work, queue=queue, concurrency=1, prefetch=1) as server:
        with Client(side.url, policies=[], batching=None) as client:
            futures = [client.submit(f"{side.service}.who")]
            until(lambda: server.health()["running"] == 1)
            found: list[BaseException] = []
            while not found:  # a quorum queue takes some more before it refuses
                assert len(futures) < 200
                futures.append(client.submit(f"{side.service}.who"))
                try:
                    futures[-1].result(0.05)
                except TimeoutError:
                    continue
                except PublishRejected as error:
                    found.append(error)
            go.set()
            outcomes = [future.exception(PATIENCE) for future in futures]
            assert {type(outcome) for outcome in outcomes} == {type(None), PublishRejected}
        assert server.health()["dead_lettered"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_oldest_call_of_a_full_queue_becomes_a_dead_letter(side: Side, kind: Any) -> None:
    go = threading.Event()

    def work() -> None:
        go.wait(PATIENCE)

    with serving(side, work, queue=kind(max_length=2), concurrency=1, prefetch=1) as server:
        with Client(side.url, policies=[], batching=None, timeout=1.0) as client:
            running = client.submit(f"{side.service}.who", timeout=PATIENCE)
            until(lambda: server.health()["running"] == 1)
            futures = [client.submit(f"{side.service}.who", timeout=PATIENCE) for _ in range(4)]
            found = asyncio.run(side.read(side.dead, 2))
            assert {each.headers["x-first-death-reason"] for each in found} == {"maxlen"}
            go.set()
            assert [future.exception(PATIENCE) for future in [running, *futures[2:]]] == [None, None, None]
        for future in futures[:2]:
            assert future.exception(PATIENCE) is not None


@pytest.mark.parametrize("kind", KINDS)
def test_what_waits_longer_than_the_ttl_of_the_queue_is_expired(side: Side, kind: Any) -> None:
    go = threading.Event()

    def work() -> None:
        go.wait(PATIENCE)

    with (
        serving(side, work, queue=kind(ttl=0.3), concurrency=1, prefetch=1) as server,
        Client(side.url, policies=[], batching=None) as client,
    ):
        running = client.submit(f"{side.service}.who", timeout=PATIENCE)
        until(lambda: server.health()["running"] == 1)
        late = client.submit(f"{side.service}.who", timeout=3.0)
        [found] = asyncio.run(side.read(side.expired, 1))
        assert found.headers["x-first-death-reason"] == "expired"
        go.set()
        assert running.exception(PATIENCE) is None
        assert isinstance(late.exception(PATIENCE), DeadlineExceeded)


def test_a_queue_with_priorities_serves_the_higher_ones_first(side: Side) -> None:
    go, order = threading.Event(), list[int]()

    def work(value: int) -> None:
        order.append(value)
        go.wait(PATIENCE)

    async def send() -> None:
        async with publishing(side) as (publisher, sent):
            for value, priority in ((1, 0), (2, 1), (3, 5), (4, 3)):
                body = b'{"jsonrpc": "2.0", "method": "who", "params": [%d]}' % value
                properties = encode_properties(priority=priority, correlation_id=str(value))
                await sent.confirmation(publisher.publish(side.queue, body, properties, mandatory=True))

    with (
        serving(side, work, queue=Classic(max_priority=5), concurrency=1, prefetch=1) as server,
        Client(side.url, policies=[]) as client,
    ):
        running = client.submit(f"{side.service}.who", [0])
        until(lambda: server.health()["running"] == 1)
        asyncio.run(send())
        go.set()
        assert running.exception(PATIENCE) is None
        until(lambda: len(order) == 5)
    assert order == [0, 3, 4, 2, 1]
