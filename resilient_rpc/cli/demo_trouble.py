"""The demo's second part: a service in trouble, called without policies and with two chains of them at once."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, Protocol

from resilient_rpc.asyncclient import AsyncClient
from resilient_rpc.errors import RpcError
from resilient_rpc.events import AttemptEnded
from resilient_rpc.options import default_policies
from resilient_rpc.policies import AttemptTimeout, CircuitBreaker, Retry, RetryBudget
from resilient_rpc.policy import Policy

SUFFIX = "_trouble"
"""After the demo's service: the name of the one that gets into trouble."""
LIMIT = 1.0
"""Seconds for each call."""
PERIOD = 0.01
"""Seconds between two calls of a side: it calls at this pace whatever becomes of them, as users do."""
IN_A_ROW = 10
"""Calls that must succeed one after the other for a side to have recovered."""
LOOK = 0.25
"""Seconds between two looks whether something has come about."""
AWAITED = 15.0
"""Seconds that the phase in which the service is back may last until all sides have recovered."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What happens to the service for a while."""

    name: str
    event: Literal["kill", "start"] | None = None
    failing: float = 0.0
    """The share of calls that it fails."""
    stuck: float = 0.0
    """The share of calls for which it takes `STUCK` seconds."""
    until_recovered: bool = False
    """Whether it lasts longer than others if need be: a phase that ends before a circuit closes shows half of it."""


STUCK = 2.0
PHASES = (
    Phase(name="healthy"),
    Phase(name="half of it fails", failing=0.5),
    Phase(name="dead", event="kill"),
    Phase(name="back again", event="start", until_recovered=True),
    Phase(name="a fifth is stuck", stuck=0.2),
)


class Supply(Protocol):
    """The one server of a service in trouble."""

    def kill(self) -> None:
        """End it."""

    def start(self) -> None:
        """Start another one, and wait until it serves."""


@dataclass
class Made:
    """One call."""

    began: float
    ended: float = 0.0
    error: str | None = None
    wrong: bool = False


@dataclass
class Counted:
    """What became of the calls that a side began in one phase."""

    since: float
    calls: list[Made] = field(default_factory=list)
    sent: int = 0
    """Attempts that left the client meanwhile."""

    @property
    def ok(self) -> float:
        """The share of calls that succeeded."""
        return sum(call.error is None for call in self.calls) / max(len(self.calls), 1)


class Side:
    """One client, the service that it alone calls, and what became of its calls."""

    def __init__(self, name: str, url: str, service: str, policies: Sequence[Policy], supply: Supply) -> None:
        self.name, self.service, self.supply = name, service, supply
        self.chain = " → ".join(map(_brief, policies)) or "no policies"
        self.client = AsyncClient(url, policies=policies, timeout=LIMIT, safety="read_only")
        self.client.on(AttemptEnded, self._sent)
        self.control = AsyncClient(url, policies=[], timeout=10.0)
        self.phases: list[Counted] = []
        self.after: Counted | None = None
        """What it calls from when its new server serves to the next phase."""

    def _sent(self, attempt: AttemptEnded) -> None:
        began = time.monotonic() - attempt.seconds
        for phase in reversed(self.phases):
            if phase.since <= began:
                phase.sent += 1
                return

    def begin(self) -> None:
        """What is called from now on belongs to the next phase."""
        self.phases.append(Counted(since=time.monotonic()))

    async def happens(self, phase: Phase) -> None:
        """Have it happen to the service."""
        if phase.event == "kill":
            await asyncio.to_thread(self.supply.kill)
        elif phase.event == "start":
            await asyncio.to_thread(self.supply.start)
            self.begin()  # until its server serves, the service is as dead as before
            self.after = self.phases[-1]
        else:
            behaviour = {"failing": phase.failing, "stuck": phase.stuck, "seconds": STUCK}
            await self.control.call(f"{self.service}.behave", behaviour)

    async def call(self, number: int) -> None:
        """Make one call, and note what became of it."""
        made = Made(began=time.monotonic())
        self.phases[-1].calls.append(made)
        try:
            made.wrong = await self.client.call(f"{self.service}.stock", {"number": number}) != number
        except RpcError as error:
            made.error = type(error).__name__
        made.ended = time.monotonic()

    @property
    def recovered(self) -> float | None:
        """Seconds from the server's return to the first of the calls that have all succeeded since; None: never.

        Some calls, at least: what was sent to the dead server ends meanwhile, and may well open a circuit after some
        of the first calls to the new one have succeeded.
        """
        if self.after is None:
            return None
        ended = [call for call in self.after.calls if call.ended]
        row = list(itertools.takewhile(lambda call: call.error is None, reversed(ended)))
        return row[-1].ended - self.after.since if len(row) >= IN_A_ROW else None

    async def close(self) -> None:
        """End its connections."""
        await self.client.close()
        await self.control.close()


def _brief(policy: Any) -> str:
    """Its class, with the settings that are not the usual ones."""
    settings = [(item, getattr(policy, item.name)) for item in fields(policy) if item.init and item.repr]
    unusual = [f"{item.name}={_value(value)}" for item, value in settings if value != item.default]
    return type(policy).__name__ + (f"({', '.join(unusual)})" if unusual else "")


def _value(value: object) -> str:
    return _brief(value) if is_dataclass(value) else repr(value)


def sides(url: str, service: str, supply: Callable[[str, str], Supply]) -> list[Side]:
    """The same calls by three chains, each to a service of its own."""
    tuned: list[Policy] = [
        Retry(attempts=4, base=0.02, budget=RetryBudget(ratio=1.0)),
        CircuitBreaker(window=1.0, failure_rate=0.8, open_for=0.25, max_open=1.0),
        AttemptTimeout(limit=0.3),
    ]
    chains: dict[str, Sequence[Policy]] = {"none": [], "default": default_policies(), "tuned": tuned}
    return [
        Side(name, url, f"{service}_{name}", chain, supply(url, f"{service}_{name}")) for name, chain in chains.items()
    ]


async def run(all_sides: Sequence[Side], seconds: float, begins: Callable[[Phase], None]) -> None:
    """Lead the services through all phases of so many seconds, while the sides call; `begins` is told of each."""
    async with asyncio.TaskGroup() as tasks:
        for phase in PHASES:
            changes = [tasks.create_task(side.happens(phase)) for side in all_sides]
            while phase.event == "start" and not all(change.done() for change in changes):
                await _call(all_sides, LOOK, tasks)
            begins(phase)
            for side in all_sides if phase.event != "start" else ():
                side.begin()
            await _call(all_sides, seconds, tasks)
            if phase.until_recovered:
                await _call_until_recovered(all_sides, tasks)
    for side in all_sides:
        await side.close()


async def _call(all_sides: Sequence[Side], seconds: float, tasks: asyncio.TaskGroup) -> None:
    begin = time.monotonic()
    for number in range(int(seconds / PERIOD)):
        await asyncio.sleep(max(begin + number * PERIOD - time.monotonic(), 0.0))
        for side in all_sides:
            tasks.create_task(side.call(number))


async def _call_until_recovered(all_sides: Sequence[Side], tasks: asyncio.TaskGroup) -> None:
    until = time.monotonic() + AWAITED
    while time.monotonic() < until and any(side.recovered is None for side in all_sides):
        await _call(all_sides, LOOK, tasks)
