"""Constructors do no I/O: a program may build all that it uses anywhere, and decide later what it connects."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from resilient_rpc import AsyncClient, Client, Server, policies, stores
from resilient_rpc.cli.workers.count import Count
from resilient_rpc.cli.workers.process import Orders
from resilient_rpc.cli.workers.supervisor import Supervisor
from resilient_rpc.events import Event
from resilient_rpc.policies import Cache, Idempotency, RedisCache, Retry
from resilient_rpc.stores import RedisStore

AMQP = ("amqp://guest:guest@nowhere.invalid/", "amqps://guest:guest@nowhere.invalid,also.invalid/shop", "memory://x")
REDIS = ("redis://nowhere.invalid", "rediss://nowhere.invalid")


class Io(BaseException):
    """Somebody did what is forbidden here; no `except Exception` hides it."""


def never(*args: Any, **_: Any) -> Any:
    raise Io(repr(args)[:100])


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def _forbidden(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No socket, no look at names, no thread, no loop, no process."""
    for owner, names in {
        socket: ("socket", "socketpair", "create_connection", "getaddrinfo", "gethostbyname"),
        threading.Thread: ("start",),
        asyncio: ("new_event_loop", "run"),
        os: ("fork", "posix_spawn"),
    }.items():
        for name in names:
            monkeypatch.setattr(owner, name, never)
    before = _open_files()
    yield
    monkeypatch.undo()
    assert _open_files() == before


def _store() -> RedisStore:
    return RedisStore(REDIS[0])


GIVEN: dict[str, Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "Chaos": lambda: ((), {"latency": 0.1}),
    "Deadline": lambda: ((), {"limit": 1.0}),
    "Fallback": lambda: ((), {"value": 1}),
    "Idempotency": lambda: ((_store(),), {}),
    "RateLimit": lambda: ((), {"rate": 1.0}),
    "RedisCache": lambda: ((REDIS[1],), {}),
    "RedisRate": lambda: ((REDIS[1],), {}),
    "EncryptedStore": lambda: ((_store(),), {"encrypt": bytes, "decrypt": bytes}),
    "RedisLock": lambda: ((_store(), "the lock"), {}),
    "RedisStore": lambda: ((REDIS[1],), {}),
    "SqlStore": lambda: ((never,), {}),
}
"""What those need that are not built of nothing."""


def _classes() -> dict[str, type[Any]]:
    """What is public among policies and stores, without what only tells something."""
    found = {name: getattr(policies, name) for name in policies.__all__}
    works = {name: kind for name, kind in found.items() if isinstance(kind, type) and not issubclass(kind, Event)}
    named = [name for name in stores.__all__ if name.endswith("Store") and name != "Store"]
    return works | {name: getattr(stores, name) for name in (*named, "RedisLock")}


def _build(name: str, kind: type[Any]) -> Any:
    args, settings = GIVEN.get(name, lambda: ((), {}))()
    return kind(*args, **settings)


BUILT: dict[str, Callable[[], Any]] = {
    **{f"{kind.__name__} {url}": partial(kind, url) for kind in (Client, AsyncClient) for url in AMQP},
    **{f"Server {url}": partial(Server, url, service="shop") for url in AMQP},
    **{name: partial(_build, name, kind) for name, kind in _classes().items()},
    "a client with policies": lambda: Client(AMQP[0], policies=[Cache(shared=RedisCache(REDIS[0])), Retry()]),
    "a server with records": lambda: Server(AMQP[0], service="shop", policies=[Idempotency(_store())]),
    "a supervisor": lambda: Supervisor(Orders(target="shop:server"), Count(least=1, most=2)),
}


@pytest.mark.usefixtures("_forbidden")
@pytest.mark.parametrize("name", BUILT)
def test_building_does_no_io(name: str) -> None:
    assert BUILT[name]() is not None


def test_every_policy_and_store_is_among_them() -> None:
    assert len(_classes()) >= 18
    assert {"Cache", "CircuitBreaker", "Hedge", "RedisStore", "RetryBudget", "SqlStore"} <= set(_classes())


@pytest.mark.usefixtures("_forbidden")
def test_what_is_forbidden_is_noticed() -> None:
    with pytest.raises(Io):
        Server("memory://x", service="shop").start()
    with pytest.raises(Io):
        socket.create_connection(("127.0.0.1", 1))
