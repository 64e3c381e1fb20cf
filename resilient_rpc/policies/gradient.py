"""How many calls a target can take at once, estimated from how long they take: decisions only."""

from __future__ import annotations

from array import array
from math import sqrt
from typing import Literal, NamedTuple, Protocol

Reason = Literal["gradient", "overloaded", "probe"]

PERCENTILE = 0.9
KEPT = 256
"""Durations of a window, the last ones: 2 KiB for each target."""
STEEPEST = 0.5
"""The limit at most halves from one window to the next."""
TOLERATED = 0.01
"""The share of refused calls up to which a target does not count as overloaded."""
PATIENCE = 20
"""Windows in a row that made use of the limit, after which it is tested what calls take without a queue of ours."""
FIRST = 5
"""Windows until the first test: the first baseline may have been measured with a queue."""
FALL, RISE = 0.2, 0.5
"""How far the baseline goes towards a window that was faster, and towards a test that was slower."""


class Settings(Protocol):
    """What the estimate is bound by; read anew for each decision."""

    @property
    def min(self) -> int:
        """The limit, at least."""

    @property
    def max(self) -> int:
        """The limit, at most."""

    @property
    def window(self) -> float:
        """Seconds that a window lasts, at least."""

    @property
    def samples(self) -> int:
        """Calls that a window has, at least."""

    @property
    def tolerance(self) -> float:
        """How many times slower than the baseline a window may be."""


class Change(NamedTuple):
    """A new limit."""

    old: int
    new: int
    reason: Reason


class Gradient:
    """The estimate for one target. Not locked: its owner does that.

    Time is cut into windows. A window counts only calls that began in it, and so under the limit that it tests; at its
    end, the 90th percentile of their durations is compared with the baseline, an average of such percentiles from when
    there was no queue::

        gradient = clamp(tolerance * baseline / recent, 0.5, 1)
        limit    = limit * gradient + sqrt(limit)               (not raised while less than half of it is in use)

    as in Netflix's concurrency-limits (Gradient2), Envoy's gradient controller and failsafe-go. The square root is the
    queue that is allowed at the target, and what finds out that there is room for more. Where more than 1 % of the
    calls were refused as too many, it is instead, as in DCTCP (RFC 8257, 3.3)::

        limit = limit * (1 - share / 2)

    An average over all windows would follow a queue that never empties, and raise the limit for ever. So the baseline
    rises only by calls that met no queue of ours: when less than half of the limit was in use, or in a test. One is
    made when 20 windows in a row made use of the limit, which there is no end to where calls queue: the limit is halved
    for one window.
    """

    __slots__ = (
        "_began",
        "_count",
        "_durations",
        "_in_use",
        "_most",
        "_refused",
        "_testing",
        "_wanted",
        "baseline",
        "limit",
    )

    def __init__(self, initial: int) -> None:
        self.limit = initial
        """Calls that may be under way."""
        self._wanted = float(initial)
        self.baseline = 0.0
        """Seconds; 0: not known yet."""
        self._durations = array("d", bytes(8 * KEPT))
        self._in_use = PATIENCE - FIRST
        self._testing = False
        self._began, self._count, self._refused, self._most = -1.0, 0, 0, 0

    def clamp(self, settings: Settings) -> None:
        """Keep the limit within changed bounds."""
        self._wanted = min(max(self._wanted, float(settings.min)), float(settings.max))
        self.limit = max(int(self._wanted / 2), settings.min) if self._testing else int(self._wanted)

    def answered(self, began: float, now: float, under_way: int, settings: Settings) -> Change | None:
        """A call was executed, and took from `began` to `now`; `under_way`: calls at its end, itself included."""
        if began < self._began:
            return None
        self._durations[self._count % KEPT] = now - began
        self._count += 1
        if under_way > self._most:  # noqa: PLR1730 - on the hot path, max() would be half of the cost
            self._most = under_way
        # Of most calls this is all: they end no window.
        if now - self._began < settings.window and self._began >= 0:
            return None
        return self._counted(began, now, settings)

    def refused(self, began: float, now: float, under_way: int, settings: Settings) -> Change | None:
        """The target refused a call as one too many."""
        if began < self._began:
            return None
        self._refused += 1
        self._most = max(self._most, under_way)
        return self._counted(began, now, settings)

    def timed_out(self, began: float, now: float, under_way: int, settings: Settings) -> Change | None:
        """A call was given up without an answer.

        It would have taken longer: that counts where it was slow already, and says nothing where its caller was hasty.
        """
        if now - began > self.baseline * settings.tolerance > 0:
            return self.answered(began, now, under_way, settings)
        return None

    def _counted(self, began: float, now: float, settings: Settings) -> Change | None:
        if self._began < 0:
            self._began = began  # time begins with the first call that is counted
        if now - self._began < settings.window or self._count + self._refused < settings.samples:
            return None
        old = self.limit
        reason = self._decide(settings)
        self.clamp(settings)
        self._begin(now)
        return Change(old, self.limit, reason) if self.limit != old else None

    def _begin(self, now: float) -> None:
        self._began, self._count, self._refused, self._most = now, 0, 0, 0

    def _decide(self, settings: Settings) -> Reason:
        was_test, self._testing = self._testing, False
        share = self._refused / (self._count + self._refused)
        if share > TOLERATED:
            self._wanted *= 1 - share / 2
            return "overloaded"
        recent = self._recent()
        spare = self._most < self._wanted / 2
        self._learn(recent, rise=RISE if was_test or spare else 0.0, fall=1.0 if was_test else FALL)
        self._in_use = 0 if was_test or spare else self._in_use + 1
        if self._in_use:
            self._wanted = self._wanted * self._ratio(recent, settings) + sqrt(self._wanted)
            self._testing = self._in_use >= PATIENCE
        return "probe" if was_test or self._testing else "gradient"

    def _ratio(self, recent: float, settings: Settings) -> float:
        if recent <= 0:
            return 1.0
        return max(STEEPEST, min(1.0, settings.tolerance * self.baseline / recent))

    def _recent(self) -> float:
        kept = sorted(self._durations[: min(self._count, KEPT)])
        return kept[int(PERCENTILE * len(kept))]

    def _learn(self, recent: float, *, rise: float, fall: float) -> None:
        weight = rise if recent > self.baseline else fall
        if self.baseline == 0:
            weight = 1.0
        self.baseline += weight * (recent - self.baseline)
