"""The ways in which chaos disturbs one attempt."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from resilient_rpc.call import Call, Reply
from resilient_rpc.errors import (
    NOT_EXECUTED,
    UNKNOWN,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    RemoteError,
    RpcError,
    fresh,
)
from resilient_rpc.policies.settings import shown
from resilient_rpc.policy import Handler

Fault = RpcError | type[RpcError] | Callable[[Call], RpcError]
Way = Callable[[Call, Handler], Coroutine[Any, Any, Reply]]
LOSSES = ("timeout", "connection")


def check_fault(fault: object) -> None:
    """ConfigurationError unless it is an error of this library, a class of them, or a function."""
    right = issubclass(fault, RpcError) if isinstance(fault, type) else isinstance(fault, RpcError) or callable(fault)
    if not right:
        raise ConfigurationError(f"Chaos.fault must be an RpcError, a class of them, or a function, not {shown(fault)}")


async def fail(fault: Fault, call: Call, _: Handler) -> Reply:
    """Send nothing."""
    if isinstance(fault, RpcError):
        raise fresh(fault)
    made = fault(f"{call.method}: a fault injected by Chaos") if isinstance(fault, type) else fault(call)
    if not isinstance(made, RpcError):
        raise ConfigurationError(f"Chaos.fault must return an RpcError, not {shown(made)}")
    raise made


async def delay(seconds: float, call: Call, proceed: Handler) -> Reply:
    """Send late; or not at all, when the deadline comes first."""
    left = call.remaining()
    await call.runtime.sleep(min(seconds, max(left, 0.0)))
    if seconds >= left:
        message = f"{call.method}: time was up in a delay of {seconds:g} s injected by Chaos"
        raise DeadlineExceeded(message, stage="publish", certainty=NOT_EXECUTED)
    return await proceed(call)


async def drop(loss: str, call: Call, proceed: Handler) -> Reply:
    """Carry it out and lose the reply, an error of the server included. What never got so far fails as it does."""
    with contextlib.suppress(RemoteError):
        await proceed(call)
    if loss == "connection":
        raise ConnectionLost(f"{call.method}: the reply was lost, as Chaos would have it", certainty=UNKNOWN)
    await call.runtime.sleep(max(call.remaining(), 0.0))
    raise DeadlineExceeded(f"{call.method}: the reply was dropped by Chaos", stage="reply", certainty=UNKNOWN)


async def repeat(call: Call, proceed: Handler) -> Reply:
    """Deliver it twice. The first answer is lost, as it is when a broker delivers again what was not acked."""
    with contextlib.suppress(RemoteError):
        await proceed(call)
    return await proceed(call)
