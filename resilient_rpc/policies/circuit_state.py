"""The words of a circuit breaker: states, reasons, permits, refusals and changes."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple


class State(StrEnum):
    """What a circuit does with a call."""

    CLOSED = "closed"
    """Lets it pass, and counts how it ends."""
    OPEN = "open"
    """Refuses it until the open time is over."""
    HALF_OPEN = "half_open"
    """Lets a few pass as probes, and refuses the others."""
    FORCED_OPEN = "forced_open"
    """Refuses it until somebody says otherwise."""
    DISABLED = "disabled"
    """Lets it pass and counts nothing."""


CLOSED, OPEN, HALF_OPEN, FORCED_OPEN, DISABLED = State
"""The members, for the hot path."""

Reason = Literal[
    "failure_rate",
    "slow_rate",
    "consecutive",
    "open_time_over",
    "probe_failed",
    "probe_slow",
    "probes_hang",
    "probes_succeeded",
    "manual",
]


class Probe:
    """A permit of a half-open circuit; from the instant `overdue` on, another call may have its place."""

    __slots__ = ("overdue",)

    def __init__(self, overdue: float) -> None:
        self.overdue = overdue


Permit = int | Probe | None
"""What a call brings back with its outcome: the generation of the closed circuit, a probe, or None (not counted)."""


class Refusal(NamedTuple):
    """The call must not be sent."""

    state: State
    retry_after: float | None


class Change(NamedTuple):
    """A change of state, to be announced once the lock is free."""

    old: State
    new: State
    reason: Reason
    generation: int
    open_for: float | None
