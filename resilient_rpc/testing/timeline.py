"""Virtual time: it stands still while anybody runs, and jumps to the next timer when all are parked."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable


class VirtualDeadlock(AssertionError):
    """Everybody waits and no timer is set, or somebody waits outside of the clock: real time would pass for ever."""


class Park:
    """One participant's wait: until when, and how to wake it. `peek`: whether it has been woken from outside."""

    __slots__ = ("live", "peek", "until", "wake", "who", "woken")

    def __init__(self, who: str, wake: Callable[[], object], peek: Callable[[], bool] | None = None) -> None:
        self.who, self.wake, self.peek = who, wake, peek
        self.until = math.inf
        self.live = self.woken = False


class Timeline:
    """The virtual time, and who takes part in it.

    A participant is counted as running from `enter` to `leave`, but for the time between `park` and what ends it. The
    one who wakes another counts it as running before it runs, so that no jump can slip between. Time passes only
    while a participant of the foreground is there; an I/O loop alone would run through all its timers for ever.
    """

    def __init__(self, start: float) -> None:
        self._now = start
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._running = 0
        self._foreground = 0
        self._parked: dict[Park, None] = {}  # in the order of parking: the first of those due at the same time
        self.moves = 0
        """Grows with everything that happens; standing still in real time means that somebody hangs."""

    def now(self) -> float:
        """Virtual seconds."""
        return self._now

    def enter(self, *, foreground: bool = True) -> None:
        """One more participant, running."""
        with self._lock:
            self.moves += 1
            self._running += 1
            self._foreground += foreground

    def leave(self, *, foreground: bool = True) -> None:
        """A running participant goes."""
        with self._lock:
            self.moves += 1
            self._running -= 1
            self._foreground -= foreground
            self._advance()

    def hold(self, step: int) -> None:
        """From the next parking on have time pass (1), or no longer (-1), though the foreground takes no part."""
        with self._lock:
            self._foreground += step

    def park(self, park: Park, until: float) -> bool:
        """The calling participant waits from here on; False when it has been woken before, and goes on."""
        with self._lock:
            self.moves += 1
            if park.woken:
                return False
            park.until, park.live = until, True
            self._parked[park] = None
            self._running -= 1
            self._advance()
            return True

    def wake(self, park: Park) -> None:
        """Wake a participant; from any thread."""
        with self._lock:
            if self.resume(park):
                park.wake()

    def resume(self, park: Park) -> bool:
        """Count a participant as running again that wakes by itself; False when it was counted already."""
        with self._lock:
            park.woken = True
            if not park.live:
                return False
            self.moves += 1
            park.live = False
            del self._parked[park]
            self._running += 1
            return True

    def stuck(self) -> str | None:
        """Who waits, when all wait for each other and no timer is set; else None."""
        with self._lock:
            if self._running or any(park.until < math.inf or _stirs(park) for park in self._parked):
                return None
            return ", ".join(park.who for park in self._parked)

    def settle(self, seconds: float) -> bool:
        """Wait in real time until nobody runs; False when somebody still does after so many seconds."""
        with self._changed:
            return self._changed.wait_for(self._quiet, seconds)

    def _quiet(self) -> bool:
        return not self._running and not any(_stirs(park) for park in self._parked)

    def _advance(self) -> None:
        if self._running:
            return
        self._changed.notify_all()
        stirring = next((park for park in self._parked if _stirs(park)), None)
        if stirring is not None:  # something arrived for it by a way that the clock does not see: a socket
            self.resume(stirring)
            return
        if not self._foreground or not self._parked:
            return
        first = min(self._parked, key=_until)
        if first.until < math.inf:
            self._now = max(self._now, first.until)
            self.wake(first)


def _until(park: Park) -> float:
    return park.until


def _stirs(park: Park) -> bool:
    return park.peek is not None and park.peek()
