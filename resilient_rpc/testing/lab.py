"""Lab: where `check_policy` tries a policy out, for one kind of callers and in a time of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from resilient_rpc.call import Call, Reply, Safety
from resilient_rpc.policy import Handler, Policy, Runtime
from resilient_rpc.runtime import drive, running_runtime
from resilient_rpc.testing.clock import VirtualClock, VirtualDeadlock

T = TypeVar("T")
Scenario = Callable[[], Coroutine[Any, Any, T]]


class Broken(AssertionError):
    """A rule does not hold; the text says what was seen."""


def expect(holds: object, seen: str) -> None:
    """Broken unless `holds`."""
    if not holds:
        raise Broken(seen)


@dataclass(frozen=True, kw_only=True)
class Lab:
    """Makes policies and calls, and runs callers: threads, or tasks of one loop."""

    make: Callable[[], Policy]
    """A new policy, with nothing remembered."""
    clock: VirtualClock
    fields: Mapping[str, Any]
    """Of each call, where a rule does not need others."""
    blocking: bool
    crowd: int
    """Callers at once, or calls in a row: more than the policy has permits."""

    def port(self) -> Runtime:
        """The runtime of whoever asks."""
        try:
            return running_runtime()
        except RuntimeError:
            return self.clock.blocking

    def call(self, n: int = 0, *, timeout: float = 30.0, **fields: Any) -> Call:
        """A call whose time begins now; `n` tells it from others."""
        port = self.port()
        settings = {"method": "orders.price", "params": {"n": n}, "safety": Safety.READ_ONLY, **self.fields, **fields}
        return Call(runtime=port, deadline=port.now() + timeout, timeout=timeout, **settings)

    def together(self, *scenarios: Scenario[Any]) -> list[Any]:
        """Run callers at the same time: for each its result, or its error. A broken rule in one of them is raised."""
        if self.blocking:
            functions: list[Callable[[], Any]] = [_driving(scenario) for scenario in scenarios]
            return self.settled(*functions)

        async def gather() -> list[Any]:
            return await asyncio.gather(*[asyncio.create_task(each()) for each in scenarios], return_exceptions=True)

        (outcomes,) = self.settled(gather)
        if isinstance(outcomes, BaseException):
            raise outcomes
        for outcome in outcomes:
            _raise_findings(outcome)
        found: list[Any] = outcomes
        return found

    def settled(self, *functions: Callable[[], Any]) -> list[Any]:
        """As `VirtualClock.run`, with errors in their places; Broken when one of them never ends."""
        try:
            outcomes = self.clock.run(*functions, return_errors=True)
        except VirtualDeadlock as error:
            raise Broken(f"a call never ends: {error}") from error
        for outcome in outcomes:
            _raise_findings(outcome)
        return outcomes

    def alone(self, scenario: Scenario[T]) -> T:
        """Run one caller, and raise its error."""
        outcome = self.together(scenario)[0]
        if isinstance(outcome, BaseException):
            raise outcome
        result: T = outcome
        return result


def _driving(scenario: Scenario[T]) -> Callable[[], T]:
    return lambda: drive(scenario())


def _raise_findings(outcome: object) -> None:
    if isinstance(outcome, Broken):
        raise outcome
    if isinstance(outcome, VirtualDeadlock):
        raise Broken(f"a call never ends: {outcome}") from outcome


async def outcome_of(policy: Policy, call: Call, proceed: Handler) -> Any:
    """The reply or the error of a call through `policy`; not what cancels its caller, nor what the check finds."""
    try:
        return await policy(call, proceed)
    except (Broken, VirtualDeadlock):
        raise
    except Exception as error:
        return error


async def echo(call: Call) -> Reply:
    """Answers with the number of the call."""
    return Reply(result=number_of(call))


def number_of(call: Call) -> Any:
    """What `Lab.call` was given."""
    return call.params["n"] if isinstance(call.params, Mapping) else None
