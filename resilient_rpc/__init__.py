"""Resilient RPC over RabbitMQ: every call ends by its deadline, in a result or an error that says what happened."""

from __future__ import annotations

from resilient_rpc.asyncclient import AsyncClient
from resilient_rpc.call import Call, Reply, Safety
from resilient_rpc.client import Client
from resilient_rpc.context import Context, current_context
from resilient_rpc.declaring import method
from resilient_rpc.errors import (
    ApplicationError,
    BrokerBlocked,
    Certainty,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    FilterRefused,
    InvalidParams,
    MethodNotFound,
    NoServer,
    NotConnected,
    Overloaded,
    ProtocolError,
    Refused,
    Rejected,
    RemoteError,
    RpcError,
    ServerLost,
    Unroutable,
)
from resilient_rpc.eventlog import log_events
from resilient_rpc.policy import Handler, Policy, Runtime
from resilient_rpc.server import Server
from resilient_rpc.serving.admission import Admission
from resilient_rpc.transport.batching import Batching
from resilient_rpc.transport.queues import Classic, Quorum
from resilient_rpc.typed import Contract, remote
from resilient_rpc.wire.compression import Compression
from resilient_rpc.wire.filters import Filter, Message
from resilient_rpc.wire.limits import Limits

__all__ = [
    "Admission",
    "ApplicationError",
    "AsyncClient",
    "Batching",
    "BrokerBlocked",
    "Call",
    "Certainty",
    "Classic",
    "Client",
    "Compression",
    "ConfigurationError",
    "ConnectionLost",
    "Context",
    "Contract",
    "DeadlineExceeded",
    "Filter",
    "FilterRefused",
    "Handler",
    "InvalidParams",
    "Limits",
    "Message",
    "MethodNotFound",
    "NoServer",
    "NotConnected",
    "Overloaded",
    "Policy",
    "ProtocolError",
    "Quorum",
    "Refused",
    "Rejected",
    "RemoteError",
    "Reply",
    "RpcError",
    "Runtime",
    "Safety",
    "Server",
    "ServerLost",
    "Unroutable",
    "current_context",
    "log_events",
    "method",
    "remote",
]
