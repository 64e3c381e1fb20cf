"""The budget of repeats: a target that fails is not hit with every call three times."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from typing import Self

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies.settings import check_name, check_number, check_seconds, check_share, shown
from resilient_rpc.policies.targets import Targets

PARTS = 10
"""Buckets of a window. The ring has one more, so that what is remembered is never shorter than a window."""
SLOTS = PARTS + 1


class Ledger:
    """First attempts and repeats of one target, over a sliding window in buckets.

    A bucket is the number of the current tenth of a window. When it goes back by less than a window (a late thread, a
    clock that was set), what comes is counted in the newest bucket; at any longer leap the window begins anew.
    """

    __slots__ = ("_bucket", "_firsts", "_lock", "_repeats")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bucket = -SLOTS
        self._firsts = [0] * SLOTS
        self._repeats = [0] * SLOTS

    def deposit(self, bucket: int) -> None:
        """Count a first attempt.

        Without a lock: this stands in the way of every call. Where an interpreter without a global lock loses one of
        two simultaneous counts, the budget is a fifth of a repeat too small.
        """
        if bucket != self._bucket:
            with self._lock:
                self._turn(bucket)
        self._firsts[self._bucket % SLOTS] += 1

    def withdraw(self, bucket: int, ratio: float, reserve: float) -> bool:
        """Count a repeat, if `ratio` of the first attempts and `reserve` have one left."""
        with self._lock:
            self._turn(bucket)
            granted = self._left(ratio, reserve) >= 1
            if granted:
                self._repeats[self._bucket % SLOTS] += 1
        return granted

    def balance(self, bucket: int, ratio: float, reserve: float) -> float:
        """How many repeats are left."""
        with self._lock:
            self._turn(bucket)
            return max(self._left(ratio, reserve), 0.0)

    def _left(self, ratio: float, reserve: float) -> float:
        # Rounded: a fifth of 5 is 1, and must not be missed by the last bit of a sum of floats.
        return round(ratio * sum(self._firsts) + reserve - sum(self._repeats), 9)

    def _turn(self, bucket: int) -> None:
        """Empty the slots whose time is over."""
        passed = bucket - self._bucket
        if -SLOTS < passed <= 0:
            return
        stale = range(self._bucket + 1, bucket + 1) if 0 < passed < SLOTS else range(SLOTS)
        for number in stale:
            self._firsts[number % SLOTS] = self._repeats[number % SLOTS] = 0
        self._bucket = bucket


@dataclass(frozen=True, kw_only=True, eq=False)
class RetryBudget:
    """How many repeats (retries and hedges together) each target may be sent.

    Whenever one is granted, the repeats of the last `window` seconds are at most `ratio` of the first attempts of the
    same time, and `floor` a second besides, so that a target with little traffic can be retried at all. A dead target
    thus sees a fifth more load by default, not three times as much. Asking never waits. The window and the reserve are
    those of Finagle's and Tower's retry budgets.

    One budget may be shared by any number of policies and clients of a process; `common_budget()` is the one that
    policies use which are given none. ConfigurationError for a setting outside of its range.
    """

    ratio: float = 0.2
    """Repeats for each first attempt, from 0 to 1."""
    window: float = 10.0
    """Seconds for which a first attempt counts, more than 0."""
    floor: float = 1.0
    """Repeats a second that are allowed in any case, at least 0; `math.inf`: no limit."""
    name: str = ""
    """Tells budgets apart when the policies of a client are reloaded."""
    _ledgers: Targets[Ledger] = field(init=False, repr=False)
    _scale: float = field(init=False, repr=False)
    _reserve: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_share("RetryBudget.ratio", self.ratio)
        check_seconds("RetryBudget.window", self.window)
        check_number("RetryBudget.floor", self.floor)
        check_name("RetryBudget.name", self.name)
        if self.floor < 0:
            raise ConfigurationError(
                f"RetryBudget.floor must be at least 0 (repeats a second), not {shown(self.floor)}"
            )
        object.__setattr__(self, "_ledgers", Targets(lambda _: Ledger()))
        object.__setattr__(self, "_scale", PARTS / self.window)
        object.__setattr__(self, "_reserve", self.floor * self.window)

    @classmethod
    def unlimited(cls) -> Self:
        """A budget that grants everything: for a target that can take it, or where another layer limits."""
        return cls(floor=math.inf, name="unlimited")

    def deposit(self, target: str, now: float) -> None:
        """A call to `target` makes its first attempt. `now` is the runtime's."""
        self._ledgers.of(target).deposit(int(now * self._scale))

    def withdraw(self, target: str, now: float) -> bool:
        """Whether one more repeat may be sent to `target`; it is counted if so."""
        return self._ledgers.of(target).withdraw(int(now * self._scale), self.ratio, self._reserve)

    def balance(self, target: str, now: float) -> float:
        """The repeats that `target` may be sent at this moment."""
        return self._ledgers.of(target).balance(int(now * self._scale), self.ratio, self._reserve)

    def adopt(self, old: Self) -> None:
        """Go on with the counts of the budget that this one replaces, unless name or window differ."""
        if (old.name, old.window) == (self.name, self.window):
            object.__setattr__(self, "_ledgers", old._ledgers)

    def clear(self) -> None:
        """Forget all counts: for tests."""
        self._ledgers.clear()


_common = RetryBudget(name="common")


def common_budget() -> RetryBudget:
    """The budget of this process for policies that are given none: retries and hedges share it, by target."""
    return _common
