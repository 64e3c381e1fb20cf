"""Slots: which call runs, where, and for how long."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextvars import Context as Variables
from contextvars import copy_context
from typing import Any

from resilient_rpc.context import enter_context
from resilient_rpc.errors import Expired, Interrupted
from resilient_rpc.serving.job import Job
from resilient_rpc.serving.threads import Threads
from resilient_rpc.transport.coalescer import Coalescer
from resilient_rpc.transport.deadlines import Deadlines

Done = Callable[[Job, Any, "BaseException | None"], None]


class Stepped:
    """Awaits a handler's coroutine in its own context variables, and counts how long it held the loop."""

    __slots__ = ("_coroutine", "_job", "_suspended", "_variables")

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], variables: Variables, job: Job, suspended: Callable[[Job], None]
    ) -> None:
        self._coroutine, self._variables, self._job, self._suspended = coroutine, variables, job, suspended

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine, run, job, first = self._coroutine, self._variables.run, self._job, True
        step: Callable[[Any], Any] = coroutine.send
        argument: Any = None
        while True:
            begin = time.perf_counter()
            try:
                waiting = run(step, argument)
            except StopIteration as stop:
                return stop.value
            finally:
                job.busy += time.perf_counter() - begin
            if first:
                first = False
                self._suspended(job)
            try:
                argument = yield waiting
                step = coroutine.send
            except BaseException as error:
                step, argument = coroutine.throw, error


class Executor:
    """Runs at most `slots` calls at once: coroutines on the loop, plain functions in threads.

    Coroutines that never wait are run one after the other by one task, because a task for each is a quarter of a
    quick call's cost. As soon as one waits, that task is its own, and the next call gets another.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, slots: int, done: Done, name: str) -> None:
        self._loop, self._slots, self._done = loop, slots, done
        self._waiting: deque[Job] = deque()
        self._running = 0
        self._fresh = False
        """A task is about to take, or is taking, calls that have not waited for anything."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._active: set[Job] = set()
        """Calls that outlast a turn of the loop."""
        self._threads = Threads(slots, name)
        self._returned: Coalescer[tuple[Job, Any, BaseException | None]] = Coalescer(loop, self._collect)
        self._deadlines: Deadlines[Job] = Deadlines(loop, time.monotonic, self._overdue)

    def add(self, jobs: Iterable[Job]) -> None:
        """Queue them, and start what there are slots for."""
        self._waiting.extend(jobs)
        self._pump()

    @property
    def room(self) -> int:
        """Slots that are free for more."""
        return max(self._slots - self._running - len(self._waiting), 0)

    @property
    def running(self) -> int:
        """Calls in a slot."""
        return self._running

    @property
    def waiting(self) -> int:
        """Calls without one."""
        return len(self._waiting)

    @property
    def slots(self) -> int:
        """How many calls may run at once."""
        return self._slots

    def take_unstarted(self) -> list[Job]:
        """Give up what has not begun."""
        jobs = list(self._waiting)
        self._waiting.clear()
        return jobs

    def cancel_running(self) -> None:
        """The server stops: cancel coroutines that may be cancelled, tell threads."""
        for job in list(self._active):
            self._overdue(job)

    def close(self) -> None:
        """Let go of threads and timers."""
        self._deadlines.close()
        self._threads.close()

    # -- starting

    def _pump(self) -> None:
        if self._waiting and self._running < self._slots and not self._fresh:
            self._fresh = True
            task = self._loop.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _take(self) -> Job | None:
        """The next coroutine to run; plain functions that stand before it go to threads."""
        while self._waiting and self._running < self._slots:
            job = self._waiting.popleft()
            job.started = time.monotonic()
            if job.deadline <= job.started:
                self._done(job, None, Expired(f"{job.method.name}: its time was up before it began"))
                continue
            self._running += 1
            job.letter.started += 1
            if job.method.timeout is not None:
                job.deadline = min(job.deadline, job.started + job.method.timeout)
            if job.method.is_async:
                return job
            self._active.add(job)
            self._deadlines.add(job)
            self._threads.run(functools.partial(self._block, job, copy_context()))
        return None

    # -- coroutines

    async def _work(self) -> None:
        while (job := self._take()) is not None:
            suspended = await self._run(job)
            if suspended:
                self._pump()
                return
        self._fresh = False

    async def _run(self, job: Job) -> bool:
        job.task = asyncio.current_task()
        variables = copy_context()
        variables.run(enter_context, job.context)
        result, error = None, None
        try:
            coroutine = variables.run(job.method.function, *job.args, **job.kwargs)
            result = await Stepped(coroutine, variables, job, self._suspended)
        except asyncio.CancelledError as cancelled:
            error = self._why_cancelled(job, cancelled)
        except BaseException as raised:
            error = _contained(job, raised)
        self._running -= 1
        suspended = job in self._active
        if suspended:
            self._active.discard(job)
            self._deadlines.discard(job)
        job.task = None
        self._finish(job, result, error)
        return suspended

    def _suspended(self, job: Job) -> None:
        """It waits for something: others may start, and its deadline is watched."""
        self._active.add(job)
        self._deadlines.add(job)
        self._fresh = False
        self._pump()

    @staticmethod
    def _why_cancelled(job: Job, cancelled: asyncio.CancelledError) -> BaseException:
        if job.timed_out:
            return _interrupted(job)
        error = Interrupted(f"{job.method.name} was cancelled")
        error.__cause__ = cancelled
        return error

    # -- threads

    def _block(self, job: Job, variables: Variables) -> None:
        result, error = None, None
        try:
            variables.run(enter_context, job.context)
            result = variables.run(job.method.function, *job.args, **job.kwargs)
        except BaseException as raised:
            error = _contained(job, raised)
        try:
            self._returned.add((job, result, error))
        except RuntimeError:  # the loop is closed: the server is gone, and the message goes to another one
            job.finished = True

    def _collect(self) -> None:
        inbox = self._returned.inbox
        while inbox:
            job, result, error = inbox.popleft()
            self._running -= 1
            self._active.discard(job)
            self._deadlines.discard(job)
            self._finish(job, result, error)
        self._pump()

    # -- ending

    def _finish(self, job: Job, result: Any, error: BaseException | None) -> None:
        if not job.finished:
            job.finished = True
            self._done(job, result, error)

    def _overdue(self, job: Job) -> None:
        """Its time is up, or the server's: nobody waits for the answer any more."""
        job.context.cancelled = True
        job.timed_out = True
        if job.task is not None:
            if job.context.key is None:  # a keyed call runs to its end: its outcome must be known
                job.task.cancel()
        else:  # a thread cannot be stopped: its slot stays taken until it ends
            self._finish(job, None, _interrupted(job))

    def service_time(self, job: Job) -> float:
        """What the call took from others, seconds: the loop while it held it, or its share of the slots.

        By the wall clock alone a handler that only waits would seem slow, and calls to it would never be joined.
        """
        return max(job.busy, (time.monotonic() - job.started) / self._slots)


def _contained(job: Job, raised: BaseException) -> Exception:
    return raised if isinstance(raised, Exception) else Interrupted(f"{job.method.name} raised {raised!r:.200}")


def _interrupted(job: Job) -> Interrupted:
    return Interrupted(f"{job.method.name} was begun and did not end in its time; its outcome is unknown")
