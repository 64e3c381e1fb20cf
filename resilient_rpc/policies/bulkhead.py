"""A cap on the calls that are under way to one target, so that a slow one cannot take all there is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

from resilient_rpc.policies.permits import Permits
from resilient_rpc.policies.priority import Priority
from resilient_rpc.policies.queueing import check_queueing, wait_in_line
from resilient_rpc.policies.settings import check_count
from resilient_rpc.policies.targets import Targets

if TYPE_CHECKING:
    from resilient_rpc.call import Call, Reply
    from resilient_rpc.policy import Handler


class _State:
    """What outlives a reload: permits by target, and the limit of those still to be made."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.permits = Targets(lambda _: Permits(self.limit), busy=Permits.busy)


@dataclass(frozen=True, kw_only=True, eq=False)
class Bulkhead:
    """Lets at most `limit` calls to one target be under way; `queue` more may wait for their turn.

    A logical call counts once, with all its attempts. One that finds no permit and no place, or waits in vain for
    `max_wait` seconds or until its deadline, fails with `BulkheadFull`: not executed, and not worth a retry. A full
    line makes room for a call of a higher class: the last one of the lowest class is refused in its stead.
    """

    role: ClassVar[str] = "bulkhead"
    below: ClassVar[Mapping[str, str]] = {
        "fallback": "a call that the bulkhead refuses is one to fall back for",
        "cache": "an answer from the cache needs no permit",
        "deadline": "the wait for a permit is part of the call's time",
    }
    above: ClassVar[Mapping[str, str]] = {
        "retry": "a call holds one permit for all its attempts; between them it must not lose its place",
        "hedge": "a call holds one permit for all its attempts",
        "breaker": "a refusal of the bulkhead says nothing about the target",
        "rate_limit": "a token that was taken before the wait for a permit would be spent too early",
        "adaptive_limit": "the outer limit counts calls, the inner one attempts",
        "attempt_timeout": "the wait for a permit is not part of an attempt",
        "chaos": "faults are injected where the target would make them",
    }

    limit: int = 64
    """Calls under way to one target, at most."""
    queue: int = 0
    """Calls that may wait for a permit of one target; 0: none does."""
    max_wait: float = math.inf
    """Seconds that a call may wait, 0 or more; never beyond its deadline."""
    priority: Priority | None = None
    """From a call to an int, the higher the sooner, as `by_tag`; None: first come, first served."""
    name: str = ""
    """Tells two bulkheads apart, in events and when a chain is reloaded."""
    _state: _State = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_count("Bulkhead.limit", self.limit)
        check_queueing(self)
        object.__setattr__(self, "_state", _State(self.limit))

    def adopt(self, old: Self) -> None:
        """Take over the permits that are out, and those who wait; the new limit holds for them too."""
        state = old._state
        state.limit = self.limit
        for permits in state.permits.snapshot().values():
            permits.resize(self.limit)
        object.__setattr__(self, "_state", state)

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        """Carry the call on with a permit, waited for where that is allowed."""
        permits = self._state.permits.of(call.target)
        if not permits.take():
            await wait_in_line(self, call, permits)
        try:
            return await proceed(call)
        finally:
            permits.give_back()
