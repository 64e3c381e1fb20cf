"""Another attempt, where that is safe and may help."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

from resilient_rpc.errors import ConfigurationError, RpcError
from resilient_rpc.events import PolicyEvent
from resilient_rpc.policies.budget import RetryBudget, common_budget
from resilient_rpc.policies.course import Course
from resilient_rpc.policies.naming import name_of
from resilient_rpc.policies.repeatable import Listed, Refusal
from resilient_rpc.policies.settings import check_count, check_function, check_name, check_seconds, shown

if TYPE_CHECKING:
    from resilient_rpc.call import Call, Reply
    from resilient_rpc.policies.tenacity_engine import Consultation, Engine
    from resilient_rpc.policy import Handler


class RetryScheduled(PolicyEvent, frozen=True, kw_only=True):
    """An attempt failed, and another one follows after `delay` seconds."""

    log_level: ClassVar[int] = logging.INFO

    delay: float
    reason: str
    """What the delay follows: ``backoff``, ``overload``, ``retry_after`` or ``strategy``."""
    error: BaseException


class RetriesExhausted(PolicyEvent, frozen=True, kw_only=True):
    """The last attempt that was allowed failed."""

    log_level: ClassVar[int] = logging.WARNING

    error: BaseException


class RetrySuppressed(PolicyEvent, frozen=True, kw_only=True):
    """An attempt failed, and there is no further one although attempts were left."""

    log_level: ClassVar[int] = logging.WARNING

    reason: str
    """``not_retryable``, ``unsafe``, ``pushback``, ``circuit``, ``deadline``, ``budget`` or ``strategy``."""
    error: BaseException


FINAL = frozenset({"exhausted", "pushback", "circuit", "deadline", "budget", "strategy"})
"""Reasons for which nobody further out shall try again either. What is unsafe or not retryable says so itself."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Retry:
    """Repeats a failed call, after a random wait, when that is safe, may help, and can end before the deadline.

    An error is repeated if it is `retryable` and the call was surely not executed, or may be executed twice
    (`Call.safety`). The waits have full jitter: from 0 to ``min(cap, base * 2**n)`` before repeat n + 1. An answer with
    `retry_after` is waited out. Every repeat is paid for from a budget by target, but for those after attempts that
    never reached it. All attempts have the same arguments and idempotency key.

    What comes out is the last error of the target itself, with `attempts` and `history`; its `certainty` is that of all
    attempts together. `retryable` is False when nobody should go on. `retry`, `wait` and `stop` take the strategies of
    tenacity as they are; safety, pushback, deadline and budget hold with them as without. Strategies are asked after a
    failure, and may be coroutine functions that await what a policy may await.

    ConfigurationError for a setting outside of its range, and for two settings of which one replaces the other.
    """

    role: ClassVar[str] = "retry"
    above: ClassVar[Mapping[str, str]] = {
        "breaker": "the circuit breaker must see each attempt, not one failure for all of them",
        "rate_limit": "repeats are requests too, and are limited with them",
        "adaptive_limit": "the limit must measure each attempt, without the waits between them",
        "attempt_timeout": "the limit of an attempt must not limit all of them together",
        "chaos": "what is injected must meet the retry, as a failure of the target would",
    }
    below: ClassVar[Mapping[str, str]] = {
        "fallback": "a substitute hides the failure that is to be repeated",
        "cache": "a stale value hides the failure that is to be repeated",
        "bulkhead": "a call takes one permit, however many attempts it needs",
    }
    excludes: ClassVar[Mapping[str, str]] = {
        "hedge": "each would multiply the attempts of the other; a method has one of them",
        "retry": "their attempts would multiply; one layer repeats",
    }

    attempts: int = 3
    """Attempts in all, with the first one; at least 1."""
    base: float = 0.05
    """Seconds: the most that the first wait may take; it doubles with each attempt."""
    cap: float = 5.0
    """Seconds: the most that any wait may take, unless the server asks for more."""
    overload_base: float = 1.0
    """As `base`, after `Overloaded` and `DependencyUnavailable`."""
    max_pushback: float = 30.0
    """Seconds: the most that a server's `retry_after` is believed."""
    budget: RetryBudget | None = None
    """What pays for repeats; None: the one that retries and hedges of this process share."""
    retry_on: Collection[type[Exception] | str] = ()
    """More errors to repeat: classes, or names of application errors. Executed ones only where a repeat is harmless."""
    retry: Callable[[Any], Any] | None = None
    """A strategy of tenacity: which errors are repeated. In place of `RpcError.retryable` and `retry_on`."""
    wait: Callable[[Any], Any] | None = None
    """A strategy of tenacity: how long to wait. In place of `cap`, `overload_base` and the jitter."""
    stop: Callable[[Any], Any] | None = None
    """A strategy of tenacity: when to give up. In place of `attempts`."""
    name: str = ""
    """Tells policies of this class apart, in events and at a reload."""
    random: Callable[[], float] = field(default=random.random, repr=False)
    """From 0 to 1: where the jitter comes from."""
    bucket: RetryBudget = field(init=False, repr=False)
    """The budget in use."""
    _listed: Listed = field(init=False, repr=False)
    _engine: Engine | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        check_count("Retry.attempts", self.attempts)
        for name in ("base", "cap", "overload_base", "max_pushback"):
            check_seconds(f"Retry.{name}", getattr(self, name))
        if self.base > self.cap:
            raise ConfigurationError(f"Retry.base ({self.base!r}) must not be more than Retry.cap ({self.cap!r})")
        if self.budget is not None and not isinstance(self.budget, RetryBudget):
            raise ConfigurationError(
                f"Retry.budget must be a RetryBudget, not {shown(self.budget)}; for none, RetryBudget.unlimited()"
            )
        check_function("Retry.random", self.random)
        check_name("Retry.name", self.name)
        object.__setattr__(self, "bucket", common_budget() if self.budget is None else self.budget)
        object.__setattr__(self, "_listed", Listed("Retry.retry_on", self.retry_on))
        if any(strategy is not None for strategy in (self.retry, self.wait, self.stop)):
            object.__setattr__(self, "_engine", self._strategies())

    def _strategies(self) -> Engine:
        from resilient_rpc.policies.tenacity_engine import Engine  # noqa: PLC0415 - who names no strategy needs none

        defaults = {item.name: item.default for item in fields(self) if item.default is not MISSING}
        for name, replaced in (("retry", ("retry_on",)), ("wait", ("cap", "overload_base")), ("stop", ("attempts",))):
            strategy = getattr(self, name)
            if strategy is None:
                continue
            if not callable(strategy) or isinstance(strategy, type):
                raise ConfigurationError(f"Retry.{name} must be a strategy of tenacity, not {shown(strategy)}")
            for other in replaced:
                if getattr(self, other) != defaults[other]:
                    raise ConfigurationError(
                        f"Retry.{name} replaces Retry.{other}={getattr(self, other)!r}; leave one of them out"
                    )
        return Engine(retry=self.retry, wait=self.wait, stop=self.stop)

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        """Carry the call on, again and again as far as it goes."""
        began = call.runtime.now()
        self.bucket.deposit(call.target, began)
        try:
            return await proceed(call)
        except Exception as error:
            failed = [error]
        return await self._repeat(call, proceed, failed, began)

    def adopt(self, old: Self) -> None:
        """Go on with the counts of the budget of the policy that this one replaces."""
        if self.budget is not None and old.budget is not None:
            self.budget.adopt(old.budget)

    def lists(self, error: Exception) -> bool:
        """Whether `retry_on` names this error."""
        return error in self._listed

    def consultation(self, call: Call, began: float) -> Consultation | None:
        """The strategies' view of a call; None: there are no strategies."""
        if self._engine is None:
            return None
        from resilient_rpc.policies.tenacity_engine import Consultation  # noqa: PLC0415 - as in _strategies

        return Consultation(self._engine, call, began)

    async def _repeat(self, call: Call, proceed: Handler, failed: list[Exception], began: float) -> Reply:
        """The attempts after the first. `failed` holds the latest error, and no local does: see `Failures.clear`."""
        course = Course(self, call, began)
        attempt = call
        try:
            while True:
                follows = await course.after(failed[0])
                if isinstance(follows, Refusal):
                    raise self._given_up(attempt, course, follows)
                attempt.announce(
                    RetryScheduled, name_of(self), delay=follows.seconds, reason=follows.reason, error=failed[0]
                )
                await call.runtime.sleep(follows.seconds)
                late = course.too_late(0.0)  # a thread or loop that was held up wakes late
                if late is not None:
                    raise self._given_up(attempt, course, late)
                attempt = attempt.replace(attempt=attempt.attempt + 1)
                try:
                    reply = await proceed(attempt)
                except Exception as error:
                    failed[0] = error
                    continue
                reply.attempts = max(reply.attempts, attempt.attempt)
                return reply
        finally:
            failed.clear()
            course.clear()

    def _given_up(self, attempt: Call, course: Course, refusal: Refusal) -> Exception:
        """The error that comes out, and its event."""
        error = course.failures.outcome(attempt.attempt)
        if refusal.reason in FINAL and isinstance(error, RpcError):
            error.retryable = False
        if refusal.note:
            error.add_note(refusal.note)
        if refusal.reason == "exhausted":
            attempt.announce(RetriesExhausted, name_of(self), error=error)
        else:
            attempt.announce(RetrySuppressed, name_of(self), reason=refusal.reason, error=error)
        return error
