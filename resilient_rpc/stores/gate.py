"""A small breaker: spares steps the wait for a Redis that did not answer those before."""

from __future__ import annotations

FAILURES = 2
"""In a row, until it closes."""
PAUSE, LONGEST = 0.25, 2.0
"""Seconds for which nothing passes: the first time, and at most; doubled while it fails."""


class Gate:
    """Belongs to one loop. `now` is the loop's time."""

    __slots__ = ("_failures", "_pause", "_until")

    def __init__(self) -> None:
        self._failures = 0
        self._pause = PAUSE
        self._until = 0.0

    @property
    def shut(self) -> bool:
        """Whether what passes is only to find out."""
        return self._failures >= FAILURES

    def wait(self, now: float) -> float:
        """Seconds for which nothing passes; 0: this one does, and if it is to find out, no other for a while."""
        if not self.shut:
            return 0.0
        if now < self._until:
            return self._until - now
        self._until = now + self._pause
        return 0.0

    def passed(self) -> bool:
        """There was an answer; True if it is the first after a while."""
        again = self.shut
        self._failures = 0
        self._pause = PAUSE
        return again

    def failed(self, now: float) -> bool:
        """There was none; True if it shuts now."""
        self._failures += 1
        if not self.shut:
            return False
        if self._failures > FAILURES:
            self._pause = min(2 * self._pause, LONGEST)
        self._until = now + self._pause
        return self._failures == FAILURES
