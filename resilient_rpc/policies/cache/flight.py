"""Single-flight: one caller fetches a value, the others wait for it, each with its own runtime and deadline."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import ContextVar
from enum import Enum
from threading import get_ident
from typing import TYPE_CHECKING, TypeAlias

from resilient_rpc.loops import AsyncioRuntime
from resilient_rpc.pending import Pending
from resilient_rpc.policies.cache.keys import Key

if TYPE_CHECKING:
    from resilient_rpc.call import Call
    from resilient_rpc.policies.cache.entries import Entry, Shard
    from resilient_rpc.policy import Runtime


class Told(Enum):
    """What a waiter is told when there is neither a value nor an error for it."""

    LEAD = 1
    """The leader gave up for reasons of its own: fetch it yourself, for the others too."""
    ALONE = 2
    """The answer is not to be shared: send your own call."""
    GONE = 3
    """Said by a waiter that has given up."""


LEAD, ALONE, GONE = Told

_leading: ContextVar[tuple[Flight, ...]] = ContextVar("resilient_rpc_leading", default=())


class Failed:
    """An error about the target, which concerns all who wait."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


Outcome: TypeAlias = "Entry | Failed | Told"
"""What a waiter is told."""


class Flight:
    """A fetch under way. In the table of its shard from its beginning to its end."""

    __slots__ = ("_key", "_over", "_shard", "_waiters", "thread")

    def __init__(self, key: Key, shard: Shard) -> None:
        self._key, self._shard = key, shard
        self._waiters: deque[Pending[Outcome]] | None = None
        self._over = False
        self.thread = 0
        """Of a leader that blocks it."""

    def join(self) -> Pending[Outcome] | None:
        """Wait for it; None: it has just ended."""
        with self._shard.lock:
            if self._over:
                return None
            if self._waiters is None:
                self._waiters = deque()
            waiter: Pending[Outcome] = Pending()
            self._waiters.append(waiter)
            return waiter

    async def wait(self, waiter: Pending[Outcome], call: Call) -> Outcome | None:
        """What a waiter is told; None: its deadline passed. A lead that it can not take is passed on."""
        try:
            settled = await call.runtime.wait((waiter,), max(call.remaining(), 0.0))
        except BaseException:
            if not waiter.set(GONE) and waiter.result() is LEAD:
                self.hand_on()
            raise
        if settled is None and waiter.set(GONE):
            return None
        return waiter.result()

    def land(self, outcome: Outcome, keep: Entry | None = None) -> bool:
        """It has ended for all who wait, and there is an entry to `keep`; False: which is too large for the store."""
        shard = self._shard
        with shard.lock:
            fits = keep is None or shard.keep(self._key, keep)
            self._end()
            waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            waiter.set(outcome)
        return fits

    def hand_on(self) -> None:
        """The leader gives up: the one who has waited longest leads. Without any it ends."""
        while True:
            with self._shard.lock:
                if not self._waiters:
                    self._end()
                    return
                waiter = self._waiters.popleft()
            if waiter.set(LEAD):
                return

    def must_not_join(self, runtime: Runtime) -> bool:
        """Whether waiting for it would be waiting for oneself, or keep the leader's loop from running."""
        if self in _leading.get():
            return True
        if isinstance(runtime, AsyncioRuntime):
            return False
        # A blocking caller on a thread that runs a loop: the leader, or who leads next, may be a task of that loop.
        return self.thread == get_ident() or asyncio._get_running_loop() is not None  # noqa: SLF001 - as in the client

    def _end(self) -> None:
        self._over = True
        flights = self._shard.flights
        if flights.get(self._key) is self:
            del flights[self._key]


def leads(flight: Flight, runtime: Runtime) -> tuple[Flight, ...]:
    """From here on, calls of this thread or task, and of tasks made by it, do not join; what to give to `lead_of`."""
    before = _leading.get()
    _leading.set((*before, flight))
    flight.thread = 0 if isinstance(runtime, AsyncioRuntime) else get_ident()
    return before


def lead_of(before: tuple[Flight, ...]) -> None:
    """What this thread or task leads is what it led before."""
    _leading.set(before)
