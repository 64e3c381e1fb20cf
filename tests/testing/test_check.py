"""check_policy: each rule, by a policy that breaks it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from resilient_rpc import Call, ConfigurationError, DeadlineExceeded, Handler, Rejected, Reply, RpcError
from resilient_rpc.errors import NOT_EXECUTED
from resilient_rpc.events import PolicyEvent
from resilient_rpc.pending import Pending
from resilient_rpc.testing import check_policy
from resilient_rpc.testing.check import RULES
from resilient_rpc.testing.rules import answers, forked

Make = Callable[[], Any]
NAMES = [rule.name for rule in RULES]


class Plain:
    """Does nothing, and so breaks no rule; the others differ from it in one thing."""

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        return await proceed(call)


def told(rule: str, make: Make, *, crowd: int = 20, patience: float = 0.4, **settings: Any) -> str:
    """What is said of a policy that breaks the rule; the others are left out, for it may break them as well."""
    others = {name: "another test" for name in NAMES if name != rule}
    with pytest.raises(AssertionError, match=f"breaks the rule `{rule}`") as caught:
        check_policy(make, except_for=others, crowd=crowd, patience=patience, **settings)
    return str(caught.value)


def test_a_policy_that_does_nothing_keeps_all_rules() -> None:
    report = check_policy(Plain)
    assert list(report.holds) == NAMES
    assert str(report).startswith(f"Plain keeps {len(NAMES)} rules:\n  declaration: it is a policy")


def test_the_first_rule_that_is_broken_is_named_with_the_policy_and_its_callers() -> None:
    with pytest.raises(AssertionError) as caught:
        check_policy(Asynchronous)
    assert str(caught.value).startswith(
        "Asynchronous breaks the rule `one_colour`, for blocking callers: it awaits only"
    )


# -- declaration


class Declared(Plain):
    role: Any = "mine"
    above: Any = ()

    def adopt(self, old: Any) -> None:
        """Takes nothing over."""


def test_declaration() -> None:
    assert "not a policy: 7" in told("declaration", lambda: 7)
    assert "is a class; pass an instance" in told("declaration", lambda: Plain)
    assert "role is 7, which is no text" in told("declaration", type("Odd", (Declared,), {"role": 7}))
    assert "above is 'retry'" in told("declaration", type("Odd", (Declared,), {"above": "retry"}))
    assert "above is [7]" in told("declaration", type("Odd", (Declared,), {"above": [7]}))
    assert "it raised KeyError('old')" in told("declaration", type("Odd", (Declared,), {"adopt": _fail}))
    check_policy(Declared, crowd=2)


def _fail(*_: Any) -> None:
    raise KeyError("old")


# -- one_colour, real_time


class Asynchronous(Plain):
    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        await asyncio.sleep(0)
        return await proceed(call)


class Sleeper(Plain):
    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        time.sleep(0.02)  # noqa: ASYNC251 - that is the mistake
        return await proceed(call)


def test_one_colour() -> None:
    assert "Asynchronous.__call__" in told("one_colour", Asynchronous)


def test_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "QUICK", 0.01)
    assert "took 0.02 s of real time" in told("real_time", Sleeper)


# -- locks


class Locked(Plain):
    def __init__(self, lock: Callable[[], Any] = threading.Lock) -> None:
        self.lock = lock()

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        with self.lock:
            return await proceed(call)


class AsyncLocked(Plain):
    def __init__(self) -> None:
        self.lock = asyncio.Lock()

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        async with self.lock:
            return await proceed(call)


class OneFlight(Plain):
    """Lets all wait for the first one, even those that the first one makes itself."""

    def __init__(self, patience: float = 0.0) -> None:
        self.flight: Pending[Any] | None = None
        self.patience = patience

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        if self.flight is not None:
            if await call.runtime.wait([self.flight], max(self.patience, call.remaining())) is None:
                raise DeadlineExceeded("the leader is slow")
            return Reply(result=self.flight.result())
        self.flight = flight = Pending[Any]()
        reply = await proceed(call)
        flight.set(reply.result)
        self.flight = None
        return reply


def test_locks() -> None:
    assert "for blocking callers" in told("locks", Locked)
    assert "a call never ends" in told("locks", lambda: Locked(threading.RLock))
    assert "a call within the call ended in" in told("locks", AsyncLocked)
    assert "a call within the call ended in DeadlineExceeded('the leader is slow')" in told("locks", OneFlight)
    assert "a call never ends: no timer is set" in told("locks", lambda: OneFlight(math.inf))


# -- results, errors, certainty, safety


class Forgetful(Plain):
    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        await proceed(call)
        return None  # type: ignore[return-value]


class Rounding(Plain):
    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        return Reply(result=str((await proceed(call)).result))


class Wrapping(Plain):
    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        try:
            return await proceed(call)
        except Exception as error:
            raise RuntimeError("it failed") from error


class Lying(Plain):
    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        try:
            return await proceed(call)
        except RpcError as error:
            error.certainty = NOT_EXECUTED
            raise


class Stubborn(Plain):
    """Repeats whatever has failed."""

    def again(self, call: Call) -> Call:
        return call.replace(attempt=call.attempt + 1)

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        try:
            return await proceed(call)
        except RpcError:
            return await proceed(self.again(call))


def test_results() -> None:
    assert "for the result None it gave None, which is no Reply" in told("results", Forgetful)
    assert "it made '0' of the result 0" in told("results", Rounding) or "'None' of the result None" in told(
        "results", Rounding
    )


def test_errors() -> None:
    assert "it made RuntimeError('it failed') of the error InvalidParams" in told("errors", Wrapping)


def test_certainty() -> None:
    assert "after ApplicationError('sold out') it says not_executed" in told("certainty", Lying)
    assert "after ConnectionLost('gone') it says not_executed, with NotConnected" in told("certainty", Stubborn)


def test_safety() -> None:
    assert "was sent 2 times" in told("safety", Stubborn)


# -- attempts, immutability


class Renaming(Plain):
    def __init__(self, change: Callable[[Call], Any]) -> None:
        self.change = change

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        return await proceed(self.change(call))


class Uncounting(Stubborn):
    def again(self, call: Call) -> Call:
        return call


class Scribbling(Plain):
    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        call.params["seen"] = True  # type: ignore[index, call-overload]
        return await proceed(call)


def test_attempts() -> None:
    assert "('orders.price', 1), ('orders.price', 1)] two are the same" in told("attempts", Uncounting)
    assert "which is no Call" in told("attempts", lambda: Renaming(repr))
    assert "the key 'order-42' became None" in told("attempts", lambda: Renaming(lambda c: c.replace(key=None)))
    assert "became {'n': 1}" in told("attempts", lambda: Renaming(lambda c: c.replace(params={"n": 1})))
    assert "attempt 1 became attempt 0" in told("attempts", lambda: Renaming(lambda c: c.replace(attempt=0)))


def test_immutability() -> None:
    assert "it changed call.params from {'n': 0} to {'n': 0, 'seen': True}" in told("immutability", Scribbling)


# -- deadline, rebinding


class Patient(Plain):
    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        try:
            return await proceed(call)
        except RpcError as error:
            await call.runtime.sleep(error.retry_after or 0.0)
            raise


class Generous(Plain):
    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        return await proceed(call.replace(deadline=call.deadline + 1.0))


class OtherTime(Plain):
    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        return await proceed(call.replace(deadline=min(call.deadline, time.monotonic() + 5.0)))


class Queue(Plain):
    """Has one permit, and all the time of the world; holders never get in each other's way."""

    def __init__(self) -> None:
        self.lock, self.busy = threading.Lock(), False
        self.waiting: list[Pending[None]] = []

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        turn = Pending[None]()
        with self.lock:
            if self.busy:
                self.waiting.append(turn)
            else:
                self.busy = turn.set(None)
        await call.runtime.wait([turn], math.inf)
        try:
            return await proceed(call)
        finally:
            with self.lock:
                self.busy = bool(self.waiting)
                if self.waiting:
                    self.waiting.pop(0).set(None)


class OnTheSide(Plain):
    """Has the call carried on as work of its own, with the runtime of the caller."""

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        started = call.runtime.start(lambda _: proceed(call))
        await call.runtime.wait([started], call.remaining())
        return started.result()


class Misplaced(Plain):
    """Uses in a thread the runtime of a loop."""

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        async def mine(runtime: Any) -> Any:
            return runtime

        started = call.runtime.start(mine)
        await call.runtime.wait([started], math.inf)
        return await proceed(call.on(started.result()))


def test_deadline() -> None:
    assert "a call with 0 s, where the other side fails with Overloaded, took 1000 s more" in told("deadline", Patient)
    assert "it passed on a deadline 1 s later" in told("deadline", Generous)
    assert "it passed on a deadline that is over since" in told("deadline", OtherTime)
    assert "among 20 calls that wait, one with 5 s took" in told("deadline", Queue)


def test_rebinding() -> None:
    assert "use call.on(runtime)" in told("rebinding", OnTheSide)
    assert "in a thread, with the runtime of a loop" in told("rebinding", Misplaced)


# -- cancellation, permits


class Swallowing(Plain):
    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        try:
            return await proceed(call)
        except asyncio.CancelledError:
            return Reply(result=None)


class Denying(Plain):
    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        try:
            return await proceed(call)
        except asyncio.CancelledError:
            raise Rejected("never") from None


class SwallowingOnALoop(Plain):
    def __init__(self, after: float = 0.0) -> None:
        self.after = after

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        try:
            return await proceed(call)
        except asyncio.CancelledError:
            if call.runtime.__class__.__name__ == "BlockingRuntime":
                raise
            await call.runtime.sleep(self.after)
            raise DeadlineExceeded("cancelled") from None


class LeftBehind(Plain):
    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        started = call.runtime.start(lambda runtime: proceed(call.on(runtime)))
        await call.runtime.wait([started], call.remaining())
        return started.result()


class SharedFlight(Plain):
    """Lets all wait for the first one, and share what becomes of it."""

    flight: Pending[Any] | None = None

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        if self.flight is not None:
            flight = self.flight
            await call.runtime.wait([flight], call.remaining())
            return Reply(result=flight.result())
        self.flight = flight = Pending[Any]()
        try:
            reply = await proceed(call)
        except (self.shares, RpcError) as error:
            flight.fail(error)
            raise
        finally:
            self.flight = None
        flight.set(reply.result)
        return reply

    shares: type[BaseException] = RpcError


class ByTime(SharedFlight):
    """The first one has all the time that it needs."""

    shares = asyncio.CancelledError

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        return await super().__call__(call.replace(deadline=call.deadline + 60.0), proceed)


class Counting(Plain):
    """Has as many permits as it is told, and gives them back as it is told."""

    def __init__(self, limit: int, gives_back: type[BaseException] | None) -> None:
        self.free, self.gives_back, self.lock = limit, gives_back, threading.Lock()

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        with self.lock:
            if self.free == 0:
                raise Rejected("full")
            self.free -= 1
        try:
            reply = await proceed(call)
        except BaseException as error:
            if self.gives_back is not None and isinstance(error, self.gives_back):
                self.give_back()
            raise
        self.give_back()
        return reply

    def give_back(self) -> None:
        with self.lock:
            self.free += 1


def test_cancellation() -> None:
    assert "became Reply(result=None" in told("cancellation", Swallowing)
    assert "became Rejected('never')" in told("cancellation", Denying)
    assert "a cancelled call ended in DeadlineExceeded('cancelled')" in told("cancellation", SwallowingOnALoop)
    assert "60 s after it was cancelled" in told("cancellation", lambda: SwallowingOnALoop(after=1000.0))
    assert "what the policy has started still goes on" in told("cancellation", LeftBehind)


def test_independence() -> None:
    text = told("independence", SharedFlight)
    assert "20 made the same call; the first had no time left, and another one's ended in DeadlineExceeded" in text
    assert "the first was cancelled, and another one's ended in CancelledError" in told("independence", ByTime)


def test_permits() -> None:
    assert "it let 5 calls pass at once, and 0 after" in told("permits", lambda: Counting(5, None))
    assert "it let 5 calls pass at once, and 0 after" in told("permits", lambda: Counting(5, Exception))
    assert "it lets not a single call pass" in told("permits", lambda: Counting(0, BaseException))
    check_policy(lambda: Counting(5, BaseException), crowd=20, except_for={"fork": "it does not renew itself"})


# -- events


class Announcing(Plain):
    def __init__(self, event: Any, lock: Any) -> None:
        self.event, self.lock = event, lock

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        with self.lock:
            call.emit(self.event)
        return await proceed(call)


def test_events() -> None:
    event = PolicyEvent(policy="Announcing", method="orders.price", target="orders")
    assert "it announced 'done', which is no Event" in told("events", lambda: Announcing("done", threading.RLock()))
    assert "a call never ends" in told("events", lambda: Announcing(event, threading.Lock()))
    check_policy(lambda: Announcing(event, contextlib.nullcontext()), crowd=2)


# -- concurrency, loops


class Mixing(Plain):
    call: Call

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        self.call = call
        await call.runtime.sleep(0.01)
        return await proceed(call.replace(params=self.call.params))


class Fragile(Plain):
    busy = False

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        if self.busy:
            raise RuntimeError("used by two")
        self.busy = True
        reply = await proceed(call)
        self.busy = False
        return reply


class OneLoop(Plain):
    """Remembers the runtime of its first call."""

    runtime: Any = None

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        if self.runtime is None:
            self.runtime = call.runtime
        if self.runtime is not call.runtime:
            raise RuntimeError("another loop")
        return await proceed(call)


class Once(Plain):
    """Refuses all calls after some."""

    def __init__(self, calls: int = 5) -> None:
        self.left = calls

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        if self.left <= 0:
            raise Rejected("no more")
        self.left -= 1
        return await proceed(call)


def test_concurrency() -> None:
    assert "not one of 20 callers at once got an answer" in told("concurrency", lambda: Once(0))
    assert "got the answer to call" in told("concurrency", Mixing)
    assert "ended in RuntimeError('used by two'), which is no RpcError" in told("concurrency", Fragile)


def test_loops() -> None:
    assert "ended in RuntimeError('another loop')" in told("loops", OneLoop)
    assert "none of them got an answer" in told("loops", Once)


# -- leaks, fork


class Hoarding(Plain):
    def __init__(self) -> None:
        self.seen: list[Call] = []

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        self.seen.append(call)
        return await proceed(call)


class LastOne(Plain):
    last: Call

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        self.last = call
        return await proceed(call)


class StuckInAChild(Plain):
    def __init__(self) -> None:
        self.process = os.getpid()

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        if os.getpid() != self.process:
            await call.runtime.wait([Pending[None]()], math.inf)
        return await proceed(call)


def test_leaks() -> None:
    assert "it still holds 100 of 100 calls" in told("leaks", Hoarding)
    check_policy(LastOne, crowd=2)


@pytest.mark.serial  # the child and what it says have less than half a second
def test_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "in the child a call ended in Rejected('full')" in told("fork", lambda: Counting(5, BaseException))
    monkeypatch.setattr(forked, "LIMIT", 0.2)
    assert "in the child a call does not end within 0.2 s" in told("fork", StuckInAChild)


# -- how it is told what to do


def test_every_rule_has_a_test_of_its_own() -> None:
    assert {f"test_{name}" for name in NAMES} <= set(globals())


def test_a_rule_that_is_left_out_is_reported_with_the_reason() -> None:
    report = check_policy(Wrapping, except_for={"errors": "it wraps them", "certainty": "it has none"}, crowd=2)
    assert "errors" not in report.holds
    assert "  errors: left out, for it wraps them" in str(report).splitlines()
    assert report.left_out["certainty"] == "it has none"


def test_the_calls_are_those_that_were_asked_for() -> None:
    seen: set[tuple[str, str]] = set()

    class Watching(Plain):
        async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
            seen.add((call.method, str(call.safety)))
            return await proceed(call)

    check_policy(Watching, call={"method": "audit.write", "safety": "dedup"}, crowd=2)
    assert seen == {("audit.write", "dedup"), ("audit.write", "unsafe")}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"except_for": {"erors": "x"}}, r"no rule 'erors'; did you mean 'errors'\? known: declaration, "),
        ({"except_for": {"xyz": "x"}}, r"no rule 'xyz'; known: declaration, "),
        ({"except_for": {"errors": " "}}, r"except_for\['errors'\]: say why"),
        ({"crowd": 1}, "crowd must be at least 2"),
        ({"patience": 0}, "patience must be more than 0"),
        ({"call": {"saftey": "unsafe"}}, r"a call has no field 'saftey'; did you mean 'safety'\? known: method, "),
        ({"call": {"runtime": None}}, "a call has no field 'runtime'"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_policy(Plain, **settings)


def test_it_needs_a_function_that_makes_one() -> None:
    with pytest.raises(ConfigurationError, match="a function without arguments that makes a policy"):
        check_policy(Renaming)  # type: ignore[arg-type]


def test_a_policy_that_is_a_function_has_its_name() -> None:
    async def passing(call: Call, proceed: Handler) -> Reply:
        return await proceed(call)

    assert check_policy(lambda: passing, crowd=2).policy.endswith("passing")
