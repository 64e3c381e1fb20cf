"""Slots: which call runs, where, and for how long."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from contextvars import Context as Variables
from contextvars import copy_context
from typing import Any

from resilient_rpc.coalescer import Coalescer
from resilient_rpc.context import enter_context
from resilient_rpc.errors import Overloaded, RpcError
from resilient_rpc.parking import Outcome
from resilient_rpc.serving.around import Around, Slots
from resilient_rpc.serving.endings import contained, given_up, in_progress, interrupted, why_cancelled
from resilient_rpc.serving.job import Job
from resilient_rpc.serving.parked import Parked
from resilient_rpc.serving.scheduler import Scheduler
from resilient_rpc.serving.steps import BLOCKED, Waiting, first_step, first_step_in
from resilient_rpc.serving.threads import Threads
from resilient_rpc.transport.deadlines import Deadlines

log = logging.getLogger(__name__)
HOLD = 0.01
"""Seconds for which calls that never wait may hold the loop together."""
ENDED: Any = object()
"""In place of what is awaited."""
Done = Callable[[Job, Any, "BaseException | None"], None]
Future = asyncio.Future[tuple[Any, "Exception | None"]]


class Executor:
    """Runs at most `slots` calls at once: coroutines on the loop, plain functions in threads.

    Coroutines that never wait are run one after the other by one task, because a task for each is a quarter of a
    quick call's cost. As soon as one waits, that task is its own, and the next call gets another; but an `Outcome` may
    be waited for without one (see `Parked`).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        slots: int,
        done: Done,
        name: str,
        *,
        worked_off: Callable[[], None] = lambda: None,
        places: int = 1_000,
        blocked: Callable[[Job, float], None] = lambda *_: None,
    ) -> None:
        """`done` takes what becomes of each call; `worked_off` is told when none is left that could run now.

        `blocked` is told which call has held the loop, and for how many seconds, once it was more than `BLOCKED`.

        `places`: calls that may wait without a slot, so that there is still something delivered for those with one.
        """
        self._loop, self._done, self._worked_off, self._blocked = loop, done, worked_off, blocked
        self.scheduler = Scheduler(loop, slots, places, pump=self._pump, refuse=self._refuse)
        self.add = self.scheduler.add  # queues the calls of a message, and starts what there are slots for
        self.step_out, self.step_in = self.scheduler.step_out, self.scheduler.step_in
        self._parked = Parked(self._resume)
        self._starters = 0
        """Tasks that are about to take, or are taking, calls that have not waited for anything."""
        self._together = False
        """The last call that began had to wait, so the next ones will, too: they begin in one turn of the loop. What
        they wait for, such as a store, then gets all of them at once."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._active: set[Job] = set()
        """Calls that outlast a turn of the loop."""
        self._threads = Threads(slots, name)
        self._returned: Coalescer[tuple[Job, Future | None, Any, Exception | None]] = Coalescer(loop, self._collect)
        self._first_step: Callable[[Job], Any] = first_step
        self._policed = self._closed = False
        self._deadlines: Deadlines[Job] = Deadlines(loop, time.monotonic, self._overdue)

    def police(self, make: Callable[[Slots], Around]) -> None:
        """Run every handler inside policies; before the first call."""
        self._first_step = first_step_in(make(self))
        self._policed = True

    @property
    def places(self) -> int:
        """See `Slots`."""
        return self.scheduler.places

    def held(self) -> list[Job]:
        """All that wait, and all that run and have outlasted a turn of the loop."""
        return [*self.scheduler.backlog.everything(), *self._active]

    def cancel(self, job: Job) -> bool:
        """Its caller has given it up. False: it has begun under a key, and runs to its end."""
        course = job.course
        if not job.started:
            self.scheduler.withdraw(job)
        elif job.context.key is not None and not (course is not None and course.outside):
            return False
        job.context.cancelled = True
        if job.task is not None and not (course is not None and course.threads):
            job.task.cancel()
        else:  # it has not begun, or it runs in a thread, which cannot be stopped: its slot stays taken until it ends
            self._finish(job, None, given_up(job))
        return True

    def in_threads(self) -> list[str]:
        """The methods of which calls are in threads."""
        return sorted(
            {
                job.method.name
                for job in self._active
                if (job.task is None and job.parked is None) or (job.course and job.course.threads)
            }
        )

    async def cancel_running(self, timeout: float) -> None:
        """The server stops: cancel coroutines that may be cancelled and let them end; give up on threads."""
        for job in list(self._active):
            self._overdue(job)
            if job.parked is not None and not job.parked.done():
                job.parked.waker = None
                self._tasks.add(self._loop.create_task(self._carry_on(job, job.parked)))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)

    def close(self) -> None:
        """Let go of threads and timers."""
        self._closed = True
        self.scheduler.backlog.close()
        self._deadlines.close()
        self._threads.close()

    # -- starting

    def _pump(self) -> None:
        wanted = self.scheduler.startable() + len(self._parked.resumable)
        if wanted > 1 and not self._together:
            wanted = 1
        while self._starters < wanted:
            self._start()

    def _resume(self) -> None:
        if not self._starters:
            self._start()

    def _start(self) -> None:
        self._starters += 1
        self._tasks.add(self._loop.create_task(self._work()))

    # -- coroutines

    async def _work(self) -> None:
        task: Any = asyncio.current_task()
        try:
            await self._work_off(task)
        finally:
            self._tasks.discard(task)

    async def _work_off(self, task: asyncio.Task[None]) -> None:
        self._held = 0.0
        take, inside, parked = self.scheduler.take, self._policed, self._parked
        while True:
            if parked.resumable:
                job = parked.resumable.popleft()
                waiting = self._step(job, task, job.coroutine.send, None)
            else:
                taken = take()
                if taken is None:
                    break
                job = taken
                if not (inside or job.method.is_async):
                    self._send_to_thread(job)
                    continue
                job.variables = copy_context()
                waiting = self._step(job, task, self._first_step, job)
            if waiting is not None:
                parked.ask()
                await self._wait(job, waiting)
                self._pump()
                return
            if task.cancelling():  # the handler cancelled its task, which must not hit the next one
                break
            if self._held > HOLD:  # replies and heartbeats have their turn
                self._held = 0.0
                parked.ask()
                await asyncio.sleep(0)
        self._starters -= 1
        if parked.asking:
            parked.ask()
        if not self._starters:
            self._worked_off()  # all that came together is answered: the answers need not wait for another turn
        self._pump()

    def _step(
        self, job: Job, task: asyncio.Task[None], step: Callable[[Any], Any], argument: Job | None
    ) -> Waiting | None:
        """Run it to its end, or to where it waits: then the rest of it, unless it needs no task to wait."""
        awaited, result, error = ENDED, None, None
        begin = time.perf_counter()
        try:
            awaited = job.variables.run(step, argument)
        except StopIteration as stop:
            result = stop.value
        except BaseException as raised:
            error = contained(job, raised)
        seconds = time.perf_counter() - begin
        job.busy += seconds
        self._held += seconds
        if seconds > BLOCKED:
            self._blocked(job, seconds)
        if awaited is not ENDED:
            course = job.course
            if course is not None and course.asking and type(awaited) is Outcome:
                self._watch(job)
                self._parked.park(job, awaited)
                return None
            self._suspend(job, task)
            return Waiting(awaited, job.variables, self._blocked, job)
        self._together = False
        if job.parked is not None:
            self._leave(job)
        else:
            job.seconds = job.busy
            self.scheduler.leave(job)
        self._finish(job, result, error)
        return None

    def _suspend(self, job: Job, task: asyncio.Task[None]) -> None:
        """It waits for something: others may start, and its deadline is watched."""
        job.task = task
        self._watch(job)
        job.parked = None
        self._starters -= 1
        self._together = True
        self._pump()

    def _watch(self, job: Job) -> None:
        if job.parked is None:
            self._active.add(job)
            self._deadlines.add(job)

    async def _carry_on(self, job: Job, outcome: Outcome) -> None:
        """Wait with a task after all: one that can be waited for."""
        task: Any = asyncio.current_task()
        job.task, job.parked = task, None
        try:
            await self._wait(job, Waiting(outcome, job.variables, self._blocked, job))
        finally:
            self._tasks.discard(task)

    async def _wait(self, job: Job, waiting: Waiting) -> None:
        result, error = None, None
        try:
            result = await waiting
        except asyncio.CancelledError as cancelled:
            error = why_cancelled(job, cancelled)
        except BaseException as raised:  # whatever a handler raises is its answer; it cannot end the loop
            error = contained(job, raised)
        job.task = None
        # A policy gave up on its threads: the slot stays taken. But they do not keep a server that stops from its end.
        if job.course is not None and job.course.threads and not self._closed:
            self._finish(job, result, error)
            await asyncio.wait(job.course.threads)
        self._leave(job)
        self._finish(job, result, error)

    def _leave(self, job: Job) -> None:
        """It has ended: give the slot back, and take what it took into account."""
        self.scheduler.leave(job)
        self._active.discard(job)
        self._deadlines.discard(job)
        # What it took from others: the loop while it held it, or its share of the slots. By the wall clock alone a
        # handler that only waits would seem slow, and calls to it would never be joined.
        seconds = time.monotonic() - job.started
        self.scheduler.usual.note(job.method, seconds, ended=not job.timed_out)
        job.seconds = max(job.busy, seconds / self.scheduler.slots)

    # -- threads

    def _send_to_thread(self, job: Job) -> None:
        self._active.add(job)
        self._deadlines.add(job)
        try:
            self._threads.run(functools.partial(self._block, job, None, copy_context()))
        except RuntimeError as error:  # the system has no more threads for us
            self._leave(job)
            self._finish(job, None, Overloaded(f"{job.method.name}: no thread to run it in: {error}"))

    def in_thread(self, job: Job) -> Future:
        """See `Slots`."""
        future: Future = self._loop.create_future()
        self._threads.run(functools.partial(self._block, job, future, copy_context()))
        return future

    def _block(self, job: Job, future: Future | None, variables: Variables) -> None:
        result, error = None, None
        try:
            variables.run(enter_context, job.context)
            result = variables.run(job.method.function, *job.args, **job.kwargs)
        except BaseException as raised:
            error = contained(job, raised)
        try:
            self._returned.add((job, future, result, error))
        except RuntimeError:  # the loop is closed: the server is gone, and the message goes to another one
            job.finished = True
            if future is not None:
                job.course.threads.discard(future)

    def _collect(self) -> None:
        inbox = self._returned.inbox
        while inbox:
            job, future, result, error = inbox.popleft()
            if future is not None:
                future.set_result((result, error))
                continue
            self._leave(job)
            self._finish(job, result, error)
        self._pump()

    # -- ending

    def _finish(self, job: Job, result: Any, error: BaseException | None) -> None:
        if not job.finished:
            job.finished = True
            try:
                self._done(job, result, error)
            except Exception:  # the calls behind it must not wait for ever
                log.exception("the answer of %s was lost", job.method.name)

    def _refuse(self, job: Job, error: RpcError) -> None:
        self._finish(job, None, error)

    def _overdue(self, job: Job) -> None:
        """Its time is up, or the server's: nobody waits for the answer any more."""
        job.context.cancelled = True
        job.timed_out = True
        course = job.course
        if course is not None and course.outside and job.task is not None:  # another call does what it waits for
            self._finish(job, None, in_progress(job, None))
            job.task.cancel()
        elif course is not None and course.recorded is not None:  # it runs to its end: a repeat gets its outcome
            self._finish(job, None, in_progress(job, course.recorded))
        elif job.task is not None and not (course is not None and course.threads):
            if job.context.key is None:  # a keyed call runs to its end: its outcome must be known
                job.task.cancel()
        elif job.parked is not None:
            pass  # as a keyed call
        else:  # a thread cannot be stopped: its slot stays taken until it ends
            self._finish(job, None, interrupted(job))
