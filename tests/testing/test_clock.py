from __future__ import annotations

import asyncio
import math
import socket
import threading
import time
from typing import Any

import pytest

from resilient_rpc.errors import ConfigurationError, UsageError
from resilient_rpc.pending import Pending
from resilient_rpc.policy import Runtime
from resilient_rpc.runtime import drive, running_runtime
from resilient_rpc.testing import VirtualClock, VirtualDeadlock


@pytest.fixture
def hasty() -> Any:
    """A clock that loses its patience soon."""
    with VirtualClock(patience=0.05) as clock:
        yield clock


def sleeper(clock: VirtualClock, *naps: float) -> Any:
    def sleep() -> float:
        for nap in naps:
            drive(clock.blocking.sleep(nap))
        return clock.now()

    return sleep


def async_sleeper(clock: VirtualClock, *naps: float) -> Any:
    async def sleep() -> float:
        for nap in naps:
            await asyncio.sleep(nap)
        return clock.now()

    return sleep


def test_an_hour_takes_no_time(clock: VirtualClock) -> None:
    began, virtual = time.monotonic(), clock.now()
    drive(clock.blocking.sleep(3600))
    assert clock.now() - virtual == 3600
    assert time.monotonic() - began < 5


def test_threads_and_loops_share_the_time(clock: VirtualClock) -> None:
    start = clock.now()
    ends = clock.run(sleeper(clock, 5, 5), async_sleeper(clock, 3, 4), sleeper(clock, 8))
    assert [end - start for end in ends] == [10, 7, 8]
    start = clock.now()
    ends = clock.run_async(async_sleeper(clock, 1, 1), async_sleeper(clock, 0.5))
    assert [end - start for end in ends] == [2, 0.5]


def test_every_time_the_same() -> None:
    def once() -> list[tuple[str, float]]:
        order: list[tuple[str, float]] = []
        with VirtualClock() as clock:

            def thread(name: str, nap: float) -> Any:
                def body() -> None:
                    for _ in range(5):
                        drive(clock.blocking.sleep(nap))
                        order.append((name, clock.now()))

                return body

            async def work(port: Runtime) -> None:
                for _ in range(3):
                    await port.sleep(2.5)
                    order.append(("io", port.now()))

            started = clock.blocking.start(work)
            clock.run(thread("a", 1), thread("b", 1.25), thread("c", 3))
            assert started.done()
        return order

    first = once()
    assert len(first) == 18
    assert [when for _, when in first] == sorted(when for _, when in first)
    for _ in range(50):
        assert sorted(once()) == sorted(first)


def test_loop_time_timers_and_runtime_are_virtual(clock: VirtualClock) -> None:
    async def main() -> tuple[float, float, float]:
        loop, seen = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
        began = loop.time()
        loop.call_later(90, lambda: seen.set_result(loop.time()))
        assert running_runtime().now() == loop.time() == clock.now()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(seen), 30)
        between = loop.time()
        return began, between, await seen

    began, between, end = clock.run_async(main)[0]
    assert (between - began, end - began) == (30, 90)


def test_a_far_timer_is_reached_exactly(clock: VirtualClock) -> None:
    year = 365 * 86400.0
    start = clock.now()
    assert clock.run_async(async_sleeper(clock, year))[0] - start == pytest.approx(year)


def test_settling_passes_between_threads_loops_and_the_io_loop(clock: VirtualClock) -> None:
    start = clock.now()
    one, two, three = Pending[int](), Pending[int](), Pending[int]()

    def thread() -> float:
        drive(clock.blocking.sleep(2))
        one.set(1)
        assert drive(clock.blocking.wait((three,), 100)) is three
        return clock.now() - start

    async def loop() -> float:
        assert await running_runtime().wait((one,), 100) is one
        await asyncio.sleep(3)
        two.set(2)
        return clock.now() - start

    async def work(port: Runtime) -> None:
        assert await port.wait((two,), math.inf) is two
        await port.sleep(4)
        three.set(3)

    clock.blocking.start(work)
    assert clock.run(thread, loop) == [9, 5]


def test_started_work_goes_on_only_while_somebody_waits(clock: VirtualClock) -> None:
    ticks: list[float] = []

    async def tick(port: Runtime) -> None:
        while True:
            await port.sleep(10)
            ticks.append(port.now())

    start = clock.now()
    clock.blocking.start(tick)
    clock.advance(35)
    assert [when - start for when in ticks] == [10, 20, 30]
    clock.advance(0)
    clock.advance(5)
    assert len(ticks) == 4
    assert clock.now() - start == 40


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan])
def test_time_goes_forward_only(clock: VirtualClock, seconds: float) -> None:
    with pytest.raises(ConfigurationError):
        clock.advance(seconds)


def test_an_executors_thread_is_waited_for(clock: VirtualClock) -> None:
    released = threading.Event()

    async def main() -> tuple[str, float]:
        loop = asyncio.get_running_loop()
        threading.Timer(0.02, released.set).start()
        began = loop.time()
        async with asyncio.timeout(1):  # would pass in no time if the clock did not know of the thread
            assert await loop.run_in_executor(None, released.wait, 20)
        return "done", loop.time() - began

    assert clock.run_async(main) == [("done", 0)]


def test_a_thread_that_says_so_is_waited_for(clock: VirtualClock) -> None:
    pending: Pending[int] = Pending()
    inside, released = threading.Event(), threading.Event()

    def worker() -> None:
        with clock.busy():
            inside.set()
            released.wait(20)
            pending.set(1)

    thread = threading.Thread(target=worker)
    thread.start()
    inside.wait(20)
    threading.Timer(0.02, released.set).start()
    before = clock.now()
    assert drive(clock.blocking.wait((pending,), 5)) is pending
    assert clock.now() == before
    thread.join()


def test_data_in_a_socket_between_two_loops_is_no_idleness(clock: VirtualClock) -> None:
    left, right = socket.socketpair()
    for end in (left, right):
        end.setblocking(False)

    async def ask() -> bytes:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(5):
            for _ in range(50):
                await loop.sock_sendall(left, b"ping")
                assert await loop.sock_recv(left, 10) == b"pong"
        return b"done"

    async def answer() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(50):
            assert await loop.sock_recv(right, 10) == b"ping"
            await loop.sock_sendall(right, b"pong")

    before = clock.now()
    with left, right:
        assert clock.run(ask, answer) == [b"done", None]
    assert clock.now() == before


# --- errors, not hangs ---


def test_a_thread_that_waits_for_nobody_is_told(hasty: VirtualClock) -> None:
    def waits_in_vain() -> None:
        drive(hasty.blocking.wait((Pending(), Pending()), math.inf))

    with pytest.raises(VirtualDeadlock, match=r"no timer is set.*waits_in_vain \(for 2 pending\)"):
        hasty.run(waits_in_vain)
    with pytest.raises(VirtualDeadlock, match="MainThread"):
        drive(hasty.blocking.wait((Pending(),), math.inf))
    assert hasty.run(sleeper(hasty, 1))  # and the clock still works


def test_a_loop_that_waits_for_nobody_is_told(hasty: VirtualClock) -> None:
    async def waits_in_vain() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(VirtualDeadlock, match="no timer is set"):
        hasty.run_async(waits_in_vain)
    with pytest.raises(VirtualDeadlock, match="waits_in_vain"):
        hasty.run(waits_in_vain)
    assert hasty.run_async(async_sleeper(hasty, 1))


def test_two_that_wait_for_each_other_are_both_named(hasty: VirtualClock) -> None:
    async def first() -> None:
        await running_runtime().wait((Pending(),), math.inf)

    def second() -> None:
        drive(hasty.blocking.wait((Pending(),), math.inf))

    found = hasty.run(first, second, return_errors=True)
    assert all(isinstance(each, VirtualDeadlock) for each in found)
    assert any("first" in str(each) and "second" in str(each) for each in found)


def test_a_thread_that_waits_outside_of_the_clock_is_shown(hasty: VirtualClock) -> None:
    released = threading.Event()

    def waits_outside() -> None:
        released.wait(20)

    try:
        with pytest.raises(VirtualDeadlock, match=r"(?s)outside of the clock.*released\.wait"):
            hasty.run(waits_outside)
    finally:
        released.set()


def test_io_that_never_rests_is_told(hasty: VirtualClock) -> None:
    released = threading.Event()

    async def holds_the_loop(_: Runtime) -> None:
        released.wait(20)

    hasty.blocking.start(holds_the_loop)
    try:
        with pytest.raises(VirtualDeadlock, match="somebody still runs"):
            hasty.run(lambda: None)
    finally:
        released.set()


def test_the_first_error_is_raised_and_others_do_not_hang(clock: VirtualClock) -> None:
    def boom() -> None:
        drive(clock.blocking.sleep(1))
        raise OSError("no")

    async def bang() -> None:
        await asyncio.sleep(2)
        raise ValueError("nor this")

    with pytest.raises(OSError, match="no"):
        clock.run(sleeper(clock, 5), boom, bang)
    found = clock.run(lambda: 1, boom, bang, return_errors=True)
    assert found[0] == 1
    assert [type(each) for each in found[1:]] == [OSError, ValueError]
    with pytest.raises(ValueError, match="nor"):
        clock.run_async(async_sleeper(clock, 5), bang)
    assert isinstance(clock.run_async(bang, return_errors=True)[0], ValueError)


def test_blocking_on_the_virtual_io_thread_is_refused(clock: VirtualClock) -> None:
    async def work(_: Runtime) -> None:
        drive(clock.blocking.sleep(1))

    started = clock.blocking.start(work)
    drive(clock.blocking.wait((started,), 5))
    with pytest.raises(UsageError, match="I/O thread"):
        started.result()


# --- leaves nothing behind ---


def test_leaves_no_thread_and_no_work() -> None:
    before = set(threading.enumerate())
    ended: list[float] = []

    async def work(port: Runtime) -> None:
        try:
            await port.sleep(600)
        finally:
            await port.sleep(0.5)
            ended.append(port.now())

    with VirtualClock(start=0.0) as clock:
        started = clock.blocking.start(work)
        clock.run(sleeper(clock, 1), async_sleeper(clock, 1))
    assert set(threading.enumerate()) <= before
    assert started.done()
    assert ended == [1.5]


def test_the_io_loop_can_be_run_from_a_test(clock: VirtualClock) -> None:
    assert clock.io.run(async_sleeper(clock, 60)) == clock.now()
    assert clock.io is clock.io


def test_what_stubbornly_stays_is_told() -> None:
    released = threading.Event()

    async def holds_the_loop(_: Runtime) -> None:
        released.wait(20)

    clock = VirtualClock(patience=0.05)
    clock.blocking.start(holds_the_loop)
    try:
        with pytest.raises(VirtualDeadlock, match="does not end"):
            clock.close()
    finally:
        released.set()
        clock.io.stop(20)
