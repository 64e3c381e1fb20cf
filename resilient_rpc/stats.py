"""CallStats: what became of a client's calls, in numbers."""

from __future__ import annotations

import itertools
import threading
import time
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from resilient_rpc import forking
from resilient_rpc.errors import Expired, Rejected
from resilient_rpc.histogram import Histogram

WINDOW = 10
"""Seconds over which the rates are taken."""
MAX_ERRORS = 100
"""Names of errors that are counted apart; any more are counted as ``other``."""
BATCH = 128
"""Durations that are counted at once."""


@dataclass(frozen=True, kw_only=True)
class StatsSnapshot:
    """One moment's numbers: ``total == completed + failed + pending``. Durations are seconds, rates per second.

    Durations are those of all calls that have ended but for the locally rejected and the cancelled ones: a call that
    an open circuit refused in microseconds says nothing of the service.
    """

    total: int
    pending: int
    completed: int
    failed: int
    errors: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Failed calls by the class name of their error."""
    timed_out: int
    """Failed calls whose time was up (those among `failed` that are a `TimeoutError` or `Expired`)."""
    unknown_replies: int
    """Replies that came too late, or belong to no call."""
    calls_per_second: float
    """Calls that ended, over the last 10 seconds (or since the beginning)."""
    failures_per_second: float
    failure_rate: float
    """The share of the calls of the last 10 seconds that failed: 0 to 1; 0 without calls."""
    mean: float
    median: float
    p95: float
    p99: float
    max: float


class CallStats:
    """Counts calls: `begin()`, then `end()` once. From any thread; exact; 0.4 µs a call and 10 KB in all.

    Both are lock-free: a list's append and a count's next are one step each. What was appended is counted in batches,
    under a lock, when there is enough of it, a second has passed, or somebody asks. `clock`: seconds, monotonic.
    """

    __slots__ = (
        "__weakref__",
        "_begun",
        "_born",
        "_clock",
        "_durations",
        "_ended",
        "_errors",
        "_failed",
        "_folding",
        "_fresh",
        "_lock",
        "_looks",
        "_marks",
        "_next_mark",
        "_timed_out",
        "_unknown_replies",
    )

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Re-entrant: the garbage collector may end an abandoned call while this very thread holds it, even in `_fold`.
        self._lock = threading.RLock()
        self._folding = False
        self._begun = itertools.count()
        self._looks = 0
        self._fresh: list[float] = []
        self._ended = self._failed = self._timed_out = self._unknown_replies = 0
        self._errors: dict[str, int] = {}
        self._durations = Histogram()
        # (time, ended, failed) at the beginning of each of the last seconds in which a call ended.
        self._marks: deque[tuple[float, int, int]] = deque(maxlen=WINDOW + 2)
        self._born = self._next_mark = clock()
        forking.register(self)

    def after_fork(self) -> None:
        """Forget the parent's pending calls: they are not ours."""
        self._lock, self._folding = threading.RLock(), False
        self._fold()
        self._begun, self._looks = itertools.count(self._ended), 0

    def begin(self) -> None:
        """A call begins."""
        next(self._begun)

    def end(self, seconds: float, error: BaseException | None) -> None:
        """A call ended after `seconds`: with a result, or with `error`."""
        now = self._clock()
        if now >= self._next_mark:
            self._mark(now)
        if error is not None:
            self._fail(seconds, error)
            return
        self._fresh.append(seconds)
        if len(self._fresh) >= BATCH:
            with self._lock:
                self._fold()

    def unknown_reply(self, count: int = 1) -> None:
        """Replies came for which no call waits."""
        with self._lock:
            self._unknown_replies += count

    def snapshot(self) -> StatsSnapshot:
        """The numbers of this moment."""
        now = self._clock()
        with self._lock:
            self._fold()
            begun = next(self._begun) - self._looks  # after what has ended, so that no more can have ended than begun
            self._looks += 1
            seconds, ended, failed = self._recent(now)
            median, p95, p99 = self._durations.percentiles((0.5, 0.95, 0.99))
            return StatsSnapshot(
                total=begun,
                pending=begun - self._ended,
                completed=self._ended - self._failed,
                failed=self._failed,
                errors=MappingProxyType(dict(self._errors)),
                timed_out=self._timed_out,
                unknown_replies=self._unknown_replies,
                calls_per_second=ended / seconds,
                failures_per_second=failed / seconds,
                failure_rate=failed / ended if ended else 0.0,
                mean=self._durations.mean(),
                median=median,
                p95=p95,
                p99=p99,
                max=self._durations.longest,
            )

    def _fold(self) -> None:
        if self._folding:
            return
        self._folding = True
        batch = self._fresh[:]
        del self._fresh[: len(batch)]  # what other threads have appended meanwhile stands behind these
        self._durations.record(batch)
        self._ended += len(batch)
        self._folding = False

    def _fail(self, seconds: float, error: BaseException) -> None:
        name = type(error).__name__
        with self._lock:
            self._ended += 1
            self._failed += 1
            if isinstance(error, TimeoutError | Expired):
                self._timed_out += 1
            if name not in self._errors and len(self._errors) >= MAX_ERRORS:
                name = "other"
            self._errors[name] = self._errors.get(name, 0) + 1
            if not isinstance(error, Rejected | CancelledError):
                self._durations.record((seconds,))

    def _mark(self, now: float) -> None:
        with self._lock:
            if now >= self._next_mark:
                self._fold()
                self._marks.append((now, self._ended, self._failed))
                self._next_mark = now + 1.0

    def _recent(self, now: float) -> tuple[float, int, int]:
        """Seconds looked back upon, and how many calls ended and failed in them."""
        oldest = now - WINDOW
        for when, ended, failed in self._marks:
            if when > oldest - 1.0:
                # A second that reaches into the window is counted whole; before a later one nothing had ended.
                span = now - when if when < oldest else min(WINDOW, now - self._born)
                return max(span, 1.0), self._ended - ended, self._failed - failed
        return float(WINDOW), 0, 0
