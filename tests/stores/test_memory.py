from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.stores import Busy, MemoryStore, New, Replay, StoreRefused, StoreUnavailable, TakenOver
from resilient_rpc.stores.base import KEEP
from resilient_rpc.stores.memory import OVERHEAD
from tests.stores.tools import begin, new, new_key


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_leases_and_ttls_are_counted_by_the_clock_that_is_given() -> None:
    async def main() -> None:
        clock = Clock()
        store, key = MemoryStore(clock=clock), new_key()
        await new(store, key, lease=5.0)
        clock.now += 4.0
        assert await begin(store, key) == Busy(1.0)
        clock.now += 1.0
        taken = await begin(store, key, lease=5.0)
        assert isinstance(taken, TakenOver)
        assert await store.complete(key, taken.epoch, b"x", ok=True, ttl=10.0)
        clock.now += 9.0
        assert await begin(store, key) == Replay(b"x", ok=True)
        clock.now += 1.0
        assert isinstance(await begin(store, key), New)

    asyncio.run(main())


def test_a_clock_that_is_set_back_lengthens_no_lease() -> None:
    async def main() -> None:
        clock = Clock()
        store, key = MemoryStore(clock=clock), new_key()
        epoch = await new(store, key, lease=5.0)
        clock.now -= 500.0
        assert await begin(store, key) == Busy(5.0)
        clock.now += 5.0
        again = await begin(store, key)
        assert isinstance(again, TakenOver)
        assert again.epoch > epoch

    asyncio.run(main())


def test_when_full_it_forgets_the_answer_not_asked_for_the_longest() -> None:
    async def main() -> None:
        store = MemoryStore(max_records=3)
        keys = [new_key() for _ in range(4)]
        held = new_key()
        await new(store, held)
        for key in keys[:2]:
            await store.complete(key, await new(store, key), b"", ok=True, ttl=60)
        await begin(store, keys[0])
        await store.complete(keys[2], await new(store, keys[2]), b"", ok=True, ttl=60)
        assert len(store) == 3
        assert [await store.get(key) is not None for key in keys] == [True, False, True, False]
        assert isinstance(await begin(store, held), Busy)

    asyncio.run(main())


def test_an_abandoned_record_goes_as_an_answer_does() -> None:
    async def main() -> None:
        store, key = MemoryStore(max_records=1), new_key()
        epoch = await new(store, key)
        await store.abandon(key, epoch)
        await new(store)
        assert await store.get(key) is None
        assert await store.abandon(key, epoch) is False

    asyncio.run(main())


def test_it_never_forgets_a_record_that_somebody_holds() -> None:
    async def main() -> None:
        clock = Clock()
        store = MemoryStore(max_records=2, clock=clock)
        first = new_key()
        await new(store, first, lease=5.0, ttl=1.0)
        await new(store, lease=50.0)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="all 2 records are in progress") as info:
                await begin(store)
            assert (info.value.reason, info.value.written) == ("full", False)
        clock.now += 5.0 + KEEP
        await new(store)  # in the place of those whose owners will not come back
        assert await store.get(first) is None
        assert len(store) == 2

    asyncio.run(main())


def test_an_abandoned_record_of_a_full_store_can_be_begun_again() -> None:
    async def main() -> None:
        store, key = MemoryStore(max_records=2), new_key()
        await new(store)
        await store.abandon(key, await new(store, key))
        await new(store, key)
        assert len(store) == 2

    asyncio.run(main())


def test_bytes_are_bounded_too() -> None:
    async def main() -> None:
        store = MemoryStore(max_bytes=3 * OVERHEAD + 1000)
        first, second = new_key(), new_key()
        await store.complete(first, await new(store, first), b"x" * 800, ok=True, ttl=60)
        epoch = await new(store, second)
        await store.complete(second, epoch, b"x" * 800, ok=True, ttl=60)
        assert await store.get(first) is None
        assert await begin(store, second) == Replay(b"x" * 800, ok=True)

    asyncio.run(main())


def test_an_answer_that_never_fits_is_refused_and_the_record_stays() -> None:
    async def main() -> None:
        store, key = MemoryStore(max_bytes=5000), new_key()
        epoch = await new(store, key)
        with pytest.raises(StoreRefused, match="5000") as info:
            await store.complete(key, epoch, b"x" * 5000, ok=True, ttl=60)
        assert (info.value.reason, info.value.written, info.value.retryable) == ("too_large", False, False)
        assert isinstance(await begin(store, key), Busy)
        assert await store.complete(key, epoch, b"small", ok=True, ttl=60)

    asyncio.run(main())


def test_the_child_of_a_fork_begins_with_nothing_but_larger_epochs() -> None:
    async def main() -> None:
        store, key = MemoryStore(), new_key()
        epoch = await new(store, key)
        store.after_fork()
        assert len(store) == 0
        assert await new(store, key) > epoch

    asyncio.run(main())


@pytest.mark.parametrize("settings", [{"max_records": 0}, {"max_bytes": 0}, {"max_records": 1.5}])
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"MemoryStore.{next(iter(settings))}"):
        MemoryStore(**settings)
