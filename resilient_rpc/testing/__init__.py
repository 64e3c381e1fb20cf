"""What the tests of a user's services and policies need."""

from __future__ import annotations

from resilient_rpc.testing.bench import Bench
from resilient_rpc.testing.check import PolicyReport, check_policy
from resilient_rpc.testing.clock import VirtualClock, VirtualDeadlock
from resilient_rpc.testing.scripted import ScriptedPeer, answer, drop, fail, hang

__all__ = [
    "Bench",
    "PolicyReport",
    "ScriptedPeer",
    "VirtualClock",
    "VirtualDeadlock",
    "answer",
    "check_policy",
    "drop",
    "fail",
    "hang",
]
