"""How long a message waited in its queue, although the clocks of two machines differ."""

from __future__ import annotations

import math
from collections import OrderedDict

WINDOW = 60.0
"""Seconds in which the least difference is looked for."""
ADDRESSES = 10_000


class QueueAge:
    """Age = (arrival - sending) less the least such difference seen from that address in the last minute.

    The least difference is what the clocks differ by plus the shortest way, so what is above it is waiting. A clock
    that is wrong by an hour changes nothing; one that jumps is wrong for a minute at most.
    """

    def __init__(self) -> None:
        self._least: OrderedDict[str, tuple[float, float, float]] = OrderedDict()

    def of(self, address: str, sent: float, arrived: float, now: float) -> float:
        """Seconds. `sent` and `arrived` on the wall clocks of the two sides, `now` on a monotonic clock."""
        difference = arrived - sent
        if not math.isfinite(difference):
            return 0.0
        known = self._least.get(address)
        if known is None or now - known[2] > WINDOW:
            known = self._turn(address, known, now)
        current, last, since = known
        if difference < current:
            current = difference
            self._least[address] = (current, last, since)
        least = min(last, current)
        return difference - least

    def _turn(self, address: str, known: tuple[float, float, float] | None, now: float) -> tuple[float, float, float]:
        """Begin a new window for the address; the one before it still counts."""
        last = known[0] if known is not None and now - known[2] <= 2 * WINDOW else math.inf
        fresh = self._least[address] = (math.inf, last, now)
        self._least.move_to_end(address)
        if len(self._least) > ADDRESSES:
            self._least.popitem(last=False)
        return fresh
