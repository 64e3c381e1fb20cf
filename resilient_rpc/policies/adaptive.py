"""A limit of calls under way that finds out by itself what the target can take."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

from resilient_rpc.errors import NOT_EXECUTED, ConfigurationError, DeadlineExceeded, Expired, Overloaded, RpcError
from resilient_rpc.events import PolicyEvent
from resilient_rpc.policies.gradient import Change, Gradient
from resilient_rpc.policies.naming import name_of
from resilient_rpc.policies.permits import Permits
from resilient_rpc.policies.priority import Priority
from resilient_rpc.policies.queueing import check_queueing, wait_in_line
from resilient_rpc.policies.settings import check_count, check_number, check_seconds, shown
from resilient_rpc.policies.targets import Targets

if TYPE_CHECKING:
    from resilient_rpc.call import Call, Reply
    from resilient_rpc.policy import Handler

PLAUSIBLE_TOLERANCE = 10.0
"""Above it, no queue would ever be noticed."""


class LimitChanged(PolicyEvent, frozen=True, kw_only=True):
    """An `AdaptiveLimit` changed what it lets be under way at once; told by the call that gave the reason."""

    log_level: ClassVar[int] = logging.INFO

    old: int
    new: int
    reason: str
    """``gradient``: how long calls take; ``overloaded``: the target refused some; ``probe``: a test, or its end."""


class _Room:
    """The permits of one target, and the estimate that moves their limit."""

    __slots__ = ("_gradient", "_lock", "permits")

    def __init__(self, initial: int) -> None:
        self.permits = Permits(initial)
        self._gradient = Gradient(initial)
        self._lock = threading.RLock()  # as in Permits

    def busy(self) -> bool:
        """Whether it must not be forgotten."""
        return self.permits.busy()

    def answered(self, began: float, now: float, settings: AdaptiveLimit) -> Change | None:
        """Learn from a call that was executed and still has its permit."""
        with self._lock:
            change = self._gradient.answered(began, now, self.permits.out, settings)
            return None if change is None else self._apply(change)

    def failed(self, error: RpcError, began: float, now: float, settings: AdaptiveLimit) -> Change | None:
        """Learn from an error, if there is something to learn."""
        if isinstance(error, Overloaded):
            learn = self._gradient.refused
        elif isinstance(error, Expired) or (
            isinstance(error, DeadlineExceeded) and error.certainty is not NOT_EXECUTED
        ):
            learn = self._gradient.timed_out
        else:
            return None
        with self._lock:
            change = learn(began, now, self.permits.out, settings)
            return None if change is None else self._apply(change)

    def clamp(self, settings: AdaptiveLimit) -> None:
        """Keep the limit within changed bounds."""
        with self._lock:
            self._gradient.clamp(settings)
            self.permits.resize(self._gradient.limit)

    def _apply(self, change: Change) -> Change:
        self.permits.resize(change.new)
        return change


class _State:
    """What outlives a reload: the rooms, and the settings in force."""

    def __init__(self, settings: AdaptiveLimit) -> None:
        self.settings = settings
        self.rooms = Targets(lambda _: _Room(self.settings.initial), busy=_Room.busy)


@dataclass(frozen=True, kw_only=True, eq=False)
class AdaptiveLimit:
    """Lets as many attempts be under way to one target as it takes without a long queue.

    The limit follows how long replies take, and what the target refuses as too much: the formulas, with their sources,
    stand at `gradient.Gradient`. What it learns from: a reply counts with its duration, `Overloaded` shrinks the limit,
    and an attempt whose time was up (`DeadlineExceeded` once it was sent, `Expired`) counts with the time it had, if
    that was longer than usual; a hasty caller says nothing. Left out: cancelled attempts, refusals of policies inside
    of it, lost connections, all other errors, and replies from a record, for none of them took the time of the work.

    An attempt that finds no permit fails with `BulkheadFull`, or waits in line for one, as with `Bulkhead`.
    """

    role: ClassVar[str] = "adaptive_limit"
    below: ClassVar[Mapping[str, str]] = {
        "fallback": "an attempt that the limit refuses is one to fall back for",
        "cache": "an answer from the cache needs no permit",
        "deadline": "the wait for a permit is part of the call's time",
        "retry": "it measures single attempts; pauses between them are not the target's",
        "hedge": "each attempt is load of its own, and must have a permit of its own",
        "breaker": "a refusal of the limit must not reach the target's line, nor count while the circuit is open",
    }
    above: ClassVar[Mapping[str, str]] = {
        "attempt_timeout": "the wait for a permit is not part of an attempt",
        "chaos": "it is to see the faults that are injected, as it would see true ones",
    }

    min: int = 1
    """The limit, at least."""
    max: int = 200
    """The limit, at most. Twice what is ever needed: a limit that is in full use is tested now and then."""
    initial: int = 20
    """The limit of a target of which nothing is known."""
    window: float = 1.0
    """Seconds of which each estimate is made, at least."""
    samples: int = 50
    """Attempts of which each estimate is made, at least."""
    tolerance: float = 1.2
    """How many times longer than without a queue attempts may take before the limit is lowered; from 1 to 10."""
    queue: int = 0
    """Attempts that may wait for a permit of one target; 0: none does."""
    max_wait: float = math.inf
    """Seconds that an attempt may wait, 0 or more; never beyond its deadline."""
    priority: Priority | None = None
    """From a call to an int, the higher the sooner, as `by_tag`; None: first come, first served."""
    name: str = ""
    """Tells two limits apart, in events and when a chain is reloaded."""
    _state: _State = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_count("AdaptiveLimit.min", self.min)
        check_count("AdaptiveLimit.max", self.max, least=self.min)
        check_count("AdaptiveLimit.initial", self.initial, least=self.min)
        if self.initial > self.max:
            raise ConfigurationError(
                f"AdaptiveLimit.initial must be at most max ({self.max}), not {shown(self.initial)}"
            )
        check_seconds("AdaptiveLimit.window", self.window)
        check_count("AdaptiveLimit.samples", self.samples)
        check_number("AdaptiveLimit.tolerance", self.tolerance)
        if not 1 <= self.tolerance <= PLAUSIBLE_TOLERANCE:
            raise ConfigurationError(f"AdaptiveLimit.tolerance must be from 1 to 10, not {shown(self.tolerance)}")
        check_queueing(self)
        object.__setattr__(self, "_state", _State(self))

    def limit(self, target: str) -> int:
        """The limit of a target as it is now."""
        return self._state.rooms.of(target).permits.limit

    def adopt(self, old: Self) -> None:
        """Take over what was learnt, the permits that are out and those who wait; the new bounds hold for them too."""
        state = old._state
        state.settings = self
        for room in state.rooms.snapshot().values():
            room.clamp(self)
        object.__setattr__(self, "_state", state)

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        """Carry the attempt on with a permit, and learn from how it ends."""
        state = self._state
        room = state.rooms.of(call.target)
        if not room.permits.take():
            await wait_in_line(self, call, room.permits)
        now, change = call.runtime.now, None
        began = now()
        try:
            reply = await proceed(call)
        except RpcError as error:
            change = room.failed(error, began, now(), state.settings)
            raise
        else:
            if not (reply.replayed or reply.degraded):
                change = room.answered(began, now(), state.settings)
            return reply
        finally:
            room.permits.give_back()
            if change is not None:
                call.announce(LimitChanged, name_of(self), old=change.old, new=change.new, reason=change.reason)
