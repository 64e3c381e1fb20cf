"""The policies that come with the library: one file each."""

from __future__ import annotations

from resilient_rpc.policies.adaptive import AdaptiveLimit, LimitChanged
from resilient_rpc.policies.breaker import CircuitBreaker
from resilient_rpc.policies.breaker_events import CircuitStateChanged, CircuitWouldReject
from resilient_rpc.policies.budget import RetryBudget, common_budget
from resilient_rpc.policies.bulkhead import Bulkhead
from resilient_rpc.policies.cache import Cache, CacheUsed, RedisCache, cached
from resilient_rpc.policies.chaos import Chaos, ChaosInjected
from resilient_rpc.policies.deadline import Deadline
from resilient_rpc.policies.fallback import Fallback, FallbackFailed, FallbackSuppressed, FallbackUsed
from resilient_rpc.policies.hedge import Hedge, HedgeStarted, HedgeSuppressed, HedgeWon
from resilient_rpc.policies.idempotency import (
    AnswerSettled,
    CallReplayed,
    CallTakenOver,
    Idempotency,
    OwnershipLost,
    StoreFailed,
    idempotent,
)
from resilient_rpc.policies.overrides import for_
from resilient_rpc.policies.priority import by_tag
from resilient_rpc.policies.ratelimit import RateLimit
from resilient_rpc.policies.redis_rate import RedisRate
from resilient_rpc.policies.retry import RetriesExhausted, Retry, RetryScheduled, RetrySuppressed
from resilient_rpc.policies.timeout import AttemptTimeout

__all__ = [
    "AdaptiveLimit",
    "AnswerSettled",
    "AttemptTimeout",
    "Bulkhead",
    "Cache",
    "CacheUsed",
    "CallReplayed",
    "CallTakenOver",
    "Chaos",
    "ChaosInjected",
    "CircuitBreaker",
    "CircuitStateChanged",
    "CircuitWouldReject",
    "Deadline",
    "Fallback",
    "FallbackFailed",
    "FallbackSuppressed",
    "FallbackUsed",
    "Hedge",
    "HedgeStarted",
    "HedgeSuppressed",
    "HedgeWon",
    "Idempotency",
    "LimitChanged",
    "OwnershipLost",
    "RateLimit",
    "RedisCache",
    "RedisRate",
    "RetriesExhausted",
    "Retry",
    "RetryBudget",
    "RetryScheduled",
    "RetrySuppressed",
    "StoreFailed",
    "by_tag",
    "cached",
    "common_budget",
    "for_",
    "idempotent",
]
