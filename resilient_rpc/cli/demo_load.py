"""The demo's callers: threads with one `Client`, and an event loop with one `AsyncClient`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from resilient_rpc.asyncclient import AsyncClient
from resilient_rpc.cli.demo_calls import Plan, kind_of
from resilient_rpc.cli.demo_service import CardDeclined
from resilient_rpc.cli.demo_tally import Tally, together
from resilient_rpc.client import Client
from resilient_rpc.stats import StatsSnapshot

TIMEOUT = 5.0
"""Seconds for each call."""
IN_FLIGHT = 64
"""Calls that the asyncio client has under way."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One client, its workers, and what it says of its calls."""

    name: str
    tallies: Sequence[Tally]
    client: Client | AsyncClient

    def total(self) -> Tally:
        """The counts of all its workers."""
        return together(self.tallies)

    def stats(self) -> StatsSnapshot:
        """The client's own counts."""
        return self.client.stats()


class Load:
    """Makes the calls of `plan`; runs in threads of its own until they have ended."""

    def __init__(self, url: str, service: str, plan: Plan, threads: int) -> None:
        self.plan, self._prefix = plan, service + "."
        self._client = Client(url, timeout=TIMEOUT, errors=[CardDeclined])
        self._async_client = AsyncClient(url, timeout=TIMEOUT, errors=[CardDeclined])
        blocking, asynchronous = [Tally() for _ in range(threads)], Tally()
        many = f"{threads} threads" if threads != 1 else "1 thread"
        self.sides = (
            Side(name=f"Client, {many}", tallies=blocking, client=self._client),
            Side(name=f"AsyncClient, {IN_FLIGHT} in flight", tallies=[asynchronous], client=self._async_client),
        )
        self._threads = [threading.Thread(target=self._block, args=(tally,), daemon=True) for tally in blocking]
        self._threads.append(threading.Thread(target=lambda: asyncio.run(self._loop(asynchronous)), daemon=True))

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    @property
    def running(self) -> bool:
        """Whether a call may still come."""
        return any(thread.is_alive() for thread in self._threads)

    def total(self) -> Tally:
        """What became of all calls so far."""
        return together(side.total() for side in self.sides)

    def ended(self) -> tuple[int, int]:
        """How many calls have ended, and how many of them in an error: quick, for a display."""
        tallies = [tally for side in self.sides for tally in side.tallies]
        return sum(tally.ended for tally in tallies), sum(tally.failed for tally in tallies)

    def close(self) -> None:
        """Begin no more calls, and disconnect the `Client`; the other one does so at the end of its loop."""
        self.plan.stop()
        self._client.close()

    def _block(self, tally: Tally) -> None:
        client, prefix = self._client, self._prefix
        while (number := self.plan.take()) is not None:
            kind = kind_of(number)
            params = kind.params(number)
            tally.begun += 1
            began = time.monotonic()
            try:
                value = client.call(prefix + kind.method, params, safety=kind.safety)
            except Exception as error:
                tally.error(kind, began, error, TIMEOUT)
            else:
                tally.result(kind, number, began, value, TIMEOUT)

    async def _loop(self, tally: Tally) -> None:
        async with self._async_client as client, asyncio.TaskGroup() as workers:
            for _ in range(IN_FLIGHT):
                workers.create_task(self._await(client, tally))

    async def _await(self, client: AsyncClient, tally: Tally) -> None:
        prefix = self._prefix
        while (number := self.plan.take()) is not None:
            kind = kind_of(number)
            params = kind.params(number)
            tally.begun += 1
            began = time.monotonic()
            try:
                value = await client.call(prefix + kind.method, params, safety=kind.safety)
            except Exception as error:
                tally.error(kind, began, error, TIMEOUT)
            else:
                tally.result(kind, number, began, value, TIMEOUT)
