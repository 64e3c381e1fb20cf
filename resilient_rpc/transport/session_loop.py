"""Keeps one session open: connects, waits until it is lost, backs off, connects again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from resilient_rpc.transport.backoff import Backoff

log = logging.getLogger(__name__)


class Closable(Protocol):
    """A session."""

    async def close(self) -> None:
        """End it."""


S = TypeVar("S", bound=Closable)


class SessionLoop(Generic[S]):
    """One session at a time, for as long as its owner wants one. Lives on one loop.

    `opened(session)` is called for each new session, `failed(error)` after each attempt that failed; the owner calls
    `lost()` when a session reports that it ended. A `ConfigurationError` (bad credentials, a queue with other
    arguments) is retried as slowly as anything else: somebody may mend it.
    """

    def __init__(
        self,
        open_: Callable[[], Coroutine[Any, Any, S]],
        *,
        opened: Callable[[S], None],
        failed: Callable[[BaseException], None],
        urgent: Callable[[], bool],
        backoff: Backoff,
    ) -> None:
        self._open, self._opened, self._failed, self._urgent, self._backoff = open_, opened, failed, urgent, backoff
        self.session: S | None = None
        self.last_error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._closed = False
        self._losses = 0

    def start(self) -> None:
        """Begin to connect, if that has not begun yet."""
        if self._task is None and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._keep(), name="rpc-session")

    def hurry(self) -> None:
        """A call is waiting now: do not sleep longer than the urgent delay."""
        if self.session is None:
            self._changed.set()

    def lost(self, error: BaseException) -> None:
        """The session ended."""
        if self.session is not None and not self._closed:
            log.warning("the connection was lost: %s", error)
        self.last_error = error
        self.session = None
        self._losses += 1
        self._changed.set()

    async def close(self) -> None:
        """End the session and stop connecting."""
        self._closed = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))
        session, self.session = self.session, None
        if session is not None:
            await session.close()

    async def _keep(self) -> None:
        failures = 0
        while not self._closed:
            losses = self._losses
            try:
                session = await self._open()
            except Exception as error:
                self._note(error)
            else:
                if self._losses == losses:  # else it ended before this task could run again
                    failures = 0
                    await self._hold(session)
            await self._pause(failures)
            failures += 1

    async def _hold(self, session: S) -> None:
        """Until it is lost."""
        self.last_error = None
        self._changed.clear()
        self.session = session
        try:
            self._opened(session)
        except Exception:
            log.exception("the owner of a connection failed when it was told of it")
        while self.session is session:
            await self._changed.wait()
            self._changed.clear()

    def _note(self, error: BaseException) -> None:
        # Once in an outage it is news; with every attempt it would be noise.
        log.log(logging.DEBUG if self.last_error is not None else logging.WARNING, "no connection: %s", error)
        self.last_error = error
        self._failed(error)

    async def _pause(self, failures: int) -> None:
        loop = asyncio.get_running_loop()
        urgent = self._urgent()
        until = loop.time() + self._backoff.delay(failures, urgent=urgent)
        self._changed.clear()
        while (left := until - loop.time()) > 0:
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return
            self._changed.clear()
            if not urgent and self._urgent():
                urgent = True
                until = min(until, loop.time() + self._backoff.delay(failures, urgent=True))
