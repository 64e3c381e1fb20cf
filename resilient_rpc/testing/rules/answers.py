"""What goes in and what comes out: the call, the result, the errors."""

from __future__ import annotations

import copy
import time
from typing import Any

from resilient_rpc.call import Call, Reply, Safety
from resilient_rpc.chain import check_order
from resilient_rpc.errors import (
    NOT_EXECUTED,
    ApplicationError,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    InvalidParams,
    NotConnected,
    Overloaded,
    RpcError,
    Unroutable,
)
from resilient_rpc.policy import Policy
from resilient_rpc.runtime import PolicySuspended
from resilient_rpc.testing.lab import Lab, echo, expect, number_of, outcome_of
from resilient_rpc.testing.rules.rule import rule
from resilient_rpc.testing.scripted import ScriptedPeer, answer, fail, hang

ERRORS = (
    InvalidParams("`$.qty`: expected int"),
    ApplicationError("sold out", type="sold_out"),
    NotConnected("nobody there"),
    Unroutable("no queue"),
    ConnectionLost("gone"),
    DeadlineExceeded("no answer"),
    Overloaded("busy", retry_after=0.5),
    ZeroDivisionError("a bug further in"),
)
QUICK = 0.1
"""Real seconds that a call may take in which nothing waits: a thousand times what a policy takes."""
TRIES = 5


@rule("it is a policy, says rightly where it stands in a chain, and can take over the state of its like", both=False)
def declaration(lab: Lab) -> None:
    """See `Rule`."""
    policy = lab.make()
    try:
        check_order([policy])
    except ConfigurationError as error:
        expect(False, str(error))
    expect(isinstance(getattr(policy, "role", ""), str), f"role is {getattr(policy, 'role', '')!r}, which is no text")
    for name in ("above", "below", "excludes"):
        roles = getattr(policy, name, ())
        expect(
            not isinstance(roles, str) and all(isinstance(role, str) for role in roles),
            f"{name} is {roles!r}: give the roles as a mapping from each to the reason, or as a collection",
        )
    adopt = getattr(policy, "adopt", None)
    if adopt is not None:
        adopt(lab.make())


@rule("it awaits only `proceed`, the runtime of its call, or coroutines made of these")
def one_colour(lab: Lab) -> None:
    """See `Rule`."""
    for script in ((answer(),), (answer(after=0.5),), (fail(NotConnected("nobody there")), answer()), (hang(),)):
        peer = ScriptedPeer(*script)
        policy = lab.make()
        (outcome,) = lab.together(lambda policy=policy, peer=peer: policy(lab.call(), peer))  # type: ignore[misc]
        expect(not isinstance(outcome, PolicySuspended), str(outcome))


@rule("it waits by the runtime of its call, never in real time")
def real_time(lab: Lab) -> None:
    """See `Rule`."""

    async def took(*script: Any) -> float:
        began = time.perf_counter()
        await outcome_of(lab.make(), lab.call(), ScriptedPeer(*script))
        return time.perf_counter() - began

    for script in ((answer(),), (fail(NotConnected("nobody there")), answer())):
        # The shortest of some: the machine may have other things to do.
        shortest = min(lab.alone(lambda script=script: took(*script)) for _ in range(TRIES))  # type: ignore[misc]
        expect(shortest < QUICK, f"a call in which nobody else waits took {shortest:.2f} s of real time")


@rule("it returns a Reply, with the result that it was given")
def results(lab: Lab) -> None:
    """See `Rule`."""

    async def scenario() -> None:
        for n, value in enumerate((None, 0, "text", [1, 2], {"sku": "A1"})):
            outcome = await outcome_of(lab.make(), lab.call(n), ScriptedPeer(value))
            expect(isinstance(outcome, Reply), f"for the result {value!r} it gave {outcome!r}, which is no Reply")
            expect(outcome.result == value, f"it made {outcome.result!r} of the result {value!r}")

    lab.alone(scenario)


@rule("errors come through it")
def errors(lab: Lab) -> None:
    """See `Rule`."""

    async def scenario() -> None:
        for error in ERRORS:
            outcome = await outcome_of(lab.make(), lab.call(), ScriptedPeer(error))
            expect(
                type(outcome) is type(error) and str(error) in str(outcome),
                f"it made {outcome!r} of the error {error!r}",
            )

    lab.alone(scenario)


@rule("its errors never say `not_executed` of what may have been executed")
def certainty(lab: Lab) -> None:
    """See `Rule`."""

    async def scenario(*script: Any) -> None:
        peer = ScriptedPeer(*script)
        outcome = await outcome_of(lab.make(), lab.call(), peer)
        given = [step.outcome for step in peer.steps[: len(peer.calls)]]
        unsure = [error for error in given if not (isinstance(error, RpcError) and error.certainty is NOT_EXECUTED)]
        if isinstance(outcome, RpcError) and unsure:
            expect(outcome.certainty is not NOT_EXECUTED, f"after {unsure[0]!r} it says not_executed, with {outcome!r}")

    for error in ERRORS:
        lab.alone(lambda error=error: scenario(error))  # type: ignore[misc]
    lab.alone(lambda: scenario(ConnectionLost("gone"), NotConnected("nobody there")))
    lab.alone(lambda: scenario(hang()))


@rule("an unsafe call is repeated only when it was not executed")
def safety(lab: Lab) -> None:
    """See `Rule`."""

    async def scenario(step: Any) -> None:
        peer = ScriptedPeer(step)
        await outcome_of(lab.make(), lab.call(safety=Safety.UNSAFE, key=None), peer)
        expect(
            len(peer.calls) <= 1,
            f"an unsafe call of which nobody knows whether it was executed was sent {len(peer.calls)} times",
        )

    for step in (ConnectionLost("gone"), DeadlineExceeded("no answer"), hang(), answer(after=20.0)):
        lab.alone(lambda step=step: scenario(step))  # type: ignore[misc]


@rule("what it sends on is the call: its method, arguments and key, with a new attempt number each time")
def attempts(lab: Lab) -> None:
    """See `Rule`."""

    async def scenario(begin: int) -> None:
        peer = ScriptedPeer(NotConnected("nobody there"), Overloaded("busy"), answer())
        call = lab.call(attempt=begin, key="order-42")
        await outcome_of(lab.make(), call, peer)
        for sent in peer.calls:
            expect(isinstance(sent, Call), f"it passed on {sent!r}, which is no Call")
            expect(sent.key == call.key, f"the key {call.key!r} became {sent.key!r}")
            expect(number_of(sent) == number_of(call), f"the arguments {call.params!r} became {sent.params!r}")
            expect(sent.attempt >= begin, f"attempt {begin} became attempt {sent.attempt}")
        sent_as = [(sent.method, sent.attempt) for sent in peer.calls]  # another method counts from the beginning
        expect(len({*sent_as}) == len(sent_as), f"of the attempts {sent_as} two are the same")

    lab.alone(lambda: scenario(1))
    lab.alone(lambda: scenario(3))


@rule("it leaves the call that it is given as it is")
def immutability(lab: Lab) -> None:
    """See `Rule`."""

    def state(call: Call) -> dict[str, Any]:
        names = (name for name in call.__struct_fields__ if name not in {"runtime", "events"})
        return {name: copy.deepcopy(getattr(call, name)) for name in names}

    async def scenario(policy: Policy) -> None:
        call = lab.call(tags={"tenant": "acme"})
        before = state(call)
        for peer in (echo, ScriptedPeer(NotConnected("nobody there"))):
            await outcome_of(policy, call, peer)
        for name, value in state(call).items():
            expect(value == before[name], f"it changed call.{name} from {before[name]!r} to {value!r}")

    lab.alone(lambda: scenario(lab.make()))
