"""A token bucket in which calls may reserve tokens that are still to come. Decisions only, nobody waits in here."""

from __future__ import annotations

import heapq
import math
import threading
from typing import NamedTuple

ENOUGH = 1 - 1e-6
"""Of a token: who comes exactly when it was told must not be sent away for a rounding error."""


class Slot(NamedTuple):
    """When a call may go."""

    at: float
    """The instant; not after now: at once."""
    granted: bool
    """It is the caller's. Otherwise it is too far away, and what it says is when to ask again."""


class Bucket:
    """Admits `burst` calls at once and `rate` a second in the long run, whatever the pattern.

    Tokens come in at `rate`, up to `burst`; a call takes one. A call that will wait takes one that is still to come,
    and has so reserved the slot at which it comes. One that gives up returns its slot (`refund`), and the next call
    that comes in time has it. So nobody who waits is overtaken, and in no span of time are there more slots than the
    burst and what the rate makes of it (as by the generic cell rate algorithm, ITU-T I.371).
    """

    __slots__ = ("_as_of", "_lock", "_returned", "_tokens")

    def __init__(self) -> None:
        self._tokens = math.inf
        self._as_of = 0.0
        self._returned: list[float] = []
        # Re-entrant: the garbage collector may close an abandoned call, which returns its slot, at any point.
        self._lock = threading.RLock()

    def take(self, now: float, rate: float, burst: float) -> bool:
        """Whether a call may go at once. About 0.3 µs."""
        with self._lock:
            tokens = self._tokens + (now - self._as_of) * rate
            if tokens > burst:  # noqa: PLR1730 - on the hot path, min() would be a third of the cost
                tokens = burst
            if tokens < ENOUGH:
                return False
            self._tokens, self._as_of = tokens - 1, now
            return True

    def reserve(self, now: float, rate: float, burst: float, patience: float) -> Slot:
        """A slot within `patience` seconds, if there is one."""
        with self._lock:
            if self.take(now, rate, burst):
                return Slot(now, granted=True)
            returned = self._first_returned(now)
            at = self._as_of + (1 - self._tokens) / rate if returned is None else returned
            if at - now > patience:
                return Slot(at, granted=False)
            if returned is None:
                self._tokens -= 1
            else:
                heapq.heappop(self._returned)
            return Slot(at, granted=True)

    def refund(self, at: float) -> None:
        """Return the slot of a call that will not go."""
        with self._lock:
            heapq.heappush(self._returned, at)

    def _first_returned(self, now: float) -> float | None:
        while self._returned and self._returned[0] <= now:  # its time has passed unused
            heapq.heappop(self._returned)
        return self._returned[0] if self._returned else None
