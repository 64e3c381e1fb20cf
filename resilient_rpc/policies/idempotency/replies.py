"""Answers as they stand in a record, and back.

A result is kept as the bytes that went to the first caller, behind one letter for their codec: a repeat gets the very
same bytes, whatever they mean. An error is kept as what the wire says of it: code, message, type, details.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from resilient_rpc.errors import (
    EXECUTED,
    INTERNAL_ERROR,
    NOT_EXECUTED,
    UNKNOWN,
    Certainty,
    ProtocolError,
    RemoteError,
    TooLarge,
    code_of,
)
from resilient_rpc.stores.errors import CorruptRecord
from resilient_rpc.wire.codec import JSON, MSGPACK, Codec
from resilient_rpc.wire.envelope import ErrorBody, ErrorData
from resilient_rpc.wire.faults import describe_fault, escaped

_LETTERS: dict[str, bytes] = {JSON.content_type: b"J", MSGPACK.content_type: b"M"}
_CODECS: dict[bytes, Codec] = {b"J": JSON, b"M": MSGPACK}
_CERTAINTIES: dict[Any, Certainty] = {True: EXECUTED, False: NOT_EXECUTED, None: UNKNOWN}
_read_fault = msgspec.msgpack.Decoder(ErrorBody).decode


class Kept(Struct, frozen=True, gc=False):
    """An answer, and what it is the answer to."""

    fingerprint: bytes
    payload: bytes
    ok: bool


def keep_result(fingerprint: bytes, codec: Codec, result: Any, limit: int) -> Kept:
    """Raises `UnsupportedContent` for what cannot be encoded. More than `limit` bytes: only that there was one."""
    data = codec.encode(result)
    if len(data) > limit:
        return keep_marker(fingerprint, len(data))
    return Kept(fingerprint, _LETTERS[codec.content_type] + data, True)


def keep_marker(fingerprint: bytes, size: int) -> Kept:
    """In place of a result that is too large to be kept: it was executed, and its result is not to be had again."""
    text = f"it was executed; its result of {size} bytes was sent once, and is too large to be kept for a repeat"
    body = ErrorBody(code_of(TooLarge()), text, ErrorData(executed=True))
    return Kept(fingerprint, MSGPACK.encode(body), False)


def keep_error(fingerprint: bytes, error: Exception, limit: int) -> Kept:
    """As the caller is told of it; without its details where these cannot be encoded or are more than `limit` bytes."""
    body = describe_fault(escaped(error))
    try:
        data = MSGPACK.encode(body)
    except ProtocolError:
        body = ErrorBody(INTERNAL_ERROR, body.message, _bare(body))
        data = MSGPACK.encode(body)
    if len(data) > limit:
        data = MSGPACK.encode(ErrorBody(body.code, body.message, _bare(body)))
    return Kept(fingerprint, data, False)


def _bare(body: ErrorBody) -> ErrorData:
    data = body.data or ErrorData()
    return ErrorData(type=data.type, executed=data.executed)


def result_of(kept: Kept, codec: Codec) -> Any:
    """The result, still encoded if `codec` is the one that it was kept in; raises `CorruptRecord`."""
    letter, data = kept.payload[:1], kept.payload[1:]
    known = _CODECS.get(letter)
    if known is None or not data:
        raise CorruptRecord(f"a result that begins with {letter!r} is none of ours")
    if known is codec:
        return Raw(data)
    try:
        return known.anything.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise CorruptRecord(f"a result cannot be read: {error}") from error


def error_of(kept: Kept) -> RemoteError:
    """The error, as the first caller was told of it; raises `CorruptRecord`."""
    try:
        body: ErrorBody = _read_fault(kept.payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise CorruptRecord(f"an error cannot be read: {error}") from error
    data = body.data or ErrorData()
    told = RemoteError(
        body.message,
        code=body.code,
        type=data.type,
        details=data.details,
        certainty=_CERTAINTIES.get(data.executed, UNKNOWN),
        retry_after=data.retry_after,
    )
    if data.retryable is False:
        told.retryable = False
    return told
