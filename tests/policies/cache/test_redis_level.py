from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from resilient_rpc.call import READ_ONLY, CacheHints, Call
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.hub import Events
from resilient_rpc.loops import running_runtime
from resilient_rpc.pending import Pending
from resilient_rpc.policies.cache import Cache, RedisCache
from resilient_rpc.policies.cache.keys import key_bytes, key_of, method_name
from resilient_rpc.policies.cache.records import NEVER, Record, read_record, read_void
from resilient_rpc.policies.cache.redis_level import PAUSE
from resilient_rpc.policies.cache.subscriber import Connections
from resilient_rpc.runtime import BlockingRuntime, drive
from tests.policies.cache.shops import Shop, listening

METHOD = "orders.price"


class Price(msgspec.Struct):
    amount: float


@pytest.fixture
def prefix() -> str:
    return f"t{secrets.token_hex(6)}:"


def _call(events: Events | None = None, **fields: Any) -> Call:
    runtime = fields.pop("runtime", None) or running_runtime()
    return Call(
        method=METHOD,
        params={"sku": "A1"},
        runtime=runtime,
        deadline=runtime.now() + 30,
        timeout=30,
        safety=READ_ONLY,
        events=events,
        **fields,
    )


async def called(shop: Shop) -> bool:
    return bool(shop.calls)


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """What `condition` gives, once it is true."""
    async with asyncio.timeout(10):
        while not (found := await condition()):  # noqa: ASYNC110 - it is another process that is waited for
            await asyncio.sleep(0.005)
        return found


async def listened_to(redis: Redis, prefix: str, count: int) -> None:
    channel = prefix + "void"

    async def enough() -> bool:
        ((_, number),) = await redis.pubsub_numsub(channel)
        return bool(number >= count)

    await until(enough)


@contextlib.asynccontextmanager
async def raw(url: str) -> AsyncIterator[Redis]:
    redis: Redis = Redis.from_url(url)
    try:
        yield redis
    finally:
        await redis.aclose()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


def level(url: str, prefix: str, **settings: Any) -> RedisCache:
    return RedisCache(url, prefix=prefix, timeout=5.0, **settings)


async def keys(redis: Redis, pattern: str) -> list[bytes]:
    found: list[bytes] = await redis.keys(pattern)
    return found


@pytest.mark.parametrize(
    ("result", "returns"), [([1], None), (5, None), (Price(9.5), Price), ([Price(1.0)], list[Price]), (b"x", bytes)]
)
def test_what_one_process_has_fetched_another_one_finds(redis_url: str, prefix: str, result: Any, returns: Any) -> None:
    async def main() -> None:
        shop, other = Shop(), Shop()
        shop.result, shop.hints = result, CacheHints(tags=("prices",))
        events, seen = listening()
        one, two = (Cache(shared=level(redis_url, prefix, broadcast=False)) for _ in range(2))
        async with raw(redis_url) as redis:
            await one(_call(returns=returns), shop)
            await until(lambda: keys(redis, prefix + "v:*"))
            for _ in range(2):
                reply = await two(_call(events, returns=returns), other)
                assert reply.result == result
                assert type(reply.result) is type(result)
                assert reply.server == "shop-1"
            assert seen == ["shared", "hit"]
            assert not other.calls
            (where,) = await keys(redis, prefix + "v:*")
            assert 0 < await redis.pttl(where) <= 66_000
            two.invalidate(tag="prices")
            await two(_call(returns=returns), shop)
            assert len(shop.calls) == 2

    run(main)


def test_blocking_callers_find_it_too(redis_url: str, prefix: str) -> None:
    runtime, shop = BlockingRuntime(), Shop()
    try:
        one, two = (Cache(shared=level(redis_url, prefix)) for _ in range(2))
        drive(one(_call(runtime=runtime), shop))

        async def written() -> None:
            async with raw(redis_url) as redis:
                await until(lambda: keys(redis, prefix + "v:*"))

        run(written)
        assert drive(two(_call(runtime=runtime), shop)).result == [1]
        assert wait(two.invalidate()) is True
        assert drive(two(_call(runtime=runtime), shop)).result == [2]
    finally:
        assert runtime.close()


def wait(told: Pending[bool]) -> bool:
    runtime = BlockingRuntime()
    assert drive(runtime.wait((told,), 10)) is told
    return told.result()


@pytest.mark.parametrize(
    "what", [{}, {"method": METHOD}, {"method": METHOD, "params": {"sku": "A1"}}, {"tag": "prices"}]
)
def test_an_invalidation_reaches_redis_and_the_other_clients(redis_url: str, prefix: str, what: dict[str, Any]) -> None:
    async def main() -> None:
        shop = Shop()
        shop.hints = CacheHints(tags=("prices",))
        one, two, third = (Cache(shared=level(redis_url, prefix)) for _ in range(3))
        async with raw(redis_url) as redis:
            await one(_call(), shop)
            await until(lambda: keys(redis, prefix + "v:*"))
            await listened_to(redis, prefix, 1)
            await two(_call(), shop)
            await listened_to(redis, prefix, 2)
            await two(_call(), shop)
            assert len(shop.calls) == 1
            marked = two._fetch.state.voids.last
            told = one.invalidate(**what)
            await running_runtime().wait((told,), 10)
            assert told.result() is True

            async def heard() -> bool:
                return two._fetch.state.voids.last > marked

            await until(heard)
            assert (await two(_call(), shop)).result == [2]
            assert len(shop.calls) == 2
            await third(_call(), shop)

    run(main)


def test_what_was_fetched_before_an_invalidation_is_not_believed_after_it(redis_url: str, prefix: str) -> None:
    async def main() -> None:
        shop, cache, other = (
            Shop(seconds=0.05),
            Cache(shared=level(redis_url, prefix)),
            Cache(shared=level(redis_url, prefix)),
        )
        async with raw(redis_url) as redis:
            fetching = asyncio.create_task(cache(_call(), shop))
            await until(lambda: called(shop))
            told = other.invalidate(method=METHOD)
            await running_runtime().wait((told,), 10)
            assert (await fetching).result == [1]
            await until(lambda: keys(redis, prefix + "v:*"))
            fresh = Cache(shared=level(redis_url, prefix))
            assert (await fresh(_call(), shop)).result == [2]

    run(main)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff",
        b"not ours",
        b"\x81" * 5000,
        b"\x91" * 100_000,
        msgspec.msgpack.encode([1, 2, 3]),
        msgspec.msgpack.encode([2, 0, [], None, b"\x01"]),
        msgspec.msgpack.encode([1, -5, [], None, b"\x01"]),
        msgspec.msgpack.encode([1, 0, [], None, b"\xc1 not MessagePack"]),
        msgspec.msgpack.encode([1, 0, [], None, b"\x91" * 100_000]),
        msgspec.msgpack.encode([1, 0, [], None, b"x" * 2000]),
    ],
)
def test_a_value_that_is_not_ours_is_dropped(redis_url: str, prefix: str, data: bytes) -> None:
    async def main() -> None:
        shop, cache = Shop(), Cache(shared=level(redis_url, prefix, max_value=1000))
        events, seen = listening()
        where = f"{prefix}v:{key_bytes(key_of(_call(), None)).hex()}"
        async with raw(redis_url) as redis:
            await redis.set(where, data, px=60_000)
            assert (await cache(_call(events), shop)).result == [1]
            assert seen == ["bypassed: shared_value", "miss"]

            async def replaced() -> bool:
                return bool(await redis.get(where) != data)

            await until(replaced)

    run(main)


def test_a_value_that_never_ends_or_is_not_of_the_declared_type_is_dropped(redis_url: str, prefix: str) -> None:
    async def main() -> None:
        good = msgspec.msgpack.encode(Record(since=2**50, names=[], payload=b'{"amount":"much"}'))
        for life in ({}, {"px": 90_000_000}, {"px": 60_000}):
            shop, cache = Shop(), Cache(shared=level(redis_url, prefix))
            events, seen = listening()
            where = f"{prefix}v:{key_bytes(key_of(_call(returns=Price), None)).hex()}"
            async with raw(redis_url) as redis:
                await redis.set(where, good, **life)
                await cache(_call(events, returns=Price), shop)
                assert seen == ["bypassed: shared_value", "miss"]

    run(main)


def test_a_mark_that_is_no_number_voids(redis_url: str, prefix: str) -> None:
    async def main() -> None:
        shop = Shop()
        async with raw(redis_url) as redis:
            await Cache(shared=level(redis_url, prefix))(_call(), shop)
            await until(lambda: keys(redis, prefix + "v:*"))
            await redis.set(f"{prefix}m:{method_name(METHOD)}", b"soon")
            assert (await Cache(shared=level(redis_url, prefix))(_call(), shop)).result == [2]

    run(main)


def test_messages_of_strangers_are_dropped(redis_url: str, prefix: str) -> None:
    async def main() -> None:
        shop, shared = Shop(), level(redis_url, prefix)
        cache = Cache(shared=shared)
        async with raw(redis_url) as redis:
            await cache(_call(), shop)
            await listened_to(redis, prefix, 1)
            voids = cache._fetch.state.voids

            async def joined() -> bool:
                return voids.last > 0

            await until(joined)
            before = voids.last
            own = msgspec.msgpack.encode((shared._sender, "m:mine"))
            for message in (b"\xff", b"", own, msgspec.msgpack.encode([1, 2]), msgspec.msgpack.encode(("x", "m:a"))):
                await redis.publish(prefix + "void", message)

            async def heard() -> bool:
                return voids.last > before

            await until(heard)
            assert voids.last == before + 1

    run(main)


def test_what_another_process_could_not_read_stays_here(redis_url: str, prefix: str) -> None:
    async def main() -> None:
        async with raw(redis_url) as redis:
            for result in ((1, 2), "x" * 2000):
                shop, shared = Shop(), level(redis_url, prefix, max_value=1000, broadcast=False)
                cache = Cache(shared=shared)
                shop.result = result
                await cache(_call(), shop)
                await cache(_call(), shop)
                assert len(shop.calls) == 1
            assert not await keys(redis, prefix + "v:*")

    run(main)


def test_without_redis_calls_are_sent_and_it_is_not_asked_again_at_once(prefix: str) -> None:
    async def main() -> None:
        shop = Shop()
        shop.hints = CacheHints(no_store=True)
        events, seen = listening()
        cache = Cache(shared=RedisCache("redis://localhost:1/0", prefix=prefix, timeout=0.5))
        for _ in range(2):
            await cache(_call(events), shop)
        assert seen == ["bypassed: shared", "miss", "bypassed: shared_down", "miss"]
        told = cache.invalidate()
        await running_runtime().wait((told,), 10)
        assert told.result() is False

    run(main)


def test_a_redis_that_hangs_costs_its_timeout(prefix: str) -> None:
    async def main() -> None:
        writers: list[asyncio.StreamWriter] = []

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        shop = Shop()
        events, seen = listening()
        cache = Cache(shared=RedisCache(f"redis://127.0.0.1:{port}/0", prefix=prefix, timeout=0.05))
        begin = time.monotonic()
        assert (await cache(_call(events), shop)).result == [1]
        assert time.monotonic() - begin < 5
        assert seen == ["bypassed: shared", "miss"]
        for writer in writers:
            writer.transport.abort()
        server.close()

    run(main)


def test_a_redis_that_goes_away_after_the_question_costs_nothing(redis_url: str, prefix: str) -> None:
    async def main() -> None:
        shop, shared = Shop(), level(redis_url, prefix)
        cache = Cache(shared=shared)
        saved = asyncio.Event()

        async def gone(*_: Any, **__: Any) -> None:
            saved.set()
            raise ConnectionError("gone")

        object.__setattr__(shared, "save", gone)
        assert (await cache(_call(), shop)).result == [1]
        await asyncio.wait_for(saved.wait(), 10)
        assert not shared.is_up(running_runtime().now())
        assert shared.is_up(running_runtime().now() + PAUSE)

    run(main)


class Refusing:
    """A runtime whose client is closing, from the n-th start on."""

    def __init__(self, allowed: int) -> None:
        self._runtime = running_runtime()
        self.now, self.wait, self._allowed = self._runtime.now, self._runtime.wait, allowed

    def start(self, work: Any) -> Any:
        if not self._allowed:
            raise RuntimeError("closed")
        self._allowed -= 1
        return self._runtime.start(work)


@pytest.mark.parametrize(("allowed", "expected"), [(0, ["bypassed: shared", "miss"]), (1, ["miss"])])
def test_a_client_that_closes_still_answers(redis_url: str, prefix: str, allowed: int, expected: list[str]) -> None:
    async def main() -> None:
        events, seen = listening()
        cache = Cache(shared=level(redis_url, prefix))
        reply = await cache(_call(events, runtime=Refusing(allowed)), Shop())
        assert reply.result == [1]
        assert seen == expected

    run(main)


def test_an_invalidation_when_nothing_can_be_started_any_more(redis_url: str, prefix: str) -> None:
    cache = Cache(shared=level(redis_url, prefix))

    async def main() -> None:
        runtime = running_runtime()
        runtime.shut()
        told = cache.invalidate()
        with pytest.raises(asyncio.CancelledError):
            told.result()

    run(main)


def test_without_broadcast_nobody_listens(redis_url: str, prefix: str) -> None:
    async def main() -> None:
        shop, cache = Shop(), Cache(shared=level(redis_url, prefix, broadcast=False))
        async with raw(redis_url) as redis:
            await cache(_call(), shop)
            await until(lambda: keys(redis, prefix + "v:*"))
            assert await redis.pubsub_numsub(prefix + "void") == [((prefix + "void").encode(), 0)]

    run(main)


def test_a_listener_comes_back_and_then_forgets_what_it_may_have_missed(redis_url: str, prefix: str) -> None:
    async def main() -> None:
        shop, cache = Shop(), Cache(shared=level(redis_url, prefix))
        voids = cache._fetch.state.voids
        async with raw(redis_url) as redis:
            await cache(_call(), shop)
            await listened_to(redis, prefix, 1)

            async def joined() -> bool:
                return voids.last >= 1

            await until(joined)
            await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

            async def again() -> bool:
                return voids.last >= 2

            await until(again)

    run(main)


def test_an_idle_listener_goes_on() -> None:
    heard: list[bytes] = []
    connections = Connections(
        "redis://localhost", timeout=1, channel="c", heard=heard.append, joined=lambda: heard.append(b"joined")
    )
    assert connections._take(None, 3.0) == 3.0
    assert connections._take({"type": "subscribe"}, 3.0) < 3.0
    assert connections._take({"type": "message", "data": b"x"}, 3.0) == 3.0
    assert connections._take({"type": "pong", "data": b""}, 3.0) == 3.0
    assert heard == [b"joined", b"x"]


def test_a_child_process_makes_its_own_connections(redis_url: str, prefix: str) -> None:
    shared = level(redis_url, prefix)

    async def main() -> None:
        client = shared._connections.of(running_runtime())
        pid = os.fork()
        if not pid:
            os._exit(0 if not shared._connections._clients else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0  # noqa: ASYNC222 - nothing else runs here
        assert shared._connections.of(running_runtime()) is client

    run(main)


@given(st.binary())
def test_any_bytes_are_a_record_or_none(data: bytes) -> None:
    record = read_record(data)
    assert record is None or record.version == 1


@pytest.mark.parametrize(
    ("mark", "expected"), [(None, -1), (b"15", 15), (b"-1", NEVER), (b"", NEVER), (b"9" * 50, NEVER)]
)
def test_marks(mark: bytes | None, expected: int) -> None:
    assert read_void(mark) == expected


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        (5, {}),
        ("localhost", {}),
        ("http://localhost", {}),
        ("redis://localhost", {"prefix": ""}),
        ("redis://localhost", {"prefix": 5}),
        ("redis://localhost", {"timeout": 0}),
        ("redis://localhost", {"max_value": 0}),
    ],
)
def test_a_wrong_setting_is_refused(url: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="RedisCache"):
        RedisCache(url, **settings)


def test_the_password_is_not_shown() -> None:
    assert "secret" not in repr(RedisCache("redis://:secret@localhost"))
    with pytest.raises(ConfigurationError) as info:
        RedisCache("amqp://:secret@localhost")
    assert "secret" not in str(info.value)
