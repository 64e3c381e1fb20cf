"""What one loop asks of Redis: the steps of one turn of it travel together, each for a bounded time."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from resilient_rpc.coalescer import Coalescer
from resilient_rpc.loops import end_all
from resilient_rpc.stores.base import New, TakenOver
from resilient_rpc.stores.cluster import Cluster
from resilient_rpc.stores.connect import Kind, RedisUrl
from resilient_rpc.stores.errors import StoreError
from resilient_rpc.stores.faults import Reason, unavailable
from resilient_rpc.stores.nodes import Nodes, Single
from resilient_rpc.stores.sentinels import Sentinels
from resilient_rpc.stores.steps import Step, disown

log = logging.getLogger(__name__)

MAX_STEPS = 128
"""In one message: Redis does nothing else meanwhile, 10 µs for each."""
MAX_BYTES = 1 << 20
"""Of one message with more than one step."""
STALLED = 0.02
"""Seconds by which a timer is late when something held the loop."""
MAX_DISOWNED = 1000
"""Lost claims that are being returned."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between attempts to return one."""
_NODES: Mapping[Kind, Callable[[RedisUrl], Nodes]] = {"single": Single, "sentinel": Sentinels, "cluster": Cluster}


class _Flight:
    """A message on its way."""

    __slots__ = ("due", "expired", "steps", "task", "timer")

    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps
        self.due = steps[0].until
        self.expired = False
        self.timer: asyncio.TimerHandle
        self.task: asyncio.Task[None]


class Lane:
    """Made on the loop that it belongs to, and used there only. `flights`: messages under way at once, at most."""

    def __init__(self, url: RedisUrl, *, timeout: float, flights: int) -> None:
        self._loop = asyncio.get_running_loop()
        self.nodes = _NODES[url.kind](url)
        self._timeout = timeout
        self._limit = flights
        self._coalescer: Coalescer[Step] = Coalescer(self._loop, self._flush)
        self._flights: set[_Flight] = set()
        self._disowning: set[asyncio.Task[None]] = set()
        self._beside: set[asyncio.Task[None]] = set()

    def do(self, step: Step) -> asyncio.Future[Any]:
        """The outcome of a step. StoreError when there is none in time."""
        future = step.future = self._loop.create_future()
        self._coalescer.add(step)
        return future

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something until it ends or the lane is closed."""
        _keep(self._loop.create_task(work), self._beside)

    async def aclose(self) -> None:
        """Fail what is waiting, end what is under way, close the connections."""
        while self._coalescer.inbox:
            self._coalescer.inbox.popleft().fail(unavailable("closed", sent=False))
        while tasks := [*(flight.task for flight in self._flights), *self._disowning, *self._beside]:
            await end_all(tasks)
        await self.nodes.aclose()

    def _flush(self) -> None:
        until = self._loop.time() + self._timeout  # from now on: what held the loop since they came is not Redis
        for step in reversed(self._coalescer.inbox):
            if step.until:
                break
            step.until = until
        while self._coalescer.inbox and len(self._flights) < self._limit:
            steps = self._take()
            if steps:
                flight = _Flight(steps)
                self._flights.add(flight)
                flight.timer = self._loop.call_at(flight.due, self._late, flight)
                flight.task = self._loop.create_task(self._carry(flight))
                flight.task.add_done_callback(functools.partial(self._landed, flight))

    def _take(self) -> list[Step]:
        inbox, now = self._coalescer.inbox, self._loop.time()
        steps: list[Step] = []
        size = 0
        while inbox and len(steps) < MAX_STEPS and (not steps or size + inbox[0].size <= MAX_BYTES):
            step = inbox.popleft()
            if step.future.done():  # whoever asked was cancelled
                continue
            if step.until <= now:
                step.fail(unavailable("timeout", sent=False))
                continue
            steps.append(step)
            size += step.size
        return steps

    def _late(self, flight: _Flight) -> None:
        now = self._loop.time()
        if now - flight.due > STALLED:  # the loop was held up, not Redis: its answer may lie there unread
            flight.due = now + self._timeout / 2
            flight.timer = self._loop.call_at(flight.due, self._late, flight)
            return
        flight.expired = True
        flight.task.cancel()

    async def _carry(self, flight: _Flight) -> None:
        try:
            await self.nodes.run(flight.steps)
        except StoreError as error:
            for step in flight.steps:
                step.fail(type(error)(str(error), reason=error.reason, written=False, retry_after=error.retry_after))
        except Exception as error:  # of ours, or of redis-py: nobody may wait for ever
            log.exception("steps could not be carried out")
            for step in flight.steps:
                step.fail(StoreError(f"{error!r:.200}", written=None if step.sent else False))

    def _landed(self, flight: _Flight, _: asyncio.Task[None]) -> None:
        self._flights.discard(flight)
        flight.timer.cancel()
        reason: Reason = "timeout" if flight.expired else "closed"
        for step in flight.steps:
            if step.result is None and not step.future.done():
                step.fail(unavailable(reason, sent=step.sent))
            if step.owner and _nobody_has(step) and len(self._disowning) < MAX_DISOWNED:
                _keep(self._loop.create_task(self._disown(step)), self._disowning)
        if self._coalescer.inbox:
            self._flush()

    async def _disown(self, step: Step) -> None:
        """Return what a `begin` may have been given, before its lease is over."""
        pause = FIRST_PAUSE
        until = self._loop.time() + float(step.arguments[2]) / 1000
        while self._loop.time() < until:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            try:
                if await self.do(disown(step.key, step.owner)):
                    return
            except StoreError:
                pass  # it will be asked again


def _keep(task: asyncio.Task[None], among: set[asyncio.Task[None]]) -> None:
    among.add(task)
    task.add_done_callback(among.discard)


def _nobody_has(step: Step) -> bool:
    """Whether a `begin` may have been given the record without whoever asked knowing it."""
    if isinstance(step.result, StoreError):
        return step.result.written is None
    return step.future.cancelled() and (step.result is None or isinstance(step.result, New | TakenOver))
