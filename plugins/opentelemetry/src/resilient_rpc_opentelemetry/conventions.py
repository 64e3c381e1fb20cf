"""Names of the semantic conventions for RPC and messaging.

They stand here because the package that holds them marks them as experimental, and moves them.
"""

from __future__ import annotations

RPC_SYSTEM = "rpc.system.name"
RPC_METHOD = "rpc.method"
RPC_STATUS = "rpc.response.status_code"
ERROR_TYPE = "error.type"
MESSAGING_SYSTEM = "messaging.system"
MESSAGING_DESTINATION = "messaging.destination.name"
MESSAGING_OPERATION_NAME = "messaging.operation.name"
MESSAGING_OPERATION_TYPE = "messaging.operation.type"
ROUTING_KEY = "messaging.rabbitmq.destination.routing_key"

JSONRPC = "jsonrpc"
RABBITMQ = "rabbitmq"
CLIENT_DURATION = "rpc.client.call.duration"
SERVER_DURATION = "rpc.server.call.duration"
BOUNDARIES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds, as the conventions advise."""

ATTEMPT = "resilient_rpc.attempt"
ATTEMPTS = "resilient_rpc.attempts"
SAFETY = "resilient_rpc.safety"
REPLAYED = "resilient_rpc.replayed"
DEGRADED = "resilient_rpc.degraded"
REDELIVERED = "resilient_rpc.redelivered"
SERVER = "resilient_rpc.server"
CERTAINTY = "resilient_rpc.certainty"
"""Our own: the conventions have no names for these."""
