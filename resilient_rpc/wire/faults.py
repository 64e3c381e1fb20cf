"""Errors on the wire: what a server says of one, and what a caller makes of it.

A message never chooses a class. `type` is looked up in a registry of names that the user filled; everything else
becomes the class of its code, or `RemoteError`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from resilient_rpc.errors import (
    CODES,
    EXECUTED,
    INTERNAL_ERROR,
    NOT_EXECUTED,
    UNKNOWN,
    ApplicationError,
    Certainty,
    RemoteError,
    RpcError,
    code_of,
)
from resilient_rpc.wire.codec import Codec
from resilient_rpc.wire.envelope import ErrorBody, ErrorData, ForeignError

log = logging.getLogger(__name__)
MAX_MESSAGE = 2_000
"""Characters of an error message that cross the wire."""
_EXECUTED_TO_WIRE: Mapping[Certainty, bool | None] = {NOT_EXECUTED: False, EXECUTED: True, UNKNOWN: None}
_NEVER_STARTED = frozenset({-32700, -32600, -32601, -32602})


def describe_fault(error: BaseException) -> ErrorBody:
    """What goes into the reply for `error`.

    A library error keeps its code; anything else that a handler raised is an application error under the name of its
    class, with its text and without a traceback, because handlers' tracebacks are nobody else's business.
    """
    message = text_of(error)
    if isinstance(error, RpcError):
        remote = error if isinstance(error, RemoteError) else None
        data = ErrorData(
            type=remote.type if remote is not None and remote.type and isinstance(remote.type, str) else None,
            details=remote.details if remote is not None else None,
            retry_after=error.retry_after if isinstance(error.retry_after, int | float) else None,
            executed=_EXECUTED_TO_WIRE.get(error.certainty),
        )
        code = code_of(error)
        if _is_final(error, code):
            data.retryable = False
        return ErrorBody(code if type(code) is int else INTERNAL_ERROR, message, data)
    return ErrorBody(ApplicationError.code, message, ErrorData(type=type(error).__name__, executed=True))


def _is_final(error: RpcError, code: int) -> bool:
    """Whether no other try can help, and neither its code nor its class on the other side says so."""
    if error.retryable:
        return False
    row = CODES.get(code)
    return "retryable" in vars(error) or (row is not None and row.error.retryable and isinstance(error, row.error))


def text_of(error: BaseException) -> str:
    """The error's own text, as far as it has one that can be encoded: its class is a user's, and may do anything."""
    try:
        text = str(error)[:MAX_MESSAGE]
    except BaseException:
        return type(error).__name__
    return text.encode("utf-8", "replace").decode()


def escaped(error: Exception) -> Exception:
    """What a handler's caller is told of an exception that escaped the handler.

    A `RemoteError` that the handler raised itself is its answer. An error of a call that the handler made says nothing
    of its own execution: "not executed" or "try again" would be false for its caller.
    """
    if not isinstance(error, RpcError) or (isinstance(error, RemoteError) and not error.received):
        return error
    remote = error if isinstance(error, RemoteError) else None
    told = ApplicationError(
        text_of(error),
        type=(remote.type if remote is not None else "") or type(error).__name__,
        details=remote.details if remote is not None else None,
    )
    told.__cause__ = error
    return told


def rebuild_fault(
    codec: Codec, fault: ForeignError, registry: Mapping[str, type[RemoteError]], *, ours: bool
) -> RpcError:
    """The exception for an error reply. `ours`: it came from a server of this library, whose `data` can be trusted."""
    data = _read_data(codec, fault) if ours else ErrorData(details=_anything(codec, fault))
    error = _rebuilt(fault, data, registry, ours=ours)
    if data.retryable is False:
        error.retryable = False
    return error


def _rebuilt(
    fault: ForeignError, data: ErrorData, registry: Mapping[str, type[RemoteError]], *, ours: bool
) -> RpcError:
    certainty = _certainty(fault.code, data, ours=ours)
    message = fault.message[:MAX_MESSAGE]
    row = CODES.get(fault.code)
    kind: type[RpcError] = row.error if row and (ours or fault.code in _NEVER_STARTED) else RemoteError
    known = registry.get(data.type or "")
    if known is None and not issubclass(kind, RemoteError):
        return kind(message, certainty=certainty, retry_after=data.retry_after)
    said: dict[str, Any] = {
        "code": fault.code,
        "type": data.type or (row.name if row else ""),
        "details": data.details,
        "certainty": certainty,
        "retry_after": data.retry_after,
    }
    if known is not None:
        try:
            return _received(known(message, **said))
        except Exception:  # it is a user's class, with a signature of its own: what happened counts for more
            log.exception("%s cannot be made of an error reply; it must take what RemoteError takes", known.__name__)
    return _received((kind if issubclass(kind, RemoteError) else RemoteError)(message, **said))


def _received(error: RemoteError) -> RemoteError:
    error.received = True
    return error


def _read_data(codec: Codec, fault: ForeignError) -> ErrorData:
    if not bytes(fault.data):
        return ErrorData()
    try:
        data: ErrorData = codec.decoder(ErrorData).decode(fault.data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ErrorData()
    return data


def _anything(codec: Codec, fault: ForeignError) -> Any:
    if not bytes(fault.data):
        return None
    try:
        return codec.decoder(Any).decode(fault.data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _certainty(code: int, data: ErrorData, *, ours: bool) -> Certainty:
    if not ours:
        return NOT_EXECUTED if code in _NEVER_STARTED else UNKNOWN
    if data.executed is True:
        return EXECUTED
    if data.executed is False:
        return NOT_EXECUTED
    if data.executed is None:
        return UNKNOWN
    row = CODES.get(code)
    return row.error.certainty if row and code != INTERNAL_ERROR else UNKNOWN
