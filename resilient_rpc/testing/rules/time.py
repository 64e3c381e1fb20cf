"""The deadline, and the runtime of what is started."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from resilient_rpc.call import Call, Reply
from resilient_rpc.errors import NotConnected, Overloaded
from resilient_rpc.loops import AsyncioRuntime
from resilient_rpc.policy import Handler, Runtime
from resilient_rpc.testing.lab import Lab, expect, outcome_of
from resilient_rpc.testing.rules.rule import rule
from resilient_rpc.testing.scripted import ScriptedPeer, answer, fail, hang

ROUNDING = 1e-5
"""Seconds: of a virtual time of half a year, and of timers."""
LATER = 1_000.0
"""Seconds that no call has."""


@rule("it neither waits beyond the deadline of the call nor passes on a later one; time is `call.runtime.now()`")
def deadline(lab: Lab) -> None:
    """See `Rule`."""

    async def scenario(step: Any, timeout: float) -> None:
        peer, seen = ScriptedPeer(step), []

        async def watched(call: Call) -> Reply:
            seen.append((call.deadline, call.runtime.now()))
            return await peer(call)

        call = lab.call(timeout=timeout)
        await outcome_of(lab.make(), call, watched)
        over = lab.clock.now() - call.deadline
        for passed_on, now in seen:
            expect(
                passed_on <= call.deadline + ROUNDING,
                f"it passed on a deadline {passed_on - call.deadline:g} s later than that of the call",
            )
            expect(
                passed_on > now or timeout <= 0 or now >= call.deadline - ROUNDING,
                f"it passed on a deadline that is over since {now - passed_on:g} s, with {timeout:g} s left",
            )
        expect(over <= ROUNDING, f"a call with {timeout:g} s, where the other side {_told(step)}, took {over:g} s more")

    for step in (hang(), fail(NotConnected("nobody there")), fail(Overloaded("busy", retry_after=LATER)), answer()):
        for timeout in (0.0, 0.05, 1.0, 30.0):
            lab.alone(lambda step=step, timeout=timeout: scenario(step, timeout))  # type: ignore[misc]
    _in_a_crowd(lab)


def _in_a_crowd(lab: Lab) -> None:
    policy, peer = lab.make(), ScriptedPeer(hang())

    async def caller(n: int) -> None:
        call = lab.call(n, timeout=5.0 if n % 2 else 50.0)
        await outcome_of(policy, call, peer)
        over = lab.clock.now() - call.deadline
        expect(over <= ROUNDING, f"among {lab.crowd} calls that wait, one with {call.timeout:g} s took {over:g} s more")

    lab.together(*[lambda n=n: caller(n) for n in range(lab.crowd)])


def _told(step: Any) -> str:
    if step.after > 0:
        return "never answers"
    return f"fails with {type(step.outcome).__name__}" if isinstance(step.outcome, Exception) else "answers"


@rule("what is carried on elsewhere is rebound: a call's runtime is that of the thread or loop where it is handled")
def rebinding(lab: Lab) -> None:
    """See `Rule`."""
    found: list[str] = []

    def watched(*script: Any) -> Handler:
        peer = ScriptedPeer(*script)

        async def handle(call: Call) -> Reply:
            found.extend(_misplaced(call.runtime))
            return await peer(call)

        return handle

    async def scenario() -> None:
        policy = lab.make()
        for n in range(30):  # some policies first learn how long a call takes
            await outcome_of(policy, lab.call(n), watched(answer(after=0.1)))
        for n, step in enumerate((hang(), answer(after=20.0), NotConnected("nobody there"))):
            await outcome_of(policy, lab.call(100 + n), watched(step, answer()))

    lab.alone(scenario)
    expect(not found, "".join(found[:1]))


def _misplaced(runtime: Runtime) -> Iterator[str]:
    loop = asyncio._get_running_loop()  # noqa: SLF001 - the public one raises where there is none
    if loop is None and isinstance(runtime, AsyncioRuntime):
        yield "it handled a call in a thread, with the runtime of a loop"
    if loop is not None and not (isinstance(runtime, AsyncioRuntime) and runtime.loop is loop):
        yield "work on a loop passed on a call with another runtime: use call.on(runtime)"
