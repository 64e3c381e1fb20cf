"""A cap on how many calls a second leave for one target."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

from resilient_rpc.call import Call
from resilient_rpc.errors import ConfigurationError, RateLimited
from resilient_rpc.events import CallRejected, PolicyBypassed
from resilient_rpc.policies.bucket import Bucket
from resilient_rpc.policies.naming import name_of
from resilient_rpc.policies.settings import check_name, check_number, check_seconds, shown
from resilient_rpc.policies.shared_rate import Ask, Gate, Lease, SharedRate
from resilient_rpc.policies.targets import Targets

if TYPE_CHECKING:
    from resilient_rpc.call import Reply
    from resilient_rpc.policy import Handler

LEAST = 0.001
"""Seconds that a call must have left when its token comes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RateLimit:
    """Lets `burst` calls to one target leave at once, and `rate` a second in the long run.

    Retries and hedges are counted like first attempts. A call that would have to wait longer than `max_wait`, or until
    its deadline, fails with `RateLimited`: not executed, and `retry_after` says when there is a token for it. One that
    is cancelled while it waits returns its token. A token bucket; see `bucket.Bucket`.

    With `shared`, all processes that name the same Redis share one rate, at the price of one round trip for each call.
    While Redis does not answer, each process keeps to its own share of the rate, with the event `PolicyBypassed`.
    """

    role: ClassVar[str] = "rate_limit"
    below: ClassVar[Mapping[str, str]] = {
        "fallback": "a call that is over the rate is one to fall back for",
        "cache": "an answer from the cache needs no token",
        "deadline": "the wait for a token is part of the call's time",
        "retry": "repeats are load too, and need tokens of their own",
        "hedge": "hedged attempts are load too, and need tokens of their own",
        "breaker": "a call that an open circuit refuses needs no token",
    }
    above: ClassVar[Mapping[str, str]] = {
        "attempt_timeout": "the wait for a token is not part of the attempt",
        "chaos": "a fault that is injected stands for one of the target, which would have cost a token",
    }

    rate: float
    """Calls a second, more than 0."""
    burst: float | None = None
    """Calls that may leave at once after a pause, 1 or more; None: as many as in a second, at least 1."""
    max_wait: float = 0.0
    """Seconds that a call may wait for its token; never beyond its deadline."""
    key: Callable[[Call], str] | None = None
    """What is limited together, from a call; None: the target."""
    shared: SharedRate | None = None
    """Where the rate is counted for several processes, as `RedisRate`; None: in this process."""
    name: str = ""
    """Tells two limits apart, in events, in Redis and when a chain is reloaded."""
    _burst: float = field(init=False, repr=False)
    _buckets: Targets[Bucket] = field(init=False, repr=False)
    _gate: Gate = field(default_factory=Gate, init=False, repr=False)

    def __post_init__(self) -> None:
        _check_positive("RateLimit.rate", self.rate, "calls a second, more than 0")
        burst = max(1.0, self.rate) if self.burst is None else self.burst
        _check_positive("RateLimit.burst", burst, "calls, at least 1", least=1)
        check_seconds("RateLimit.max_wait", self.max_wait, zero=True, endless=True)
        if self.key is not None and not callable(self.key):
            raise ConfigurationError(f"RateLimit.key must be a function from a call to a str, not {shown(self.key)}")
        if self.shared is not None and not isinstance(self.shared, SharedRate):
            raise ConfigurationError(f"RateLimit.shared must be a RedisRate or its like, not {shown(self.shared)}")
        check_name("RateLimit.name", self.name)
        object.__setattr__(self, "_burst", float(burst))
        object.__setattr__(self, "_buckets", Targets(lambda _: Bucket()))

    def adopt(self, old: Self) -> None:
        """Take over what has been used already."""
        object.__setattr__(self, "_buckets", old._buckets)

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        """Carry the call on when there is a token for it."""
        key = call.target if self.key is None else self.key(call)
        if self.shared is None:
            bucket = self._buckets.of(key)
            if not bucket.take(call.runtime.now(), self.rate, self._burst):
                await self._wait(call, bucket, self.rate, self._burst)
        else:
            await self._share(call, key, self.shared)
        return await proceed(call)

    async def _wait(self, call: Call, bucket: Bucket, rate: float, burst: float) -> None:
        """Return when `bucket` has a token for the call."""
        now = call.runtime.now()
        slot = bucket.reserve(now, rate, burst, self._patience(call, now))
        if not slot.granted:
            raise self._refused(call, slot.at - now)
        if slot.at <= now:
            return
        try:
            await call.runtime.sleep(slot.at - now)
        except BaseException:  # cancelled
            bucket.refund(slot.at)
            raise

    async def _share(self, call: Call, key: str, shared: SharedRate) -> None:
        now = call.runtime.now()
        ask = Ask(f"{name_of(self)}:{key}", self.rate, self._burst, max(0.0, self._patience(call, now)))
        answer = await self._gate.ask(call, shared, ask)
        if not isinstance(answer, Lease):
            call.announce(PolicyBypassed, name_of(self), reason=answer)
            bucket, share = self._buckets.of(key), 1 / shared.instances
            await self._wait(call, bucket, self.rate * share, max(1.0, self._burst * share))
        elif not answer.granted:
            raise self._refused(call, answer.wait)
        elif answer.wait > 0:
            await self._wait_shared(call, shared, ask, answer)

    @staticmethod
    async def _wait_shared(call: Call, shared: SharedRate, ask: Ask, lease: Lease) -> None:
        try:
            await call.runtime.sleep(lease.wait)
        except asyncio.CancelledError:  # and only then: a call that is collected has no loop to start anything on
            call.runtime.start(lambda _: shared.refund(ask, lease))
            raise

    def _patience(self, call: Call, now: float) -> float:
        left = call.deadline - now
        # A token that comes with the deadline comes too late.
        return self.max_wait if self.max_wait < left else left - LEAST

    def _refused(self, call: Call, wait: float) -> RateLimited:
        name = name_of(self)
        call.announce(CallRejected, name, reason="rate", retry_after=wait)
        return RateLimited(
            f"{name}: over {self.rate:g} calls a second; the next token comes in {wait:.3g} s", retry_after=wait
        )


def _check_positive(name: str, value: float, meaning: str, *, least: float = 0) -> None:
    check_number(name, value)
    if value <= 0 or value < least or math.isinf(value):
        raise ConfigurationError(f"{name} is a finite number of {meaning}, not {shown(value)}")
