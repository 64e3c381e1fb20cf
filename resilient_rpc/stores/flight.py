"""Steps on their way to Redis as one message, for a bounded time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from resilient_rpc.stores.errors import StoreError
from resilient_rpc.stores.faults import Reason, unavailable
from resilient_rpc.stores.nodes import Nodes
from resilient_rpc.stores.steps import Step

log = logging.getLogger(__name__)
STALLED = 0.02
"""Seconds by which a timer is late when something held the loop."""


class Flight:
    """Lands once: then each step has an outcome. Of one loop."""

    __slots__ = ("_abandon", "_due", "_expired", "_landed", "_loop", "_nodes", "_over", "_task", "_timer", "steps")

    def __init__(
        self, steps: Sequence[Step], nodes: Nodes, loop: asyncio.AbstractEventLoop, landed: Callable[[Flight], None]
    ) -> None:
        self.steps = steps
        self._nodes, self._loop, self._landed = nodes, loop, landed
        self._due = steps[0].until
        self._expired = self._over = False
        self._abandon: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle

    def start(self, timeout: float) -> None:
        """`timeout`: how long a step may take."""
        self._timer = self._loop.call_at(self._due, self._late, timeout)
        self._abandon = self._nodes.launch(self.steps, self._answered)
        if self._abandon is None and not self._over:
            self._run()

    def cancel(self) -> asyncio.Task[None] | None:
        """Give it up; returned is what still has to end before it lands."""
        if self._task is not None:
            self._task.cancel()
        elif self._abandon is not None and not self._over:
            self._abandon()
            self._land()
        return self._task

    def _answered(self, settled: bool) -> None:
        if self._over:
            return
        if settled:
            self._land()
        else:
            self._run()

    def _run(self) -> None:
        self._task = self._loop.create_task(self._carry())
        self._task.add_done_callback(lambda _: self._land())

    async def _carry(self) -> None:
        try:
            await self._nodes.run(self.steps)
        except StoreError as error:
            for step in self.steps:
                step.fail(type(error)(str(error), reason=error.reason, written=False, retry_after=error.retry_after))
        except Exception as error:  # of ours, or of redis-py: nobody may wait for ever
            log.exception("steps could not be carried out")
            for step in self.steps:
                step.fail(StoreError(f"{error!r:.200}", written=None if step.sent else False))

    def _late(self, timeout: float) -> None:
        now = self._loop.time()
        if now - self._due > STALLED:  # the loop was held up, not Redis: its answer may lie there unread
            self._due = now + timeout / 2
            self._timer = self._loop.call_at(self._due, self._late, timeout)
            return
        self._expired = True
        self.cancel()

    def _land(self) -> None:
        self._over = True
        self._timer.cancel()
        reason: Reason = "timeout" if self._expired else "closed"
        for step in self.steps:
            if step.result is None and not step.future.done():
                step.fail(unavailable(reason, sent=step.sent))
        self._landed(self)
