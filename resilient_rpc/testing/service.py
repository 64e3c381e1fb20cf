"""A scripted peer as a service on a bus in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from resilient_rpc.call import Call
from resilient_rpc.context import Context
from resilient_rpc.contract import split_method
from resilient_rpc.errors import ConfigurationError, ConnectionLost, DeadlineExceeded, RemoteError
from resilient_rpc.runtime import running_runtime
from resilient_rpc.server import Server
from resilient_rpc.transport.memory import Bus
from resilient_rpc.transport.urls import AmqpUrl, parse_url

if TYPE_CHECKING:
    from resilient_rpc.testing.scripted import ScriptedPeer

CLIENTS = ""
"""The sessions of clients have no name on the bus."""
GRACE = 0.1
"""Seconds that the end waits for the running calls: those that hang never end by themselves."""


@contextlib.contextmanager
def serving(peer: ScriptedPeer, url: str, methods: Sequence[str]) -> Iterator[ScriptedPeer]:
    """See `ScriptedPeer.serving`."""
    bus = Bus.named(_bus_name(url))
    split = [split_method(method) for method in methods]
    if len({service for service, _ in split}) != 1:
        raise ConfigurationError(f"name the methods of one service, such as 'orders.price', not {list(methods)!r}")
    for step in peer.steps:
        if isinstance(step.outcome, BaseException) and not isinstance(step.outcome, RemoteError | ConnectionLost):
            raise ConfigurationError(f"no server can make a client see {step.outcome!r}: script it as a handler")
    server = Server(url, service=split[0][0], name="scripted", grace=GRACE)
    for _, name in split:
        server.method(name=name)(_handler(peer, bus, f"{split[0][0]}.{name}"))
    server.start()
    try:
        yield peer
    finally:
        server.stop()


def _handler(peer: ScriptedPeer, bus: Bus, method: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def handler(context: Context, *positional: Any, **named: Any) -> Any:
        call = Call(
            method=method,
            params=named or positional,
            runtime=running_runtime(),
            deadline=context.deadline,
            timeout=context.remaining(),
            safety=context.safety,
            key=context.key,
            attempt=context.attempt,
            tags=context.tags,
            trace=context.trace,
        )
        try:
            return (await peer(call)).result
        except DeadlineExceeded:
            return await running_runtime().loop.create_future()  # no answer at all: until the server is stopped
        except ConnectionLost:
            bus.drop_connections(CLIENTS)
            raise

    return handler


def _bus_name(url: str) -> str:
    parsed = parse_url(url)
    if isinstance(parsed, AmqpUrl):
        raise ConfigurationError(f"a scripted peer serves at memory://, not at {parsed}")
    return parsed.name
