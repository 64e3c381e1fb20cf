"""The keywords of a client, of a call, and of what is sent besides; for type checkers, and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from resilient_rpc.call import Safety
from resilient_rpc.errors import RemoteError
from resilient_rpc.policy import Policy
from resilient_rpc.transport.batching import Batching
from resilient_rpc.transport.reply_queues import ReplyStrategy
from resilient_rpc.wire.filters import Filter
from resilient_rpc.wire.limits import Limits


class Settings(TypedDict, total=False):
    """The keywords of `Client` and `AsyncClient`, for type checkers; defaults and meanings stand at `Client`."""

    policies: Sequence[Policy] | None
    timeout: float | None
    safety: Safety | str | Mapping[str, Safety | str]
    discover: bool
    errors: Iterable[type[RemoteError]]
    codec: str
    batching: Batching | None
    limits: Limits
    links: int
    max_pending: int
    prefix: str
    version: str | None
    environment: str | None
    replies: ReplyStrategy
    correlation: str
    app_id: str | None
    user_id: bool | str
    lane: bool
    filters: Sequence[Filter]
    liveness: float | None
    when_no_server: str


class Told(TypedDict, total=False):
    """What may be said of whatever is sent."""

    timeout: float | None
    """Seconds from here to the result; None: the client's."""
    idempotency_key: str | None
    tags: Mapping[str, str] | None
    """Travel with the call, and with the calls that its handler makes."""
    priority: int
    """From 0 (default) to 9, the highest: who is served first where calls wait."""
    detached: bool
    """Inherit nothing from the call that the running handler serves."""


class Sent(Told, total=False):
    """What may be said of whatever is sent to a method."""

    safety: Safety | str | None


class How(Sent, total=False):
    """What may be said of a single call."""

    returns: Any
    """The type of the result."""


_NOTHING: dict[str, Any] = {}
_HOW = frozenset(How.__annotations__)
SENT = frozenset(Sent.__annotations__)
TOLD = frozenset(Told.__annotations__)


def check_how(how: Any, known: frozenset[str] = _HOW) -> dict[str, Any]:
    """Check the keywords of a call."""
    if not how:
        return _NOTHING
    if unknown := how.keys() - known:
        raise TypeError(f"a call has no {', '.join(sorted(unknown))!r}; it has {', '.join(sorted(known))}")
    return dict(how)
