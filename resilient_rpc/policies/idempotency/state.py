"""What an `Idempotency` keeps: executions under way, answers, and how many wait."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from resilient_rpc import forking
from resilient_rpc.loops import AsyncioRuntime
from resilient_rpc.pending import Pending
from resilient_rpc.policies.idempotency.flights import Flights
from resilient_rpc.policies.idempotency.local import Local

if TYPE_CHECKING:
    from resilient_rpc.policies.idempotency.leases import Leases
    from resilient_rpc.policy import Runtime
    from resilient_rpc.stores.base import Store

T = TypeVar("T")
SETTLED_WITHIN = 4.0
"""Seconds that the last server waits at its end for the store to take the answers that it has sent."""


class State:
    """Shared by all servers of a policy, and handed to the one that replaces it."""

    def __init__(self, local: int) -> None:
        self.local_records = local
        self._lock = threading.Lock()
        self._closers: weakref.WeakSet[Runtime] = weakref.WeakSet()
        self._begin_anew()
        forking.register(self)

    def after_fork(self) -> None:
        """Flights and waiters are the parent's."""
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._closers = weakref.WeakSet()
        self.latest: Runtime | None = None
        """Of the call before: mostly that of the next one, too, and a look into the set takes a microsecond."""
        self.flights, self.local, self.waiting = Flights(), Local(self.local_records), 0
        self._unsettled: set[Pending[None]] = set()

    def line_up(self, places: int) -> bool:
        """Be one of those who wait; False: there are so many already."""
        with self._lock:
            if self.waiting >= places:
                return False
            self.waiting += 1
            return True

    def leave(self) -> None:
        """Wait no longer."""
        with self._lock:
            self.waiting -= 1

    def unsettled(self) -> Pending[None]:
        """An answer was sent that the store has not taken; `settled` ends it."""
        answer: Pending[None] = Pending()
        with self._lock:
            self._unsettled.add(answer)
        return answer

    def settled(self, answer: Pending[None]) -> None:
        """It has taken it, or never will."""
        with self._lock:
            self._unsettled.discard(answer)
        answer.set(None)

    def close_with(self, runtime: Runtime, store: Store, leases: Leases) -> None:
        """Have the store close what belongs to the loop of `runtime` when the server that it is of stops."""
        with self._lock:
            self.latest = runtime
            known = runtime in self._closers
            self._closers.add(runtime)
        if not known:
            runtime.start(lambda _: self._close_at_the_end(runtime, store, leases))

    async def _close_at_the_end(self, runtime: Runtime, store: Store, leases: Leases) -> None:
        never: Pending[None] = Pending()
        try:
            await runtime.wait((never,), math.inf)
        finally:
            with self._lock:
                self._closers.discard(runtime)
                self.latest = None
                last = not self._closers
            if last:
                await self._settle(runtime)
                leases.close()
            await store.close()

    async def _settle(self, runtime: Runtime) -> None:
        """An answer that ends with its process is one that the next repeat does not get."""
        until = runtime.now() + SETTLED_WITHIN
        while (left := until - runtime.now()) > 0:
            with self._lock:
                unsettled = tuple(self._unsettled)
            if not unsettled:
                return
            await runtime.wait(unsettled, left)


def ask(runtime: Runtime, step: Coroutine[Any, Any, T]) -> Awaitable[T]:
    """Put a question to the store: on this loop, or for a blocking caller on the I/O loop."""
    return step if isinstance(runtime, AsyncioRuntime) else _ask_elsewhere(runtime, step)


async def _ask_elsewhere(runtime: Runtime, step: Coroutine[Any, Any, T]) -> T:
    started = runtime.start(lambda _: step)
    try:
        await runtime.wait((started,), math.inf)
    finally:
        started.cancel()
    return started.result()
