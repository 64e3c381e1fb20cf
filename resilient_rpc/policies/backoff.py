"""How long a retry waits: full jitter, more after an overload, and what the other side has asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from resilient_rpc.errors import DependencyUnavailable, Overloaded, Rejected, RpcError

MOST_DOUBLINGS = 1000
"""Beyond it a power of two is no float, and every cap has long been reached."""


class Delay(NamedTuple):
    """The wait before the next attempt."""

    seconds: float
    reason: str
    """What it follows: ``backoff``, ``overload``, ``retry_after`` or ``strategy``."""


class Pace(Protocol):
    """The settings of a schedule."""

    @property
    def base(self) -> float:
        """Seconds: the most that the first wait may take."""

    @property
    def cap(self) -> float:
        """Seconds: the most that any wait may take."""

    @property
    def overload_base(self) -> float:
        """As `base`, after an overload."""

    @property
    def max_pushback(self) -> float:
        """Seconds: the most that a server is believed."""

    @property
    def random(self) -> Callable[[], float]:
        """From 0 to 1."""


def full_jitter(base: float, cap: float, doublings: int, random: Callable[[], float]) -> float:
    """A random wait from 0 to ``min(cap, base * 2**doublings)``.

    The whole range, so that clients which failed together do not come back together; at the cap, too (AWS Architecture
    Blog, "Exponential Backoff And Jitter").
    """
    return random() * min(cap, base * 2.0 ** min(doublings, MOST_DOUBLINGS))


class Schedule:
    """The waits of one call."""

    __slots__ = ("_doublings", "_pace")

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._doublings = 0

    def after(self, error: Exception, chosen: float | None = None) -> Delay:
        """The wait after `error`; `chosen` is the strategy's word in place of the jitter.

        An answer with `retry_after` is waited out, with jitter on top, because exactly that long would bring all
        clients back at once. Servers are believed up to `max_pushback`; a policy of this process knows what it says.
        """
        pace = self._pace
        overloaded = isinstance(error, Overloaded | DependencyUnavailable)
        seconds, reason = chosen, "strategy"
        if seconds is None:
            base = pace.overload_base if overloaded else pace.base
            seconds = full_jitter(base, pace.cap, self._doublings, pace.random)
            reason = "overload" if overloaded else "backoff"
        asked = error.retry_after if isinstance(error, RpcError) else None
        if asked is None:
            self._doublings += 1
            return Delay(seconds, reason)
        self._doublings = 0
        if not isinstance(error, Rejected):
            asked = min(asked, pace.max_pushback)
        return Delay(max(seconds, asked) + pace.random() * pace.base, "retry_after")
