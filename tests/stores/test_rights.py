"""The users of docs/deployment.md on a real Redis: what they are for works, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.exceptions import NoPermissionError

from resilient_rpc import AsyncClient, Server
from resilient_rpc.policies import Cache, Idempotency, RateLimit, RedisCache, RedisRate
from resilient_rpc.stores import RedisStore
from tests.docs.blocks import DOCS, blocks_of
from tests.servers import choose
from tests.stores.tools import PATIENT
from tests.waiting import turns

(USERS,) = [block.body for block in blocks_of(DOCS / "deployment.md", "text") if block.title == "users.acl"]


class Sample:
    """A Redis with the users of the page; the one that may everything stays as it is, for it is what looks on."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._passwords: dict[str, str] = {}
        with redis.Redis.from_url(url) as admin:
            for line in USERS.splitlines():
                _, name, *rules = line.split()
                if name == "default":
                    assert rules == ["off"]
                    continue
                admin.execute_command("ACL", "SETUSER", name, *rules)
                (self._passwords[name],) = [rule[1:] for rule in rules if rule.startswith(">")]

    def url(self, user: str) -> str:
        return self._url.replace("://", f"://{user}:{self._passwords[user]}@")

    def refused(self) -> list[Any]:
        """What a user was not allowed to do since the last time."""
        with redis.Redis.from_url(self._url) as admin:
            found = admin.execute_command("ACL", "LOG")
            admin.execute_command("ACL", "LOG", "RESET")
            return list(found)

    def keys(self, prefix: str) -> list[bytes]:
        with redis.Redis.from_url(self._url) as admin:
            return list(admin.scan_iter(f"{prefix}*"))


@pytest.fixture(scope="module")
def sample() -> Iterator[Sample]:
    with choose.redis_server(private=True) as server:
        yield Sample(server.url)


def test_a_server_keeps_records(sample: Sample, service: str) -> None:
    sample.refused()
    ran: list[str] = []

    async def main() -> None:
        store = RedisStore(sample.url("rpc-servers"), timeout=PATIENT)
        server = Server(f"memory://{service}", service=service, policies=[Idempotency(store)])

        @server.method(safety="dedup")
        async def create(sku: str) -> int:
            ran.append(sku)
            return len(ran)

        async with server, AsyncClient(f"memory://{service}") as client:
            for _ in range(2):
                assert await client.call(f"{service}.create", ["A1"], idempotency_key="order-1") == 1
        assert await store.inspect() == []
        await store.close()

    asyncio.run(main())
    assert ran == ["A1"]
    assert sample.keys("rpc:idem:")
    assert sample.refused() == []


def test_clients_share_values_invalidations_and_a_rate(sample: Sample, service: str) -> None:
    sample.refused()
    url, method, prices = sample.url("rpc-clients"), f"{service}.price", {"A1": 1.0}

    async def main() -> None:
        server = Server(f"memory://{service}", service=service)

        @server.method(safety="read_only")
        async def price(sku: str) -> float:
            return prices[sku]

        caches = [Cache(ttl=60, shared=RedisCache(url, timeout=PATIENT)) for _ in range(2)]
        rate = RedisRate(url, timeout=PATIENT)

        def client(cache: Cache) -> AsyncClient:
            limit = RateLimit(rate=1, burst=1000, shared=rate)
            return AsyncClient(f"memory://{service}", safety="read_only", policies=[cache, limit])

        async with server, client(caches[0]) as first, client(caches[1]) as second:
            assert await first.call(method, ["A1"]) == 1.0
            prices["A1"] = 2.0
            await turns(lambda: sample.keys("rpc:cache:v:"))
            assert await second.call(method, ["A1"]) == 1.0
            assert sample.keys("rpc:rate:")
            caches[0].invalidate(method=method)
            async with asyncio.timeout(PATIENT):
                while await second.call(method, ["A1"]) != 2.0:  # noqa: ASYNC110 - the news comes by Redis
                    await asyncio.sleep(0.005)
        await rate.aclose()

    asyncio.run(main())
    assert sample.refused() == []


FORBIDDEN: dict[str, tuple[Any, ...]] = {
    "keys": ("KEYS", "*"),
    "scan": ("SCAN", "0"),
    "flush": ("FLUSHALL",),
    "config": ("CONFIG", "SET", "appendonly", "no"),
    "acl": ("ACL", "LIST"),
    "shutdown": ("SHUTDOWN",),
    "another prefix": ("GET", "session:1"),
    "a script on another prefix": ("EVAL", "return redis.call('GET', KEYS[1])", "1", "session:1"),
    "a key in a script that nobody named": ("EVAL", "return redis.call('GET', 'session:1')", "0"),
    "another channel": ("PUBLISH", "orders", "x"),
    "monitor": ("MONITOR",),
    "debug": ("DEBUG", "SLEEP", "0"),
}


@pytest.mark.parametrize("command", FORBIDDEN.values(), ids=FORBIDDEN)
@pytest.mark.parametrize("user", ["rpc-servers", "rpc-clients"])
def test_nothing_else_is_allowed(sample: Sample, user: str, command: tuple[Any, ...]) -> None:
    sample.refused()
    with redis.Redis.from_url(sample.url(user)) as client, pytest.raises(redis.ResponseError):
        client.execute_command(*command)
    assert sample.refused()


def test_neither_touches_what_is_the_others(sample: Sample) -> None:
    for user, key in (("rpc-clients", "rpc:idem:{default:orders.create:x}"), ("rpc-servers", "rpc:cache:v:1")):
        with redis.Redis.from_url(sample.url(user)) as client, pytest.raises(NoPermissionError):
            client.delete(key)
