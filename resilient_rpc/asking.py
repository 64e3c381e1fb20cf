"""What both clients do besides calls: casts, events, broadcasts, bytes, checked and sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from resilient_rpc.call import DEDUP, Call, Cast, Publication, RawCall, fields_of
from resilient_rpc.caller import Caller
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.keywords import TOLD, check_how
from resilient_rpc.names import check_name
from resilient_rpc.policy import Runtime
from resilient_rpc.settings import check_timeout
from resilient_rpc.transport.tables import MAX_SHORT, is_queue_name

Params = Mapping[str, Any] | Sequence[Any] | None


class RawProperties(TypedDict, total=False):
    """AMQP properties of what `call_raw` sends. Those that match the answer to the question are the client's own."""

    content_type: str
    content_encoding: str
    headers: Mapping[str, Any]
    delivery_mode: int
    priority: int
    message_id: str
    timestamp: int
    type: str
    app_id: str
    user_id: str


_RAW = frozenset(RawProperties.__annotations__)


async def publish(caller: Caller, runtime: Runtime, event: str, params: Params, ttl: float | None, how: Any) -> bool:
    """See `Client.publish`."""
    call = caller.build(runtime, event, params, safety=DEDUP, **check_how(how, TOLD))
    published = as_publication(call, ttl, caller.options.naming.events)
    return bool((await caller.request(published, caller.posting.publications)).result)


async def broadcast(
    caller: Caller, runtime: Runtime, method: str, params: Params, expect: int | None, how: Any
) -> list[tuple[str, Any]]:
    """See `Client.broadcast`."""
    return await caller.broadcast(caller.build(runtime, method, params, **how), check_expect(expect))


async def call_raw(
    caller: Caller, runtime: Runtime, queue: str, body: bytes, how: Any, properties: RawProperties
) -> bytes:
    """See `Client.call_raw`."""
    call = caller.build(runtime, queue, {"body": body}, **how)
    answer: bytes = (await caller.request(as_raw(call, properties), caller.posting.questions)).result
    return answer


def as_cast(call: Call, ttl: float | None) -> Cast:
    """The cast that a call describes."""
    return Cast(**fields_of(call), ttl=None if ttl is None else check_timeout(ttl, "ttl"))


def as_publication(call: Call, ttl: float | None, exchange: str) -> Publication:
    """The event that a call describes. Its id tells repeats of it from others, so that it can be sent again."""
    check_name(call.method, "event")
    seconds = None if ttl is None else check_timeout(ttl, "ttl")
    return Publication(**fields_of(call), ttl=seconds, exchange=exchange)


def as_raw(call: Call, properties: Any) -> RawCall:
    """The question that a call describes."""
    return RawCall(**fields_of(call), properties=properties)


def check_raw(queue: Any, body: Any, properties: Any) -> None:
    """`ConfigurationError` or TypeError for what `call_raw` cannot send."""
    if not is_queue_name(queue):
        raise ConfigurationError(f"queue={queue!r:.300}: give the name of a queue, at most {MAX_SHORT} bytes")
    if not isinstance(body, bytes):
        raise ConfigurationError(f"body of type {type(body).__name__}: give bytes")
    if unknown := properties.keys() - _RAW:
        known = ", ".join(sorted(_RAW))
        raise TypeError(f"a raw call has no {', '.join(sorted(unknown))!r}; its properties: {known}")


def check_expect(expect: Any) -> int | None:
    """Return it if it is a number of answers to wait for; `ConfigurationError` otherwise."""
    if expect is not None and (type(expect) is not int or expect < 1):
        raise ConfigurationError(f"expect={expect!r}: give a whole number of at least 1, or None")
    found: int | None = expect
    return found
