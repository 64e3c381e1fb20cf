from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import pytest

from resilient_rpc.errors import NOT_EXECUTED, ConfigurationError
from resilient_rpc.runtime import BLOCKING, drive
from resilient_rpc.stores import Held, LockBusy, MemoryStore, RedisLock, RedisStore, Store, StoreError, StoreUnavailable
from tests.servers.handle import Server
from tests.stores.tools import PATIENT, closing, eventually

Make = Callable[[], Store]


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest, service: str) -> Store:
    if request.param == "memory":
        return MemoryStore()
    url = request.getfixturevalue("redis_url")
    return RedisStore(url, namespace=service, timeout=PATIENT)


def run(store: Store, work: Callable[[], Any]) -> Any:
    async def main() -> Any:
        async with closing(store):
            return await work()

    return asyncio.run(main())


def test_one_holds_it_and_the_next_has_a_larger_token(store: Store) -> None:
    lock, other = RedisLock(store, "nightly"), RedisLock(store, "nightly")

    async def work() -> None:
        first = await lock.acquire()
        assert not first.lost
        assert not first.taken_over
        with pytest.raises(LockBusy, match="'nightly' is held by somebody else") as info:
            await other.acquire()
        assert 0 < (info.value.retry_after or 0) <= 5.0
        assert (info.value.certainty, info.value.retryable) == (NOT_EXECUTED, True)
        assert await first.renew() is True
        assert await first.release() is True
        assert first.lost
        second = await other.acquire()
        assert second.fencing_token > first.fencing_token
        assert await first.release() is False
        assert await first.renew() is False
        assert not second.lost
        assert await second.renew() is True

    run(store, work)


def test_names_and_tenants_are_locks_of_their_own(store: Store) -> None:
    async def work() -> None:
        for lock in (RedisLock(store, "a"), RedisLock(store, "b"), RedisLock(store, "a", tenant="acme")):
            await lock.acquire()

    run(store, work)


def test_who_waits_gets_it_as_soon_as_it_is_free(store: Store) -> None:
    lock = RedisLock(store, "nightly", lease=30.0)

    async def work() -> None:
        first = await lock.acquire()
        waiting = asyncio.ensure_future(lock.acquire(wait=20.0))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await first.release()
        second = await waiting
        assert second.fencing_token > first.fencing_token

    run(store, work)


def test_who_waits_too_long_is_told(store: Store) -> None:
    lock = RedisLock(store, "nightly")

    async def work() -> None:
        await lock.acquire()
        with pytest.raises(LockBusy):
            await lock.acquire(wait=0.05)

    run(store, work)


def test_one_that_was_not_released_is_taken_over_and_its_holder_knows(store: Store) -> None:
    lock = RedisLock(store, "nightly", lease=0.1)

    async def work() -> None:
        first = await lock.acquire()
        second = await RedisLock(store, "nightly").acquire(wait=20.0)
        assert second.taken_over
        assert second.fencing_token > first.fencing_token
        assert first.lost
        assert await first.renew() is False
        assert await first.release() is False

    run(store, work)


def test_of_many_one_at_a_time_holds_it(store: Store) -> None:
    lock = RedisLock(store, "nightly")
    inside = 0
    tokens: list[int] = []

    async def one() -> None:
        nonlocal inside
        async with lock.hold(wait=30.0) as held:
            inside += 1
            assert inside == 1
            tokens.append(held.fencing_token)
            await asyncio.sleep(0)
            inside -= 1

    run(store, lambda: asyncio.gather(*[one() for _ in range(8)]))
    assert tokens == sorted(set(tokens))
    assert len(tokens) == 8


def test_it_is_renewed_while_it_is_held_and_released_whatever_happens(store: Store) -> None:
    lock = RedisLock(store, "nightly", lease=0.6)

    async def work() -> None:
        with contextlib.suppress(ZeroDivisionError):
            async with lock.hold() as held:
                await asyncio.sleep(1.3)
                assert not held.lost
                raise ZeroDivisionError
        assert held.lost
        assert (await lock.acquire()).fencing_token > held.fencing_token

    run(store, work)


def test_who_loses_it_is_told_and_not_interrupted(store: Store) -> None:
    lock = RedisLock(store, "nightly", lease=0.3)

    async def work() -> None:
        async with lock.hold() as held:
            await store.delete(lock.key)

            async def lost() -> bool:
                return held.lost

            await eventually(lost, "a lock that is lost")
            assert await lock.acquire()

    run(store, work)


def test_a_record_that_is_no_lock_is_an_error(store: Store) -> None:
    lock = RedisLock(store, "nightly")

    async def work() -> None:
        await store.begin(lock.key, fingerprint=b"something else", lease=5.0, ttl=5.0)
        with pytest.raises(StoreError, match="is no lock") as info:
            await lock.acquire()
        assert info.value.written is False

    run(store, work)


@pytest.mark.fault
def test_while_redis_is_away_it_counts_as_lost_in_time_and_what_was_done_is_no_error(
    private_redis: Server, caplog: pytest.LogCaptureFixture
) -> None:
    store = RedisStore(private_redis.url)
    lock = RedisLock(store, "nightly", lease=1.0)

    async def work() -> Held:
        async with lock.hold() as held:
            private_redis.freeze()

            async def lost() -> bool:
                return held.lost

            await eventually(lost, "a lock that is lost", 5.0)
        with pytest.raises(StoreUnavailable):
            await held.release()
        return held

    with caplog.at_level(logging.WARNING, "resilient_rpc.stores.lock"):
        run(store, work)
    private_redis.thaw()
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "could not be renewed" in said
    assert "could not be released" in said


def test_blocking_code_uses_it_through_its_runtime(store: Store) -> None:
    lock = RedisLock(store, "nightly")

    def blocking(work: Callable[[Any], Any]) -> Any:
        started = BLOCKING.start(work)
        assert drive(BLOCKING.wait([started], 10.0)) is started
        return started.result()

    held = blocking(lambda _: lock.acquire())
    with pytest.raises(LockBusy):
        blocking(lambda _: lock.acquire())
    assert blocking(lambda _: held.release()) is True
    blocking(lambda _: store.close())


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"name": ""}, "RedisLock.name"), ({"name": 5}, "RedisLock.name"), ({"lease": 0}, "RedisLock.lease"),
     ({"tenant": 5}, "RecordKey.tenant"), ({"name": "x" * 1025}, "RecordKey.key")],
)  # fmt: skip
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named.replace(".", r"\.")):
        RedisLock(MemoryStore(), **{"name": "nightly", **settings})


def test_a_wrong_wait_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="wait"):
        asyncio.run(RedisLock(MemoryStore(), "nightly").acquire(wait=-1))
