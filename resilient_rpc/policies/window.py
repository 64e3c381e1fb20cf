"""Counts of the last seconds: a ring of buckets, and their sums kept up to date, so that nothing is added up."""

from __future__ import annotations

import math

BUCKETS = 10
"""Of a window: the oldest tenth leaves it at once."""

_EMPTY = (0, 0, 0)


class Window:
    """How many calls ended in the last seconds, how many of them failed, and how many were slow.

    Not locked: its owner is. The instants are on the owner's monotonic clock; one that is older than the current
    bucket (another thread was quicker) counts in the current one.
    """

    __slots__ = ("_at", "_ring", "_sums", "calls", "ends", "failures", "slow")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all; the first bucket begins with the next count."""
        self.calls = self.failures = self.slow = 0
        self.ends = -math.inf
        """Where the current bucket ends: from there on, `advance` is due before anything is counted."""
        self._sums = _EMPTY  # as they were when the current bucket began
        self._ring = [_EMPTY] * BUCKETS
        self._at = 0

    def advance(self, now: float, seconds: float) -> None:
        """Begin the bucket of `now` in a window of so many seconds, and take off what has left the window."""
        width = seconds / BUCKETS
        behind = now - self.ends
        if behind >= seconds - width:
            self.clear()
            self.ends = now + width
            return
        calls, failures, slow = self._sums
        self._ring[self._at] = (self.calls - calls, self.failures - failures, self.slow - slow)
        steps = int(behind / width) + 1
        for _ in range(min(steps, BUCKETS)):
            self._at = (self._at + 1) % BUCKETS
            calls, failures, slow = self._ring[self._at]
            self._ring[self._at] = _EMPTY
            self.calls -= calls
            self.failures -= failures
            self.slow -= slow
        self._sums = (self.calls, self.failures, self.slow)
        self.ends += steps * width

    def add(self, now: float, seconds: float, *, failed: bool, slow: bool) -> None:
        """Count a call that ended at `now`, in a window of so many seconds."""
        if now >= self.ends:
            self.advance(now, seconds)
        self.calls += 1
        self.failures += failed
        self.slow += slow
