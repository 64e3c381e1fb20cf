"""Who is let in when there is more to do than slots: a quick refusal, instead of a wait that is in vain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from resilient_rpc.contract import Method
from resilient_rpc.errors import ConfigurationError, Overloaded
from resilient_rpc.serving.pace import Pace
from resilient_rpc.serving.scheduler import Scheduler
from resilient_rpc.settings import check_timeout

PATIENCE = 0.1
"""Seconds for which calls may all be too old: a burst makes such a queue, too, and is worked off."""

MEMORY = 1.0
"""Seconds for which a server that had more to do than slots is busy, though there may be a free slot now and then."""
MARGIN = 1.25
"""Of the time that a call will take, by the estimate: an answer that is late by a little is as late as any."""


@dataclass(frozen=True, kw_only=True)
class Admission:
    """When a server that is busy refuses a call at once, with `Overloaded`: not executed, and worth another try.

    Busy is a server for one second after there was no free slot for a call. Never refused is a call that nobody waits
    for (a notification), or that was delivered before. `Overloaded.retry_after` is the time in which what waits here
    will be worked off.

    The default refuses only calls that by the pace of the last second could not be answered in their time: they would
    fail all the same, later, and take the time of those that need not fail. A server that keeps up refuses nothing, and
    a burst that callers have time for is worked off. Raises `ConfigurationError` for a value out of range.
    """

    in_time: bool = True
    """Refuse a call whose turn would come too late for it: its wait here, and what its method usually takes, are more
    than the time it has left."""
    max_age: float | None = None
    """Seconds that a call may have waited when its turn comes: in the queue, by a measure that clocks cannot falsify,
    and here. Those above it are refused if there is no free slot, once there has been none below for 0.1 s. None: no
    limit."""
    max_waiting: int | None = None
    """Calls that may wait here for a slot; a full line makes room for a call of a higher priority. None: as many as
    `prefetch` brings. What is not delivered yet waits in the queue: see `Classic.max_length`."""

    def __post_init__(self) -> None:
        if not isinstance(self.in_time, bool):
            raise ConfigurationError(f"Admission.in_time={self.in_time!r}: give True or False")
        if self.max_age is not None:
            check_timeout(self.max_age, "Admission.max_age")
        most: Any = self.max_waiting
        if most is not None and (type(most) is not int or most < 0):
            raise ConfigurationError(f"Admission.max_waiting={most!r}: give a whole number of at least 0, or None")


class Gatekeeper:
    """Applies the settings to calls as they arrive: before their arguments are decoded, and long before a slot."""

    def __init__(self, admission: Admission, scheduler: Scheduler) -> None:
        self._admission, self._scheduler = admission, scheduler
        self._pace = Pace()
        self._busy_until = 0.0
        self._old: tuple[float, float] | None = None
        """Since when there has been no call below the limit of age, and when the last one above it came."""
        if admission.max_waiting is not None:
            scheduler.most = admission.max_waiting

    def horizon(self, count: int, now: float) -> float:
        """Before the calls of a message: those that have fewer seconds left than this are to be checked.

        0 for a server that is not busy. For a busy one it is so high that the check of a single call, which is dear,
        can be left out for nearly all.
        """
        settings, scheduler = self._admission, self._scheduler
        room = scheduler.room
        if room >= count and now > self._busy_until:
            return 0.0
        self._pace.note(now, scheduler.ended, full=not room)
        if room < count:
            self._busy_until = now + MEMORY
        if settings.max_age is not None or settings.max_waiting is not None:
            return math.inf
        if not settings.in_time:
            return 0.0
        return ((self._pace.wait(scheduler.waiting + count) or 0.0) + scheduler.usual.longest()) * MARGIN

    def check(self, method: Method, priority: int, left: float, age: float, now: float, before: int) -> None:
        """Raise `Overloaded` for a call that is not let in.

        `left`: seconds that its caller still waits; `age`: seconds that it waited in the queue; `before`: calls that
        came before it in its message.
        """
        settings, scheduler = self._admission, self._scheduler
        ahead = scheduler.backlog.ahead_of(priority) + before
        beyond = ahead - scheduler.free
        wait = self._pace.wait(beyond + 1) if beyond >= 0 else 0.0
        if settings.max_waiting is not None and not priority:  # of the others it is seen when they are in the line
            crowd = scheduler.waiting + before - scheduler.free
            if crowd >= settings.max_waiting:
                raise Overloaded(f"{method.name}: {crowd} calls wait here already", retry_after=wait)
        waited = age + (wait or 0.0)
        if settings.max_age is not None and self._is_old(settings.max_age, waited, now) and beyond >= 0:
            raise Overloaded(
                f"{method.name}: it would begin {waited:.3g} s after it was sent; {settings.max_age:g} s is the limit",
                retry_after=waited,
            )
        if settings.in_time and wait is not None:
            usual = scheduler.usual.of(method)
            if (wait + usual) * MARGIN > left:
                raise Overloaded(
                    f"{method.name}: its turn would come in {wait:.3g} s, calls of it take {usual:.3g} s, and it has "
                    f"{left:.3g} s left",
                    retry_after=wait,
                )

    def _is_old(self, limit: float, waited: float, now: float) -> bool:
        if waited <= limit:
            self._old = None
            return False
        old = self._old
        since = old[0] if old is not None and now - old[1] < MEMORY else now
        self._old = since, now
        return now - since >= PATIENCE
