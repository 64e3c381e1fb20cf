"""JSON-RPC 2.0 as structs: what a client sends, what a server reads, and back.

Each envelope exists twice: the sender's holds values, the receiver's holds `params` and `result` as raw bytes, which
are decoded later into the types that the method or the caller declares. `meta` is ours and stands beside `params`;
a speaker of plain JSON-RPC neither sends nor needs it. `gc=False`: they hold no cycles, and there are many of them.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from resilient_rpc.call import Safety

VERSION = "1"
"""Of this library's additions to JSON-RPC: the header `rpc-version`."""

Id = int | str | float | None
_MAX_MS = 10_000_000_000
Key = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Duration = Annotated[int, msgspec.Meta(ge=0, le=_MAX_MS)]
Instant = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e7)]
"""Numbers come from strangers: one beyond these would overflow where we calculate with it."""


class Meta(msgspec.Struct, omit_defaults=True, gc=False):
    """What JSON-RPC has no name for, in a request."""

    key: Key | None = None
    ttl: Duration | None = None
    """Remaining time, ms, when it was sent."""
    at: Instant | None = None
    """When it was sent, Unix ms."""
    attempt: Count = 1
    safety: Safety | None = None
    trace: dict[str, str] | None = None
    tags: dict[str, str] | None = None


class Request(msgspec.Struct, tag_field="jsonrpc", tag="2.0", omit_defaults=True, gc=False):
    """A call as the client sends it."""

    method: str
    params: Any
    id: int | UnsetType = UNSET
    meta: Meta | None = None


class Incoming(msgspec.Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    """A call as the server reads it. No id: a notification."""

    method: str
    params: Raw = Raw()
    id: Id | UnsetType = UNSET
    meta: Meta | None = None


class ReplyMeta(msgspec.Struct, omit_defaults=True, gc=False):
    """What JSON-RPC has no name for, in a reply."""

    t: Instant = 0
    """Service time, microseconds."""
    room: Count | None = None
    """Free slots of the server."""
    replayed: bool = False
    server: str | None = None
    v: str | None = None
    cache: Any = None
    """Hints for caches: `CacheHints` when it is written. Read as anything, because a wrong hint spoils no reply."""


class ErrorData(msgspec.Struct, omit_defaults=True):
    """`error.data` of our own servers."""

    type: str | None = None
    details: Any = None
    retry_after: Seconds | None = None
    executed: bool | UnsetType | None = UNSET
    retryable: bool | UnsetType = UNSET
    """False: another try cannot help, whatever the code says. Nothing else is sent, or believed."""


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """`error`, as the server sends it."""

    code: int
    message: str
    data: ErrorData | None = None


class Result(msgspec.Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    """A successful reply, as the server sends it."""

    result: Any
    id: Id
    meta: ReplyMeta | UnsetType = UNSET


class Failure(msgspec.Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    """A failed reply, as the server sends it."""

    error: ErrorBody
    id: Id
    meta: ReplyMeta | UnsetType = UNSET


class ForeignError(msgspec.Struct):
    """`error`, as the client reads it: `data` may be anything."""

    code: int
    message: str = ""
    data: Raw = Raw()


class Answer(msgspec.Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    """A reply, as the client reads it."""

    id: Id = None
    result: Raw | UnsetType = UNSET
    error: ForeignError | None = None
    meta: ReplyMeta | None = None
