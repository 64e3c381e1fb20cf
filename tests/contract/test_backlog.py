"""What a server says of its queue, over every transport."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from resilient_rpc import Classic, Client, ConfigurationError, Quorum, Server
from resilient_rpc.errors import UsageError
from resilient_rpc.events import QueueLimit
from tests.contract.sides import Side
from tests.waiting import PATIENCE, until


@pytest.mark.parametrize(
    "settings",
    [
        {"backlog_limit": 3},
        {"queue": Classic(max_length=3)},
        {"queue": Quorum(max_length=100), "backlog_limit": 3},
    ],
    ids=["classic", "max_length", "quorum"],
)
def test_a_backlog_is_reported_and_its_limit_announced(side: Side, settings: dict[str, Any]) -> None:
    go = threading.Event()
    told: list[QueueLimit] = []
    server = Server(side.url, service=side.service, concurrency=1, prefetch=1, **settings)
    server.method(name="work")(lambda: go.wait(PATIENCE))
    server.on(QueueLimit, told.append)
    server.start()
    try:
        with Client(side.url, policies=[], batching=None) as client:
            futures = [client.submit(f"{side.service}.work") for _ in range(4)]
            until(lambda: bool(told))
            assert told == [QueueLimit(queue=side.queue, over=True, messages=3, consumers=1, limit=3)]
            assert asyncio.run(server.backlog()) == (3, 1)
            assert (server.health()["backlog"], server.health()["consumers"]) == (3, 1)
            go.set()
            assert [future.exception(PATIENCE) for future in futures] == [None] * 4
            until(lambda: len(told) == 2)
            assert (told[1].over, told[1].messages) == (False, 0)
            until(lambda: server.health()["backlog"] == 0)
    finally:
        go.set()
        server.stop()
    assert server.health()["consuming"] is False


def test_events_that_wait_are_reported_and_have_the_same_limit(side: Side) -> None:
    go, begun = threading.Event(), threading.Event()
    told: list[QueueLimit] = []
    server = Server(side.url, service=side.service, concurrency=1, prefetch=1, backlog_limit=3)
    event = f"{side.service}.created"

    @server.on(event)
    def created() -> None:
        begun.set()
        go.wait(PATIENCE)

    server.on(QueueLimit, told.append)
    server.start()
    try:
        assert server.health()["event_backlog"] is None, "health does not wait"
        with Client(side.url, policies=[]) as client:
            assert client.publish(event)
            assert begun.wait(PATIENCE)
            assert [client.publish(event) for _ in range(3)] == [True] * 3
            until(lambda: bool(told))
        assert told == [QueueLimit(queue=f"{side.queue}.events", over=True, messages=3, consumers=1, limit=3)]
        assert (server.health()["event_backlog"], server.health()["backlog"]) == (3, 0)
        go.set()
        until(lambda: len(told) == 2)
        until(lambda: server.health()["event_backlog"] == 0)
    finally:
        go.set()
        server.stop()


def test_a_probe_has_the_depth_without_any_limit(side: Side) -> None:
    server = Server(side.url, service=side.service)
    server.method(name="work")(lambda: None)
    with pytest.raises(UsageError):
        asyncio.run(server.backlog())
    server.start()
    try:
        assert server.health()["backlog"] is None, "health does not wait"
        until(lambda: server.health()["backlog"] == 0)
        assert server.health()["consumers"] == 1
        assert "event_backlog" not in server.health(), "it subscribes to nothing"
    finally:
        server.stop()


def test_a_handler_may_ask_on_the_servers_own_loop(side: Side) -> None:
    server = Server(side.url, service=side.service)

    @server.method
    async def depth() -> list[int] | None:
        found = await server.backlog()
        return None if found is None else list(found)

    server.start()
    try:
        with Client(side.url, policies=[]) as client:
            assert client.call(f"{side.service}.depth") == [0, 1]
    finally:
        server.stop()


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "9"])
def test_a_limit_is_a_whole_number(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="backlog_limit="):
        Server("memory://x", service="shop", backlog_limit=limit)
