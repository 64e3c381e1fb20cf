"""One step on its way from an event loop to a thread and back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from resilient_rpc.stores.errors import StoreUnavailable
from resilient_rpc.stores.sql.workers import Talk, Workers

T = TypeVar("T")


class Job(Generic[T]):
    """`undo` takes back what was done for somebody who is not there any more to hear of it."""

    def __init__(self, work: Callable[[Talk], T], undo: Callable[[Talk, T], object] | None = None) -> None:
        self._work, self._undo = work, undo
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Future[None] = self._loop.create_future()
        self._lock = threading.Lock()
        self._given_up = False
        self._results: list[T] = []
        self._error: Exception | None = None

    async def done(self, workers: Workers, timeout: float) -> T:
        """Have it done; raises what it raised, or `StoreUnavailable` after `timeout` seconds."""
        workers.put(self)
        try:
            async with asyncio.timeout(timeout):
                await self._told
        except BaseException as error:
            with self._lock:
                self._given_up = True
                there = bool(self._results)
            if there:
                workers.put(self._take_back)
            if isinstance(error, TimeoutError):
                raise StoreUnavailable("the database did not answer in time", reason="timeout") from None
            raise
        if self._error is not None:
            raise self._error
        return self._results[0]

    def __call__(self, talk: Talk) -> None:
        """In a thread."""
        if self._given_up:
            return
        try:
            result = self._work(talk)
        except Exception as error:
            self._error = error
        else:
            if not self._hand_over(result):
                self._take_back(talk)
                return
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
            self._loop.call_soon_threadsafe(self._tell)

    def _hand_over(self, result: T) -> bool:
        with self._lock:
            self._results.append(result)
            return not self._given_up

    def _tell(self) -> None:
        if not self._told.done():
            self._told.set_result(None)

    def _take_back(self, talk: Talk) -> None:
        if self._undo is not None:
            with contextlib.suppress(Exception):  # the lease ends by itself
                self._undo(talk, self._results[0])
