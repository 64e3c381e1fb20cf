"""A policy in the child of a fork."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import warnings
from collections.abc import Callable

from resilient_rpc.call import Call
from resilient_rpc.loops import end_all
from resilient_rpc.policy import Policy
from resilient_rpc.runtime import BlockingRuntime, drive
from resilient_rpc.testing.lab import Lab, echo, expect
from resilient_rpc.testing.rules.rule import rule
from resilient_rpc.testing.scripted import ScriptedPeer, hang

LIMIT = 10.0
"""Real seconds that the child may take."""


@rule("the child of a fork may use it at once, whatever the parent's calls hold", both=False)
def fork(lab: Lab) -> None:
    """See `Rule`."""
    policy = lab.make()

    async def scenario() -> str:
        tasks = [asyncio.create_task(policy(lab.call(n), ScriptedPeer(hang()))) for n in range(lab.crowd)]
        await asyncio.sleep(1.0)
        listen = in_child(lambda: _call_in_child(lab, policy))
        # Not on this thread: a child that is slow to begin, on a busy machine, is no call that never ends.
        said = await asyncio.get_running_loop().run_in_executor(None, listen)
        await end_all(tasks)
        return said

    (said,) = lab.settled(scenario)
    expect(not said, f"while {lab.crowd} calls were under way, the process forked, and in the child {said}")


def _call_in_child(lab: Lab, policy: Policy) -> str:
    gap = lab.clock.now() - time.monotonic()
    runtime = BlockingRuntime(clock=lambda: time.monotonic() + gap)
    call = lab.call()
    call = Call(
        method=call.method,
        params=call.params,
        runtime=runtime,
        deadline=runtime.now() + LIMIT / 2,
        timeout=LIMIT / 2,
        safety=call.safety,
    )
    try:
        drive(policy(call, echo))
    except BaseException as error:
        return f"a call ended in {error!r}"
    return ""


def in_child(function: Callable[[], str]) -> Callable[[], str]:
    """Run `function` in a forked child; returned is what waits for it, and gives what it says."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there are threads, and that is the point
        child = os.fork()
    if child == 0:
        try:
            os.write(writing, function().encode())
        finally:
            os._exit(0)
    os.close(writing)
    return lambda: _said_by(child, reading)


def _said_by(child: int, reading: int) -> str:
    until = time.monotonic() + LIMIT
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reading)
            return f"a call does not end within {LIMIT:g} s"
        time.sleep(0.005)
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read().decode()
