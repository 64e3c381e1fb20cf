"""What a circuit breaker announces, beside `CallRejected`."""

from __future__ import annotations

import logging
from typing import ClassVar

from resilient_rpc.events import PolicyEvent
from resilient_rpc.policies.circuit_state import Reason, State


class CircuitStateChanged(PolicyEvent, frozen=True, kw_only=True):
    """The circuit of a target changed its state. `method` is that of the call that did it; empty: by hand."""

    log_level: ClassVar[int] = logging.WARNING

    old: State
    new: State
    reason: Reason
    generation: int
    """Counts the changes of this circuit: two threads may announce theirs in the other order."""
    open_for: float | None = None
    """Seconds until it probes, where it has opened."""


class CircuitWouldReject(PolicyEvent, frozen=True, kw_only=True):
    """A circuit breaker with ``mode="metrics_only"`` let a call pass that it would otherwise have refused."""

    log_level: ClassVar[int] = logging.INFO

    reason: str
    """``open`` or ``half_open``."""
    retry_after: float | None = None
