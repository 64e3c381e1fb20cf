"""The course of one call that has failed: after each failure, a wait or the reason why there is none."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from resilient_rpc.policies.backoff import Delay, Schedule
from resilient_rpc.policies.failures import Failures
from resilient_rpc.policies.repeatable import Refusal, free, refusal

if TYPE_CHECKING:
    from resilient_rpc.call import Call
    from resilient_rpc.policies.retry import Retry
    from resilient_rpc.policies.tenacity_engine import Consultation

log = logging.getLogger(__name__)


class Course:
    """Decides for one call; made when its first attempt has failed. Never waits itself, unless a strategy does."""

    __slots__ = ("_call", "_consultation", "_failed", "_policy", "_schedule", "failures")

    def __init__(self, policy: Retry, call: Call, began: float) -> None:
        self._policy, self._call = policy, call
        self._schedule = Schedule(policy)
        self._consultation: Consultation | None = policy.consultation(call, began)
        self._failed = 0
        self.failures = Failures()

    async def after(self, error: Exception) -> Delay | Refusal:
        """What follows `error`, the end of the latest attempt. A wait has been paid for."""
        self.failures.add(error)
        self._failed += 1
        try:
            planned = await self._plan(error)
        except Exception as broken:
            log.exception("a strategy of %r failed; the call is not repeated", self._policy)
            return Refusal("strategy", f"not repeated: a strategy failed with {broken!r}")
        return planned if isinstance(planned, Refusal) else self._affordable(error, planned)

    def too_late(self, delay: float) -> Refusal | None:
        """The refusal of an attempt that `delay` would bring beyond the deadline."""
        left = self._call.remaining()
        if delay < left:
            return None
        return Refusal("deadline", f"not repeated: {max(left, 0):.3g} s left, next attempt in {delay:.3g} s")

    def clear(self) -> None:
        """Forget the errors, so that nothing holds them in a circle."""
        self.failures.clear()
        if self._consultation is not None:
            self._consultation.clear()

    async def _plan(self, error: Exception) -> Delay | Refusal:
        asked = self._consultation
        wanted: bool | None = None
        chosen: float | None = None
        if asked is not None:
            asked.failed(error, self._call.runtime.now())
            wanted = await asked.wants()
        if wanted is False:
            return Refusal("not_retryable")
        refused = refusal(error, self._call, asked_for=wanted or self._policy.lists(error))
        if refused is not None:
            return refused
        if asked is not None:
            chosen = await asked.wait()
        delay = self._schedule.after(error, chosen)
        stops = None if asked is None else await asked.stops(delay.seconds)
        if stops or (stops is None and self._failed >= self._policy.attempts):
            return Refusal("exhausted", f"gave up after {self._failed} attempts" if self._failed > 1 else "")
        return delay

    def _affordable(self, error: Exception, delay: Delay) -> Delay | Refusal:
        late = self.too_late(delay.seconds)
        if late is not None:
            return late
        target = self._call.target
        if free(error) or self._policy.bucket.withdraw(target, self._call.runtime.now()):
            return delay
        return Refusal("budget", f"not repeated: the retry budget of {target!r} is spent")
