"""RedisStore on a Redis that does what it should: round trips, sizes, and what stands under a key."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from resilient_rpc.errors import NOT_EXECUTED, ConfigurationError, DependencyUnavailable
from resilient_rpc.stores import (
    Busy,
    CorruptRecord,
    Mismatch,
    New,
    RecordKey,
    RedisStore,
    Replay,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    TakenOver,
)
from resilient_rpc.stores.keys import name_of
from tests.servers.handle import Server
from tests.servers.redis import LocalRedis, find
from tests.stores.tools import PATIENT, begin, closing, commands, eventually, new, new_key, on_a_loop


@pytest.fixture
def store(redis_url: str, service: str) -> RedisStore:
    return RedisStore(redis_url, namespace=service, timeout=PATIENT)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as found:
        yield found


def name(store: RedisStore, key: RecordKey) -> bytes:
    return name_of(store.namespace, key)


def test_each_step_is_one_script_and_one_round_trip(private_redis: Server) -> None:
    store = RedisStore(private_redis.url, timeout=PATIENT)
    key = new_key()

    async def work() -> list[int]:
        await new(store)  # the script is not known before
        counts = [commands(private_redis.url)["evalsha"]]
        epoch = await new(store, key)
        counts.append(commands(private_redis.url)["evalsha"])
        await store.renew(key, epoch, lease=30.0)
        counts.append(commands(private_redis.url)["evalsha"])
        await store.complete(key, epoch, b"x", ok=True, ttl=60.0)
        counts.append(commands(private_redis.url)["evalsha"])
        assert await begin(store, key) == Replay(b"x", ok=True)
        counts.append(commands(private_redis.url)["evalsha"])
        return [later - earlier for earlier, later in itertools.pairwise(counts)]

    assert on_a_loop(store, work) == [1, 1, 1, 1]
    assert commands(private_redis.url)["eval"] == 1


def test_the_steps_of_one_turn_of_the_loop_travel_together(private_redis: Server) -> None:
    store = RedisStore(private_redis.url, timeout=PATIENT)

    async def work() -> None:
        await new(store)
        keys = [new_key() for _ in range(50)]
        before = commands(private_redis.url)["evalsha"]
        epochs = await asyncio.gather(*[new(store, key) for key in keys])
        assert commands(private_redis.url)["evalsha"] == before + 1
        await asyncio.gather(
            *[store.renew(key, epoch, lease=9) for key, epoch in zip(keys[:10], epochs, strict=False)],
            *[store.complete(keys[n], epochs[n], b"%d" % n, ok=True, ttl=60) for n in range(10, 20)],
            *[store.abandon(keys[n], epochs[n]) for n in range(20, 30)],
            *[store.get(keys[n]) for n in range(30, 40)],
            *[begin(store, keys[n], fingerprint=b"x") for n in range(40, 50)],
        )
        assert commands(private_redis.url)["evalsha"] == before + 2
        replies = await asyncio.gather(*[begin(store, key) for key in keys[10:20]])
        assert replies == [Replay(b"%d" % n, ok=True) for n in range(10, 20)]

    on_a_loop(store, work)


def test_a_message_holds_so_many_steps_and_bytes_and_no_more(private_redis: Server) -> None:
    store = RedisStore(private_redis.url, timeout=PATIENT)

    async def work() -> None:
        keys = [new_key() for _ in range(300)]
        epochs = await asyncio.gather(*[new(store, key) for key in keys])
        before = commands(private_redis.url)["evalsha"]
        await asyncio.gather(*[store.renew(key, epoch, lease=9) for key, epoch in zip(keys, epochs, strict=True)])
        assert commands(private_redis.url)["evalsha"] == before + 3
        large = b"x" * 400_000
        completing = [store.complete(keys[n], epochs[n], large, ok=True, ttl=60) for n in range(4)]
        assert all(await asyncio.gather(*completing))
        assert commands(private_redis.url)["evalsha"] == before + 5

    on_a_loop(store, work)


@pytest.mark.parametrize("size", [3, 60, 1000, 50_000])
def test_a_record_takes_less_than_512_bytes_besides_the_answer(
    store: RedisStore, client: redis.Redis, size: int
) -> None:
    key = new_key(tenant="a-tenant-with-a-long-name", service="a_service_of_some_length", key="k" * 255)

    async def work() -> None:
        epoch = await new(store, key)
        held: Any = client.memory_usage(name(store, key))
        assert held < 512
        await store.complete(key, epoch, b"x" * size, ok=True, ttl=60)
        done: Any = client.memory_usage(name(store, key))
        # Redis rounds what it allocates up, by a quarter at most.
        assert done < 512 + max(size * 1.25, size + 64)

    on_a_loop(store, work)


def test_records_expire_by_themselves(store: RedisStore, client: redis.Redis) -> None:
    key = new_key()

    async def work() -> None:
        epoch = await new(store, key, lease=10.0, ttl=0.001)
        assert 69_000 < client.pttl(name(store, key)) <= 70_000
        await store.renew(key, epoch, lease=1000.0)
        assert 1_059_000 < client.pttl(name(store, key)) <= 1_060_000
        await store.complete(key, epoch, b"", ok=True, ttl=500.0)
        assert 499_000 < client.pttl(name(store, key)) <= 500_000
        await store.delete(key)
        assert 59_000 < client.pttl(name(store, key)) <= 61_000

    on_a_loop(store, work)


RUBBISH: list[tuple[str, dict[str, Any]]] = [
    ("its epoch is no number", {"s": "I", "fp": "f", "l": "1", "d": "1"}),
    ("its epoch is no number", {"s": "D", "fp": "f", "e": "nan", "r": ""}),
    ("its epoch is no number", {"s": "D", "fp": "f", "e": "-1", "r": ""}),
    ("its epoch is no number", {"s": "D", "fp": "f", "e": "9" * 16, "r": ""}),
    ("its epoch is no number", {"somebody": "else's"}),
    ("it has no fingerprint", {"s": "I", "e": "1", "l": "1", "d": "1"}),
    ("its lease is no number", {"s": "I", "fp": "f", "e": "1", "d": "1"}),
    ("its lease is no number", {"s": "T", "fp": "f", "e": "1", "l": "1", "d": "x"}),
    ("it has no answer", {"s": "D", "fp": "f", "e": "1"}),
    ("it has no answer", {"s": "E", "fp": "f", "e": "1"}),
    ("its state is not known", {"s": "Q", "fp": "f", "e": "1"}),
    ("its state is not known", {"fp": "f", "e": "1"}),
]


@pytest.mark.parametrize(("says", "fields"), RUBBISH)
def test_what_is_no_record_is_never_executed_nor_changed(
    store: RedisStore, client: redis.Redis, says: str, fields: dict[str, Any]
) -> None:
    key = new_key()
    client.hset(name(store, key), mapping=fields)
    before = client.hgetall(name(store, key))

    async def work() -> None:
        for ask in (
            begin(store, key),
            store.renew(key, 1, lease=1),
            store.complete(key, 1, b"", ok=True, ttl=1),
            store.abandon(key, 1),
            store.get(key),
        ):
            with pytest.raises(CorruptRecord, match=says) as info:
                await ask
            assert (info.value.reason, info.value.written, info.value.retryable) == ("corrupt", False, False)
        assert client.hgetall(name(store, key)) == before
        assert await store.delete(key) is True
        assert isinstance(await begin(store, key), New)

    on_a_loop(store, work)


def test_a_key_of_another_type_is_no_record_and_disturbs_no_other(store: RedisStore, client: redis.Redis) -> None:
    strange, good = new_key(), new_key()
    client.set(name(store, strange), "text")

    async def work() -> None:
        wrong, right = await asyncio.gather(begin(store, strange), begin(store, good), return_exceptions=True)
        assert isinstance(wrong, CorruptRecord)
        assert "it is no hash" in str(wrong)
        assert isinstance(right, New)
        assert await store.delete(strange) is True
        assert client.exists(name(store, strange)) == 0

    on_a_loop(store, work)


def test_the_clock_is_that_of_redis_and_if_it_is_set_back_no_lease_gets_longer(
    store: RedisStore, client: redis.Redis
) -> None:
    key = new_key()

    async def work() -> None:
        await new(store, key, lease=5.0)
        client.hincrby(name(store, key), "l", 3_600_000)  # as if the clock had been an hour ahead
        for _ in range(2):
            busy = await begin(store, key)
            assert isinstance(busy, Busy)
            assert 0 < busy.lease_left <= 5.0

    on_a_loop(store, work)


def test_an_epoch_is_larger_than_the_last_even_if_the_clock_is_behind_it(
    store: RedisStore, client: redis.Redis
) -> None:
    key = new_key()

    async def work() -> None:
        epoch = await new(store, key)
        client.hincrby(name(store, key), "e", 3_600_000)
        ahead = epoch + 3_600_000
        assert await store.abandon(key, ahead)
        assert await new(store, key) == ahead + 1
        assert await store.delete(key)
        assert await new(store, key) == ahead + 2

    on_a_loop(store, work)


def test_a_begin_that_is_sent_twice_is_recognised_and_not_taken_for_another(
    store: RedisStore, client: redis.Redis
) -> None:
    key = new_key()

    async def work() -> None:
        object.__setattr__(store, "_numbers", iter([7, 7, 8, 9, 9]))
        first = await begin(store, key)
        assert await begin(store, key) == first
        assert isinstance(await begin(store, key), Busy)
        client.hset(name(store, key), mapping={"l": 1})
        taken = await begin(store, key)
        assert isinstance(taken, TakenOver)
        assert await begin(store, key) == taken

    on_a_loop(store, work)


def test_a_large_answer_is_refused_before_it_is_sent(redis_url: str, service: str) -> None:
    store = RedisStore(redis_url, namespace=service, timeout=PATIENT, max_payload=1000)
    key = new_key()

    async def work() -> None:
        epoch = await new(store, key)
        with pytest.raises(StoreRefused, match=r"RedisStore\.max_payload=1000") as info:
            await store.complete(key, epoch, b"x" * 1001, ok=True, ttl=60)
        assert (info.value.reason, info.value.written) == ("too_large", False)
        assert await store.complete(key, epoch, b"x" * 1000, ok=True, ttl=60)

    on_a_loop(store, work)


def test_each_loop_has_connections_of_its_own_and_a_closed_loop_is_forgotten(store: RedisStore) -> None:
    for _ in range(3):

        async def main() -> None:
            await new(store)
            assert len(store._lanes) == 1
            await store._lane().aclose()

        asyncio.run(main())


def test_what_waits_when_it_is_closed_fails(store: RedisStore) -> None:
    async def main() -> list[Any]:
        await new(store)
        waiting = [asyncio.ensure_future(begin(store)) for _ in range(600)]
        for _ in range(8):  # turns of the loop: until some are sent
            await asyncio.sleep(0)
        await store.close()
        return await asyncio.gather(*waiting, return_exceptions=True)

    outcomes = asyncio.run(main())
    failed = [one for one in outcomes if isinstance(one, StoreUnavailable)]
    assert {error.reason for error in failed} == {"closed"}
    assert {error.written for error in failed} <= {None, False}  # some had left, some had not
    assert all(isinstance(one, New | StoreUnavailable) for one in outcomes)


def test_a_begin_that_was_cancelled_on_its_way_is_given_back(store: RedisStore) -> None:
    key = new_key()

    async def work() -> None:
        await new(store)
        asking = asyncio.ensure_future(begin(store, key, on_takeover="fail_unknown"))
        await asyncio.sleep(0)  # it is gathered
        await asyncio.sleep(0)  # it is taken
        assert store._lane()._flights
        asking.cancel()

        async def given_back() -> bool:
            record = await store.get(key)
            return record is not None and record.progress == "abandoned"

        await eventually(given_back, "a claim that is given back")
        assert isinstance(await begin(store, key, on_takeover="fail_unknown"), New)

    on_a_loop(store, work)


def test_who_was_cancelled_before_anything_was_sent_costs_nothing(private_redis: Server) -> None:
    store = RedisStore(private_redis.url, timeout=PATIENT)

    async def work() -> None:
        await new(store)
        before = commands(private_redis.url)["evalsha"]
        asking = asyncio.ensure_future(begin(store))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await new(store)
        assert commands(private_redis.url)["evalsha"] == before + 1

    on_a_loop(store, work)


def test_a_store_that_cannot_be_used_is_a_dependency_that_is_unavailable() -> None:
    error = StoreError("text", reason="odd", retry_after=2.0)
    assert isinstance(error, DependencyUnavailable)
    assert (error.certainty, error.code, error.retry_after, error.written) == (NOT_EXECUTED, -32005, 2.0, None)


def warnings_of(store: RedisStore, caplog: pytest.LogCaptureFixture, found: int) -> list[str]:
    async def work() -> None:
        async def told() -> bool:
            return len(caplog.records) >= found

        await new(store)
        await eventually(told, "warnings")
        await store.close()
        await new(store)  # the second time nothing is said
        await store.inspect()

    with caplog.at_level(logging.WARNING, "resilient_rpc.stores.redis"):
        on_a_loop(store, work)
    return [record.getMessage() for record in caplog.records]


def test_settings_that_endanger_records_are_told_once(private_redis: Server, caplog: pytest.LogCaptureFixture) -> None:
    with redis.Redis.from_url(private_redis.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
    evicting, forgetting = warnings_of(RedisStore(private_redis.url, timeout=PATIENT), caplog, 2)
    assert "maxmemory-policy is 'allkeys-lru'" in evicting
    assert "neither AOF nor snapshots are on" in forgetting


def test_settings_are_asked_for_until_redis_answers(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[list[str] | None] = [None, None, ["mind this"]]

    async def inspect(_: RedisStore) -> list[str]:
        found = answers.pop(0)
        if found is None:
            raise StoreUnavailable("not yet")
        return found

    monkeypatch.setattr(RedisStore, "inspect", inspect)
    quick = RedisStore(store.url, namespace=store.namespace, timeout=0.05)

    async def work() -> None:
        async def told() -> bool:
            return not answers

        with contextlib.suppress(StoreUnavailable):
            await begin(quick)
        await eventually(told, "a warning")

    with caplog.at_level(logging.WARNING, "resilient_rpc.stores.redis"):
        on_a_loop(quick, work)
    assert caplog.messages == ["mind this"]


def test_the_child_of_a_fork_does_not_warn_again(store: RedisStore) -> None:
    store.after_fork()
    assert not store._inspected.is_set()
    store._inspected.set()
    store.after_fork()
    assert store._inspected.is_set()


def test_a_socket_in_the_file_system_will_do(tmp_path: Path) -> None:
    binary = find()
    assert binary is not None, "a local redis-server is needed"
    path = tmp_path / "redis.sock"
    with LocalRedis(binary, {"unixsocket": str(path)}):
        store = RedisStore(f"unix://{path}?db=3", timeout=PATIENT)

        async def work() -> None:
            key = new_key()
            epoch = await new(store, key)
            assert await store.complete(key, epoch, b"x", ok=True, ttl=5)

        on_a_loop(store, work)


def test_settings_that_are_well_are_not_mentioned(private_redis: Server) -> None:
    store = RedisStore(private_redis.url, timeout=PATIENT)
    assert on_a_loop(store, store.inspect) == []
    with redis.Redis.from_url(private_redis.url) as client:
        client.config_set("appendonly", "no")
        client.config_set("save", "3600 1")
    assert on_a_loop(store, store.inspect) == []


def test_who_may_not_ask_for_settings_is_told_nothing(private_redis: Server) -> None:
    url = private_redis.url.replace("redis://", "redis://app:pw@")
    with redis.Redis.from_url(private_redis.url) as client:
        client.config_set("appendonly", "no")
        client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~rpc:*", "+@all", "-config")
        store = RedisStore(url, timeout=PATIENT)
        assert on_a_loop(store, store.inspect) == []
        client.execute_command("ACL", "SETUSER", "app", "-info")
        assert on_a_loop(store, store.inspect) == []


RIGHTS = "+evalsha +eval +time +hmget +hset +hdel +exists +pttl +pexpire +del"


def test_a_user_of_redis_needs_these_rights_and_no_others(private_redis: Server) -> None:
    with redis.Redis.from_url(private_redis.url) as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~rpc:*", *RIGHTS.split())
    store = RedisStore(private_redis.url.replace("redis://", "redis://app:pw@"), timeout=PATIENT)
    key = new_key()

    async def work() -> None:
        epoch = await new(store, key)
        assert await store.renew(key, epoch, lease=500)
        assert await store.complete(key, epoch, b"x", ok=True, ttl=5)
        assert await begin(store, key, fingerprint=b"other") == Mismatch()
        assert await store.delete(key)
        assert await store.abandon(key, epoch) is False

    on_a_loop(store, work)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"url": "http://localhost"}, "url"),
        ({"namespace": "a b"}, "namespace"),
        ({"timeout": 0}, "timeout"),
        ({"connections": 0}, "connections"),
        ({"max_payload": 0}, "max_payload"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"RedisStore\.{named}"):
        RedisStore(**{"url": "redis://localhost", **settings})


def test_shows_no_password() -> None:
    assert "secret" not in repr(RedisStore("redis://:secret@localhost"))


def test_a_loop_that_is_gone_leaves_no_store_behind(store: RedisStore) -> None:
    async def main() -> None:
        async with closing(store):
            await new(store)

    asyncio.run(main())
    gc.collect()
    assert len(store._lanes) == 0
