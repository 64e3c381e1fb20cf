"""The demo's third part: the same calls with idempotency keys and without, while servers are killed in mid-call."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from resilient_rpc.asyncclient import AsyncClient
from resilient_rpc.cli import demo_keys_service as service
from resilient_rpc.cli.demo_ledger import Ledger
from resilient_rpc.cli.demo_progress import Display
from resilient_rpc.cli.demo_redis import Redis
from resilient_rpc.cli.demo_servers import ServerProcess
from resilient_rpc.errors import Certainty, RpcError
from resilient_rpc.policies import AttemptTimeout, Retry, RetryBudget
from resilient_rpc.policy import Policy

SUFFIX = "_keys"
"""After the demo's service: how the names of the services with keys and without begin."""
SERVERS = 3
"""Of each side."""
KILLS = 4
"""Servers of each side that are killed and replaced, at most: none when no call is left to be killed in."""
IN_FLIGHT = 8
"""Keys of each side that are called at once."""
LIMIT = 8.0
"""Seconds for each call."""
ATTEMPT = 1.5
BEGIN_WITHIN = 12.0
"""Seconds after which no further key is begun, however few there were: so it ends in time on a slow machine, too."""
LOOK = 0.05
"""Seconds between two looks at how far the calls are."""


@dataclass(frozen=True)
class Said:
    """What one call of a key came to."""

    receipt: str | None
    error: str = ""
    certainty: Certainty | None = None


class Fleet:
    """The server processes of one side; the place of one that is killed is taken by a new one."""

    def __init__(self, url: str, name: str, environment: Mapping[str, str]) -> None:
        self._how = url, name, environment
        self._processes: deque[ServerProcess] = deque()
        self.killed: list[int] = []
        """The ids of the processes that were killed."""

    def start(self) -> None:
        """Start them, and wait until all serve."""
        for _ in range(SERVERS):
            self._add()
        for process in self._processes:
            process.wait_ready()

    def strike(self) -> None:
        """SIGKILL the oldest one, as soon as the next one serves, and start another in its place."""
        self._processes[1].wait_ready()
        victim = self._processes.popleft()
        self.killed.append(victim.pid)
        victim.end()
        self._add()

    def stop(self) -> None:
        """End them all; nobody calls any more."""
        while self._processes:
            self._processes.pop().end()

    def crashed(self) -> list[str]:
        """Why those have ended that nobody killed."""
        return [why for process in self._processes if (why := process.crashed())]

    def _add(self) -> None:
        url, name, environment = self._how
        self._processes.append(ServerProcess(url, name, module=service.__name__, environment=environment))


class KeysSide:
    """One client and its servers, with keys or without, and what became of each order."""

    def __init__(self, name: str, url: str, called: str, *, fleet: Fleet, ledger: Ledger, keyed: bool) -> None:
        self.name, self.fleet, self.ledger, self._keyed = name, fleet, ledger, keyed
        self._url, self._method = url, f"{called}.charge"
        self.said: defaultdict[str, list[Said]] = defaultdict(list)
        """By order, in the order in which the calls ended."""

    @property
    def ended(self) -> int:
        """Calls that have ended."""
        return sum(map(len, self.said.values()))

    @property
    def failed(self) -> int:
        """Calls that have ended in an error."""
        return sum(said.receipt is None for calls in self.said.values() for said in calls)

    async def run(self, orders: Sequence[str]) -> None:
        """Make all calls, and kill servers meanwhile."""
        policies: list[Policy] = [
            Retry(attempts=8, base=0.05, budget=RetryBudget(floor=1000)),
            AttemptTimeout(limit=ATTEMPT),
        ]
        todo = iter(enumerate(orders))
        async with AsyncClient(self._url, policies=policies, timeout=LIMIT) as client, asyncio.TaskGroup() as tasks:
            until = asyncio.get_running_loop().time() + BEGIN_WITHIN
            callers = [tasks.create_task(self._call_all(client, todo, until)) for _ in range(IN_FLIGHT)]
            tasks.create_task(self._strike(callers, len(orders)))

    async def _call_all(self, client: AsyncClient, todo: Iterator[tuple[int, str]], until: float) -> None:
        for number, order in todo:
            if asyncio.get_running_loop().time() > until:
                return
            match number % 3:
                case 0:  # once
                    await self._call(client, order)
                case 1:  # and again, as a user does who has got no answer
                    await self._call(client, order)
                    await self._call(client, order)
                case _:  # twice at once
                    await asyncio.gather(self._call(client, order), self._call(client, order))

    async def _call(self, client: AsyncClient, order: str) -> None:
        how: dict[str, Any] = {"idempotency_key": order} if self._keyed else {"safety": "idempotent"}
        try:
            said = Said(await client.call(self._method, [order], **how))
        except RpcError as error:
            said = Said(None, type(error).__name__, error.certainty)
        self.said[order].append(said)

    async def _strike(self, callers: Sequence[asyncio.Task[None]], orders: int) -> None:
        for number in range(1, KILLS + 1):
            left = set(callers)
            while left and len(self.said) < orders * number / (KILLS + 1):
                _, left = await asyncio.wait(callers, timeout=LOOK)
            if all(caller.done() for caller in callers):
                return  # who is killed now is killed in nobody's call
            await asyncio.to_thread(self.fleet.strike)


@contextmanager
def both_sides(url: str, name: str, redis: Redis) -> Iterator[tuple[KeysSide, KeysSide]]:
    """The side with Redis and the one without it, each with servers of its own that are ready. Leaves no file."""
    with ExitStack() as running:
        folder = Path(running.enter_context(TemporaryDirectory(prefix="resilient-rpc-demo-")))
        running.callback(redis.clear)

        def side(title: str, suffix: str, *, keyed: bool) -> KeysSide:
            path = folder / suffix
            ledger = Ledger(path)
            running.callback(ledger.close)
            environment = {service.LEDGER_VARIABLE: str(path)}
            if keyed:
                environment |= {service.REDIS_VARIABLE: redis.url, service.NAMESPACE_VARIABLE: redis.namespace}
            fleet = Fleet(url, f"{name}_{suffix}", environment)
            running.callback(fleet.stop)
            return KeysSide(title, url, f"{name}_{suffix}", fleet=fleet, ledger=ledger, keyed=keyed)

        sides = side("with keys", "keyed", keyed=True), side("without", "unkeyed", keyed=False)
        for each in sides:
            each.fleet.start()
        yield sides


async def run(sides: Sequence[KeysSide], keys: int, shown: Display) -> None:
    """Make the same calls on both sides at once, and show how far they are."""
    run_id = secrets.token_hex(3)  # a message that an earlier demo has left in the queue is none of ours
    orders = [f"{run_id}-{number}" for number in range(keys)]
    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(side.run(orders)) for side in sides]
        while not all(task.done() for task in working):
            await asyncio.wait(working, timeout=LOOK)
            shown.show(sum(side.ended for side in sides), sum(side.failed for side in sides))


def calls_of(keys: int) -> int:
    """How many calls a side makes for so many keys."""
    return sum(1 if number % 3 == 0 else 2 for number in itertools.islice(itertools.count(), keys))
