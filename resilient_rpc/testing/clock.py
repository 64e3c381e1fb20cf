"""VirtualClock: hours of waiting in milliseconds, for blocking and for asyncio code alike, and always the same."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import math
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator, Sequence
from threading import get_ident
from typing import Any, Self, TypeVar

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.ioloop import IoLoop, must_not_be_io_thread
from resilient_rpc.loops import AsyncioRuntime, adopt
from resilient_rpc.pending import Pending, Started
from resilient_rpc.runtime import BlockingRuntime, drive
from resilient_rpc.testing.loop import VirtualLoop
from resilient_rpc.testing.timeline import Park, Timeline, VirtualDeadlock

T = TypeVar("T")
__all__ = ["VirtualClock", "VirtualDeadlock"]


class VirtualClock:
    """A clock that jumps to the next timer as soon as all who take part in it wait.

    ::

        with VirtualClock() as clock:
            clock.run(one, another)  # blocking functions, each in a thread of its own
            clock.run_async(third, fourth)  # coroutine functions, as tasks of one loop
            drive(handler(Call(..., runtime=clock.blocking)))  # or simply here

    `blocking` is the runtime of blocking callers, `io` their I/O loop; on a loop of `new_loop()`, `running_runtime()`
    is one of this clock, and `loop.time()` and `call_later` are virtual. Threads that wait for anything but the runtime
    must be told to the clock: `with clock.busy()`. Time stands still while nobody waits in the foreground.

    `start`: seconds at the beginning. `patience`: real seconds without any progress after which a test is told, by
    `VirtualDeadlock`, who waits for what.
    """

    def __init__(self, *, start: float = 1000.0, patience: float = 5.0) -> None:
        self._timeline = Timeline(start)
        self._patience = patience
        self._inside: set[int] = set()
        self._io: IoLoop | None = None
        self._making = threading.Lock()
        self.now = self._timeline.now
        self.blocking = BlockingRuntime(io=lambda: self.io, clock=self.now, block=self.block)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def io(self) -> IoLoop:
        """The I/O loop of this clock; made on first use."""
        with self._making:
            if self._io is None:
                self._io = _VirtualIoLoop(self, lambda: self._new_loop("the I/O loop", foreground=False))
            return self._io

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """An event loop in this clock's time, for `asyncio.Runner(loop_factory=...)`. It takes part while it runs."""
        return self._new_loop("an event loop")

    def run(self, *functions: Callable[[], Any], return_errors: bool = False) -> list[Any]:
        """Run each function in a thread of its own (a coroutine function: on a loop of its own there); the results.

        Raises the first error, in the order of the functions, or with `return_errors` puts each in its place.
        """
        outcomes: list[Any] = [None] * len(functions)
        threads = [
            threading.Thread(target=self._run_one, args=(function, place, outcomes), name=_name(function), daemon=True)
            for place, function in enumerate(functions)
        ]
        for _ in threads:  # all are counted before the first one runs
            self._timeline.enter()
        for thread in threads:
            thread.start()
        self._join(threads)
        failed = [outcome.error for outcome in outcomes if outcome.error is not None]
        if failed and not return_errors:
            raise failed[0]
        return [outcome.error or outcome.value for outcome in outcomes]

    def run_async(self, *functions: Callable[[], Coroutine[Any, Any, Any]], return_errors: bool = False) -> list[Any]:
        """Run coroutine functions as tasks of one new loop, in this thread; else as `run`."""

        async def together() -> list[Any]:
            tasks = [asyncio.create_task(function(), name=_name(function)) for function in functions]
            return await asyncio.gather(*tasks, return_exceptions=True)

        with asyncio.Runner(loop_factory=self.new_loop) as runner:
            results = runner.run(together())
        self._settle()
        return results if return_errors else without_errors(results)

    def advance(self, seconds: float) -> None:
        """Let so much time pass, with all that falls due in it; then wait until that has been done."""
        if not 0 <= seconds < math.inf:
            raise ConfigurationError(f"time goes forward by a finite number of seconds, not {seconds!r}")
        drive(self.blocking.sleep(seconds))
        self._settle()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Time waits for the body: for threads that work in real time, such as a thread that executes handlers."""
        self._timeline.enter(foreground=False)
        try:
            yield
        finally:
            self._timeline.leave(foreground=False)

    def close(self) -> None:
        """End the I/O loop and what runs on it."""
        io = self._io
        if io is not None:
            self._timeline.settle(self._patience)
            self._timeline.hold(1)  # what is cancelled may wait a little before it ends
            try:
                if not io.stop(self._patience):
                    raise VirtualDeadlock("the I/O loop does not end: something on it does not let itself be cancelled")
            finally:
                self._timeline.hold(-1)

    def block(self, pendings: Sequence[Pending[Any]], timeout: float) -> Pending[Any] | None:
        """As `Runtime.wait`, in this thread. One that is not of `run` takes part only while it waits."""
        must_not_be_io_thread()
        for pending in pendings:
            if pending.done():
                return pending
        if timeout <= 0:
            return None
        if get_ident() in self._inside:
            return self._block(pendings, timeout)
        self._timeline.enter()
        try:
            return self._block(pendings, timeout)
        finally:
            self._timeline.leave()

    def _new_loop(self, name: str, *, foreground: bool = True, counted: bool = True) -> asyncio.AbstractEventLoop:
        loop = VirtualLoop(self._timeline, name, self._patience, foreground=foreground, counted=counted)
        adopt(AsyncioRuntime(loop, clock=self.now))
        return loop

    def _block(self, pendings: Sequence[Pending[Any]], timeout: float) -> Pending[Any] | None:
        gate = threading.Lock()
        gate.acquire()
        park = Park(f"{threading.current_thread().name} (for {len(pendings)} pending)", gate.release)
        wake = functools.partial(self._timeline.wake, park)
        try:
            for pending in pendings:
                if not pending.watch(wake):
                    return pending
            if self._timeline.park(park, self.now() + timeout):
                while not gate.acquire(timeout=self._patience):
                    if waiting := self._timeline.stuck():
                        raise VirtualDeadlock(f"no timer is set, and all wait for each other: {waiting}")
            return next((pending for pending in pendings if pending.done()), None)
        finally:
            self._timeline.resume(park)
            for pending in pendings:
                pending.unwatch(wake)

    def _run_one(self, function: Callable[[], Any], place: int, outcomes: list[Any]) -> None:
        self._inside.add(get_ident())
        outcome = outcomes[place] = _Outcome()
        try:
            if inspect.iscoroutinefunction(function):
                with asyncio.Runner(loop_factory=lambda: self._new_loop(_name(function), counted=False)) as runner:
                    outcome.value = runner.run(function())
            else:
                outcome.value = function()
        except BaseException as error:
            outcome.error = error
        finally:
            self._inside.discard(get_ident())
            self._timeline.leave()

    def _join(self, threads: list[threading.Thread]) -> None:
        for thread in threads:
            seen = -1
            while thread.is_alive():
                thread.join(self._patience)
                if thread.is_alive() and seen == self._timeline.moves:
                    raise VirtualDeadlock(_where(thread, self._patience))
                seen = self._timeline.moves
        self._settle()

    def _settle(self) -> None:
        if not self._timeline.settle(self._patience):
            raise VirtualDeadlock(f"after {self._patience:g} s of real time somebody still runs")


class _Outcome:
    """What became of one function."""

    value: Any = None
    error: BaseException | None = None


class _VirtualIoLoop(IoLoop):
    """An I/O loop in virtual time."""

    def __init__(self, clock: VirtualClock, make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._clock = clock
        super().__init__(make_loop=make_loop, clock=clock.now, name="virtual-io")

    def _block(self, started: Started[Any], timeout: float) -> Pending[Any] | None:
        return self._clock.block((started,), timeout)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", "") or repr(function)


def _where(thread: threading.Thread, patience: float) -> str:
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - the way that the standard library documents
    stack = "".join(traceback.format_stack(frame)) if frame is not None else "(it has just ended)"
    return (
        f"{thread.name} has done nothing for {patience:g} s of real time. It waits outside of the clock, at:\n{stack}"
    )


def without_errors(outcomes: list[Any]) -> list[Any]:
    """The outcomes, if none is an error: the first one is raised."""
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return outcomes
