"""What one loop asks of Redis: the steps of one turn of it travel together, each for a bounded time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from resilient_rpc.coalescer import Coalescer
from resilient_rpc.loops import end_all
from resilient_rpc.parking import Outcome
from resilient_rpc.stores.base import New, TakenOver
from resilient_rpc.stores.cluster import Cluster
from resilient_rpc.stores.connect import Kind, RedisUrl
from resilient_rpc.stores.errors import StoreError
from resilient_rpc.stores.faults import unavailable
from resilient_rpc.stores.flight import Flight
from resilient_rpc.stores.nodes import Nodes, Single
from resilient_rpc.stores.sentinels import Sentinels
from resilient_rpc.stores.steps import Step, disown

log = logging.getLogger(__name__)

MAX_STEPS = 128
"""In one message: Redis does nothing else meanwhile, 10 µs for each."""
MAX_BYTES = 1 << 20
"""Of one message with more than one step."""
MAX_DISOWNED = 1000
"""Lost claims that are being returned."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between attempts to return one."""
_NODES: Mapping[Kind, Callable[[RedisUrl], Nodes]] = {"single": Single, "sentinel": Sentinels, "cluster": Cluster}


class Lane:
    """Made on the loop that it belongs to, and used there only. `flights`: messages under way at once, at most."""

    def __init__(self, url: RedisUrl, *, timeout: float, flights: int) -> None:
        self._loop = asyncio.get_running_loop()
        self.nodes = _NODES[url.kind](url)
        self._timeout = timeout
        self._limit = flights
        self._coalescer: Coalescer[Step] = Coalescer(self._loop, self._flush)
        self._soon, self._hurry = self._coalescer.need, self._flush
        self._flights: set[Flight] = set()
        self._disowning: set[asyncio.Task[None]] = set()
        self._beside: set[asyncio.Task[None]] = set()

    def do(self, step: Step) -> Outcome:
        """The outcome of a step. StoreError when there is none in time."""
        future = step.future = Outcome(self._loop, self._soon, self._hurry)
        self._coalescer.inbox.append(step)
        return future

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something until it ends or the lane is closed."""
        _keep(self._loop.create_task(work), self._beside)

    async def aclose(self) -> None:
        """Fail what is waiting, end what is under way, close the connections."""
        while self._coalescer.inbox:
            self._coalescer.inbox.popleft().fail(unavailable("closed", sent=False))
        while self._flights or self._disowning or self._beside:
            carried = [task for flight in [*self._flights] if (task := flight.cancel()) is not None]
            await end_all([*carried, *self._disowning, *self._beside])
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
                flight = Flight(steps, self.nodes, self._loop, self._landed)
                self._flights.add(flight)
                flight.start(self._timeout)

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

    def _landed(self, flight: Flight) -> None:
        self._flights.discard(flight)
        for step in flight.steps:
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
