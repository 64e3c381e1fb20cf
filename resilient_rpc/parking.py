"""An outcome that a call may wait for without a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any

Told = Callable[[Any], object]


class Outcome:
    """What something will come to, awaited once: by a task, as a future is, or parked.

    A task awaits it by what asyncio asks of an object like a future (`asyncio.isfuture`). A server that drives the
    coroutine of a call by itself sets `waker` and `waiter` instead when the coroutine yields it: then the waker is
    called, once, when the coroutine can go on. That spares a task for each call, and two turns of the loop for each
    outcome. It is sound only while no frame of the coroutine is of somebody who may have taken note of the task that is
    the current one.

    A third of the cost of `asyncio.Future`, which asks the loop whether it debugs.
    """

    __slots__ = (
        "_asyncio_future_blocking", "_cancelled", "_context", "_done", "_error", "_loop", "_result", "_soon",
        "_told", "hurry", "waiter", "waker",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, soon: Callable[[], None], hurry: Callable[[], None]) -> None:
        """`hurry` sends at once what was asked for; `soon` at the end of this turn of the loop, for tasks."""
        self._loop, self._soon, self.hurry = loop, soon, hurry
        self._asyncio_future_blocking = self._done = self._cancelled = False
        self._result: Any = None
        self._error: BaseException | None = None
        self._told: Told | None = None
        self.waker: Callable[[Any], None] | None = None
        self.waiter: Any = None

    def settle(self, result: Any, error: BaseException | None = None) -> None:
        """Give it its result, or an error. Nothing if it has one, or was cancelled."""
        if self._done:
            return
        self._done, self._result, self._error = True, result, error
        if self.waker is not None:
            self.waker(self.waiter)
        elif self._told is not None:
            self._loop.call_soon(self._told, self, context=self._context)

    def done(self) -> bool:
        """Whether it is settled or cancelled."""
        return self._done

    def cancelled(self) -> bool:
        """Whether whoever awaited it was cancelled."""
        return self._cancelled

    def result(self) -> Any:
        """The result; raises the error."""
        if not self._done:
            raise asyncio.InvalidStateError("not settled yet")
        if self._error is not None:
            raise self._error
        return self._result

    def __await__(self) -> Generator[Outcome, None, Any]:
        if not self._done:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    # -- what a task asks of it

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that it belongs to."""
        return self._loop

    def add_done_callback(self, told: Told, /, *, context: Context | None = None) -> None:
        """Have it called in the loop's next turn after this is done; one only."""
        self._told, self._context = told, context
        if not self._done:
            self._soon()
        else:
            self._loop.call_soon(told, self, context=context)

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002 - as that of a future
        """Nobody waits for it any more; False: it was done."""
        if self._done:
            return False
        self._cancelled = True
        self.settle(None, asyncio.CancelledError())
        return True
