"""What `Client.submit` returns, and the thread on which its callbacks run."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

from resilient_rpc import forking
from resilient_rpc.pending import Started

log = logging.getLogger(__name__)


class CallbackThread:
    """Runs callbacks of users, one after the other, away from the I/O thread, which they could block."""

    def __init__(self) -> None:
        self._start_anew()
        forking.register(self)

    def _start_anew(self) -> None:
        self._lock = threading.Lock()
        self._work: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def after_fork(self) -> None:
        """The thread is the parent's."""
        self._start_anew()

    def post(self, work: Callable[[], object]) -> None:
        """Have it called; what it raises is logged."""
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._serve, name="resilient-rpc-callbacks", daemon=True)
                    self._thread.start()
        self._work.put(work)

    def _serve(self) -> None:
        while True:
            work = self._work.get()
            try:
                work()
            except BaseException:  # SystemExit too: it would end the callbacks of everybody else
                log.exception("a callback failed")


CALLBACKS = CallbackThread()


class CallFuture(Future[Any]):
    """A `concurrent.futures.Future` of a call. `cancel` gives the call up; callbacks run on the callback thread."""

    def __init__(self) -> None:
        super().__init__()
        self._started: Started[Any] | None = None

    def attach(self, started: Started[Any]) -> None:
        """Take what settles it."""
        self._started = started
        if not started.watch(self._settle):
            self._settle()
        if self.cancelled():
            started.cancel()

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Have `fn(future)` called on the callback thread when it is done."""
        super().add_done_callback(lambda future: CALLBACKS.post(lambda: fn(future)))

    def cancel(self) -> bool:
        """Give the call up: its waiting ends, and nothing of it is left behind. False if it has ended."""
        if not super().cancel():
            return False
        if self._started is not None:
            self._started.cancel()
        return True

    def _settle(self) -> None:
        if not self.set_running_or_notify_cancel():  # once, here alone: the user cancelled it
            return
        started = self._started
        try:
            result = started.result() if started is not None else None
        except BaseException as error:
            self.set_exception(error)
        else:
            self.set_result(result)


def tell(
    future: Future[Any] | asyncio.Future[Any],
    on_success: Callable[[Any], object] | None,
    on_error: Callable[[BaseException], object] | None,
    on_timeout: Callable[[BaseException], object] | None,
) -> None:
    """Have one of these called when a call has ended: with its result, or with its error; none if it was cancelled.

    Without `on_timeout` a call whose time was up is an error like any other.
    """

    def done(ended: Any) -> None:
        if ended.cancelled():
            return
        error = ended.exception()
        if error is None:
            hook, told = on_success, ended.result()
        else:
            hook, told = (on_timeout if isinstance(error, TimeoutError) and on_timeout else on_error), error
        if hook is not None:
            hook(told)

    if on_success is not None or on_error is not None or on_timeout is not None:
        future.add_done_callback(done)
