"""A call with a key takes effect once, and every repeat of it gets the first answer."""

from __future__ import annotations

from resilient_rpc.policies.idempotency.decorator import idempotent
from resilient_rpc.policies.idempotency.events import (
    AnswerSettled,
    CallReplayed,
    CallTakenOver,
    OwnershipLost,
    StoreFailed,
)
from resilient_rpc.policies.idempotency.policy import Idempotency

__all__ = [
    "AnswerSettled",
    "CallReplayed",
    "CallTakenOver",
    "Idempotency",
    "OwnershipLost",
    "StoreFailed",
    "idempotent",
]
