"""OpenTelemetry for resilient_rpc: a policy for clients and one for servers."""

from __future__ import annotations

from resilient_rpc_opentelemetry.client import ClientTracing
from resilient_rpc_opentelemetry.server import ServerTracing

__all__ = ["ClientTracing", "ServerTracing"]
