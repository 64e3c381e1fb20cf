"""The policies that come with the library: one file each."""

from __future__ import annotations

from resilient_rpc.policies.breaker import CircuitBreaker
from resilient_rpc.policies.breaker_events import CircuitStateChanged, CircuitWouldReject
from resilient_rpc.policies.budget import RetryBudget, common_budget
from resilient_rpc.policies.chaos import Chaos
from resilient_rpc.policies.deadline import Deadline
from resilient_rpc.policies.fallback import Fallback
from resilient_rpc.policies.hedge import Hedge
from resilient_rpc.policies.overrides import for_
from resilient_rpc.policies.retry import RetriesExhausted, Retry, RetryScheduled, RetrySuppressed
from resilient_rpc.policies.timeout import AttemptTimeout

__all__ = [
    "AttemptTimeout",
    "Chaos",
    "CircuitBreaker",
    "CircuitStateChanged",
    "CircuitWouldReject",
    "Deadline",
    "Fallback",
    "Hedge",
    "RetriesExhausted",
    "Retry",
    "RetryBudget",
    "RetryScheduled",
    "RetrySuppressed",
    "common_budget",
    "for_",
]
