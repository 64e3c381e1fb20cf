"""What this library announces: a type for each kind of event. `Events` of `hub` tells whoever listens."""

from __future__ import annotations

import logging
from typing import ClassVar, Literal

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened. A hook on this type sees every event. Durations are seconds."""

    log_level: ClassVar[int] = logging.WARNING
    """At which level `log_events` writes events of this type. What comes with every call is DEBUG."""


class CallEnded(Event, frozen=True, kw_only=True):
    """A logical call ended, in a result (`error` is None) or in an error."""

    log_level: ClassVar[int] = logging.DEBUG

    method: str
    seconds: float
    """From the user's call to its end, with all waits and retries."""
    attempts: int = 1
    error: BaseException | None = None
    replayed: bool = False
    degraded: bool = False


class CallServed(Event, frozen=True, kw_only=True):
    """A server is done with a call that it took, in a result (`error` is None) or in an error."""

    log_level: ClassVar[int] = logging.DEBUG

    method: str
    """Of those that are registered."""
    seconds: float
    """From its turn to its end, with what policies of the server have waited."""
    attempt: int = 1
    """As its caller counts."""
    error: BaseException | None = None
    """What was raised; the caller is told of it what the wire has room for."""
    replayed: bool = False
    redelivered: bool = False


class CallCancelled(Event, frozen=True, kw_only=True):
    """A server stopped with a call, or did not begin with it, because its caller has given it up."""

    log_level: ClassVar[int] = logging.DEBUG

    method: str
    """Of those that are registered."""
    began: bool
    """Whether its handler was running. One in a thread runs on, and sees `Context.cancelled`."""


class CancelIgnored(Event, frozen=True, kw_only=True):
    """A server did not do what a message to its control queue asked for."""

    reason: str
    count: int = 1
    """How many calls it named."""


class RequestRefused(Event, frozen=True, kw_only=True):
    """A server did not begin with a call, or could not read the message of it."""

    error: BaseException


class PolicyEvent(Event, frozen=True, kw_only=True):
    """A policy decided something about a call. Each policy has subtypes of its own."""

    log_level: ClassVar[int] = logging.DEBUG

    policy: str
    """The policy's `name` where it has one, else its class."""
    method: str
    target: str
    attempt: int = 1


class CallRejected(PolicyEvent, frozen=True, kw_only=True):
    """A policy refused a call (or an attempt), and nothing left the process."""

    log_level: ClassVar[int] = logging.WARNING

    reason: str
    """One of few: ``open``, ``full``, ``rate``, ..."""
    retry_after: float | None = None


class PolicyBypassed(PolicyEvent, frozen=True, kw_only=True):
    """A policy did not do its work for a call, and let it pass: the store behind it failed, or it does not apply."""

    log_level: ClassVar[int] = logging.WARNING

    reason: str


class PolicyFaulted(PolicyEvent, frozen=True, kw_only=True):
    """A policy broke the rules; the call, or the attempt, ended with `error`, which names it."""

    log_level: ClassVar[int] = logging.ERROR

    reason: Literal["raised", "returned", "suspended", "hung"]
    """`returned`: something that is no `Reply`; `suspended`: it awaited what a blocking client cannot wait for."""
    error: BaseException


class AttemptEnded(Event, frozen=True, kw_only=True):
    """One attempt of a call ended, in an answer (`error` is None) or in an error. Below all policies."""

    log_level: ClassVar[int] = logging.DEBUG

    method: str
    target: str
    attempt: int
    seconds: float
    error: BaseException | None = None


class ChainReloaded(Event, frozen=True, kw_only=True):
    """A client took over another chain of policies (`reload`). Both as `describe` has them."""

    log_level: ClassVar[int] = logging.INFO

    before: tuple[str, ...]
    after: tuple[str, ...]


class ReloadFailed(Event, frozen=True, kw_only=True):
    """A client refused another chain of policies (`reload`), and keeps the one it has."""

    log_level: ClassVar[int] = logging.ERROR

    error: BaseException
    kept: tuple[str, ...]


class ConnectionStateChanged(Event, frozen=True, kw_only=True):
    """A connection to the broker came, went, or stopped taking messages."""

    state: Literal["connected", "lost", "failed", "blocked", "unblocked"]
    """`failed`: an attempt to connect did not succeed; `lost`: an established connection ended."""
    reason: str = ""


class LateReply(Event, frozen=True, kw_only=True):
    """Replies arrived for which no call waits: they came after the deadline, or are not ours. They were dropped."""

    count: int = 1


class MalformedDropped(Event, frozen=True, kw_only=True):
    """A reply broke the rules of the wire and was dropped."""

    reason: str


class DeadLettered(Event, frozen=True, kw_only=True):
    """A server could neither handle nor answer a message, or part of it, and sent it to its dead letters."""

    reason: str
    """``malformed``, ``refused``, ``failed``, ``interrupted``, ``delivery_limit``, or ``expired``."""
    method: str
    """Of the first call, as its sender has written it; empty if it has not."""
    attempts: int
    """How often it was delivered."""
    calls: int = 1
    error: BaseException | None = None


class MessageRefused(Event, frozen=True, kw_only=True):
    """A filter did not accept a message that arrived: a request was not executed, or a reply was not believed."""

    filter: str
    """The class of the filter; empty if not even a filter could read it."""
    reason: str


class ReplyRefused(Event, frozen=True, kw_only=True):
    """A server did not send a reply, or did not begin with a call, because of its reply address."""

    reply_to: str
    reason: str


class ReplyReturned(Event, frozen=True, kw_only=True):
    """A reply found no queue: whoever asked has gone, and so has its reply queue. The reply was dropped.

    Of replies to a direct reply address nobody learns that.
    """

    log_level: ClassVar[int] = logging.INFO

    reply_to: str
    calls: int = 1


class NoSubscribers(Event, frozen=True, kw_only=True):
    """An event was published to which no service subscribes: nobody will ever have it."""

    log_level: ClassVar[int] = logging.INFO

    event: str


class QueueLimit(Event, frozen=True, kw_only=True):
    """So many messages wait in a server's queue as its limit allows (`over`), or clearly fewer again.

    The limit is `Server(backlog_limit=)`; without it, the `max_length` of the queue. Looked at once a second.
    """

    queue: str
    over: bool
    messages: int
    """That nobody has yet, as the broker counts them."""
    consumers: int
    limit: int


class ServiceDiscovered(Event, frozen=True, kw_only=True):
    """A client with ``discover=True`` has asked a service what it offers; `error` is why it does not know."""

    log_level: ClassVar[int] = logging.INFO

    service: str
    version: str = ""
    """Of its contract."""
    methods: int = 0
    """How many it has."""
    error: BaseException | None = None


class LoopBlocked(Event, frozen=True, kw_only=True):
    """Work on the I/O loop, or a handler on a server's loop, held it so long that everything else on it had to wait."""

    seconds: float
    what: str
    """The work, and the coroutines in which it stood after that, the innermost last."""
