"""What the tests of a user's services and policies need."""

from __future__ import annotations

from resilient_rpc.testing.bench import Bench
from resilient_rpc.testing.check import PolicyReport, check_policy
from resilient_rpc.testing.clock import VirtualClock, VirtualDeadlock
from resilient_rpc.testing.scripted import ScriptedPeer, answer, drop, fail, hang
from resilient_rpc.testing.store_check import StoreReport, check_store

__all__ = [
    "Bench",
    "PolicyReport",
    "ScriptedPeer",
    "StoreReport",
    "VirtualClock",
    "VirtualDeadlock",
    "answer",
    "check_policy",
    "check_store",
    "drop",
    "fail",
    "hang",
]
