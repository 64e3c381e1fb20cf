"""A limit for each attempt, so that a lost one leaves time for another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from resilient_rpc.call import UNSAFE
from resilient_rpc.errors import DeadlineExceeded, Expired
from resilient_rpc.policies.settings import check_flag, check_seconds

if TYPE_CHECKING:
    from resilient_rpc.call import Call, Reply
    from resilient_rpc.policy import Handler


@dataclass(frozen=True, kw_only=True, eq=False)
class AttemptTimeout:
    """Gives each attempt at most `limit` seconds of what the call has left.

    An attempt that ends by this limit fails with `DeadlineExceeded` (or `Expired`, when the server was the one to find
    out) and `retryable` set: the call itself has time left, and a retry around this policy may use it. When the call's
    own deadline has passed, the error says that no other try can help. It interrupts nothing: it moves the deadline.
    """

    role: ClassVar[str] = "attempt_timeout"
    below: ClassVar[Mapping[str, str]] = {
        "retry": "outside of a retry it would limit all attempts together; that is Deadline's work",
        "hedge": "outside of a hedge it would limit all attempts together",
        "breaker": "a circuit breaker must see an attempt that took too long, to count it",
        "rate_limit": "the wait for a token is not part of the attempt",
    }

    limit: float = 10.0
    """Seconds, more than 0."""
    repeatable_only: bool = False
    """Leave unsafe calls alone: after a limit that cut one off nobody may try again, so it would only end sooner."""

    def __post_init__(self) -> None:
        check_seconds("AttemptTimeout.limit", self.limit)
        check_flag("AttemptTimeout.repeatable_only", self.repeatable_only)

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        """Carry the call on with a nearer deadline, if the limit is nearer than its own."""
        latest = call.runtime.now() + self.limit
        if call.deadline <= latest or (self.repeatable_only and call.safety is UNSAFE):
            return await proceed(call)
        try:
            return await proceed(call.replace(deadline=latest))
        except (DeadlineExceeded, Expired) as error:
            error.retryable = call.remaining() > 0
            raise
