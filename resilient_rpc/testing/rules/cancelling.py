"""Cancellation goes through, and what was taken is given back."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from resilient_rpc.call import Call, Reply
from resilient_rpc.errors import NOT_EXECUTED, InvalidParams, NotConnected, Rejected, RpcError
from resilient_rpc.policy import Handler, Policy
from resilient_rpc.testing.lab import Broken, Lab, echo, expect, outcome_of
from resilient_rpc.testing.rules.rule import rule
from resilient_rpc.testing.scripted import ScriptedPeer, answer, hang

LONG = 10_000.0
"""Seconds of a call that is to be cancelled."""
MINUTE, HOUR = 60.0, 3_600.0


async def interrupted(call: Call) -> Reply:
    """A handler that is cancelled from within: what a blocking caller sees when its client is closed."""
    await call.runtime.sleep(1.0)
    raise asyncio.CancelledError


@rule("cancellation comes through it, and ends what it has started")
def cancellation(lab: Lab) -> None:
    """See `Rule`."""
    if lab.blocking:
        (outcome,) = lab.together(lambda: lab.make()(lab.call(), interrupted))
        # Nobody can cancel a thread: there it may become an error of the call.
        honest = isinstance(outcome, RpcError) and outcome.certainty is not NOT_EXECUTED
        expect(
            honest or isinstance(outcome, asyncio.CancelledError),
            f"asyncio.CancelledError from further in became {outcome!r}",
        )
        return

    async def scenario(handler: Handler, after: float) -> None:
        before = asyncio.all_tasks()
        task = asyncio.create_task(lab.make()(lab.call(timeout=LONG), handler))
        await asyncio.sleep(after)
        if task.done():
            _look_at(task)
            return
        task.cancel()
        await asyncio.wait((task,), timeout=MINUTE)
        expect(task.done(), f"{MINUTE:g} s after it was cancelled, the call still goes on")
        if not task.cancelled():
            raise Broken(f"a cancelled call ended in {task.exception() or task.result()!r}")
        await asyncio.sleep(1.0)
        left = asyncio.all_tasks() - before
        for other in left:
            other.cancel()
        expect(not left, "a second after the call was cancelled, what the policy has started still goes on")

    for handler in (ScriptedPeer(hang()), ScriptedPeer(NotConnected("nobody there"))):
        for after in (0.0, 0.01, 1.0, 100.0):
            lab.alone(lambda handler=handler, after=after: scenario(handler, after))  # type: ignore[misc]


@rule("what ends one call ends no other: neither its cancellation nor its deadline")
def independence(lab: Lab) -> None:
    """See `Rule`."""
    ends = (_impatient,) if lab.blocking else (_impatient, _withdrawn)
    for end in ends:
        policy, peer = lab.make(), ScriptedPeer(answer(after=0.1))

        async def other(policy: Policy = policy, peer: ScriptedPeer = peer) -> Any:
            await lab.port().sleep(0.01)  # the same call, while the first one is under way
            return await outcome_of(policy, lab.call(), peer)

        first = partial(end, lab, policy, peer)
        _, *outcomes = lab.together(first, *[other] * (lab.crowd - 1))
        for outcome in outcomes:
            expect(
                isinstance(outcome, Reply | Rejected),
                f"{lab.crowd} made the same call; the first {_SAID[end]}, and another one's ended in {outcome!r}",
            )


async def _impatient(lab: Lab, policy: Policy, peer: ScriptedPeer) -> None:
    await outcome_of(policy, lab.call(timeout=0.05), peer)


async def _withdrawn(lab: Lab, policy: Policy, peer: ScriptedPeer) -> None:
    task = asyncio.create_task(policy(lab.call(), peer))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait((task,))
    _look_at(task)


_SAID = {_impatient: "had no time left", _withdrawn: "was cancelled"}


@rule("it gives back what it took, however a call ends")
def permits(lab: Lab) -> None:
    """See `Rule`."""
    full = _capacity(lab, lab.make())
    expect(full > 0, "it lets not a single call pass")
    for storm in (_one_by_one, _all_at_once):
        policy = lab.make()
        storm(lab, policy)
        lab.alone(lambda: lab.port().sleep(HOUR))
        left = _capacity(lab, policy)
        expect(left >= full, f"it let {full} calls pass at once, and {left} after {lab.crowd} of them were cut short")


def _capacity(lab: Lab, policy: Policy) -> int:
    """How many calls of a crowd are handled at the same time."""
    running = most = 0

    async def counted(call: Call) -> Reply:
        nonlocal running, most
        running += 1  # a thread waits only in the line after these: nobody interferes
        most = max(most, running)
        await call.runtime.sleep(1.0)
        running -= 1
        return await echo(call)

    lab.together(*[lambda n=n: outcome_of(policy, lab.call(n), counted) for n in range(lab.crowd)])
    return most


def _one_by_one(lab: Lab, policy: Policy) -> None:
    async def scenario() -> None:
        for n in range(lab.crowd):
            for error in (InvalidParams("`$.qty`: expected int"), ZeroDivisionError("a bug further in")):
                await outcome_of(policy, lab.call(n), ScriptedPeer(error))
            if lab.blocking:
                await _interrupted(policy, lab.call(n))
            else:
                await _cancelled([asyncio.create_task(policy(lab.call(n, timeout=LONG), ScriptedPeer(hang())))])
            await lab.port().sleep(MINUTE)

    lab.alone(scenario)


def _all_at_once(lab: Lab, policy: Policy) -> None:
    if lab.blocking:
        lab.together(*[lambda n=n: _interrupted(policy, lab.call(n)) for n in range(lab.crowd)])
        return

    async def scenario() -> None:
        peer = ScriptedPeer(answer(after=HOUR))
        calls = [policy(lab.call(n, timeout=LONG), peer) for n in range(lab.crowd)]
        # In one turn of the loop: some get what others give back, and are cancelled before they know.
        await _cancelled([asyncio.create_task(call) for call in calls])

    lab.alone(scenario)


async def _cancelled(tasks: list[asyncio.Task[Reply]]) -> None:
    await asyncio.sleep(1.0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        _look_at(task)


def _look_at(task: asyncio.Task[Reply]) -> None:
    if not task.cancelled():
        task.exception()  # asyncio would report one that nobody looks at


async def _interrupted(policy: Policy, call: Call) -> Any:
    try:
        return await policy(call, interrupted)
    except (Exception, asyncio.CancelledError) as error:
        return error
