"""A transport for a URL."""

from __future__ import annotations

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.transport.base import Transport
from resilient_rpc.transport.memory import MemoryTransport
from resilient_rpc.transport.urls import AmqpUrl, parse_url


def open_transport(url: str, *, name: str = "", lane: bool = True) -> Transport:
    """The transport behind ``amqp://``, ``amqps://`` or ``memory://``. Does no I/O; raises `ConfigurationError`.

    `name` is shown to operators; `lane=False` has pika encode and decode every frame.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"a URL is a text, not {type(url).__name__}")
    parsed = parse_url(url)
    if isinstance(parsed, AmqpUrl):
        from resilient_rpc.transport.amqp import AmqpTransport  # noqa: PLC0415 - who uses memory:// needs no pika

        return AmqpTransport(parsed, lane=lane)
    return MemoryTransport(parsed.name, session_name=name, user=parsed.user)
