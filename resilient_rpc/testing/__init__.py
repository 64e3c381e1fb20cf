"""What the tests of a user's services and policies need."""

from __future__ import annotations

from resilient_rpc.testing.clock import VirtualClock, VirtualDeadlock

__all__ = ["VirtualClock", "VirtualDeadlock"]
