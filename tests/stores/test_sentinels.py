from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Any

import pytest

from resilient_rpc.stores import New, RedisStore, Replay, StoreError, StoreRefused, StoreUnavailable
from tests.servers.handle import Server
from tests.servers.ports import HOST, free_port
from tests.servers.redis_groups import Sentinels, ask
from tests.stores.tools import PATIENT, begin, eventually, new, new_key, on_a_loop


@pytest.mark.slow
def test_a_failover_is_followed_and_keeps_what_the_replica_had(sentinels: Sentinels, service: str) -> None:
    store, key = RedisStore(sentinels.url, namespace=service, timeout=0.5), new_key()
    master, replica = sentinels.redis

    async def work() -> None:
        epoch = await new(store, key)
        assert await store.complete(key, epoch, b"x", ok=True, ttl=60)
        assert ask(master.port, "WAIT", 1, 5000) == 1
        sentinels.sentinels[0].process.signal(signal.SIGSTOP)  # two are enough
        await asyncio.to_thread(master.kill)

        async def up() -> bool:
            with contextlib.suppress(StoreUnavailable):
                return isinstance(await begin(store), New)
            return False

        assert not await up()
        await eventually(up, "a new master", 40.0)
        assert await begin(store, key) == Replay(b"x", ok=True)
        assert ask(replica.port, "ROLE")[0] in {b"master", "master"}

    on_a_loop(store, work)


@pytest.mark.slow
def test_a_master_that_was_demoted_is_left(sentinels: Sentinels, service: str) -> None:
    store = RedisStore(sentinels.url, namespace=service, timeout=PATIENT)

    async def work() -> None:
        await new(store)
        ask(sentinels.sentinels[1].port, "SENTINEL", "FAILOVER", "records")
        old = sentinels.redis[0]

        async def demoted() -> bool:
            return ask(old.port, "ROLE")[0] in {b"slave", "slave"}

        await eventually(demoted, "a demoted master", 40.0)

        async def up() -> bool:
            with contextlib.suppress(StoreUnavailable):
                return isinstance(await begin(store), New)
            return False

        await eventually(up, "the new master")

    on_a_loop(store, work)


def test_a_service_that_the_sentinels_do_not_know_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def said(*_: object, **__: object) -> None:
        return None

    monkeypatch.setattr("resilient_rpc.stores.sentinels.answer_of", said)
    store = RedisStore(f"redis+sentinel://{HOST}:{free_port()}/other", timeout=PATIENT)
    with pytest.raises(StoreRefused, match="know no 'other'") as info:
        on_a_loop(store, lambda: begin(store))
    assert (info.value.reason, info.value.written) == ("service", False)


def test_without_a_sentinel_nothing_is_known(service: str) -> None:
    store = RedisStore(f"redis+sentinel://{HOST}:{free_port()},{HOST}:{free_port()}/records", timeout=PATIENT)

    async def work() -> list[str]:
        reasons = []
        for _ in range(5):
            with pytest.raises(StoreUnavailable) as info:
                await begin(store)
            assert info.value.written is False
            reasons.append(info.value.reason)
        return reasons

    reasons = on_a_loop(store, work)
    assert reasons[0] == "down"
    assert reasons[-2:] == ["open", "open"]


@pytest.mark.parametrize("answer", [[], [b"h"], [b"h", b"x"], b"OK"])
def test_what_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    async def said(*_: object, **__: object) -> Any:
        return answer

    monkeypatch.setattr("resilient_rpc.stores.sentinels.answer_of", said)
    store = RedisStore(f"redis+sentinel://{HOST}:{free_port()}/records", timeout=PATIENT)
    with pytest.raises(StoreError, match="a sentinel answered") as info:
        on_a_loop(store, lambda: begin(store))
    assert info.value.written is False


def test_a_master_that_is_a_node_of_a_cluster_is_refused(redis_cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def said(*_: object, **__: object) -> Any:
        return [HOST.encode(), b"%d" % redis_cluster.nodes[0].port]

    monkeypatch.setattr("resilient_rpc.stores.sentinels.answer_of", said)
    store = RedisStore(f"redis+sentinel://{HOST}:{free_port()}/records", timeout=PATIENT)

    async def work() -> list[str]:
        found = [await asyncio.gather(begin(store), return_exceptions=True) for _ in range(30)]
        return [str(error) for (error,) in found if isinstance(error, StoreError)]

    assert set(on_a_loop(store, work)) == {"this Redis is a node of a cluster: use redis+cluster://"}


def test_the_same_master_keeps_its_place_when_it_is_asked_for_again(
    private_redis: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = private_redis.url.rpartition(":")[2].partition("/")[0]

    async def said(*_: object, **__: object) -> Any:
        return [HOST.encode(), port.encode()]

    monkeypatch.setattr("resilient_rpc.stores.sentinels.answer_of", said)
    monkeypatch.setattr("resilient_rpc.stores.lookup.REFRESH", 0.0)
    store = RedisStore(f"redis+sentinel://{HOST}:{free_port()}/records", timeout=PATIENT)

    async def work() -> None:
        await new(store)
        (before,) = await store._lane().nodes.known()
        ask(int(port), "REPLICAOF", HOST, 1)
        with pytest.raises(StoreUnavailable, match="is a replica"):
            await begin(store)
        assert before.suspect
        ask(int(port), "REPLICAOF", "NO", "ONE")
        await new(store)
        assert await store._lane().nodes.known() == [before]
        assert not before.suspect

    on_a_loop(store, work)
