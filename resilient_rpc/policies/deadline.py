"""A cap on the time that a call may take in all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from resilient_rpc.policies.settings import check_seconds

if TYPE_CHECKING:
    from resilient_rpc.call import Call, Reply
    from resilient_rpc.policy import Handler


@dataclass(frozen=True, kw_only=True, eq=False)
class Deadline:
    """Gives every call at most `limit` seconds, whatever its caller asked for; a nearer deadline stays.

    Retries, waits and all else inside of it share these seconds. It interrupts nothing: what waits inside ends by the
    deadline of its call, with `DeadlineExceeded`.
    """

    role: ClassVar[str] = "deadline"
    above: ClassVar[Mapping[str, str]] = {
        "bulkhead": "the wait for a permit is part of the call's time",
        "retry": "inside of a retry each attempt would get the whole limit again; that is AttemptTimeout's work",
        "hedge": "inside of a hedge each attempt would get the whole limit again",
        "attempt_timeout": "the cap of a call stands outside of the limit of its attempts",
    }

    limit: float
    """Seconds, more than 0."""

    def __post_init__(self) -> None:
        check_seconds("Deadline.limit", self.limit)

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        """Carry the call on with the nearer one of both deadlines."""
        latest = call.runtime.now() + self.limit
        return await proceed(call if call.deadline <= latest else call.replace(deadline=latest))
