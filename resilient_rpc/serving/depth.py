"""Depth: how many messages wait in a server's queue, as the broker counts them, and whether that is over a limit.

It asks the broker where somebody asked it, and by itself only where there is a limit: at most once a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from resilient_rpc import events
from resilient_rpc.errors import RpcError
from resilient_rpc.hub import Events
from resilient_rpc.transport.base import QueueState

log = logging.getLogger(__name__)
EVERY = 1.0
"""Seconds between two looks."""
WITHIN = 5.0
"""Seconds that the broker has for an answer: in an alarm it reads nothing."""
RELIEF = 0.8
"""Share of the limit below which it counts as passed no more: else a queue at its limit would be news each second."""


class Inspecting(Protocol):
    """A session that can ask."""

    async def inspect(self, target: str) -> QueueState | None:
        """See `transport.base.Publisher`."""


class Depth:
    """Lives on the server's loop."""

    def __init__(self, queue: str, session: Callable[[], Inspecting | None], hub: Events, limit: int | None) -> None:
        """`session`: the one to ask by, if there is one now; `limit`: see `QueueLimit`."""
        self._queue, self._session, self._hub, self._limit = queue, session, hub, limit
        self.last: QueueState | None = None
        """What the broker said; None: nothing yet, or that there is no such queue."""
        self._looked = -EVERY
        self._looking: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self.over = False
        self._closed = False

    def start(self) -> None:
        """Watch the limit, if there is one."""
        if self._limit is not None:
            self._watching = _task(self._watch())

    @property
    def age(self) -> float:
        """Seconds since the last answer, or attempt."""
        return time.monotonic() - self._looked

    def refresh(self, older_than: float = EVERY) -> None:
        """Look, unless that was done a moment ago or is being done; on the loop."""
        if self._looking is None and self.age >= older_than and not self._closed:
            self._looking = _task(self._look())

    async def now(self) -> QueueState | None:
        """What the broker says, at most a second old; what it said before, if it does not answer."""
        self.refresh()
        if self._looking is not None:
            await asyncio.wait((self._looking,))
        return self.last

    async def close(self) -> None:
        """Look no more."""
        self._closed = True
        tasks = [task for task in (self._looking, self._watching) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            self.refresh(EVERY / 2)

    async def _look(self) -> None:
        session = self._session()
        try:
            if session is not None:
                with contextlib.suppress(RpcError, OSError, TimeoutError):  # it has just ended, or does not answer
                    async with asyncio.timeout(WITHIN):
                        self.last = await session.inspect(self._queue)
                        self._compare(self.last)
        finally:
            self._looked = time.monotonic()
            self._looking = None

    def _compare(self, found: QueueState | None) -> None:
        limit = self._limit
        if limit is None or found is None:
            return
        over = found.messages >= (limit * RELIEF if self.over else limit)
        if over is not self.over:
            self.over = over
            event = events.QueueLimit(
                queue=self._queue, over=over, messages=found.messages, consumers=found.consumers, limit=limit
            )
            self._hub.emit(event)


def _task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work, name="rpc-queue-depth")
