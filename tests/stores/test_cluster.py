from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from resilient_rpc.stores import New, RecordKey, RedisStore, Replay, StoreError, StoreRefused, StoreUnavailable
from resilient_rpc.stores.keys import name_of
from tests.servers.handle import Server
from tests.servers.redis import LocalRedis
from tests.servers.redis_groups import RedisCluster, ask
from tests.stores.tools import PATIENT, begin, commands, eventually, new, new_key, on_a_loop

SPREAD = 60
"""Keys: enough for each of three nodes to have some."""


@pytest.fixture
def store(redis_cluster: RedisCluster, service: str) -> RedisStore:
    return RedisStore(redis_cluster.url, namespace=service, timeout=PATIENT)


@pytest.fixture
def moved(redis_cluster: RedisCluster) -> Iterator[Any]:
    """`moved(slot)` begins to move it to another node, and ends that at the end; the nodes that it is moved between."""
    moving: list[tuple[int, LocalRedis, LocalRedis]] = []

    def begin_to_move(slot: int) -> tuple[LocalRedis, LocalRedis]:
        source = redis_cluster.node_of(slot)
        target = next(node for node in redis_cluster.nodes if node is not source)
        ask(target.port, "CLUSTER", "SETSLOT", slot, "IMPORTING", redis_cluster.id_of(source))
        ask(source.port, "CLUSTER", "SETSLOT", slot, "MIGRATING", redis_cluster.id_of(target))
        moving.append((slot, source, target))
        return source, target

    yield begin_to_move
    for slot, source, target in moving:
        with redis.Redis(port=target.port, single_connection_client=True) as client:
            for name in client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000):
                client.execute_command("ASKING")
                client.execute_command("DEL", name)
        for node in (source, target, *redis_cluster.nodes):
            ask(node.port, "CLUSTER", "SETSLOT", slot, "NODE", redis_cluster.id_of(source))


def slot_of(store: RedisStore, key: RecordKey) -> int:
    return key_slot(name_of(store.namespace, key))


def round_trips(cluster: RedisCluster) -> list[int]:
    return [commands(node.url).get("evalsha", 0) for node in cluster.nodes]


def test_steps_go_to_the_nodes_that_have_their_slots(store: RedisStore, redis_cluster: RedisCluster) -> None:
    async def work() -> None:
        found = [new_key() for _ in range(2 * SPREAD)]
        keys = list({slot_of(store, key): key for key in found}.values())[:SPREAD]  # two of one slot share a call
        before = round_trips(redis_cluster)
        epochs = await asyncio.gather(*[new(store, key) for key in keys])
        done = [store.complete(key, epoch, b"x", ok=True, ttl=60) for key, epoch in zip(keys, epochs, strict=True)]
        assert all(await asyncio.gather(*done))
        assert await asyncio.gather(*[begin(store, key) for key in keys]) == [Replay(b"x", ok=True)] * SPREAD
        after = round_trips(redis_cluster)
        assert sum(after) - sum(before) == 3 * SPREAD  # none was sent to a node that sent it on
        assert all(later > earlier for earlier, later in zip(before, after, strict=True))

    on_a_loop(store, work)


def test_steps_of_one_slot_share_a_call_of_the_script(store: RedisStore, redis_cluster: RedisCluster) -> None:
    async def work() -> None:
        key = new_key()
        await new(store, key)
        before = sum(round_trips(redis_cluster))
        await asyncio.gather(*[begin(store, key) for _ in range(10)])
        assert sum(round_trips(redis_cluster)) == before + 1

    on_a_loop(store, work)


def test_a_slot_that_was_moved_is_followed(store: RedisStore, redis_cluster: RedisCluster, moved: Any) -> None:
    async def work() -> None:
        await new(store)
        key = new_key()
        slot = slot_of(store, key)
        source, target = moved(slot)
        for node in (target, source):
            ask(node.port, "CLUSTER", "SETSLOT", slot, "NODE", redis_cluster.id_of(target))
        epoch = await new(store, key)  # MOVED
        assert await store.complete(key, epoch, b"x", ok=True, ttl=60)
        assert await begin(store, key) == Replay(b"x", ok=True)

    on_a_loop(store, work)


def test_a_slot_that_is_being_moved_is_found_in_both_places(store: RedisStore, moved: Any) -> None:
    async def work() -> None:
        old, young = new_key(key="k1"), new_key(key="k2")
        # Two records of one slot: one that is still where it was, one that is new and belongs to the new place.
        slot = slot_of(store, old)
        number = 2
        while slot_of(store, young) != slot:
            number += 1
            young = new_key(key=f"k{number}")
        epoch = await new(store, old)
        moved(slot)
        assert isinstance(await begin(store, young), New)  # ASK
        assert await store.renew(old, epoch, lease=30)
        found = await asyncio.gather(store.get(old), store.get(young), store.renew(old, epoch, lease=30))
        assert all(found)  # TRYAGAIN

    on_a_loop(store, work)


def test_a_slot_that_nobody_can_say_where_it_is_ends_in_an_error(
    store: RedisStore, redis_cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resilient_rpc.stores.cluster.REDIRECTS", 0)
    with pytest.raises(StoreUnavailable, match="faster than they can be followed") as info:
        on_a_loop(store, lambda: begin(store))
    assert (info.value.reason, info.value.written) == ("cluster", False)


def test_a_slot_of_nobody_is_unavailable_until_it_is_somebodys(store: RedisStore, redis_cluster: RedisCluster) -> None:
    async def work() -> None:
        key = new_key()
        slot = slot_of(store, key)
        owner = redis_cluster.node_of(slot)
        for node in redis_cluster.nodes:
            ask(node.port, "CLUSTER", "DELSLOTS", slot)
        try:
            for _ in range(2):
                with pytest.raises(StoreUnavailable) as info:
                    await begin(store, key)
                assert (info.value.reason, info.value.written) == ("cluster", False)
        finally:
            ask(owner.port, "CLUSTER", "ADDSLOTS", slot)
            await asyncio.to_thread(redis_cluster.wait_until_well)

        async def up() -> bool:
            with contextlib.suppress(StoreUnavailable):
                return isinstance(await begin(store, key), New)
            return False

        await eventually(up, "an answer")

    on_a_loop(store, work)


@pytest.mark.slow
def test_a_killed_node_takes_only_its_own_slots_with_it(redis_cluster: RedisCluster, service: str) -> None:
    store = RedisStore(redis_cluster.url, namespace=service, timeout=0.5)
    killed = redis_cluster.nodes[2]

    async def work() -> None:
        keys = [new_key() for _ in range(SPREAD)]
        epochs = await asyncio.gather(*[new(store, key) for key in keys])
        await asyncio.to_thread(killed.kill)
        try:
            for _ in range(3):
                renewing = [store.renew(key, epoch, lease=30) for key, epoch in zip(keys, epochs, strict=True)]
                found = await asyncio.gather(*renewing, return_exceptions=True)
                for key, outcome in zip(keys, found, strict=True):
                    gone = redis_cluster.node_of(slot_of(store, key)) is killed
                    assert isinstance(outcome, StoreUnavailable) if gone else outcome is True
        finally:
            await asyncio.to_thread(killed.start)
            await asyncio.to_thread(redis_cluster.wait_until_well)

        async def up() -> bool:
            renewing = [store.renew(key, epoch, lease=30) for key, epoch in zip(keys, epochs, strict=True)]
            return all(one is True for one in await asyncio.gather(*renewing, return_exceptions=True))

        await eventually(up, "all nodes")

    on_a_loop(store, work)


def test_every_master_is_inspected(store: RedisStore, redis_cluster: RedisCluster) -> None:
    ask(redis_cluster.nodes[2].port, "CONFIG", "SET", "maxmemory-policy", "volatile-lru")
    try:
        (warning,) = on_a_loop(store, store.inspect)
    finally:
        ask(redis_cluster.nodes[2].port, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert f":{redis_cluster.nodes[2].port}: maxmemory-policy" in warning


def test_one_node_of_a_cluster_is_not_enough(redis_cluster: RedisCluster, service: str) -> None:
    store = RedisStore(redis_cluster.nodes[0].url, namespace=service, timeout=PATIENT)

    async def work() -> None:
        found = await asyncio.gather(*[begin(store) for _ in range(SPREAD)], return_exceptions=True)
        assert all(isinstance(one, StoreRefused) for one in found)  # of many slots at once
        alone = [error for error in [await caught(store) for _ in range(SPREAD)] if error is not None]
        assert alone
        for error in alone:
            assert (error.reason, error.written) == ("cluster", False)
            assert "use redis+cluster://" in str(error)

    async def caught(store: RedisStore) -> StoreError | None:
        try:
            await begin(store)
        except StoreRefused as error:
            return error
        return None

    on_a_loop(store, work)


def test_a_redis_that_is_no_cluster_is_told_so(redis_server: Server, service: str) -> None:
    store = RedisStore(redis_server.url.replace("redis://", "redis+cluster://"), namespace=service, timeout=PATIENT)
    with pytest.raises(StoreRefused, match="this Redis is no cluster") as info:
        on_a_loop(store, lambda: begin(store))
    assert (info.value.reason, info.value.written) == ("cluster", False)


@pytest.mark.parametrize("answer", [[], [["a"]], [[0, 16383]], [[0, 16383, [b"h", b"x", b"id"]]], b"OK"])
def test_what_is_no_table_of_slots_is_refused(store: RedisStore, monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    async def ask(*_: object) -> Any:
        return answer

    monkeypatch.setattr("resilient_rpc.stores.cluster.answer_of", ask)
    with pytest.raises(StoreError) as info:
        on_a_loop(store, lambda: begin(store))
    assert info.value.written is False


def test_a_node_without_a_host_is_where_it_was_asked(
    store: RedisStore, redis_cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(*_: object) -> Any:
        return [[0, 16383, [b"", redis_cluster.nodes[0].port, b"id"], [b"replica", 1, b"id"]]]

    async def work() -> list[object]:
        return await asyncio.gather(*[begin(store) for _ in range(SPREAD)])

    with monkeypatch.context() as patch:
        patch.setattr("resilient_rpc.stores.cluster.answer_of", ask)
        assert all(isinstance(one, New) for one in on_a_loop(store, work))  # by way of MOVED


def test_a_slot_that_the_table_leaves_out_is_unavailable(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(*_: object) -> Any:
        return [[16383, 16383, [b"h", 1, b"id"]]]

    monkeypatch.setattr("resilient_rpc.stores.cluster.answer_of", ask)
    with pytest.raises(StoreUnavailable, match="no node for this key") as info:
        on_a_loop(store, lambda: begin(store))
    assert info.value.written is False


def test_a_node_that_is_no_longer_of_the_cluster_is_let_go(
    store: RedisStore, redis_cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resilient_rpc.stores.lookup.REFRESH", 0.0)
    ports = [node.port for node in redis_cluster.nodes]

    async def ask(*_: object) -> Any:
        return [[0, 16383, [b"127.0.0.1", ports[0], b"id"]]]

    async def work() -> None:
        with monkeypatch.context() as patch:
            patch.setattr("resilient_rpc.stores.cluster.answer_of", ask)
            await asyncio.gather(*[begin(store) for _ in range(SPREAD)])  # MOVED: the table is not to be trusted
        ports[0] = ports[1]
        with monkeypatch.context() as patch:
            patch.setattr("resilient_rpc.stores.cluster.answer_of", ask)
            assert [node.name for node in await store._lane().nodes.known()] == [f"127.0.0.1:{ports[1]}"]
        lane: Any = store._lane()
        assert list(lane.nodes._nodes) == [("127.0.0.1", ports[1])]

    on_a_loop(store, work)
