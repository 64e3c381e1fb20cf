"""Calls that wait for the store of their keys need no task for it; handlers have one all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from resilient_rpc import AsyncClient, Context, Server
from resilient_rpc.errors import DependencyUnavailable, InProgress, RpcError
from resilient_rpc.parking import Outcome
from resilient_rpc.policies import Idempotency, for_
from resilient_rpc.stores import EncryptedStore, MemoryStore, RecordKey, StoreUnavailable
from tests.waiting import PATIENCE, turns


class Held:
    """A store whose steps wait until they are let go, as those of a Redis wait for its answer."""

    def __init__(self, *, parks: bool = True) -> None:
        self.parks = parks
        self._records = MemoryStore()
        self.asked: list[Outcome] = []
        self.free = False

    async def begin(self, key: RecordKey, **settings: Any) -> Any:
        await self._turn()
        return await self._records.begin(key, **settings)

    async def complete(self, key: RecordKey, epoch: int, payload: bytes, **settings: Any) -> bool:
        await self._turn()
        return await self._records.complete(key, epoch, payload, **settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def let_go(self, error: BaseException | None = None) -> None:
        asked, self.asked = self.asked, []
        for outcome in asked:
            outcome.settle(None, error)

    async def has_been_asked(self, count: int) -> None:
        await turns(lambda: len(self.asked) >= count)

    async def _turn(self) -> None:
        if self.free:
            return
        outcome = Outcome(asyncio.get_running_loop(), lambda: None, lambda: None)
        self.asked.append(outcome)
        await outcome


async def some_turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Shop:
    """A server and its client."""

    def __init__(self, service: str, *policies: Any) -> None:
        self.url = f"memory://{service}"
        self.server = Server(self.url, service="shop", policies=policies)
        self.client = AsyncClient(self.url, policies=[], timeout=PATIENCE)
        self.effects: list[Any] = []
        self.tasks: list[Any] = []
        self.barrier = asyncio.Barrier(10)
        for function in (self.buy, self.meet, self.limited, self.cancels_itself):
            self.server.method(function, safety="dedup")

    async def buy(self, item: int, ctx: Context) -> int:
        self.tasks.append(asyncio.current_task())
        self.effects.append((item, ctx.key))
        return item

    async def meet(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self.barrier.wait()

    async def limited(self) -> str:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            return "in time"
        return "never"

    async def cancels_itself(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    def call(self, method: str, key: str, **arguments: Any) -> asyncio.Task[Any]:
        return asyncio.create_task(self.client.call(f"shop.{method}", arguments, idempotency_key=key))


def play(
    test: Callable[[Shop, Held], Coroutine[Any, Any, None]], service: str, store: Held, *before: Any, after: Any = ()
) -> None:
    async def main() -> None:
        shop = Shop(service, *before, Idempotency(store), *after)
        async with shop.server, shop.client:
            await test(shop, store)

    asyncio.run(main())


@pytest.mark.parametrize("encrypted", [False, True])
def test_calls_that_wait_for_the_store_have_no_task(service: str, encrypted: bool) -> None:
    async def tasks_of(*, parks: bool) -> int:
        store = Held(parks=parks)
        seen: Any = EncryptedStore(store, encrypt=lambda data, _: data, decrypt=lambda data, _: data)
        shop = Shop(f"{service}-{parks}", Idempotency(seen if encrypted else store))
        async with shop.server, shop.client:
            calls = [shop.call("buy", f"{number}", item=number) for number in range(20)]
            await store.has_been_asked(20)
            found = len(asyncio.all_tasks())
            store.let_go()
            await store.has_been_asked(20)
            store.let_go()
            assert await asyncio.gather(*calls) == list(range(20))
            assert shop.effects == [(number, f"{number}") for number in range(20)]
        return found

    async def main() -> None:
        assert await tasks_of(parks=True) == await tasks_of(parks=False) - 20

    asyncio.run(main())


def test_every_handler_has_a_task_that_it_may_limit(service: str) -> None:
    async def test(shop: Shop, store: Held) -> None:
        store.free = True
        assert await shop.call("limited", "free") == "in time"
        store.free = False
        call = shop.call("limited", "held")
        await store.has_been_asked(1)
        store.free = True
        store.let_go()
        assert await call == "in time"
        assert await shop.call("buy", "k", item=1) == 1
        assert None not in shop.tasks

    play(test, service, Held())


def test_handlers_that_wait_do_so_together(service: str) -> None:
    async def test(shop: Shop, store: Held) -> None:
        calls = [shop.call("meet", f"{number}") for number in range(10)]
        await store.has_been_asked(10)
        store.free = True
        store.let_go()
        assert sorted(await asyncio.gather(*calls)) == list(range(10))

    play(test, service, Held())


def test_a_handler_that_cancels_its_task_does_not_hit_the_next_one(service: str) -> None:
    async def test(shop: Shop, store: Held) -> None:
        calls = [shop.call("cancels_itself", "c"), *(shop.call("buy", f"{n}", item=n) for n in range(3))]
        await store.has_been_asked(4)
        store.free = True
        store.let_go()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert results[1:] == [0, 1, 2]

    play(test, service, Held())


def test_a_store_that_fails_refuses_each_call(service: str) -> None:
    async def test(shop: Shop, store: Held) -> None:
        calls = [shop.call("buy", f"{number}", item=number) for number in range(3)]
        await store.has_been_asked(3)
        store.let_go(StoreUnavailable("gone", reason="lost", written=False))
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in found} == {DependencyUnavailable}
        assert shop.effects == []

    play(test, service, Held())


class Hasty:
    """A policy that limits the task of some calls."""

    role = "hasty"

    async def __call__(self, call: Any, proceed: Any) -> Any:
        if call.key != "hasty":
            return await proceed(call)
        try:
            async with asyncio.timeout(0.05):
                return await proceed(call)
        except TimeoutError:
            raise RpcError("too slow for this policy") from None


def test_an_outer_policy_that_limits_its_task_ends_its_own_call_alone(service: str) -> None:
    """Its frame has taken note of the task: such a call waits in a task of its own."""

    async def test(shop: Shop, store: Held) -> None:
        calls = [shop.call("buy", "hasty", item=1), shop.call("buy", "patient", item=2)]
        await store.has_been_asked(2)
        with pytest.raises(RpcError, match="too slow for this policy"):
            await calls[0]
        store.free = True
        store.let_go()
        assert await calls[1] == 2
        assert shop.effects == [(2, "patient")]

    play(test, service, Held(), Hasty())


class Impatient(Held):
    """A store around a store, of which nobody knows what it makes of the task."""

    async def begin(self, key: RecordKey, **settings: Any) -> Any:
        if key.key != "hasty":
            return await super().begin(key, **settings)
        async with asyncio.timeout(0.05):
            return await super().begin(key, **settings)


@pytest.mark.parametrize("changed", ["shop", "shop.buy"])
def test_what_a_method_has_instead_is_judged_by_itself(service: str, changed: str) -> None:
    """Its store limits its task: such a call waits in a task of its own, whatever the others do."""

    async def test(shop: Shop, store: Held) -> None:
        calls = [shop.call("buy", "hasty", item=1), shop.call("buy", "patient", item=2)]
        await other.has_been_asked(2)
        with pytest.raises(DependencyUnavailable):
            await calls[0]
        other.free = True
        other.let_go()
        assert await calls[1] == 2
        assert shop.effects == [(2, "patient")]
        assert not store.asked

    other = Impatient(parks=False)
    play(test, service, Held(), after=[for_(changed, Idempotency(other))])


def test_a_policy_that_one_method_has_outside_of_it_ends_its_own_call_alone(service: str) -> None:
    async def test(shop: Shop, store: Held) -> None:
        calls = [shop.call("meet", "hasty"), shop.call("buy", "patient", item=2)]
        await store.has_been_asked(2)
        with pytest.raises(RpcError, match="too slow for this policy"):
            await calls[0]
        store.free = True
        store.let_go()
        assert await calls[1] == 2
        assert shop.effects == [(2, "patient")]

    play(test, service, Held(), for_("shop.meet", Hasty()))


def test_a_server_that_stops_waits_for_what_the_store_says(service: str) -> None:
    async def test(shop: Shop, store: Held) -> None:
        call = shop.call("buy", "k", item=1)
        await store.has_been_asked(1)
        store.let_go()
        await store.has_been_asked(1)
        stopping = asyncio.create_task(shop.server.__aexit__(None, None, None))
        await some_turns()
        assert not stopping.done()
        store.let_go()
        await stopping
        assert await call == 1
        assert shop.effects == [(1, "k")]

    play(test, service, Held())


def test_a_server_whose_grace_is_over_lets_them_carry_on_in_tasks_that_it_waits_for(service: str) -> None:
    async def main() -> None:
        store = Held()
        shop = Shop(service, Idempotency(store))
        shop.server = server = Server(shop.url, service="slow", policies=[Idempotency(store)], grace=0.05)
        server.method(shop.buy, safety="dedup")
        async with shop.client:
            async with server:
                call = asyncio.create_task(shop.client.call("slow.buy", {"item": 1}, idempotency_key="k"))
                await store.has_been_asked(1)
                store.let_go()
                await store.has_been_asked(1)
                asyncio.get_running_loop().call_later(0.2, store.let_go)
            with pytest.raises(InProgress):
                await call
        record = await store.get(RecordKey("default", "slow", "buy", "k"))
        assert record.progress == "ok"

    asyncio.run(main())


def test_a_caller_who_gives_up_meanwhile_leaves_it_to_its_end(service: str) -> None:
    async def test(shop: Shop, store: Held) -> None:
        call = shop.call("buy", "k", item=1)
        await store.has_been_asked(1)
        call.cancel()
        await asyncio.wait([call])
        await some_turns()
        store.let_go()
        await store.has_been_asked(1)
        store.let_go()
        store.free = True
        assert await shop.call("buy", "k", item=1) == 1
        assert shop.effects == [(1, "k")]

    play(test, service, Held())
