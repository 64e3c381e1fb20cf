"""The rules of a store, each as what it does to one."""

from __future__ import annotations

from resilient_rpc.testing.store_rules import holding, outcomes, sharing
from resilient_rpc.testing.store_rules.bench import Bench, StoreRule

__all__ = ["RULES", "Bench", "StoreRule"]

RULES: tuple[StoreRule, ...] = (
    outcomes.port,
    outcomes.first,
    outcomes.replay,
    outcomes.mismatch,
    outcomes.abandon,
    outcomes.takeover,
    outcomes.unknown,
    holding.fencing,
    holding.strangers,
    holding.late,
    holding.repeats,
    holding.expiry,
    holding.outliving,
    holding.reading,
    holding.deleting,
    sharing.keys,
    sharing.concurrency,
    sharing.crowd,
    sharing.cancelling,
    sharing.arguments,
    sharing.closing,
    sharing.fork,
)
"""In the order in which they are checked."""
