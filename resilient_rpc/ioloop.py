"""The I/O loop: the one background thread of a process on which blocking callers have their I/O done."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import importlib
import logging
import math
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from threading import get_ident
from typing import Any, TypeVar

from resilient_rpc import forking
from resilient_rpc.errors import DeadlineExceeded, UsageError
from resilient_rpc.events import LoopBlocked
from resilient_rpc.hub import Events
from resilient_rpc.loops import AsyncioRuntime, Work, adopt
from resilient_rpc.pending import Pending, Started

T = TypeVar("T")
log = logging.getLogger(__name__)

_io_threads: set[int] = set()


def must_not_be_io_thread() -> None:
    """UsageError on the thread of an I/O loop, which everything else would wait for."""
    if get_ident() in _io_threads:
        raise UsageError(
            "a blocking call on the I/O thread would stop every call of this process: "
            "await the runtime that started work is given, or hand the call to a thread of your own"
        )


def block(pendings: Sequence[Pending[Any]], timeout: float) -> Pending[Any] | None:
    """Block this thread until one of `pendings` is settled: that one, or None after `timeout` seconds."""
    must_not_be_io_thread()
    for pending in pendings:
        if pending.done():
            return pending
    if timeout <= 0:
        return None
    gate = threading.Lock()
    gate.acquire()
    limit = min(timeout, threading.TIMEOUT_MAX)
    if len(pendings) == 1:  # wakes once at most, so the gate's own release will do
        pending, release = pendings[0], gate.release
        if pending.watch(release):
            try:
                settled = gate.acquire(timeout=limit)
            except BaseException:
                pending.unwatch(release)
                raise
            if not settled:
                pending.unwatch(release)
        return pending if pending.done() else None
    return _block_on_many(pendings, gate, limit)


def _block_on_many(pendings: Sequence[Pending[Any]], gate: threading.Lock, limit: float) -> Pending[Any] | None:
    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the second to be settled finds the gate open
            gate.release()

    try:
        for pending in pendings:
            if not pending.watch(wake):
                return pending
        gate.acquire(timeout=limit)
        return next((pending for pending in pendings if pending.done()), None)
    finally:
        for pending in pendings:
            pending.unwatch(wake)


def new_loop() -> asyncio.AbstractEventLoop:
    """An event loop: uvloop's when it is installed."""
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class IoLoop:
    """An event loop in a daemon thread of its own. The process has one: `io_loop()`.

    `events` announces `LoopBlocked`; with nobody listening it is logged. `make_loop` and `clock` are for tests.
    """

    def __init__(
        self,
        *,
        make_loop: Callable[[], asyncio.AbstractEventLoop] = new_loop,
        clock: Callable[[], float] = time.monotonic,
        name: str = "resilient-rpc-io",
    ) -> None:
        self.loop = make_loop()
        self.events = Events()
        self.runtime = adopt(AsyncioRuntime(self.loop, clock=clock, blocked=self._report))
        self.call_soon = self.runtime.call_soon
        self._stopping = False
        ready = threading.Event()
        self._thread = threading.Thread(target=self._main, args=(ready,), name=name, daemon=True)
        self._thread.start()
        ready.wait()

    def start(self, work: Work[T], runtime: AsyncioRuntime | None = None) -> Started[T]:
        """Run ``work(runtime)`` on the loop, from any thread, with a copy of this thread's context variables."""
        started: Started[T] = Started(self.loop)
        begin = (self.runtime if runtime is None else runtime).begin
        self.call_soon(begin, work, started, contextvars.copy_context())
        return started

    def run(self, make: Callable[[], Coroutine[Any, Any, T]], timeout: float = math.inf) -> T:
        """Run a coroutine on the loop and block this thread for its result.

        After `timeout` seconds, or when this thread is interrupted, it is cancelled: DeadlineExceeded.
        """
        must_not_be_io_thread()
        started = self.start(lambda _: make())
        try:
            if self._block(started, timeout) is None:
                raise DeadlineExceeded(f"not done within {timeout:g} s on the I/O loop")
            return started.result()
        finally:
            started.cancel()

    def stop(self, timeout: float = 1.0) -> bool:
        """End the loop, cancelling what runs on it; False if it did not end within `timeout` seconds."""
        must_not_be_io_thread()
        if self._thread.is_alive():
            self._stopping = True
            try:
                self.loop.call_soon_threadsafe(self.loop.stop)
            except RuntimeError:  # closed meanwhile
                log.debug("the I/O loop is closed already")
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _block(self, started: Started[Any], timeout: float) -> Pending[Any] | None:
        return block((started,), timeout)

    def _main(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        _io_threads.add(get_ident())
        ready.set()
        try:
            while not self._stopping:
                try:
                    self.loop.run_forever()
                except BaseException:  # SystemExit in somebody's work must not end everybody's I/O
                    log.exception("work on the I/O loop tried to end it")
            self.loop.run_until_complete(self._wind_up())
        finally:
            _io_threads.discard(get_ident())
            asyncio.set_event_loop(None)
            self.loop.close()

    async def _wind_up(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
        await self.loop.shutdown_asyncgens()

    def _report(self, seconds: float, what: str) -> None:
        if self.events.wants(LoopBlocked):
            self.events.emit(LoopBlocked(seconds=seconds, what=what))
        else:
            log.warning("the I/O loop was held for %.0f ms by %s", seconds * 1e3, what)


class _Process:
    """The process's I/O loop."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.current: IoLoop | None = None
        self.inherited: list[IoLoop] = []

    def get(self) -> IoLoop:
        current = self.current
        if current is None:
            with self.lock:
                current = self.current
                if current is None:
                    current = self.current = IoLoop()
        return current

    def after_fork(self) -> None:
        # The parent's loop is kept as it is: closing it here would take its descriptors out of the parent's epoll.
        self.lock = threading.Lock()
        _io_threads.clear()
        if self.current is not None:
            self.inherited.append(self.current)
            self.current = None

    def stop(self) -> None:
        if self.current is not None:
            self.current.stop()


_process = _Process()
forking.register(_process)
atexit.register(_process.stop)  # at import, so that it runs after everything that users register


def io_loop() -> IoLoop:
    """The process's I/O loop; made on first use, and anew in a forked child."""
    return _process.get()
