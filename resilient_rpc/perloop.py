"""What an object has once for each event loop: connections, which belong to the loop that opened them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from resilient_rpc import forking

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One `T` for each loop. Safe from any thread; after a fork the child has none, for they are the parent's.

    Args:
        end: Called with what belonged to a loop that was closed since, when it is forgotten; None: it just goes.
    """

    def __init__(self, end: Callable[[T], object] | None = None) -> None:
        self._end = end
        self._of: dict[asyncio.AbstractEventLoop, T] = {}
        self._lock = threading.Lock()
        forking.register(self)

    def __len__(self) -> int:
        return len(self._of)

    def after_fork(self) -> None:
        """Begin anew."""
        self._lock = threading.Lock()
        self._of = {}

    def get(self, make: Callable[[], T]) -> T:
        """That of the running loop, made if it has none yet; what belongs to closed loops is forgotten then."""
        loop = asyncio.get_running_loop()
        found = self._of.get(loop)
        return self._add(loop, make()) if found is None else found

    def pop(self) -> T | None:
        """That of the running loop, which is forgotten; None: it has none."""
        with self._lock:
            return self._of.pop(asyncio.get_running_loop(), None)

    def _add(self, loop: asyncio.AbstractEventLoop, made: T) -> T:
        with self._lock:
            closed = [self._of.pop(known) for known in list(self._of) if known.is_closed()]
            self._of[loop] = made
        if self._end is not None:
            for one in closed:
                self._end(one)
        return made
