"""Signed messages for resilient_rpc: a filter that signs what is sent and refuses what is not signed."""

from __future__ import annotations

from resilient_rpc_signing.canonical import HEADER
from resilient_rpc_signing.signing import Signing

__all__ = ["HEADER", "Signing"]
