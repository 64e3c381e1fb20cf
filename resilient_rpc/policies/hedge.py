"""A second attempt beside a slow first one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec

from resilient_rpc.call import DEDUP, IDEMPOTENT, READ_ONLY, UNSAFE, Call, Reply, Safety
from resilient_rpc.errors import ConfigurationError, DeadlineExceeded
from resilient_rpc.events import PolicyEvent
from resilient_rpc.policies.budget import RetryBudget, common_budget
from resilient_rpc.policies.hedge_delay import DelayEstimate
from resilient_rpc.policies.hedge_race import Race
from resilient_rpc.policies.naming import name_of
from resilient_rpc.policies.settings import check_count, check_name, check_seconds, check_share, shown
from resilient_rpc.policies.targets import Targets

if TYPE_CHECKING:
    from resilient_rpc.policy import Handler

GRACE = 1.0
"""Seconds past the deadline after which attempts are given up that should have ended by it."""


class HedgeStarted(PolicyEvent, frozen=True, kw_only=True):
    """One more attempt runs beside those before it."""

    index: int
    """1: the first hedge."""
    seconds: float
    """Since the call reached this policy."""


class HedgeWon(PolicyEvent, frozen=True, kw_only=True):
    """A hedge has answered before the attempts that were begun earlier."""

    index: int
    seconds: float
    """Until its answer, since the call reached this policy."""


class HedgeSuppressed(PolicyEvent, frozen=True, kw_only=True):
    """A call had, or from here on has, no (further) hedge."""

    reason: str
    """``unsafe``, ``samples`` (too few to know what is slow), ``budget``, ``deadline`` or ``pushback``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Hedge:
    """Sends a call once more when its answer is late; the first answer counts, and the other attempt is cancelled.

    Late is what takes longer than the `quantile` of the method's own recent times (with 0.95, one call of 20). Only
    where a repeat is safe: other calls pass by. Hedges are paid from the budget that retries use; when it is spent,
    the first attempt goes on alone.

    An attempt that fails in a way that another may not (`retryable`) has the next one begin at once. An error of the
    application is an answer, and ends the call. After an answer that asks for patience (`retry_after`, `Overloaded`)
    no more hedges begin. When all attempts have failed, the error that says most comes out; its `certainty` holds for
    all of them, those that were cancelled included.

    A call that can be hedged runs as started work beside its caller; while that is out of the question (too few times
    are known, the budget is spent, the deadline is nearer than the delay) it runs in place.

    Excludes a retry. The rules are those of gRPC's proposal A6 and of Dean and Barroso, *The Tail at Scale*.

    ConfigurationError for a setting outside of its range.
    """

    role: ClassVar[str] = "hedge"
    excludes: ClassVar[Mapping[str, str]] = {
        "retry": "both repeat attempts, and would multiply them; a hedge also follows a failed attempt at once",
        "hedge": "each attempt of the one would be hedged by the other; max_hedges= allows more attempts",
    }
    above: ClassVar[Mapping[str, str]] = {
        "breaker": "it must see each attempt by itself",
        "rate_limit": "a hedge takes a token as any attempt",
        "adaptive_limit": "a hedge takes a permit as any attempt",
        "attempt_timeout": "outside of a hedge it would limit all attempts together",
        "chaos": "its faults must meet one attempt, not all",
    }
    below: ClassVar[Mapping[str, str]] = {
        "fallback": "a substitute of one attempt would win over the answer of another",
        "cache": "what the cache answers need not be sent twice",
        "deadline": "all attempts share the time of the call",
        "bulkhead": "a permit is for a call, whatever the number of its attempts",
    }
    requires: ClassVar[frozenset[Safety]] = frozenset({READ_ONLY, IDEMPOTENT, DEDUP})

    delay: float | None = None
    """Seconds until a hedge while too few times of a method are known; None: no hedge until then."""
    quantile: float = 0.95
    """Of the method's times; between 0 and 1."""
    min_samples: int = 100
    """Times of a method that are needed for the quantile."""
    min_delay: float = 0.001
    """Seconds, at least, until a hedge."""
    max_hedges: int = 1
    """Attempts besides the first, each `delay` after the one before."""
    budget: RetryBudget | None = None
    """None: `common_budget()`."""
    methods: Collection[str] | None = None
    """Full names of the methods that are hedged; None: all that may be repeated."""
    name: str = ""
    """Shown in events, in place of the class, and tells hedges apart at a reload."""
    _methods: frozenset[str] | None = field(init=False, repr=False)
    _budget: RetryBudget = field(init=False, repr=False)
    _estimates: Targets[DelayEstimate] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.delay is not None:
            check_seconds("Hedge.delay", self.delay)
        check_share("Hedge.quantile", self.quantile)
        if self.quantile in {0, 1}:
            raise ConfigurationError(f"Hedge.quantile must be between 0 and 1, as 0.95, not {shown(self.quantile)}")
        check_count("Hedge.min_samples", self.min_samples)
        check_seconds("Hedge.min_delay", self.min_delay, zero=True)
        check_count("Hedge.max_hedges", self.max_hedges)
        if self.budget is not None and not isinstance(self.budget, RetryBudget):
            raise ConfigurationError(f"Hedge.budget must be a RetryBudget or None, not {shown(self.budget)}")
        check_name("Hedge.name", self.name)
        object.__setattr__(self, "_methods", _names(self.methods))
        object.__setattr__(self, "_budget", self.budget or common_budget())
        object.__setattr__(self, "_estimates", Targets(lambda _: DelayEstimate()))

    def adopt(self, old: Self) -> None:
        """Go on with the times that the hedge which this one replaces has seen, and with its budget's counts."""
        object.__setattr__(self, "_estimates", old._estimates)
        if self._budget is not old._budget:
            self._budget.adopt(old._budget)

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        """Carry the call on, and once more when it is slow."""
        if self._methods is not None and call.method not in self._methods:
            return await proceed(call)
        if call.safety is UNSAFE:
            if call.wants(HedgeSuppressed):
                call.announce(HedgeSuppressed, name_of(self), reason="unsafe")
            return await proceed(call)
        begin, target = call.runtime.now(), call.target
        self._budget.deposit(target, begin)
        estimate = self._estimates.of(call.method)
        usual = estimate.value(self.quantile, self.min_samples)
        delay = self.delay if usual is None else max(usual, self.min_delay)
        if delay is None:
            obstacle = "samples"
        elif delay >= call.deadline - begin:
            obstacle = "deadline"
        elif self._budget.balance(target, begin) < 1:
            obstacle = "budget"
        else:
            return await self._hedged(call, proceed, estimate, begin, delay)
        if call.wants(HedgeSuppressed):
            call.announce(HedgeSuppressed, name_of(self), reason=obstacle)
        reply = await proceed(call)
        estimate.record(call.runtime.now() - begin)
        return reply

    async def _hedged(self, call: Call, proceed: Handler, estimate: DelayEstimate, begin: float, delay: float) -> Reply:
        race = Race(call, proceed)
        try:
            number, reply = await self._run(race, call, begin, delay)
        finally:
            race.cancel()
        seconds = call.runtime.now() - begin
        if 0 not in race.errors:
            # A primary that has lost counts, with the time until then: without it the quantile would sink and sink.
            estimate.record(seconds)
        if number:
            call.announce(HedgeWon, name_of(self), index=number, seconds=seconds)
        return reply if race.started == 1 else msgspec.structs.replace(reply, attempts=race.started)

    async def _run(self, race: Race, call: Call, begin: float, delay: float) -> tuple[int, Reply]:
        """The number and the reply of the winner."""
        runtime, end = call.runtime, call.deadline + GRACE
        race.start()
        hedging, due = True, begin + delay
        while True:
            settled = await runtime.wait(tuple(race.running), (due if hedging else end) - runtime.now())
            if settled is None and not hedging:
                raise DeadlineExceeded(f"{call.method}: no attempt ended by the deadline", certainty=race.certainty())
            winner = race.take()
            if winner is not None:
                return winner
            if hedging and not race.answered():
                due = runtime.now() + delay
                hedging = self._start(race, call, begin) and race.started <= self.max_hedges and due < call.deadline
            if race.answered() or not race.running:
                raise race.verdict()

    def _start(self, race: Race, call: Call, begin: float) -> bool:
        """Start a hedge; False: there are to be no more."""
        now = call.runtime.now()
        if race.pushed_back():
            obstacle = "pushback"
        elif not race.may_repeat():
            return False
        elif now >= call.deadline:
            obstacle = "deadline"
        elif not self._budget.withdraw(call.target, now):
            obstacle = "budget"
        else:
            call.announce(HedgeStarted, name_of(self), index=race.started, seconds=now - begin)
            race.start()
            return True
        call.announce(HedgeSuppressed, name_of(self), reason=obstacle)
        return False


def _names(methods: Any) -> frozenset[str] | None:
    if methods is None:
        return None
    names = frozenset(methods) if isinstance(methods, Collection) and not isinstance(methods, str) else ()
    if not names or not all(isinstance(name, str) and "." in name for name in names):
        raise ConfigurationError(f"Hedge.methods must be full names, as ['orders.price'], not {shown(methods)}")
    return frozenset(names)
