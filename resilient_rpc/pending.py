"""Pending and Started: the only things that anybody waits on."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from resilient_rpc.errors import fresh

T = TypeVar("T")
Wake = Callable[[], None]

# One lock for all: it is held for a few instructions, and a lock for each pending call would be a quarter of its
# memory. Re-entrant, because the garbage collector may settle something while this thread holds it.
_lock = threading.RLock()


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603 - the child of a fork may have inherited a held lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)


class Pending(Generic[T]):
    """A result that is still to come. Settled once, from any thread or loop; waited on from any."""

    __slots__ = ("__weakref__", "_done", "_error", "_value", "_wakes")

    def __init__(self) -> None:
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._wakes: Wake | list[Wake] | None = None

    def set(self, value: T) -> bool:
        """Settle with a value. False: it was settled already (the loser of a race)."""
        return self._settle(value, None)

    def fail(self, error: BaseException) -> bool:
        """Settle with an error. False: it was settled already."""
        return self._settle(None, error)

    def done(self) -> bool:
        """Whether it is settled."""
        return self._done

    def result(self) -> T:
        """The value, or raise a fresh copy of the error. Settled already: this does not wait."""
        if not self._done:
            raise RuntimeError("not settled yet; wait with the call's runtime")
        if self._error is not None:
            raise fresh(self._error) from self._error.__cause__
        value: T = self._value
        return value

    def watch(self, wake: Wake) -> bool:
        """Have `wake` called once when it is settled; False: it is. For runtimes; `wake` must be quick."""
        with _lock:
            if self._done:
                return False
            known = self._wakes
            if known is None:
                self._wakes = wake
            elif isinstance(known, list):
                known.append(wake)
            else:
                self._wakes = [known, wake]
            return True

    def unwatch(self, wake: Wake) -> None:
        """Take back `watch`."""
        with _lock:
            known = self._wakes
            if known is wake:
                self._wakes = None
            elif isinstance(known, list) and wake in known:
                known.remove(wake)

    def _settle(self, value: Any, error: BaseException | None) -> bool:
        with _lock:
            if self._done:
                return False
            self._value, self._error, self._done = value, error, True
            wakes, self._wakes = self._wakes, None
        if wakes is not None:
            if isinstance(wakes, list):
                for wake in wakes:
                    wake()
            else:
                wakes()
        return True


class Started(Pending[T]):
    """A Pending that a task beside the caller settles."""

    __slots__ = ("_cancelled", "_loop", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False

    def run_as(self, task: asyncio.Task[Any]) -> None:
        """Take the task that will settle it; on its loop. Cancels it at once if that was asked for meanwhile."""
        self._task = task
        if self._cancelled:
            task.cancel()

    def cancel(self) -> None:
        """Cancel the task; from any thread. No effect once it is settled."""
        self._cancelled = True
        if self._done:
            return
        try:
            self._loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:  # its loop is closed: nobody else will settle it
            self.fail(asyncio.CancelledError())

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
