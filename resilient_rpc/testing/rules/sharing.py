"""One policy for many callers: threads, tasks, loops, processes."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from contextlib import suppress
from typing import Any

from resilient_rpc.call import Call, Reply
from resilient_rpc.errors import InvalidParams, NotConnected, Rejected, RpcError, Unroutable
from resilient_rpc.events import Event
from resilient_rpc.hub import Events
from resilient_rpc.policy import Policy
from resilient_rpc.runtime import drive
from resilient_rpc.testing.lab import Lab, echo, expect, number_of, outcome_of
from resilient_rpc.testing.rules.rule import rule
from resilient_rpc.testing.scripted import ScriptedPeer, answer

CALLS = 50
"""In a row, where it matters what stays."""
KEPT = 1
"""Calls of which something may stay: a policy may remember its last error."""


@rule("it holds no lock while it waits: not for others, nor for a call within the call")
def locks(lab: Lab) -> None:
    """See `Rule`."""
    policy = lab.make()
    lab.together(*[lambda n=n: outcome_of(policy, lab.call(n), ScriptedPeer(answer(after=1.0))) for n in range(2)])
    policy = lab.make()

    within: list[Any] = []

    async def calls_again(call: Call) -> Reply:
        within.append(await outcome_of(policy, call, echo))
        return await echo(call)

    lab.alone(lambda: outcome_of(policy, lab.call(), calls_again))
    for outcome in within:
        # It may be refused; but where the other side answers at once, nothing else can come out.
        expect(isinstance(outcome, Reply | Rejected), f"a call within the call ended in {outcome!r}")


@rule("it announces events only, and under no lock: a hook may make a call")
def events(lab: Lab) -> None:
    """See `Rule`."""
    policy, announced, inside = lab.make(), Announced(), threading.local()

    def hook(_: Event) -> None:
        if lab.blocking and not getattr(inside, "yes", False):
            inside.yes = True
            with suppress(Exception):  # on the I/O loop a blocking call is refused
                drive(outcome_of(policy, lab.call(), echo))
            inside.yes = False

    announced.on(Event, hook)

    async def scenario() -> None:
        for n in range(CALLS):
            await outcome_of(policy, lab.call(n, events=announced), ScriptedPeer(Unroutable("no queue")))
        await lab.port().sleep(3_600.0)
        for n in range(CALLS):
            await outcome_of(policy, lab.call(n, events=announced), ScriptedPeer(answer(after=0.1)))

    lab.alone(scenario)
    lab.together(
        *[
            lambda n=n: outcome_of(policy, lab.call(n, events=announced), ScriptedPeer(answer(after=1.0)))
            for n in range(lab.crowd)
        ]
    )
    for other in announced.others:
        expect(False, f"it announced {other!r}, which is no Event")


class Announced(Events):
    """Keeps what is no event."""

    def __init__(self) -> None:
        super().__init__()
        self.others: list[object] = []

    def emit(self, event: object) -> None:
        """See `Events`."""
        if isinstance(event, Event):
            super().emit(event)
        else:
            self.others.append(event)


@rule("any number of callers may use it at once, and each gets the answer to its own call")
def concurrency(lab: Lab) -> None:
    """See `Rule`."""
    policy, answered = lab.make(), Answered()

    async def caller(first: int) -> None:
        for n in range(first, first + 3):
            await _own_answer(lab, policy, n, answered)

    lab.together(*[lambda n=n: caller(10 * n) for n in range(lab.crowd)])
    expect(answered.any, f"not one of {lab.crowd} callers at once got an answer")


class Answered:
    """Whether anybody got an answer."""

    any = False


async def _own_answer(lab: Lab, policy: Policy, n: int, answered: Answered) -> None:
    outcome = await outcome_of(policy, lab.call(n), ScriptedPeer(answer(number_of, after=n % 7 / 100)))
    if isinstance(outcome, Reply):
        answered.any = True
        expect(outcome.result == n, f"call {n} got the answer to call {outcome.result}")
    else:
        expect(isinstance(outcome, RpcError), f"one of many calls ended in {outcome!r}, which is no RpcError")


@rule("it is bound to no event loop: several may share it, with threads, and one after the other", both=False)
def loops(lab: Lab) -> None:
    """See `Rule`."""
    policy, answered = lab.make(), Answered()

    async def tasks() -> None:
        await asyncio.gather(*[_own_answer(lab, policy, n, answered) for n in range(20)])

    def thread() -> None:
        for n in range(20):
            drive(_own_answer(lab, policy, n, answered))

    for functions in ((tasks, tasks, thread, thread), (tasks,), (thread,)):
        answered.any = False
        for outcome in lab.settled(*functions):
            expect(outcome is None, f"where loops and threads share it, a caller ended in {outcome!r}")
        expect(answered.any, "where loops and threads share it, none of them got an answer")
        lab.alone(lambda: lab.port().sleep(60.0))


class Traced(dict[str, Any]):
    """Arguments that can be watched."""


@rule("nothing of a call stays when it has ended")
def leaks(lab: Lab) -> None:
    """See `Rule`."""
    policy = lab.make()
    watched: list[weakref.ref[Traced]] = []

    async def one(n: int, proceed: Any) -> None:
        arguments = Traced(n=n)
        watched.append(weakref.ref(arguments))
        await outcome_of(policy, lab.call(params=arguments), proceed)

    async def scenario() -> None:
        for n in range(CALLS):
            await one(n, echo)
            await one(n, _failing)
            await lab.port().sleep(60.0)

    lab.alone(scenario)
    lab.alone(lambda: lab.port().sleep(3_600.0))  # what runs beside a call ends by its deadline, too
    gc.collect()
    alive = sum(arguments() is not None for arguments in watched)
    expect(alive <= KEPT, f"it still holds {alive} of {len(watched)} calls that have ended")


async def _failing(call: Call) -> Reply:
    raise InvalidParams("`$.qty`: expected int") if number_of(call) % 2 else NotConnected("nobody there")
