from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import math
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from resilient_rpc.errors import DeadlineExceeded, UsageError
from resilient_rpc.events import LoopBlocked
from resilient_rpc.loops import Inbox
from resilient_rpc.pending import Pending, Started
from resilient_rpc.policy import Runtime
from resilient_rpc.runtime import (
    BLOCKING,
    AsyncioRuntime,
    BlockingRuntime,
    IoLoop,
    PolicySuspended,
    adopt,
    drive,
    io_loop,
    running_runtime,
)
from tests.runtimes import Bench

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="-")


@pytest.fixture
def io() -> Iterator[IoLoop]:
    """An I/O loop of the test's own."""
    loop = IoLoop(name="test-io")
    yield loop
    assert loop.stop(5)


@pytest.fixture
def blocking(io: IoLoop) -> BlockingRuntime:
    return BlockingRuntime(io=lambda: io)


async def answer(_: Runtime) -> int:
    return 42


async def never(_: Runtime) -> None:
    await asyncio.get_running_loop().create_future()


# --- the same in both colours, in virtual time ---


def test_sleep_takes_its_time(runtime: Bench) -> None:
    runtime.run(lambda: runtime.port.sleep(3))
    assert runtime.passed == 3


def test_what_is_settled_already_is_not_waited_for(runtime: Bench) -> None:
    first: Pending[int] = Pending()
    second: Pending[int] = Pending()
    second.set(1)
    assert runtime.run(lambda: runtime.port.wait((first, second), 0)) is second
    assert runtime.passed == 0


@pytest.mark.parametrize("timeout", [0, -1])
def test_no_time_is_no_wait(runtime: Bench, timeout: float) -> None:
    assert runtime.run(lambda: runtime.port.wait((Pending(),), timeout)) is None
    assert runtime.passed == 0


@pytest.mark.parametrize("count", [1, 3])
def test_a_wait_ends_by_its_timeout_and_leaves_no_trace(runtime: Bench, count: int) -> None:
    pendings: list[Pending[int]] = [Pending() for _ in range(count)]
    assert runtime.run(lambda: runtime.port.wait(pendings, 2.5)) is None
    assert runtime.passed == 2.5
    assert not any(pending._wakes for pending in pendings)


@pytest.mark.parametrize("timeout", [10.0, math.inf])
@pytest.mark.parametrize("count", [1, 3])
def test_a_wait_ends_with_the_first_that_is_settled(runtime: Bench, count: int, timeout: float) -> None:
    pendings: list[Pending[int]] = [Pending() for _ in range(count)]

    async def wait() -> Pending[int] | None:
        return await runtime.port.wait(pendings, timeout)

    async def settle() -> None:
        await runtime.port.sleep(4)
        pendings[-1].set(1)

    first, _ = runtime.together(wait, settle)
    assert first is pendings[-1]
    assert runtime.passed == 4
    assert not any(pending._wakes for pending in pendings)


def test_two_settled_at_once_wake_one_waiter_once(runtime: Bench) -> None:
    pendings: list[Pending[int]] = [Pending() for _ in range(2)]

    async def settle() -> None:
        await runtime.port.sleep(1)
        for pending in pendings:
            pending.set(1)

    first, _ = runtime.together(lambda: runtime.port.wait(pendings, 5), settle)
    assert first is pendings[0]


def test_many_waiters_each_with_their_own_patience(runtime: Bench) -> None:
    pending: Pending[int] = Pending()
    ended: list[tuple[float, bool]] = []

    async def wait(timeout: float) -> None:
        found = await runtime.port.wait((pending,), timeout)
        ended.append((runtime.passed, found is pending))

    async def settle() -> None:
        await runtime.port.sleep(4)
        pending.set(1)

    runtime.together(lambda: wait(1), lambda: wait(3), lambda: wait(6), lambda: wait(math.inf), settle)
    assert sorted(ended) == [(1, False), (3, False), (4, True), (4, True)]


class SettledBeforeTheWatch(Pending[int]):
    def watch(self, wake: Any) -> bool:
        self.set(1)
        return super().watch(wake)


class SettledAfterTheWatch(Pending[int]):
    def watch(self, wake: Any) -> bool:
        watched = super().watch(wake)
        self.set(1)
        return watched


@pytest.mark.parametrize("kind", [SettledBeforeTheWatch, SettledAfterTheWatch])
@pytest.mark.parametrize("timeout", [5.0, math.inf])
@pytest.mark.parametrize("count", [1, 2])
def test_what_is_settled_while_a_wait_begins_is_seen(
    runtime: Bench, kind: type[Pending[int]], timeout: float, count: int
) -> None:
    pendings = [Pending[int]() for _ in range(count - 1)] + [kind()]
    assert runtime.run(lambda: runtime.port.wait(pendings, timeout)) is pendings[-1]
    assert runtime.passed == 0


def test_started_work_runs_beside_its_caller(runtime: Bench) -> None:
    async def work(port: Runtime) -> float:
        await port.sleep(5)
        await asyncio.sleep(1)  # whatever the colour: started work may await anything
        return port.now()

    async def caller() -> tuple[float, float]:
        started = runtime.port.start(work)
        await runtime.port.sleep(2)
        between = runtime.passed
        assert await runtime.port.wait((started,), 100) is started
        return between, started.result() - runtime.clock.now()

    assert runtime.run(caller) == (2, 0)
    assert runtime.passed == 6


def test_started_work_passes_on_its_error(runtime: Bench) -> None:
    async def work(_: Runtime) -> None:
        raise OSError("no")

    async def caller() -> None:
        started = runtime.port.start(work)
        await runtime.port.wait((started,), 1)
        started.result()

    with pytest.raises(OSError, match="no"):
        runtime.run(caller)


def test_work_that_cannot_even_begin_fails_its_started(runtime: Bench) -> None:
    def work(_: Runtime) -> Coroutine[Any, Any, None]:
        raise OSError("no coroutine")

    async def caller() -> None:
        started = runtime.port.start(work)
        await runtime.port.wait((started,), 1)
        started.result()

    with pytest.raises(OSError, match="no coroutine"):
        runtime.run(caller)


@pytest.mark.parametrize("after", [0.0, 1.0])
def test_cancelled_work_stops_and_settles(runtime: Bench, after: float) -> None:
    seen: list[str] = []

    async def work(port: Runtime) -> None:
        try:
            await port.sleep(60)
        finally:
            seen.append("stopped")

    async def caller() -> None:
        started = runtime.port.start(work)
        if after:
            await runtime.port.sleep(after)
        started.cancel()
        started.cancel()
        assert await runtime.port.wait((started,), math.inf) is started
        started.result()

    with pytest.raises(asyncio.CancelledError):
        runtime.run(caller)
    assert runtime.passed == after
    assert seen in ([], ["stopped"]) if not after else seen == ["stopped"]


def test_started_work_sees_its_callers_context(runtime: Bench) -> None:
    async def work(_: Runtime) -> str:
        seen = variable.get()
        variable.set("changed in there")
        return seen

    async def caller() -> tuple[str, str]:
        token = variable.set("trace-1")
        started = runtime.port.start(work)
        await runtime.port.wait((started,), 1)
        mine = variable.get()
        variable.reset(token)
        return started.result(), mine

    assert runtime.run(caller) == ("trace-1", "trace-1")


# --- asyncio ---


def test_each_loop_has_one_runtime_which_goes_with_it() -> None:
    async def both() -> tuple[AsyncioRuntime, AsyncioRuntime]:
        return running_runtime(), running_runtime()

    first, same = asyncio.run(both())
    other, _ = asyncio.run(both())
    assert first is same
    assert first is not other
    gone = weakref.ref(first)
    del first, same
    gc.collect()
    assert gone() is None


def test_outside_of_a_loop_there_is_no_running_runtime() -> None:
    with pytest.raises(RuntimeError):
        running_runtime()


def test_an_adopted_runtime_is_the_one_of_its_loop() -> None:
    loop = asyncio.new_event_loop()
    runtime = adopt(AsyncioRuntime(loop))

    async def mine() -> AsyncioRuntime:
        return running_runtime()

    assert loop.run_until_complete(mine()) is runtime
    loop.close()


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts timers and wake-ups from other threads."""

    timers = wakeups = 0

    def call_at(self, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        self.timers += 1
        return super().call_at(*args, **kwargs)

    def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> asyncio.Handle:
        self.wakeups += 1
        return super().call_soon_threadsafe(*args, **kwargs)


def counted(main: Coroutine[Any, Any, None]) -> CountingLoop:
    loop = CountingLoop()
    try:
        loop.run_until_complete(main)
    finally:
        loop.close()
    return loop


@pytest.mark.parametrize("count", [1, 2])
def test_a_wait_without_limit_sets_no_timer_and_needs_no_wakeup(count: int) -> None:
    async def main() -> None:
        pendings: list[Pending[int]] = [Pending() for _ in range(count)]
        asyncio.get_running_loop().call_soon(pendings[0].set, 1)
        await running_runtime().wait(pendings, math.inf)

    loop = counted(main())
    assert (loop.timers, loop.wakeups) == (0, 0)


def test_many_settled_by_another_thread_within_a_tick_wake_the_loop_once() -> None:
    pendings: list[Pending[int]] = [Pending() for _ in range(500)]

    async def main() -> None:
        waits = [asyncio.ensure_future(running_runtime().wait((pending,), math.inf)) for pending in pendings]
        await asyncio.sleep(0)
        thread = threading.Thread(target=lambda: [pending.set(1) for pending in pendings])
        thread.start()
        thread.join()  # the loop stands still meanwhile: one tick
        assert await asyncio.gather(*waits) == pendings

    assert counted(main()).wakeups == 1


def test_no_wakeup_is_lost_between_threads() -> None:
    async def main() -> None:
        for _ in range(20):
            pendings: list[Pending[int]] = [Pending() for _ in range(200)]
            waits = [asyncio.ensure_future(running_runtime().wait((pending,), math.inf)) for pending in pendings]
            await asyncio.sleep(0)
            threads = [
                threading.Thread(target=lambda part: [each.set(1) for each in part], args=(pendings[start::4],))
                for start in range(4)
            ]
            for thread in threads:
                thread.start()
            async with asyncio.timeout(20):
                await asyncio.gather(*waits)
            for thread in threads:
                thread.join()

    asyncio.run(main())


@pytest.mark.parametrize("timeout", [5.0, math.inf])
def test_a_cancelled_wait_leaves_no_trace_and_a_late_settle_does_no_harm(timeout: float) -> None:
    async def main() -> None:
        pending: Pending[int] = Pending()
        wait = asyncio.ensure_future(running_runtime().wait((pending,), timeout))
        await asyncio.sleep(0)
        wait.cancel()
        await asyncio.wait((wait,))
        assert wait.cancelled()
        assert pending._wakes is None
        assert pending.set(1)

    asyncio.run(main())


def test_settled_and_cancelled_in_the_same_tick() -> None:
    async def main() -> None:
        pending: Pending[int] = Pending()
        wait = asyncio.ensure_future(running_runtime().wait((pending,), math.inf))
        await asyncio.sleep(0)
        wait.cancel()
        pending.set(1)
        await asyncio.wait((wait,))

    asyncio.run(main())


def test_who_settles_need_not_know_that_the_waiters_loop_is_closed() -> None:
    loop = asyncio.new_event_loop()
    pending: Pending[int] = Pending()
    task = loop.create_task(AsyncioRuntime(loop).wait((pending,), math.inf))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    thread = threading.Thread(target=pending.set, args=(1,))
    thread.start()
    thread.join()
    assert pending.result() == 1
    task._log_destroy_pending = False  # type: ignore[attr-defined] # it was left behind on purpose


def test_call_soon_keeps_order_contains_errors_and_says_when_the_loop_is_closed() -> None:
    loop = asyncio.new_event_loop()
    problems: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: problems.append(context))
    inbox, seen = Inbox(loop), []

    def boom() -> None:
        raise OSError("no")

    for function, *args in ((seen.append, 1), (boom,), (seen.append, 2)):
        inbox.post(function, *args)
    loop.run_until_complete(asyncio.sleep(0))
    assert seen == [1, 2]
    assert [str(problem["exception"]) for problem in problems] == ["no"]
    loop.close()
    for _ in range(2):  # the second must not believe that the first has woken the loop
        with pytest.raises(RuntimeError, match="closed"):
            inbox.post(seen.append, 3)


def test_closing_cancels_and_awaits_what_was_started_here_and_nothing_else() -> None:
    ended: list[str] = []

    async def slow_to_end(_: Runtime) -> None:
        try:
            await never(_)
        finally:
            await asyncio.sleep(0)
            ended.append("mine")

    async def main() -> None:
        common = running_runtime()
        mine = common.scope()
        others, ours = common.start(never), mine.start(slow_to_end)
        await asyncio.sleep(0)
        assert await mine.aclose()
        assert ended == ["mine"]
        assert ours.done()
        assert not others.done()
        with pytest.raises(asyncio.CancelledError):
            mine.start(answer).result()
        assert await mine.aclose()
        others.cancel()

    asyncio.run(main())


def test_closing_does_not_wait_for_ever_for_work_that_ignores_it(clock: Any) -> None:
    async def stubborn(port: Runtime) -> None:
        try:
            await port.sleep(600)
        except asyncio.CancelledError:
            await port.sleep(600)

    async def main() -> tuple[bool, float]:
        scope = running_runtime().scope()
        scope.start(stubborn)
        await asyncio.sleep(0)
        began = clock.now()
        return await scope.aclose(grace=5), clock.now() - began

    assert clock.run_async(main) == [(False, 5)]


def test_work_may_close_its_own_runtime() -> None:
    async def main() -> int:
        scope = running_runtime().scope()

        async def work(_: Runtime) -> int:
            assert await scope.aclose()
            return 1

        started = scope.start(work)
        await running_runtime().wait((started,), 5)
        return started.result()

    assert asyncio.run(main()) == 1


def test_work_that_exits_ends_the_users_loop_and_settles() -> None:
    kept: list[Started[None]] = []

    async def leave(_: Runtime) -> None:
        raise SystemExit(3)

    async def main() -> None:
        kept.append(running_runtime().start(leave))
        await asyncio.sleep(1)

    with pytest.raises(SystemExit):
        asyncio.run(main())
    with pytest.raises(SystemExit):
        kept[0].result()


# --- blocking, and the I/O loop ---


def test_blocking_time_is_real() -> None:
    began = time.monotonic()
    assert drive(BLOCKING.wait((Pending(),), 0.02)) is None
    assert drive(BLOCKING.wait((Pending(), Pending()), 0.02)) is None
    drive(BLOCKING.sleep(0.02))
    drive(BLOCKING.sleep(-1))
    assert drive(BLOCKING.wait((Pending(),), 0)) is None
    assert 0.06 <= time.monotonic() - began < 5
    assert BLOCKING.now is time.monotonic


@pytest.mark.parametrize("kind", [SettledBeforeTheWatch, SettledAfterTheWatch])
@pytest.mark.parametrize("count", [1, 2])
def test_a_gate_that_is_open_before_it_is_reached(kind: type[Pending[int]], count: int) -> None:
    pendings = [Pending[int]() for _ in range(count - 1)] + [kind()]
    assert drive(BLOCKING.wait(pendings, math.inf)) is pendings[-1]


@pytest.mark.parametrize("count", [1, 2])
def test_another_thread_opens_the_gate(io: IoLoop, count: int) -> None:
    for _ in range(100):
        pendings: list[Pending[int]] = [Pending() for _ in range(count)]
        for pending in pendings:
            io.call_soon(pending.set, 1)
        assert drive(BLOCKING.wait(pendings, 20)) in pendings


def test_an_interrupted_wait_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gate:
        def acquire(self, timeout: float = -1) -> bool:
            if timeout >= 0:
                raise KeyboardInterrupt
            return True

        def release(self) -> None:
            pytest.fail("woken after it had gone")

    monkeypatch.setattr(threading, "Lock", Gate)
    pending: Pending[int] = Pending()
    with pytest.raises(KeyboardInterrupt):
        drive(BLOCKING.wait((pending,), 5))
    pending.set(1)


def test_blocking_on_the_io_thread_is_refused_at_once(io: IoLoop, blocking: BlockingRuntime) -> None:
    settled: Pending[int] = Pending()
    settled.set(1)

    async def work(_: Runtime) -> list[str]:
        found = []
        for attempt in (
            lambda: drive(BLOCKING.wait((settled,), 5)),
            lambda: drive(blocking.sleep(0)),
            lambda: io.run(lambda: answer(blocking)),
            io.stop,
        ):
            with pytest.raises(UsageError, match="I/O thread") as info:
                attempt()
            found.append(str(info.value))
        return found

    started = blocking.start(work)
    drive(blocking.wait((started,), 20))
    assert len(started.result()) == 4


def test_the_process_has_one_io_loop() -> None:
    found: list[IoLoop] = []
    threads = [threading.Thread(target=lambda: found.append(io_loop())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {id(each) for each in found} == {id(io_loop())}
    assert io_loop().run(_running) is io_loop().runtime


async def _running() -> AsyncioRuntime:
    return running_runtime()


def test_run_returns_raises_and_gives_up(io: IoLoop) -> None:
    cancelled = threading.Event()

    async def boom() -> None:
        raise OSError("no")

    async def slow() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    assert io.run(lambda: answer(BLOCKING)) == 42
    with pytest.raises(OSError, match="no"):
        io.run(boom)
    with pytest.raises(DeadlineExceeded, match=r"0\.01 s"):
        io.run(slow, 0.01)
    assert cancelled.wait(20)


def test_work_that_exits_does_not_end_the_io_loop(
    io: IoLoop, blocking: BlockingRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    async def leave(_: Runtime) -> None:
        raise SystemExit(3)

    started = blocking.start(leave)
    drive(blocking.wait((started,), 20))
    with pytest.raises(SystemExit):
        started.result()
    io.loop.call_soon_threadsafe(io.loop.stop)  # nor does a stop that is not ours
    assert io.run(lambda: answer(blocking), 20) == 42
    assert "tried to end it" in caplog.text


def test_stopping_cancels_what_runs_and_closes(io: IoLoop) -> None:
    other = IoLoop(name="other-io")
    started = other.start(never)
    other.call_soon(started.run_as, None)
    other.run(lambda: answer(BLOCKING))
    assert other.stop(20)
    assert other.stop(20)
    assert other.loop.is_closed()
    with pytest.raises(asyncio.CancelledError):
        started.result()
    with pytest.raises(RuntimeError, match="closed"):
        other.start(never)


def test_closing_a_blocking_runtime_ends_only_what_it_started(io: IoLoop, blocking: BlockingRuntime) -> None:
    other = BlockingRuntime(io=lambda: io)
    mine, others = blocking.start(never), other.start(never)
    assert blocking.close()
    assert mine.done()
    assert not others.done()
    late = blocking.start(answer)
    drive(blocking.wait((late,), 20))
    with pytest.raises(asyncio.CancelledError):
        late.result()
    assert BlockingRuntime(io=lambda: io).close()
    assert other.close()


def test_a_runtime_closed_before_its_first_work_starts_none(io: IoLoop, blocking: BlockingRuntime) -> None:
    assert blocking.close()
    late = blocking.start(answer)
    drive(blocking.wait((late,), 20))
    with pytest.raises(asyncio.CancelledError):
        late.result()


def test_closing_after_the_io_loop_has_gone_is_no_error() -> None:
    gone = IoLoop(name="gone-io")
    runtime = BlockingRuntime(io=lambda: gone)
    runtime.start(answer)
    gone.stop(20)
    assert runtime.close()


def test_work_that_holds_the_io_loop_is_named(io: IoLoop, blocking: BlockingRuntime) -> None:
    events: list[LoopBlocked] = []
    io.events.on(LoopBlocked, events.append)

    async def guilty() -> None:
        time.sleep(0.06)  # noqa: ASYNC251 - this is what must be found
        await asyncio.sleep(0)

    async def work(_: Runtime) -> None:
        await asyncio.sleep(0)
        await guilty()

    started = blocking.start(work)
    drive(blocking.wait((started,), 20))
    started.result()
    (event,) = events
    assert 0.06 <= event.seconds < 20
    assert "work > " in event.what
    assert "guilty" in event.what


def test_with_nobody_listening_it_is_logged(blocking: BlockingRuntime, caplog: pytest.LogCaptureFixture) -> None:
    async def guilty(_: Runtime) -> None:
        time.sleep(0.06)  # noqa: ASYNC251 - this is what must be found

    with caplog.at_level(logging.WARNING, "resilient_rpc.ioloop"):
        drive(blocking.wait((blocking.start(guilty),), 20))
        assert blocking.close()
    assert "held for" in caplog.text
    assert "guilty" in caplog.text


def test_work_is_measured_without_changing_what_it_sees(io: IoLoop, blocking: BlockingRuntime) -> None:
    async def work(_: Runtime) -> list[str]:
        seen = []
        try:
            async with asyncio.timeout(0):
                await never(_)
        except TimeoutError:
            seen.append("timeout")
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, OSError("failed"))
        try:
            await future
        except OSError as error:
            seen.append(str(error))
        return seen

    started = blocking.start(work)
    drive(blocking.wait((started,), 20))
    assert started.result() == ["timeout", "failed"]


def test_the_process_ends_with_work_on_the_io_loop() -> None:
    program = """
import asyncio
from resilient_rpc.runtime import BLOCKING, drive
async def work(rt):
    try: await asyncio.sleep(60)
    finally: print("stopped", flush=True)
BLOCKING.start(work)
async def other(rt): pass
drive(BLOCKING.wait((BLOCKING.start(other),), 10))
print("end", flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\nstopped\n", "")


def test_uvloop_is_used_when_it_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        @staticmethod
        def new_event_loop() -> asyncio.AbstractEventLoop:
            return CountingLoop()

    monkeypatch.setitem(sys.modules, "uvloop", Fake)  # type: ignore[arg-type]
    with_uvloop = IoLoop(name="fast-io")
    assert isinstance(with_uvloop.loop, CountingLoop)
    assert with_uvloop.stop(20)
    monkeypatch.setitem(sys.modules, "uvloop", None)  # type: ignore[arg-type]
    without = IoLoop(name="plain-io")
    assert without.run(lambda: answer(BLOCKING)) == 42
    assert without.stop(20)


# --- drive ---


async def _awaits_a_future() -> None:
    await asyncio.Future(loop=_loop)


_loop = asyncio.new_event_loop()
_loop.close()


def test_drive_returns_and_raises() -> None:
    async def boom() -> None:
        raise OSError("no")

    async def runtime_error() -> None:
        raise RuntimeError("of its own")

    assert drive(answer(BLOCKING)) == 42
    with pytest.raises(OSError, match="no"):
        drive(boom())
    with pytest.raises(RuntimeError, match="of its own"):
        drive(runtime_error())


def test_what_suspends_is_closed_and_named() -> None:
    closed: list[bool] = []

    async def policy() -> None:
        try:
            await _awaits_a_future()
        finally:
            closed.append(True)

    with pytest.raises(PolicySuspended, match=r"_awaits_a_future awaited <Future pending") as info:
        drive(policy())
    assert closed == [True]
    assert isinstance(info.value, RuntimeError)
    assert "call.runtime.start" in str(info.value)


def test_what_suspends_even_while_it_is_closed_is_named_too() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0)

    with pytest.raises(PolicySuspended, match=r"stubborn|sleep"):
        drive(stubborn())


def test_asyncio_in_a_blocking_client_is_explained() -> None:
    async def policy() -> None:
        await asyncio.sleep(1)

    with pytest.raises(PolicySuspended, match="asyncio was used"):
        drive(policy())
