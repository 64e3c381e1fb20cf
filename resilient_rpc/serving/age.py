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
        current, last, since = self._least.get(address, (math.inf, math.inf, now))
        if now - since > WINDOW:
            current, last, since = math.inf, current if now - since <= 2 * WINDOW else math.inf, now
        current = min(current, difference)
        self._least[address] = (current, last, since)
        if len(self._least) > ADDRESSES:
            self._least.popitem(last=False)
        return max(difference - min(current, last), 0.0)
