"""After what time a method's answer is late: a quantile of its own recent times."""

from __future__ import annotations

import threading

from resilient_rpc.histogram import Histogram

BATCH = 50
"""Times that are counted at once, after which the quantile is taken again."""
WINDOW = 1_000
"""Times after which counting begins anew, so that what is long past is forgotten."""


class DelayEstimate:
    """The quantile of one method's times. From any thread; less than 8 KiB.

    While a new window fills, the quantile of the last one holds. `quantile` and `least` (times that are needed) come
    with each question, so that they may change.
    """

    __slots__ = ("_fresh", "_histogram", "_lock", "_quantile", "_value")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fresh: list[float] = []
        self._histogram = Histogram()
        self._quantile = 0.0
        self._value: float | None = None

    def record(self, seconds: float) -> None:
        """An answer took so long; or it was given up after so long, which tells as much of a quantile below."""
        self._fresh.append(seconds)  # one step, without a lock: this stands in the way of every call

    def value(self, quantile: float, least: int) -> float | None:
        """Within so many seconds so large a share of the answers came; None: too few are known."""
        fresh = len(self._fresh)
        if fresh >= BATCH or (quantile != self._quantile and self._histogram.count + fresh >= least):
            with self._lock:
                self._fold(quantile, least)
        return self._value

    def _fold(self, quantile: float, least: int) -> None:
        histogram = self._histogram
        if histogram.count >= max(WINDOW, 2 * least):
            histogram = self._histogram = Histogram()
        batch = self._fresh[:]
        histogram.record(batch)
        del self._fresh[: len(batch)]  # what other threads have appended meanwhile stands behind these
        if histogram.count >= least:
            self._quantile, self._value = quantile, histogram.percentiles((quantile,))[0]
