"""What the second level does not know yet."""

from __future__ import annotations

import asyncio
from typing import Any

from resilient_rpc.call import READ_ONLY, Call
from resilient_rpc.loops import running_runtime
from resilient_rpc.policies.cache import Cache
from resilient_rpc.policies.cache.keys import key_of
from resilient_rpc.policies.cache.state import State
from tests.policies.cache.shops import Shop, listening


class Level:
    """A second level that fails at first, or waits."""

    timeout, max_value = 1.0, 1000

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.told: list[str] = []
        self.go = asyncio.Event()
        self.go.set()

    def attach(self, voids: Any) -> None:
        """Nobody listens here."""

    def is_up(self, now: float) -> bool:
        return True

    def failed(self, now: float) -> None:
        """It is asked again at once."""

    async def load(self, *_: Any) -> Any:
        raise ConnectionError

    async def void(self, runtime: Any, name: str) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError
        self.told.append(name)
        await self.go.wait()


def _call(events: Any = None) -> Call:
    runtime = running_runtime()
    return Call(method="a.b", params=[], runtime=runtime, deadline=runtime.now() + 9, safety=READ_ONLY, events=events)


def test_it_is_not_asked_before_it_knows_of_all_invalidations() -> None:
    async def main() -> None:
        level: Any = Level(failures=1)
        cache = Cache(shared=level)
        told = cache.invalidate(tag="a")
        events, seen = listening()
        await running_runtime().wait((told,), 1)
        assert told.result() is False
        level.go.clear()
        for _ in range(2):
            await cache(_call(events), Shop())
            cache._fetch.state.store.drop(key_of(_call(), None))
        assert seen == ["bypassed: shared_down", "miss"] * 2
        await asyncio.sleep(0)
        assert level.told == ["t:a"]
        level.go.set()
        telling = cache._fetch.state._telling
        assert telling is not None
        await running_runtime().wait((telling,), 1)
        await cache(_call(events), Shop())
        assert seen[4:] == ["bypassed: shared", "miss"]

    asyncio.run(main())


def test_an_invalidation_while_the_same_is_told_is_told_again() -> None:
    async def main() -> None:
        level: Any = Level()
        level.go.clear()
        cache = Cache(shared=level)
        cache.invalidate()
        while not level.told:  # noqa: ASYNC110 - a turn of the loop, no time
            await asyncio.sleep(0)
        again = cache.invalidate()
        level.go.set()
        await running_runtime().wait((again,), 1)
        assert level.told == ["*", "*"]
        assert cache._fetch.state.has_told(running_runtime())

    asyncio.run(main())


def test_without_a_second_level_any_more_there_is_nothing_to_tell() -> None:
    async def main() -> None:
        level: Any = Level()
        state = State(10, 10_000, level)
        told = state.invalidate("*")
        state.change(10, 10_000, None)
        await running_runtime().wait((told,), 1)
        assert told.result() is True
        assert not level.told

    asyncio.run(main())


def test_a_value_that_came_between_two_looks_is_a_hit(monkeypatch: Any) -> None:
    async def main() -> None:
        cache, shop = Cache(), Shop()
        events, seen = listening()
        await cache(_call(events), shop)
        monkeypatch.setattr(cache._fetch.state.store, "get", lambda _: None)
        await cache(_call(events), shop)
        cache._fetch.state.store.board(key_of(_call(), None))
        await cache(_call(events), shop)
        assert seen == ["miss", "hit", "hit"]

    asyncio.run(main())


def test_a_client_that_closes_while_it_asks_still_sends_the_call() -> None:
    async def main() -> None:
        level: Any = Level()
        runtime = running_runtime().scope()
        asked = asyncio.Event()

        async def hang(*_: Any) -> Any:
            asked.set()
            await asyncio.Event().wait()

        level.load = hang
        events, seen = listening()
        asking = asyncio.create_task(Cache(shared=level)(_call(events).on(runtime), Shop()))
        await asked.wait()
        await runtime.aclose()
        assert (await asking).result == [1]
        assert seen == ["bypassed: shared", "miss"]

    asyncio.run(main())
