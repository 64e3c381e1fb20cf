from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Any

import pytest

from resilient_rpc import AsyncClient, Client
from resilient_rpc.errors import ConfigurationError, DeadlineExceeded, UsageError
from resilient_rpc.events import PolicyBypassed
from resilient_rpc.pending import Pending
from resilient_rpc.policies.cache import Cache, CacheUsed, cached
from resilient_rpc.runtime import drive


@pytest.fixture
def url(service: str) -> str:
    return f"memory://{service}"


def test_a_plain_function_is_run_once(url: str) -> None:
    calls = []
    with Client(url) as client:

        @cached(client, ttl=60)
        def total(sku: str, qty: int = 1) -> list[Any]:
            """What it costs."""
            calls.append((sku, qty))
            return [sku, qty]

        total("A1").append("mine")
        assert total("A1") == total(sku="A1") == ["A1", 1]
        assert total("A1", 2) == total("A1", qty=2) == ["A1", 2]
        assert calls == [("A1", 1), ("A1", 2)]
        assert total.__doc__ == "What it costs."
        total.invalidate()
        assert total("A1") == ["A1", 1]
        assert len(calls) == 3
        assert total.method.endswith("total")


def test_a_coroutine_function_is_run_once_for_all(url: str) -> None:
    calls = []

    async def main() -> None:
        async with AsyncClient(url) as client:

            @cached(client, ttl=60)
            async def total(sku: str) -> list[str]:
                calls.append(sku)
                await asyncio.sleep(0)
                return [sku]

            assert inspect.iscoroutinefunction(total)
            assert await asyncio.gather(*[total("A1") for _ in range(5)]) == [["A1"]] * 5

    asyncio.run(main())
    assert calls == ["A1"]


def test_arguments_beyond_the_names_count_and_those_without_a_key_bypass(url: str) -> None:
    calls, seen = [], []
    with Client(url) as client:
        client.on(PolicyBypassed, seen.append)

        @cached(client)
        def collect(*parts: Any, **more: Any) -> int:
            calls.append((parts, more))
            return len(calls)

        assert [collect(1, 2), collect(1, 2), collect(1, 2.0), collect(1, x=2), collect()] == [1, 1, 2, 3, 4]
        assert [collect(object()), collect(object())] == [5, 6]
        assert [event.reason for event in seen] == ["arguments"] * 2


def test_an_argument_given_twice_is_for_the_function_to_refuse(url: str) -> None:
    with Client(url) as client:

        @cached(client)
        def total(sku: str) -> str:
            return sku

        total("A1")
        with pytest.raises(TypeError, match="multiple values"):
            total("A1", sku="A1")  # type: ignore[misc]


def test_an_exception_is_shared_and_an_old_value_may_stand_in(url: str) -> None:
    outcomes: list[Any] = [[1], ValueError("broken")]
    with Client(url) as client:
        cache = Cache(ttl=0.001, jitter=0, stale_if_error=60)

        @cached(client, cache=cache)
        def total() -> list[int]:
            outcome = outcomes.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome  # type: ignore[no-any-return]

        assert total.cache is cache
        assert total() == [1]
        begin = client.prepare("a.b").runtime.now()
        while client.prepare("a.b").runtime.now() < begin + 0.002:
            pass
        assert total() == [1]
        assert not outcomes


def test_a_negative_result_may_be_any_exception(url: str) -> None:
    calls = []
    with Client(url) as client:

        @cached(client, negative=[LookupError])
        def find(sku: str) -> str:
            calls.append(sku)
            raise KeyError(sku)

        for _ in range(2):
            with pytest.raises(KeyError):
                find("A1")
    assert calls == ["A1"]


def test_a_plain_function_is_refreshed_in_a_thread_of_its_own(url: str) -> None:
    threads, done = [], Pending[None]()
    with Client(url) as client:

        @cached(client, ttl=0.001, jitter=0, stale=600)
        def total() -> list[int]:
            threads.append(threading.current_thread().name)
            return [len(threads)]

        client.on(CacheUsed, lambda event: event.outcome == "refreshed" and done.set(None))
        assert total() == [1]
        begin = client.prepare("a.b").runtime.now()
        while client.prepare("a.b").runtime.now() < begin + 0.002:
            pass
        assert total() == [1]
        assert drive(client.prepare("a.b").runtime.wait((done,), 10)) is done
    assert len(threads) == 2
    assert threads[0] == threading.current_thread().name
    assert threads[1] not in {threads[0], "resilient-rpc-io"}


def test_who_waits_keeps_the_timeout(url: str) -> None:
    begun, release = threading.Event(), threading.Event()
    with Client(url) as client:

        @cached(client, timeout=0.05)
        def slow() -> str:
            begun.set()
            assert release.wait(10)
            return "done"

        leader = threading.Thread(target=slow)
        leader.start()
        assert begun.wait(10)
        with pytest.raises(DeadlineExceeded, match="the same call"):
            slow()
        release.set()
        leader.join()
        assert slow() == "done"


def test_the_colour_of_the_function_is_that_of_the_client(url: str) -> None:
    async def coroutine() -> None: ...

    def plain() -> None: ...

    with pytest.raises(ConfigurationError, match="needs AsyncClient, not Client"):
        cached(Client(url))(coroutine)
    with pytest.raises(ConfigurationError, match="needs Client, not AsyncClient"):
        cached(AsyncClient(url))(plain)


def test_settings_beside_a_cache_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="stale"):
        cached(Client(url), cache=Cache(), stale=5)
    with pytest.raises(ConfigurationError, match=r"Cache\.ttl"):
        cached(Client(url), ttl=0)


def test_a_plain_function_refuses_to_block_a_loop(url: str) -> None:
    with Client(url) as client, Client(url, blocking_ok=True) as notebook:

        async def main() -> list[Any]:
            with pytest.raises(UsageError, match="AsyncClient"):
                cached(client)(list)()
            return cached(notebook)(list)()

        assert asyncio.run(main()) == []


@pytest.mark.parametrize("client", [None, "memory://shop", print])
def test_it_needs_a_client_first(client: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"cached: give it a client first, as @cached\(client, ttl=60\.0\), not "
    ):
        cached(client)


@pytest.mark.parametrize("function", [3, None, object()])
def test_it_decorates_functions(function: Any) -> None:
    with (
        Client("memory://shop") as client,
        pytest.raises(ConfigurationError, match="cached: it decorates a function, not"),
    ):
        cached(client)(function)
