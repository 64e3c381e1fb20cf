"""An outcome that a call may wait for without a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Outcome(asyncio.Future[Any]):
    """A future like any other, for whoever awaits it in a task.

    A server that drives the coroutine of a call by itself may set `waker` and `waiting` instead: then it is told, once,
    that the coroutine can go on. That spares a task for each call, and two turns of the loop for each outcome. It is
    sound only while no frame of the coroutine belongs to somebody who has taken note of the current task.
    """

    __slots__ = ("hurry", "waiter", "waker")

    def __init__(self, loop: asyncio.AbstractEventLoop, hurry: Callable[[], None]) -> None:
        super().__init__(loop=loop)
        self.hurry = hurry
        """Sends what was asked for in this turn of the loop, and need not wait for its end."""
        self.waker: Callable[[Any], None] | None = None
        self.waiter: Any = None

    def settle(self, result: Any) -> None:
        """Set the result, unless it is done."""
        if not self.done():
            self.set_result(result)
            if self.waker is not None:
                self.waker(self.waiter)

    def fail(self, error: BaseException) -> None:
        """Set the exception, unless it is done."""
        if not self.done():
            self.set_exception(error)
            if self.waker is not None:
                self.waker(self.waiter)
