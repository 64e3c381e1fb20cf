from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import math
import random
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_rpc.binder import Binder
from resilient_rpc.call import Safety
from resilient_rpc.context import Context, current_context
from resilient_rpc.contract import Method
from resilient_rpc.errors import Expired, Interrupted
from resilient_rpc.parking import Outcome
from resilient_rpc.serving.around import Course
from resilient_rpc.serving.executor import Executor
from resilient_rpc.serving.job import Job, Letter
from resilient_rpc.serving.parked import TOGETHER
from resilient_rpc.transport.base import Delivery
from resilient_rpc.wire.codec import JSON
from tests.waiting import PATIENCE, turns

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="untouched")


class Bench:
    """An executor on the running loop, and what became of its jobs."""

    def __init__(self, slots: int = 4) -> None:
        self.outcomes: dict[int, tuple[Any, BaseException | None]] = {}
        self.times: list[int] = []
        self._numbers = itertools.count(1)
        self._changed = asyncio.Event()
        self.fail_on: set[int] = set()
        self.executor = Executor(asyncio.get_running_loop(), slots, self._done, "test")

    def _done(self, job: Job, result: Any, error: BaseException | None) -> None:
        assert job.number not in self.outcomes, "a job ended twice"
        self.outcomes[job.number] = result, error
        self.times.append(job.number)
        self._changed.set()
        if job.number in self.fail_on:
            raise RuntimeError("the owner of the executor failed")

    def job(
        self,
        function: Callable[..., Any],
        *args: Any,
        within: float = math.inf,
        timeout: float | None = None,
        key: str | None = None,
    ) -> Job:
        method = Method(
            name=function.__name__,
            function=function,
            binder=Binder(function, Context),
            safety=None,
            timeout=timeout,
            is_async=asyncio.iscoroutinefunction(function),
        )
        context = Context(method.name, time.monotonic() + within, Safety.UNSAFE, key)
        letter = Letter(
            cast("Any", None), Delivery(1, False, {}, b""), reply_to="r", correlation_id="c", codec=JSON, ours=True
        )
        return Job(letter, next(self._numbers), method, args, {}, context, 1)

    def add(self, function: Callable[..., Any], *args: Any, **how: Any) -> Job:
        job = self.job(function, *args, **how)
        self.executor.add([job])
        return job

    async def ended(self, *jobs: Job) -> list[Any]:
        async with asyncio.timeout(PATIENCE):
            while not all(job.number in self.outcomes for job in jobs):
                self._changed.clear()
                await self._changed.wait()
        return [self.outcomes[job.number] for job in jobs]

    async def result(self, function: Callable[..., Any], *args: Any, **how: Any) -> Any:
        [(result, error)] = await self.ended(self.add(function, *args, **how))
        if error is not None:
            raise error
        return result

    async def idle(self) -> None:
        await turns(
            lambda: not (self.executor.scheduler.running or self.executor.scheduler.waiting or self.executor._tasks)
        )
        assert self.executor.scheduler.room == self.executor.scheduler.slots
        assert len(self.executor._deadlines) == 0
        assert self.executor._active == set()


def scenario(function: Callable[[], Any]) -> Callable[[], None]:
    """Run it on a loop of its own, with nothing left behind."""

    def run() -> None:
        async def main() -> None:
            await function()
            left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            assert not left, left

        asyncio.run(main())

    run.__name__ = function.__name__
    return run


async def echo(value: Any) -> Any:
    return value


async def wait_and_echo(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


def blocking_echo(value: Any) -> Any:
    return value


ECHOES = pytest.mark.parametrize("function", [echo, wait_and_echo, blocking_echo])


@ECHOES
def test_a_call_runs_and_its_result_is_handed_on(function: Callable[..., Any]) -> None:
    async def main() -> None:
        bench = Bench()
        assert await bench.result(function, {"a": 1}) == {"a": 1}
        await bench.idle()
        bench.executor.close()

    scenario(main)()


# -- slots


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["quick", "waits", "blocks", "fails", "expired"]), max_size=40), st.integers(1, 5))
def test_no_more_calls_run_at_once_than_there_are_slots_and_all_end(kinds: list[str], slots: int) -> None:
    async def main() -> None:
        bench, lock = Bench(slots), threading.Lock()
        running = most = 0

        def enter(step: int) -> None:
            nonlocal running, most
            with lock:
                running += step
                most = max(most, running)

        async def quick() -> str:
            enter(1)
            enter(-1)
            return "quick"

        async def waits() -> str:
            enter(1)
            for _ in range(random.randrange(5)):
                await asyncio.sleep(0)
            enter(-1)
            return "waits"

        def blocks() -> str:
            enter(1)
            enter(-1)
            return "blocks"

        async def fails() -> str:
            raise ValueError("fails")

        async def expired() -> None:
            raise AssertionError

        functions: dict[str, Callable[..., Any]] = {f.__name__: f for f in (quick, waits, blocks, fails, expired)}
        jobs = [bench.job(functions[kind], within=-1 if kind == "expired" else math.inf) for kind in kinds]
        bench.executor.add(jobs)
        assert bench.executor.scheduler.room == max(slots - len(jobs), 0)
        for kind, (result, error) in zip(kinds, await bench.ended(*jobs), strict=True):
            if kind == "fails":
                assert isinstance(error, ValueError)
            elif kind == "expired":
                assert isinstance(error, Expired)
            else:
                assert (result, error) == (kind, None)
        assert most <= slots
        await bench.idle()
        bench.executor.close()

    asyncio.run(main())


def test_the_order_is_that_of_arrival() -> None:
    async def main() -> None:
        bench = Bench(1)
        jobs = [bench.job(random.choice([echo, wait_and_echo, blocking_echo]), n) for n in range(50)]
        bench.executor.add(jobs)
        await bench.ended(*jobs)
        assert bench.times == [job.number for job in jobs]
        bench.executor.close()

    scenario(main)()


def test_one_that_waits_does_not_stop_the_others() -> None:
    async def main() -> None:
        bench, gate = Bench(2), asyncio.Event()

        async def wait() -> str:
            await gate.wait()
            return "late"

        late = bench.add(wait)
        quick = [bench.add(echo, n) for n in range(20)]
        assert [result for result, _ in await bench.ended(*quick)] == list(range(20))
        assert late.number not in bench.outcomes
        assert bench.executor.scheduler.running == 1
        gate.set()
        assert await bench.ended(late) == [("late", None)]
        await bench.idle()
        bench.executor.close()

    scenario(main)()


def test_calls_that_never_wait_share_one_task() -> None:
    async def main() -> None:
        bench, tasks = Bench(64), set()

        async def who() -> None:
            tasks.add(asyncio.current_task())

        jobs = [bench.job(who) for _ in range(50)]
        bench.executor.add(jobs)
        await bench.ended(*jobs)
        assert len(tasks) == 1
        bench.executor.close()

    scenario(main)()


def test_calls_that_wait_have_a_task_each() -> None:
    async def main() -> None:
        bench, tasks = Bench(64), []

        async def who() -> None:
            before = asyncio.current_task()
            await asyncio.sleep(0)
            assert asyncio.current_task() is before
            tasks.append(before)

        jobs = [bench.job(who) for _ in range(50)]
        bench.executor.add(jobs)
        await bench.ended(*jobs)
        assert len(set(tasks)) == 50
        bench.executor.close()

    scenario(main)()


def test_a_crowd_of_quick_calls_does_not_hold_the_loop() -> None:
    async def main() -> None:
        bench, longest = Bench(4), 0.0

        async def ten_milliseconds() -> None:
            end = time.perf_counter() + 0.01
            while time.perf_counter() < end:
                pass

        jobs = [bench.job(ten_milliseconds) for _ in range(30)]
        bench.executor.add(jobs)
        while len(bench.outcomes) < 30:
            before = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - before)
        assert longest < 0.15, "heartbeats and replies wait for all of them"
        await bench.idle()
        bench.executor.close()

    scenario(main)()


# -- what handlers may do


class Mine(BaseException):
    pass


class Unshowable(BaseException):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


RAISED = [
    ValueError("x"),
    SystemExit(3),
    KeyboardInterrupt(),
    Mine("x"),
    GeneratorExit(),
    asyncio.CancelledError(),
    Unshowable(),
]


@pytest.mark.parametrize("raised", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("how", ["at once", "after waiting", "in a thread"])
def test_whatever_a_handler_raises_is_its_answer_and_the_next_call_runs(raised: BaseException, how: str) -> None:
    async def main() -> None:
        bench = Bench(1)

        async def at_once() -> None:
            raise raised

        async def after_waiting() -> None:
            await asyncio.sleep(0)
            raise raised

        def in_a_thread() -> None:
            raise raised

        function: Any = {"at once": at_once, "after waiting": after_waiting, "in a thread": in_a_thread}[how]
        with pytest.raises(type(raised) if isinstance(raised, Exception) else Interrupted):
            await bench.result(function)
        for other in (echo, wait_and_echo, blocking_echo):
            assert await bench.result(other, 1) == 1
        await bench.idle()
        bench.executor.close()

    scenario(main)()


@pytest.mark.parametrize("raised", [StopIteration(5), StopAsyncIteration(5)])
@pytest.mark.parametrize("waits", [False, True])
def test_an_end_of_iteration_is_an_error_and_no_result(raised: Exception, waits: bool) -> None:
    async def main() -> None:
        bench = Bench(1)

        async def handler() -> None:
            if waits:
                await asyncio.sleep(0)
            raise raised

        with pytest.raises((RuntimeError, StopAsyncIteration)):
            await bench.result(handler)
        await bench.idle()
        bench.executor.close()

    scenario(main)()


def test_context_variables_are_each_calls_own() -> None:
    async def main() -> None:
        bench = Bench(8)

        async def set_and_read(value: str) -> tuple[str, str]:
            before = variable.get()
            variable.set(value)
            return before, variable.get()

        async def set_wait_and_read(value: str) -> tuple[str, str]:
            before = variable.get()
            variable.set(value)
            await asyncio.sleep(0)
            await asyncio.create_task(asyncio.sleep(0))
            return before, variable.get()

        def set_and_read_in_thread(value: str) -> tuple[str, str]:
            before = variable.get()
            variable.set(value)
            return before, variable.get()

        functions = [set_and_read, set_wait_and_read, set_and_read_in_thread] * 10
        jobs = [bench.job(function, str(n)) for n, function in enumerate(functions)]
        bench.executor.add(jobs)
        found = [result for result, _ in await bench.ended(*jobs)]
        assert found == [("untouched", str(n)) for n in range(30)]
        assert variable.get() == "untouched"
        bench.executor.close()

    scenario(main)()


def test_a_handler_finds_its_own_call_as_the_current_context() -> None:
    async def main() -> None:
        bench = Bench(8)

        async def at_once() -> Any:
            return current_context()

        async def waits() -> Any:
            await asyncio.sleep(0)

            async def inner() -> Any:
                return current_context()

            return await asyncio.create_task(inner())

        def in_a_thread() -> Any:
            return current_context()

        jobs = [bench.job(function) for function in (at_once, waits, in_a_thread) * 3]
        bench.executor.add(jobs)
        assert [result for result, _ in await bench.ended(*jobs)] == [job.context for job in jobs]
        assert current_context() is None
        bench.executor.close()

    scenario(main)()


def test_asyncio_timeout_works_in_a_handler() -> None:
    async def main() -> None:
        bench = Bench(1)

        async def limited() -> str:
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.Event().wait()
            except TimeoutError:
                assert cast("Any", asyncio.current_task()).cancelling() == 0
            await asyncio.sleep(0)
            return "went on"

        assert await bench.result(limited) == "went on"
        assert await bench.result(wait_and_echo, 1) == 1
        await bench.idle()
        bench.executor.close()

    scenario(main)()


def test_a_task_group_works_in_a_handler() -> None:
    async def main() -> None:
        bench = Bench(1)

        async def grouped() -> list[int]:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(wait_and_echo(n)) for n in range(3)]
            return [task.result() for task in tasks]

        async def failing() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.Event().wait())
                raise ValueError("inside")

        assert await bench.result(grouped) == [0, 1, 2]
        with pytest.raises(ExceptionGroup):
            await bench.result(failing)
        await bench.idle()
        bench.executor.close()

    scenario(main)()


def test_a_handler_that_cancels_itself_cancels_nobody_else() -> None:
    async def main() -> None:
        bench = Bench(1)

        async def cancels_itself() -> str:
            cast("Any", asyncio.current_task()).cancel()
            return "done"

        async def cancels_and_waits() -> None:
            cast("Any", asyncio.current_task()).cancel()
            await asyncio.sleep(0)

        jobs = [
            bench.job(cancels_itself),
            bench.job(wait_and_echo, 1),
            bench.job(cancels_and_waits),
            bench.job(echo, 2),
        ]
        bench.executor.add(jobs)
        outcomes = await bench.ended(*jobs)
        assert outcomes[0] == ("done", None)
        assert outcomes[1] == (1, None)
        assert isinstance(outcomes[2][1], Interrupted)
        assert outcomes[3] == (2, None)
        await bench.idle()
        bench.executor.close()

    scenario(main)()


def test_an_exception_in_what_is_awaited_reaches_the_handler() -> None:
    async def main() -> None:
        bench = Bench(1)

        async def catches() -> str:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.set_exception, ValueError("from outside"))
            try:
                await future
            except ValueError as error:
                await asyncio.sleep(0)
                return str(error)
            return ""

        assert await bench.result(catches) == "from outside"
        bench.executor.close()

    scenario(main)()


def test_a_handler_that_awaits_what_is_not_asyncios_fails_alone() -> None:
    class Foreign:
        def __await__(self) -> Any:
            yield "something else"

    async def main() -> None:
        bench = Bench(1)

        async def strange() -> None:
            await Foreign()

        with pytest.raises(RuntimeError, match="bad yield"):
            await bench.result(strange)
        assert await bench.result(wait_and_echo, 1) == 1
        bench.executor.close()

    scenario(main)()


# -- time


@pytest.mark.parametrize("by", ["deadline", "timeout"])
def test_a_coroutine_is_cancelled_when_its_time_is_up(by: str) -> None:
    async def main() -> None:
        bench, cancelled = Bench(1), []

        async def hangs() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        job = bench.add(hangs, **({"within": 0.03} if by == "deadline" else {"timeout": 0.03}))
        [(_, error)] = await bench.ended(job)
        assert isinstance(error, Interrupted)
        assert cancelled == [True]
        assert job.context.cancelled
        assert job.timed_out
        assert await bench.result(wait_and_echo, 1) == 1
        await bench.idle()
        bench.executor.close()

    scenario(main)()


def test_a_thread_is_answered_for_when_its_time_is_up_and_keeps_its_slot_until_it_ends() -> None:
    async def main() -> None:
        bench, gate = Bench(1), threading.Event()

        def hangs() -> str:
            gate.wait(PATIENCE)
            return "too late"

        [(_, error)] = await bench.ended(job := bench.add(hangs, timeout=0.03))
        assert isinstance(error, Interrupted)
        assert job.context.cancelled
        assert (bench.executor.scheduler.running, bench.executor.scheduler.room) == (1, 0)
        waiting = bench.add(echo, 1)
        await asyncio.sleep(0.02)
        assert waiting.number not in bench.outcomes
        gate.set()
        assert await bench.ended(waiting) == [(1, None)]
        await bench.idle()
        bench.executor.close()

    scenario(main)()


def test_a_handler_that_refuses_to_be_cancelled_may_still_answer() -> None:
    async def main() -> None:
        bench = Bench(1)

        async def stubborn() -> str:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
            return "after all"

        assert await bench.result(stubborn, timeout=0.02) == "after all"
        await bench.idle()
        bench.executor.close()

    scenario(main)()


def test_a_keyed_call_is_not_cancelled() -> None:
    async def main() -> None:
        bench, gate = Bench(1), asyncio.Event()

        async def keyed() -> str:
            await gate.wait()
            return "its outcome is known"

        job = bench.add(keyed, within=0.02, key="k")
        await turns(lambda: job.context.cancelled)
        gate.set()
        assert await bench.ended(job) == [("its outcome is known", None)]
        await bench.idle()
        bench.executor.close()

    scenario(main)()


@ECHOES
def test_a_call_whose_time_is_up_is_not_begun(function: Callable[..., Any]) -> None:
    async def main() -> None:
        bench = Bench(1)
        job = bench.add(function, 1, within=-0.001)
        [(_, error)] = await bench.ended(job)
        assert isinstance(error, Expired)
        assert job.letter.started == 0
        await bench.idle()
        bench.executor.close()

    scenario(main)()


def test_waiting_for_others_is_not_service_time_and_holding_the_loop_is() -> None:
    async def main() -> None:
        bench = Bench(10)

        async def waits() -> None:
            await asyncio.sleep(0.05)

        async def holds() -> None:
            time.sleep(0.02)  # noqa: ASYNC251

        async def holds_later() -> None:
            await asyncio.sleep(0)
            time.sleep(0.02)  # noqa: ASYNC251

        jobs = [bench.job(waits), bench.job(holds), bench.job(holds_later)]
        for job in jobs:
            bench.executor.add([job])
            await bench.ended(job)
        assert jobs[0].seconds < 0.02
        assert jobs[1].seconds >= 0.02
        assert jobs[2].seconds >= 0.02
        bench.executor.close()

    scenario(main)()


# -- when it all goes wrong


@ECHOES
def test_an_owner_that_fails_does_not_stop_the_others(function: Callable[..., Any]) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        bench = Bench(2)
        jobs = [bench.job(function, n) for n in range(20)]
        bench.fail_on = {jobs[0].number, jobs[7].number, jobs[19].number}
        bench.executor.add(jobs)
        await bench.ended(*jobs)
        assert await bench.result(function, "more") == "more"
        await bench.idle()
        bench.executor.close()
        gc.collect()

    scenario(main)()


def test_when_no_thread_can_be_made_the_call_fails_and_the_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        bench = Bench(2)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            [(_, error)] = await bench.ended(bench.add(blocking_echo, 1))
            assert isinstance(error, Exception)
            assert await bench.result(echo, 1) == 1
        assert await bench.result(blocking_echo, 1) == 1
        await bench.idle()
        bench.executor.close()

    scenario(main)()


def test_what_has_not_begun_can_be_taken_back() -> None:
    async def main() -> None:
        bench, gate = Bench(1), asyncio.Event()

        async def wait() -> None:
            await gate.wait()

        first = bench.add(wait)
        await asyncio.sleep(0)
        others = [bench.add(echo, n) for n in range(3)]
        assert (bench.executor.scheduler.running, bench.executor.scheduler.waiting) == (1, 3)
        assert bench.executor.scheduler.give_up() == others
        assert bench.executor.scheduler.waiting == 0
        gate.set()
        await bench.ended(first)
        await bench.idle()
        assert len(bench.outcomes) == 1
        bench.executor.close()

    scenario(main)()


def test_what_runs_can_be_cancelled_all_at_once() -> None:
    async def main() -> None:
        bench, gate = Bench(3), threading.Event()

        async def hangs() -> None:
            await asyncio.Event().wait()

        def blocks() -> None:
            gate.wait(PATIENCE)

        jobs = [bench.add(hangs), bench.add(hangs), bench.add(blocks)]
        await turns(lambda: bench.executor.scheduler.running == 3)
        await bench.executor.cancel_running(PATIENCE)
        for _, error in await bench.ended(*jobs):
            assert isinstance(error, Interrupted)
        gate.set()
        await bench.idle()
        bench.executor.close()

    scenario(main)()


def test_a_thread_that_ends_after_the_loop_disturbs_nobody() -> None:
    gate, ended = threading.Event(), threading.Event()

    def blocks() -> None:
        gate.wait(PATIENCE)
        ended.set()

    async def main() -> None:
        bench = Bench(1)
        bench.add(blocks)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        bench.executor.close()

    asyncio.run(main())
    gate.set()
    assert ended.wait(PATIENCE)


def test_what_parked_calls_ask_for_is_sent_before_too_many_of_them_have_asked() -> None:
    asked: list[Outcome] = []
    sent: list[int] = []

    def send() -> None:
        sent.append(len(asked))

    async def asks() -> Any:
        asked.append(Outcome(asyncio.get_running_loop(), lambda: None, send))
        return await asked[-1]

    async def main() -> None:
        bench = Bench(100)
        jobs = [bench.job(asks) for _ in range(2 * TOGETHER + 5)]
        for job in jobs:
            job.course = Course(job, bench.executor, "default")
            job.course.asking = True
        bench.executor.add(jobs)
        await turns(lambda: len(asked) == len(jobs))
        assert len(bench.executor.held()) == len(jobs)
        for number, outcome in enumerate(asked):
            outcome.settle(number)
        assert await bench.ended(*jobs) == [(number, None) for number in range(len(jobs))]
        await bench.idle()

    scenario(main)()
    assert sent == [TOGETHER, 2 * TOGETHER, 2 * TOGETHER + 5]
