"""Every error that this library raises, and what each says about execution.

::

    RpcError                      .certainty .retryable .retry_after .attempts
    ├─ Rejected                   a policy refused; nothing left the process
    │  ├─ CircuitOpen
    │  ├─ BulkheadFull
    │  └─ RateLimited
    ├─ TransportError             the way to the server or back failed
    │  ├─ NotConnected
    │  ├─ Unroutable
    │  ├─ NoServer
    │  ├─ PublishRejected
    │  ├─ BrokerBlocked
    │  ├─ ConnectionLost
    │  └─ ServerLost
    ├─ DeadlineExceeded           also TimeoutError; .stage says where the time went
    ├─ RemoteError                the server answered: .code .type .message .details
    │  ├─ MethodNotFound, InvalidParams, ApplicationError
    │  ├─ Overloaded, Expired, Draining, Refused, DependencyUnavailable
    │  └─ InProgress, KeyReused, Interrupted
    ├─ ProtocolError              what arrived, or was to be sent, is not acceptable
    │  ├─ MalformedMessage
    │  ├─ TooLarge
    │  ├─ UnsupportedContent
    │  └─ FilterRefused
    ├─ PolicyFailed               a policy broke the rules; .policy names it
    ├─ UsageError                 also RuntimeError; called from where it cannot work
    └─ ConfigurationError         also ValueError; found when built, not when called

The last real cause stands in ``__cause__``. What goes over the wire and comes back is one table: `CODES`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple


class Certainty(StrEnum):
    """Whether a failed call was executed."""

    NOT_EXECUTED = "not_executed"
    UNKNOWN = "unknown"
    EXECUTED = "executed"


NOT_EXECUTED, UNKNOWN, EXECUTED = Certainty.NOT_EXECUTED, Certainty.UNKNOWN, Certainty.EXECUTED


class RpcError(Exception):
    """Any failure of a call.

    `certainty`: was it executed? `retryable`: can another try help? `retry_after`: seconds the other side asks to
    wait, or None. `attempts`: how many attempts were made. `history`: what the other attempts ended in. A repeat is
    safe when the error is `NOT_EXECUTED`, or when it is `UNKNOWN` and the call may be repeated (`Safety.repeatable`).
    """

    certainty: Certainty = UNKNOWN
    retryable: bool = False
    retry_after: float | None = None
    attempts: int = 1
    history: tuple[BaseException, ...] = ()
    policy: str = ""
    """The policy that is to blame, where one broke the rules; of a plug-in, also where it refused the call."""
    counted: ClassVar[bool] = False
    """Whether a circuit breaker counts it as a failure of the target."""

    def __init__(
        self, message: str = "", *, certainty: Certainty | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        if certainty is not None:
            self.certainty = certainty
        if retry_after is not None:
            self.retry_after = retry_after


class Rejected(RpcError):
    """A policy refused the call before it left the process."""

    certainty = NOT_EXECUTED


class CircuitOpen(Rejected):
    """The circuit breaker of the target is open; `retry_after` says when it probes again.

    `target` is what the circuit stands before, `state` is ``open``, ``half_open`` or ``forced_open``.
    """

    retryable = True
    target: str = ""
    state: str = "open"


class BulkheadFull(Rejected):
    """All permits of the bulkhead were taken for as long as the call could wait."""


class RateLimited(Rejected):
    """The local rate limit is used up; `retry_after` says when the next token comes."""

    retryable = True


class TransportError(RpcError):
    """The message did not reach a server, or the answer did not come back."""

    retryable = True


class NotConnected(TransportError):
    """No connection to the broker could be had by the deadline."""

    certainty = NOT_EXECUTED


class Unroutable(TransportError):
    """The broker returned the message: nobody has declared the service's queue."""

    certainty = NOT_EXECUTED
    counted = True


class NoServer(TransportError):
    """Nobody consumes the service's queue. Raised with ``Client(when_no_server="fail")`` only.

    The call is in the queue: until its deadline a server that comes may still execute it.
    """

    counted = True


class PublishRejected(TransportError):
    """The broker refused the message (basic.nack)."""

    counted = True


class BrokerBlocked(TransportError):
    """The broker is in a memory or disk alarm and accepts nothing (connection.blocked)."""

    certainty = NOT_EXECUTED


class ConnectionLost(TransportError):
    """The connection ended while the call was on its way."""

    # Not counted: it says something of the broker. A breaker that counted it would stay open after a broker's restart.


class ServerLost(TransportError):
    """The server that had the call has fallen silent: no sign of it for the client's `liveness`.

    It was killed, its machine or network is gone, or its event loop is blocked. `server` is the name it gave itself.
    """

    counted = True

    def __init__(self, message: str = "", *, server: str = "", certainty: Certainty | None = None) -> None:
        super().__init__(message, certainty=certainty)
        self.server = server


class DeadlineExceeded(RpcError, TimeoutError):
    """The call's time was up. `stage` is how far it came.

    ``publish``: the broker had not confirmed it; ``reply``: it was in the queue or beyond, where a client cannot see;
    ``policy``: a policy still waited a moment after the deadline (`policy` names it).
    """

    counted = True

    def __init__(self, message: str = "", *, stage: str = "reply", certainty: Certainty | None = None) -> None:
        super().__init__(message, certainty=certainty)
        self.stage = stage


class RemoteError(RpcError):
    """The server answered with an error.

    `code` is JSON-RPC's, `type` the name under which the error crosses the wire, `details` what the server added (any
    JSON value, or None).
    """

    certainty = EXECUTED
    code: int = -32000
    type: str = ""
    received: bool = False
    """It came over the wire, and says something of a call that this process made."""

    def __init__(
        self,
        message: str = "",
        *,
        code: int | None = None,
        type: str | None = None,  # noqa: A002 - the wire's own name
        details: Any = None,
        certainty: Certainty | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, certainty=certainty, retry_after=retry_after)
        self.message = message
        self.details = details
        if code is not None:
            self.code = code
        if type is not None:
            self.type = type


class MethodNotFound(RemoteError):
    """The service has no such method."""

    certainty, code = NOT_EXECUTED, -32601


class InvalidParams(RemoteError):
    """The arguments do not fit the method's signature; the message names the path of the bad one."""

    certainty, code = NOT_EXECUTED, -32602


class ApplicationError(RemoteError):
    """The handler raised. Raise it, or a registered subclass, to choose what the caller sees."""

    code = -32000


class Overloaded(RemoteError):
    """The server refuses more work for now; `retry_after` says for how long."""

    certainty, code, retryable, counted = NOT_EXECUTED, -32001, True, True


class Expired(RemoteError):
    """The call's time was up before the server began with it."""

    certainty, code, counted = NOT_EXECUTED, -32002, True


class InProgress(RemoteError):
    """Another call with the same key is still being executed."""

    certainty, code, retryable = UNKNOWN, -32003, True


class KeyReused(RemoteError):
    """The idempotency key was used with other arguments."""

    certainty, code = NOT_EXECUTED, -32004


class DependencyUnavailable(RemoteError):
    """Something that the server needs before it may execute the call is down."""

    certainty, code, retryable, counted = NOT_EXECUTED, -32005, True, True


class Refused(RemoteError):
    """The server will not execute this call; the message says what it lacks."""

    certainty, code = NOT_EXECUTED, -32008


class Draining(RemoteError):
    """The server is stopping and did not begin with the call; another one can."""

    certainty, code, retryable = NOT_EXECUTED, -32009, True


class Interrupted(RemoteError):
    """Execution was begun and cut short; the outcome is unknown."""

    certainty, code, retryable, counted = UNKNOWN, -32010, True, True


class ProtocolError(RpcError):
    """A message broke the rules of the wire."""

    certainty = NOT_EXECUTED


class MalformedMessage(ProtocolError):
    """The body is not what its content type says, or not JSON-RPC (`code` tells JSON-RPC's two codes for it apart)."""

    code: int = -32700


class TooLarge(ProtocolError):
    """A body, a header table, a batch or its nesting is over the limit."""


class UnsupportedContent(ProtocolError):
    """The content type or encoding is not one of those configured, or a value cannot be encoded."""


class FilterRefused(ProtocolError):
    """A filter (a signature, say) did not accept a message; `filter` names it, ``__cause__`` is what it raised."""

    def __init__(self, message: str = "", *, filter: str = "", certainty: Certainty | None = None) -> None:  # noqa: A002 - its name
        super().__init__(message, certainty=certainty)
        self.filter = filter


class PolicyFailed(RpcError):
    """A policy did what no policy may: raised what is no `RpcError`, or returned what is no `Reply`.

    `policy` names it; what it raised stands in ``__cause__``.
    """

    def __init__(self, message: str = "", *, policy: str = "", certainty: Certainty | None = None) -> None:
        super().__init__(message, certainty=certainty)
        self.policy = policy


class UsageError(RpcError, RuntimeError):
    """A blocking call on a thread that must not block, or a client used where it cannot work."""

    certainty = NOT_EXECUTED


class ConfigurationError(RpcError, ValueError):
    """A setting is wrong; the message names the offending value."""

    certainty = NOT_EXECUTED


class Code(NamedTuple):
    """One row of the table of wire codes."""

    error: type[RpcError]
    name: str


PARSE_ERROR, INVALID_REQUEST, INTERNAL_ERROR = -32700, -32600, -32603

CODES: Mapping[int, Code] = {
    PARSE_ERROR: Code(MalformedMessage, "parse_error"),
    INVALID_REQUEST: Code(MalformedMessage, "invalid_request"),
    -32601: Code(MethodNotFound, "method_not_found"),
    -32602: Code(InvalidParams, "invalid_params"),
    INTERNAL_ERROR: Code(RemoteError, "internal_error"),
    -32000: Code(ApplicationError, "application"),
    -32001: Code(Overloaded, "overloaded"),
    -32002: Code(Expired, "expired"),
    -32003: Code(InProgress, "in_progress"),
    -32004: Code(KeyReused, "key_reused"),
    -32005: Code(DependencyUnavailable, "dependency_unavailable"),
    -32006: Code(TooLarge, "too_large"),
    -32007: Code(UnsupportedContent, "unsupported_content"),
    -32008: Code(Refused, "refused"),
    -32009: Code(Draining, "draining"),
    -32010: Code(Interrupted, "interrupted"),
}
"""JSON-RPC's own codes and ours: what crosses the wire, and the class that a caller sees."""


def code_of(error: RpcError) -> int:
    """The wire code of `error`; the internal error's for what has none."""
    if isinstance(error, RemoteError | MalformedMessage):
        return error.code
    for code, row in CODES.items():
        if row.error is type(error):
            return code
    return INTERNAL_ERROR


def fresh(error: BaseException) -> BaseException:
    """A copy of `error` for one more waiter, with the same cause and without the other waiters' tracebacks.

    Raising one object in many threads makes its traceback grow in all of them. An error that cannot be copied is
    returned as it is.
    """
    try:
        twin = copy.copy(error)
    except Exception:
        return error
    if type(twin) is not type(error):
        return error
    twin.__cause__ = error.__cause__
    twin.__context__ = None
    return twin.with_traceback(None)
