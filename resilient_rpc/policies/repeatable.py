"""Which failures may be answered with another attempt, and which of them a retry budget pays for."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NamedTuple

from resilient_rpc.errors import (
    NOT_EXECUTED,
    CircuitOpen,
    ConfigurationError,
    PublishRejected,
    Rejected,
    RemoteError,
    RpcError,
    TransportError,
)
from resilient_rpc.policies.outcome import safe_to_repeat
from resilient_rpc.policies.settings import shown

if TYPE_CHECKING:
    from resilient_rpc.call import Call


class Refusal(NamedTuple):
    """Why there is no further attempt."""

    reason: str
    """One of few: ``not_retryable``, ``unsafe``, ``exhausted``, ``pushback``, ``circuit``, ``deadline``, ``budget``,
    ``strategy``."""
    note: str = ""
    """The same for whoever reads the traceback."""


NOT_RETRYABLE = Refusal("not_retryable")
UNSAFE = Refusal("unsafe", "not repeated: it may have been executed, and a repeat could do it twice")
PUSHBACK = Refusal("pushback", "not repeated: the server asked for no further attempt")
CIRCUIT = Refusal("circuit", "not repeated: nobody knows when the circuit closes")


class Listed:
    """Errors that may be repeated although they do not say so: by class, or by the name they have on the wire."""

    __slots__ = ("_kinds", "_names")

    def __init__(self, setting: str, listed: Collection[type[Exception] | str]) -> None:
        if isinstance(listed, str) or not isinstance(listed, Collection):
            raise ConfigurationError(f"{setting} must be a collection of error classes and names, not {shown(listed)}")
        for item in listed:
            if not (isinstance(item, str) and item) and not _is_error(item):
                raise ConfigurationError(
                    f"{setting} takes subclasses of Exception and names of application errors, not {shown(item)}"
                )
        self._kinds = tuple(item for item in listed if isinstance(item, type))
        self._names = frozenset(item for item in listed if isinstance(item, str))

    def __contains__(self, error: Exception) -> bool:
        return isinstance(error, self._kinds) or (isinstance(error, RemoteError) and error.type in self._names)


def _is_error(item: Any) -> bool:
    return isinstance(item, type) and issubclass(item, Exception)


def refusal(error: Exception, call: Call, *, asked_for: bool) -> Refusal | None:
    """Why `call` must not be sent again after `error`; None: it may be. `asked_for`: its user wants this one repeated.

    What was executed, or is no error of a call at all, is repeated only when that was asked for and does no harm.
    """
    if not asked_for and not (isinstance(error, RpcError) and error.retryable):
        return NOT_RETRYABLE
    if not safe_to_repeat(error, call) and not (asked_for and call.safety.repeatable):
        return UNSAFE
    if isinstance(error, RpcError):
        if error.retry_after is None:
            return CIRCUIT if isinstance(error, CircuitOpen) else None
        if not error.retry_after >= 0:
            return PUSHBACK
    return None


def free(error: Exception) -> bool:
    """Whether the failed attempt cost the target nothing, so that the next one is the first that it sees.

    Policies refused it, or it never got to a queue. A message that the broker refused did: the queue may be full.
    """
    if isinstance(error, PublishRejected):
        return False
    return isinstance(error, Rejected | TransportError) and error.certainty is NOT_EXECUTED
