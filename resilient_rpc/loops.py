"""AsyncioRuntime: how a coroutine waits on an event loop, and how other threads reach that loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

from resilient_rpc.pending import Pending, Started
from resilient_rpc.watchdog import Report, Stepped

if TYPE_CHECKING:
    from resilient_rpc.policy import Runtime

T = TypeVar("T")
Work = Callable[["Runtime"], Coroutine[Any, Any, T]]
_NAME = "_resilient_rpc_runtime"


class Inbox:
    """What other threads ask of a loop: many requests within a tick of the loop cost one wake-up of it."""

    __slots__ = ("_asked", "_awake", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asked: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._awake = False

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Call `function` on the loop, soon; from any thread. RuntimeError when the loop is closed."""
        self._asked.append((function, args))
        if not self._awake:
            try:
                self._awake = True
                self._loop.call_soon_threadsafe(self._drain)
            except BaseException:  # a closed loop, or Ctrl-C in between: the next one must wake the loop itself
                self._awake = False
                raise

    def _drain(self) -> None:
        # Lowered first: whoever saw it raised has appended before, and is among those counted now.
        self._awake = False
        for _ in range(len(self._asked)):
            function, args = self._asked.popleft()
            try:
                function(*args)
            except Exception as error:
                self._loop.call_exception_handler({"message": f"{function!r} failed", "exception": error})


class AsyncioRuntime:
    """Waits on one event loop; all but `call_soon` is used on that loop.

    There is one for each loop (`running_runtime`); `scope()` gives another one on the same loop, whose `aclose` ends
    only what was started through it. `clock`: seconds, monotonic. `blocked`: called when started work holds the loop.
    """

    __slots__ = ("__weakref__", "_blocked", "_closed", "_inbox", "_tasks", "loop", "now")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float] = time.monotonic,
        blocked: Report | None = None,
        inbox: Inbox | None = None,
    ) -> None:
        self.loop = loop
        self.now = clock
        self._blocked = blocked
        self._inbox = Inbox(loop) if inbox is None else inbox
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def scope(self) -> AsyncioRuntime:
        """A runtime on the same loop that keeps its own account of what it has started."""
        return AsyncioRuntime(self.loop, clock=self.now, blocked=self._blocked, inbox=self._inbox)

    def call_soon(self, function: Callable[..., object], *args: Any) -> None:
        """Call `function` on the loop; from any thread. RuntimeError when the loop is closed."""
        self._inbox.post(function, *args)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def wait(self, pendings: Sequence[Pending[Any]], timeout: float) -> Pending[Any] | None:
        """The first of `pendings` that is settled, or None after `timeout` seconds (`math.inf`: no limit)."""
        for pending in pendings:
            if pending.done():
                return pending
        if timeout <= 0:
            return None
        future = self.loop.create_future()
        wake = self._waker(future)
        if timeout == math.inf and len(pendings) == 1:
            pending = pendings[0]
            if pending.watch(wake):
                try:
                    await future
                except BaseException:
                    pending.unwatch(wake)
                    raise
            return pending
        return await self._first(pendings, timeout, future, wake)

    def start(self, work: Work[T]) -> Started[T]:
        """Run ``work(runtime)`` as a task of this loop. After `aclose`, what is started is cancelled at once."""
        started: Started[T] = Started(self.loop)
        self.begin(work, started, None)
        return started

    def begin(self, work: Work[T], started: Started[T], context: contextvars.Context | None) -> None:
        """Run `work` in `context` (None: a copy of the current one) and settle `started` with what becomes of it."""
        if self._closed:
            started.fail(asyncio.CancelledError())
            return
        task = self.loop.create_task(self._carry(work, started), context=context)
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not started.done():  # cancelled before its first step: `_carry` has never run
                started.fail(asyncio.CancelledError())

        task.add_done_callback(ended)
        started.run_as(task)

    def shut(self) -> None:
        """From now on, cancel at once whatever is started."""
        self._closed = True

    async def aclose(self, grace: float = 5.0) -> bool:
        """Cancel what was started and wait, at most `grace` seconds, until it has ended; False if some has not."""
        self.shut()
        me = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not me]
        for task in tasks:
            task.cancel()
        if not tasks:
            return True
        _, left = await asyncio.wait(tasks, timeout=grace)
        return not left

    async def _carry(self, work: Work[T], started: Started[T]) -> None:
        try:
            running = work(self)
            if self._blocked is None:
                started.set(await running)
            else:
                name = getattr(work, "__qualname__", "") or repr(work)
                started.set(await Stepped(running, self._blocked, name))
        except Exception as error:
            started.fail(error)
        except BaseException as error:  # cancelled, or the process is to end: the loop must see it too
            started.fail(error)
            raise

    def _waker(self, future: asyncio.Future[None]) -> Callable[[], None]:
        thread, post = get_ident(), self._inbox.post

        def wake() -> None:
            if get_ident() == thread:
                if not future.done():
                    future.set_result(None)
            else:
                with contextlib.suppress(RuntimeError):  # its loop is closed: the waiter is gone
                    post(_resolve, future)

        return wake

    async def _first(
        self,
        pendings: Sequence[Pending[Any]],
        timeout: float,
        future: asyncio.Future[None],
        wake: Callable[[], None],
    ) -> Pending[Any] | None:
        timer = None if timeout == math.inf else self.loop.call_later(timeout, _resolve, future)
        try:
            for pending in pendings:
                if not pending.watch(wake):
                    return pending
            await future
            return next((pending for pending in pendings if pending.done()), None)
        finally:
            if timer is not None:
                timer.cancel()
            for pending in pendings:
                pending.unwatch(wake)


async def end_all(tasks: Collection[asyncio.Future[Any]]) -> None:
    """Cancel them, and wait until all have ended, in whatever, and those who keep them were told."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)  # from Python 3.12 on, gather() of what has ended returns before its callbacks have run


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def running_runtime() -> AsyncioRuntime:
    """The runtime of the running loop. RuntimeError when none is running."""
    loop = asyncio.get_running_loop()
    runtime: AsyncioRuntime | None = getattr(loop, _NAME, None)
    return adopt(AsyncioRuntime(loop)) if runtime is None else runtime


def adopt(runtime: AsyncioRuntime) -> AsyncioRuntime:
    """Make `runtime` the one of its loop, and return it."""
    # On the loop itself: a map from loops to what holds them would keep every loop of the process alive.
    setattr(runtime.loop, _NAME, runtime)
    return runtime
