"""Prometheus metrics of clients and servers: ``instrument(client)``."""

from __future__ import annotations

from resilient_rpc_prometheus.dashboard import dashboard
from resilient_rpc_prometheus.instrument import instrument

__all__ = ["dashboard", "instrument"]
