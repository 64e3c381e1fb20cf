"""Filters: what changes, or judges, a message as a whole on its way out and in. The second port for plug-ins.

A filter sees bytes and properties, and nothing of calls: a batch is one message. It never waits: what it does with a
message depends on nothing but the message, its own settings, a clock and what it has seen. Signing and compression are
filters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from resilient_rpc.errors import ConfigurationError, FilterRefused, RpcError

Step = Callable[["Message"], "Message"]


class Message(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One message on its way, before it is sent or as it arrived.

    A filter answers with a copy (`replace`) of which `body`, `content_type`, `content_encoding`, `headers` and, of one
    that arrives, `principal` and `accepts` are taken over. The other fields are there to be read: they are the broker's
    and ours.
    """

    direction: Literal["request", "reply"]
    body: bytes
    target: str
    """The queue of the service that a request is for; of a reply, the address that it goes to."""
    content_type: str | None = None
    content_encoding: str | None = None
    headers: Mapping[str, Any] = {}
    correlation_id: str | None = None
    """Of a reply: the id of the request (of several, the last) that it answers."""
    reply_to: str | None = None
    """The broker writes the whole address where a client sends ``amq.rabbitmq.reply-to``."""
    type: str | None = None
    expiration: int | None = None
    """Milliseconds after which the broker drops it."""
    timestamp: int | None = None
    """Unix time, seconds."""
    message_id: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    priority: int | None = None
    delivery_mode: int | None = None
    redelivered: bool = False
    """The broker delivers it again, because nobody acked it; never when it is sent."""
    principal: str | None = None
    """Who sent it, as far as a filter has proof of it; of a reply that is sent, who asked.

    It never crosses the wire. Handlers see it in their context.
    """
    accepts: tuple[str, ...] = ()
    """Content encodings that the sender can read, as a filter has found; of a reply that is sent, who asked can."""

    def replace(self, **changes: Any) -> Message:
        """A copy with some fields changed."""
        return msgspec.structs.replace(self, **changes)


@runtime_checkable
class Filter(Protocol):
    """Changes or refuses messages. One object may serve many clients and servers, from several threads."""

    def outgoing(self, message: Message, /) -> Message:
        """What is sent instead. An exception ends the calls in it: it is not sent."""

    def incoming(self, message: Message, /) -> Message:
        """What arrived, as the next one is to see it. An exception refuses it: a request is not executed.

        The text of an `RpcError` reaches the other side; of any other exception only its class is told.
        """


class Filters:
    """Several as one: outgoing from the first to the last, incoming in the opposite order.

    Whatever one of them raises comes out as `FilterRefused`, with the original as its cause.
    """

    __slots__ = ("_incoming", "_outgoing")

    def __init__(self, filters: Sequence[Filter] = ()) -> None:
        for each in filters:
            _check(each)
        self._outgoing = [(_name(each), each.outgoing) for each in filters]
        self._incoming = [(_name(each), each.incoming) for each in reversed(filters)]

    def outgoing(self, message: Message) -> Message:
        """Through all of them, the first first."""
        return _through(self._outgoing, message)

    def incoming(self, message: Message) -> Message:
        """Through all of them, the last first."""
        return _through(self._incoming, message)


def check_filters(filters: Any) -> tuple[Filter, ...]:
    """Return them as a tuple; `ConfigurationError` unless it is a sequence of filters."""
    if not isinstance(filters, Sequence) or isinstance(filters, str | bytes):
        raise ConfigurationError(f"filters={filters!r:.200}: give a list of filters")
    for each in filters:
        _check(each)
    return tuple(filters)


def _check(found: Any) -> None:
    if isinstance(found, type):
        raise ConfigurationError(f"{found.__name__} is a class; pass an instance: {found.__name__}(...)")
    if not isinstance(found, Filter):
        raise ConfigurationError(f"not a filter: {found!r:.200}; it needs outgoing(message) and incoming(message)")


def _name(found: Filter) -> str:
    return type(found).__name__


def _through(steps: Sequence[tuple[str, Step]], message: Message) -> Message:
    for name, step in steps:
        try:
            changed = step(message)
            if type(changed) is not Message or type(changed.body) is not bytes:
                raise TypeError(f"a filter answers with a Message whose body is bytes, not with {type(changed)}")
        except Exception as error:
            said = str(error) if isinstance(error, RpcError) else type(error).__name__
            raise FilterRefused(f"{name}: {said}", filter=name) from error
        message = changed
    return message
