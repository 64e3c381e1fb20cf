"""Gathers what one event-loop tick produced, from any thread, and hands it on as one."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Coalescer(Generic[T]):
    """A hand-over into a loop: `add` from any thread; `flush` is called on the loop, once for all that a tick brought.

    No waiting is added: a lone item leaves in the next turn of the loop. Many items from many threads cost one
    wake-up. `flush` takes what it wants from `inbox`; what it leaves stays for the next call.
    """

    __slots__ = ("_awake", "_flush", "_loop", "_thread", "inbox")

    def __init__(self, loop: asyncio.AbstractEventLoop, flush: Callable[[], None]) -> None:
        self._loop = loop
        self._flush = flush
        self._awake = False
        self._thread = 0
        self.inbox: deque[T] = deque()

    def add(self, item: T) -> None:
        """Append and wake the loop, from any thread. RuntimeError if the loop is closed."""
        self.inbox.append(item)
        if not self._awake:  # two threads may both see False: a second wake-up does no harm
            self.wake()

    def need(self) -> None:
        """Have `flush` called soon for what was put into `inbox` by itself."""
        if not self._awake:
            self.wake()

    def wake(self) -> None:
        """Have `flush` called in the loop's next turn."""
        self._awake = True
        try:
            if threading.get_ident() == self._thread:
                self._loop.call_soon(self._run)
            else:
                self._loop.call_soon_threadsafe(self._run)
        except RuntimeError:
            self._awake = False
            raise

    def _run(self) -> None:
        self._awake = False  # first: what comes from now on wakes the loop again
        if not self._thread:
            self._thread = threading.get_ident()
        self._flush()
