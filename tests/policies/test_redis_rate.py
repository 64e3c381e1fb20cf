from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from resilient_rpc.call import Call, Reply
from resilient_rpc.chain import compose
from resilient_rpc.errors import ConfigurationError, RateLimited
from resilient_rpc.events import PolicyBypassed
from resilient_rpc.hub import Events
from resilient_rpc.policies import RateLimit, RedisRate
from resilient_rpc.policies.shared_rate import Ask, Lease
from resilient_rpc.runtime import BLOCKING, drive, running_runtime
from tests.servers.handle import Server

PATIENT = 5.0
"""Seconds: the machine of the tests may be busy."""
GONE = -2
"""What PTTL says of a key that is not there; -1 would be one without an end."""


@pytest.fixture
def shared(redis_url: str, service: str) -> Iterator[RedisRate]:
    """A rate that nobody else uses; for blocking callers, its connections are closed at the end."""
    rate = RedisRate(redis_url, prefix=service, timeout=PATIENT)
    yield rate
    close_for_blocking(rate)


@pytest.fixture
def store(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def close_for_blocking(rate: RedisRate) -> None:
    drive(BLOCKING.wait([BLOCKING.start(lambda _: rate.aclose())], PATIENT))


@asynccontextmanager
async def closing(*rates: RedisRate) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for rate in rates:
            await rate.aclose()


def on_a_loop(rate: RedisRate, work: Callable[[], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with closing(rate):
            return await work()

    return asyncio.run(main())


def ask(rate: float = 2.0, burst: float = 2.0, patience: float = 0.0) -> Ask:
    return Ask("RateLimit:orders", rate, burst, patience)


async def target(call: Call) -> Reply:
    return Reply(result=time.monotonic())


def make(runtime: Any, **fields: Any) -> Call:
    return Call(method="orders.create", params={}, runtime=runtime, deadline=time.monotonic() + 30, **fields)


def test_blocking_callers_and_loops_share_the_rate(shared: RedisRate) -> None:
    policy = RateLimit(rate=0.01, burst=3, shared=shared)
    other = RateLimit(rate=0.01, burst=3, shared=shared)  # as in another process
    chain = compose([policy], target)
    drive(chain(make(BLOCKING)))

    async def main() -> list[Any]:
        async with closing(shared):
            calls = [compose([other], target)(make(running_runtime())) for _ in range(4)]
            return await asyncio.gather(*calls, return_exceptions=True)

    results = asyncio.run(main())
    refused = [one for one in results if isinstance(one, RateLimited)]
    assert len(refused) == 2
    assert all(0 < (error.retry_after or 0) <= 100 for error in refused)
    with pytest.raises(RateLimited):
        drive(chain(make(BLOCKING)))


def test_who_may_wait_waits_for_its_slot(shared: RedisRate) -> None:
    policy = RateLimit(rate=20, burst=1, max_wait=10, shared=shared)

    async def work() -> list[float]:
        replies = await asyncio.gather(*[compose([policy], target)(make(running_runtime())) for _ in range(4)])
        return sorted(reply.result for reply in replies)

    times = on_a_loop(shared, work)
    assert times[3] - times[0] > 0.1


def test_a_key_is_tagged_for_a_cluster_and_does_not_outlive_its_use(shared: RedisRate, store: redis.Redis) -> None:
    on_a_loop(shared, lambda: shared.take(ask()))
    key = f"{shared.prefix}:{{RateLimit:orders}}"
    assert store.exists(key)
    assert 0 < store.pttl(key) <= 500
    on_a_loop(shared, lambda: shared.take(ask(burst=3.0)))
    assert 500 < store.pttl(key) <= 1000


def test_a_slot_too_far_away_is_not_taken_and_told(shared: RedisRate) -> None:
    async def work() -> list[Lease]:
        return [await shared.take(ask(rate=0.1, burst=1, patience=patience)) for patience in (0, 1, 60, 60, 0)]

    first, refused, second, third, last = on_a_loop(shared, work)
    assert (first.granted, first.wait) == (True, 0)
    assert (refused.granted, second.granted, third.granted, last.granted) == (False, True, True, False)
    assert [round(one.wait / 10) for one in (refused, second, third, last)] == [1, 1, 2, 3]


def test_the_latest_slot_can_be_returned_and_no_other(shared: RedisRate) -> None:
    one = ask(rate=0.1, burst=1, patience=100)

    async def work() -> list[int]:
        leases = [await shared.take(one) for _ in range(4)]
        await shared.refund(one, leases[2])
        unchanged = await shared.take(one)
        await shared.refund(one, unchanged)
        again = await shared.take(one)
        return [round(lease.wait / 10) for lease in (*leases, unchanged, again)]

    assert on_a_loop(shared, work) == [0, 1, 2, 3, 4, 4]


@pytest.mark.parametrize("rubbish", ["rubbish", "", "nan", "-nan", "inf", "-inf", "-5", "9e99", "0x10", "1e15"])
def test_what_stands_in_the_key_is_not_trusted(shared: RedisRate, store: redis.Redis, rubbish: str) -> None:
    store.set(f"{shared.prefix}:{{RateLimit:orders}}", rubbish)

    async def work() -> list[Lease]:
        return [await shared.take(ask(rate=100, burst=1, patience=0.5)) for _ in range(3)]

    leases = on_a_loop(shared, work)
    assert [lease.granted for lease in leases] == [True, True, True]
    assert all(0 <= lease.wait <= 0.04 for lease in leases)
    left = store.pttl(f"{shared.prefix}:{{RateLimit:orders}}")
    assert 0 < left <= 100 or left == GONE, "it is kept for 30 ms, and never without an end"


def test_an_instant_of_nobodys_making_is_put_right_even_by_who_is_refused(
    shared: RedisRate, store: redis.Redis
) -> None:
    key = f"{shared.prefix}:{{RateLimit:orders}}"
    store.set(key, "9e99")
    lease = on_a_loop(shared, lambda: shared.take(ask(rate=100, burst=5)))
    assert (lease.granted, lease.wait) == (False, pytest.approx(0.01))
    assert 0 < store.pttl(key) <= 50


def test_a_key_of_another_kind_lets_calls_pass_by_the_local_rate(shared: RedisRate, store: redis.Redis) -> None:
    store.lpush(f"{shared.prefix}:{{RateLimit:orders}}", "list")
    bus, told = Events(), []
    bus.on(PolicyBypassed, lambda event: told.append(event.reason))
    chain = compose([RateLimit(rate=0.01, burst=1, shared=shared)], target)
    drive(chain(make(BLOCKING, events=bus)))
    with pytest.raises(RateLimited):
        drive(chain(make(BLOCKING, events=bus)))
    assert told == ["unavailable", "unavailable"]


@pytest.mark.parametrize("answer", [None, [1], [2, 0, b""], [1, "0", b""], [1, 0, "text"], [1, b"0", b""], b"OK"])
def test_what_is_no_answer_of_the_script_is_refused(
    monkeypatch: pytest.MonkeyPatch, shared: RedisRate, answer: Any
) -> None:
    async def evalsha(self: object, *_: object) -> Any:
        return answer

    monkeypatch.setattr("redis.asyncio.Redis.evalsha", evalsha)
    with pytest.raises(ValueError, match="not an answer of the script"):
        on_a_loop(shared, lambda: shared.take(ask()))


def test_it_takes_one_round_trip_and_survives_a_redis_that_forgot_the_script(private_redis: Server) -> None:
    rate = RedisRate(private_redis.url, timeout=PATIENT)

    def calls(name: str) -> int:
        with redis.Redis.from_url(private_redis.url) as client:
            found: Any = client.info("commandstats")
        count: int = found.get(f"cmdstat_{name}", {}).get("calls", 0)
        return count

    def forget() -> None:
        with redis.Redis.from_url(private_redis.url) as client:
            client.script_flush()

    async def work() -> None:
        for _ in range(10):
            assert (await rate.take(ask(rate=1, burst=1000))).granted
        assert (calls("evalsha"), calls("eval")) == (10, 1)
        forget()
        for _ in range(10):
            assert (await rate.take(ask(rate=1, burst=1000))).granted
        assert (calls("evalsha"), calls("eval")) == (20, 2)

    on_a_loop(rate, work)


@pytest.mark.fault
def test_without_redis_calls_pass_by_the_local_rate_and_come_back_to_it(private_redis: Server) -> None:
    rate = RedisRate(private_redis.url, prefix="r", timeout=0.1)
    bus, told = Events(), []
    bus.on(PolicyBypassed, lambda event: told.append(event.reason))
    chain = compose([RateLimit(rate=1000, burst=1000, shared=rate)], target)

    async def call() -> float:
        begin = time.monotonic()
        await chain(make(running_runtime(), events=bus))
        return time.monotonic() - begin

    async def work() -> None:
        await rate.take(ask())  # connects, without a limit of time
        private_redis.freeze()
        assert await call() >= 0.09
        assert told == ["timeout"]
        for _ in range(10):
            await call()  # it does not even try
        assert told[1:] == ["unavailable"] * 10
        private_redis.thaw()
        deadline = time.monotonic() + 20
        while told and time.monotonic() < deadline:
            told.clear()
            await asyncio.sleep(0.3)
            await call()
        assert not told

    on_a_loop(rate, work)


def test_each_loop_has_connections_of_its_own(shared: RedisRate) -> None:
    for _ in range(3):

        async def main() -> None:
            await shared.take(ask())
            assert len(shared._clients) == 1  # that of the closed loop before is forgotten
            client = shared._clients.get(shared._connect)
            await client.aclose()

        asyncio.run(main())


def test_after_a_fork_the_connections_are_the_parents(shared: RedisRate) -> None:
    async def work() -> None:
        await shared.take(ask())
        client = shared._clients.get(shared._connect)
        shared._clients.after_fork()
        assert len(shared._clients) == 0
        await client.aclose()
        await shared.aclose()  # nothing to close

    asyncio.run(work())


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"url": "http://localhost"}, "url"),
        ({"url": 5}, "url"),
        ({"prefix": ""}, "prefix"),
        ({"prefix": None}, "prefix"),
        ({"timeout": 0}, "timeout"),
        ({"instances": 0}, "instances"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"RedisRate\.{named}"):
        RedisRate(**{"url": "redis://localhost", **settings})


def test_shows_no_password() -> None:
    assert "secret" not in repr(RedisRate("redis://:secret@localhost"))
    with pytest.raises(ConfigurationError) as info:
        RedisRate("redi://:secret@localhost")
    assert "secret" not in str(info.value)
