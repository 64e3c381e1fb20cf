"""A chain of policies around a handler: composed once, its order checked, described, and kept from harm."""

from __future__ import annotations

from resilient_rpc.chain.binding import compose
from resilient_rpc.chain.chain import Chain, Plan
from resilient_rpc.chain.order import ORDER, check_order
from resilient_rpc.chain.overrides import Override

__all__ = ["ORDER", "Chain", "Override", "Plan", "check_order", "compose"]
